//! What was worked out of templates before, so that it need not be worked out again for every plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use linkspan_site::Site;

use super::{Ingredients, Template};
use crate::{Image, LogSpec, NetworkNamespace, Slot};

/// What must be known of a template to see whether an incarnation is made from it.
#[derive(Debug)]
pub(crate) struct Named<'a> {
    ingredients: Ingredients<'a>,
    /// Another hash means another incarnation.
    pub(crate) hash: String,
    /// Two of it at once would fight over data or over an address.
    pub(crate) is_exclusive: bool,
    /// Neither site nor image says what to run.
    pub(crate) is_without_program: bool,
}

impl Named<'_> {
    /// The template itself.
    pub(crate) fn template(&self) -> Template {
        Template::new(&self.ingredients)
    }
}

/// What was worked out of the templates of former plans.
#[derive(Debug, Default)]
pub(crate) struct Templates(BTreeMap<Slot, Known>);

#[derive(Debug)]
struct Known {
    site: Arc<Site>,
    image: Arc<Image>,
    bridges: Vec<String>,
    namespace: NetworkNamespace,
    log: LogSpec,
    hash: String,
    is_exclusive: bool,
    is_without_program: bool,
}

impl Templates {
    /// Names a template.
    pub(crate) fn named<'a>(&mut self, ingredients: Ingredients<'a>) -> Named<'a> {
        let slot = ingredients.slot;
        let known = match self.0.remove(slot) {
            Some(known) if known.is_of(&ingredients) => known,
            _ => Known::new(&ingredients),
        };
        let named = Named {
            hash: known.hash.clone(),
            is_exclusive: known.is_exclusive,
            is_without_program: known.is_without_program,
            ingredients,
        };
        self.0.insert(slot.clone(), known);
        named
    }

    /// Slots that are no more need no memory.
    pub(crate) fn forget_others(&mut self, slots: &BTreeSet<Slot>) {
        if self.0.len() > slots.len() {
            self.0.retain(|slot, _| slots.contains(slot));
        }
    }
}

impl Known {
    fn new(ingredients: &Ingredients<'_>) -> Self {
        let template = Template::new(ingredients);
        Self {
            site: Arc::clone(ingredients.site),
            image: Arc::clone(ingredients.image),
            bridges: ingredients
                .bridges
                .values()
                .map(|bridge| (*bridge).clone())
                .collect(),
            namespace: ingredients.namespace.clone(),
            log: ingredients.settings.log.clone(),
            hash: template.hash(),
            is_exclusive: template.is_exclusive(),
            is_without_program: template.spec.args.is_empty(),
        }
    }

    fn is_of(&self, ingredients: &Ingredients<'_>) -> bool {
        let Ingredients {
            site,
            slot,
            container,
            image,
            bridges,
            namespace,
            settings,
        } = ingredients;
        // A site that was brought up again is as a rule the same in nearly all of its containers.
        let same_container = Arc::ptr_eq(&self.site, site)
            || self.site.name == site.name && self.site.containers.get(&slot.container) == Some(*container);
        let same_image = Arc::ptr_eq(&self.image, image) || self.image == **image;
        same_container
            && same_image
            && self.namespace == *namespace
            && self.log == settings.log
            && bridges.values().copied().eq(&self.bridges)
    }
}
