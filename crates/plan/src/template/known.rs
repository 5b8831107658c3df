//! What was worked out of templates before, so that it need not be worked out again for every plan.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use linkspan_site::{Container, ContainerName, Site};

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
pub(crate) struct Templates {
    known: BTreeMap<Slot, Known>,
    /// What was found out for this plan of containers of a site that was brought up again: are they the same? By where
    /// both sites lie in memory.
    alike: BTreeMap<(usize, usize, ContainerName), bool>,
}

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
        let known = match self.known.remove(slot) {
            Some(known) if known.is_of(&ingredients) && self.is_declared_so(&known, &ingredients) => Known {
                site: Arc::clone(ingredients.site),
                ..known
            },
            _ => Known::new(&ingredients),
        };
        let named = Named {
            hash: known.hash.clone(),
            is_exclusive: known.is_exclusive,
            is_without_program: known.is_without_program,
            ingredients,
        };
        self.known.insert(slot.clone(), known);
        named
    }

    /// Does the site say the same of the container? How many there are of it makes none of them another one.
    fn is_declared_so(&mut self, known: &Known, ingredients: &Ingredients<'_>) -> bool {
        let (old, new) = (&known.site, ingredients.site);
        if Arc::ptr_eq(old, new) {
            return true;
        }
        let name = &ingredients.slot.container;
        let places = (Arc::as_ptr(old) as usize, Arc::as_ptr(new) as usize, name.clone());
        *self.alike.entry(places).or_insert_with(|| {
            let before = old.containers.get(name).map(|container| Container {
                replicas: ingredients.container.replicas,
                ..container.clone()
            });
            old.name == new.name && before.as_ref() == Some(ingredients.container)
        })
    }

    /// To be called when a plan has named all it needs. Slots that are no more need no memory.
    pub(crate) fn forget_others(&mut self, slots: &BTreeSet<Slot>) {
        self.alike.clear();
        if self.known.len() > slots.len() {
            self.known.retain(|slot, _| slots.contains(slot));
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

    /// Is all the same but what the site says?
    fn is_of(&self, ingredients: &Ingredients<'_>) -> bool {
        let Ingredients {
            // For [`Templates::is_declared_so`].
            site: _,
            container: _,
            // What is known is known of this one.
            slot: _,
            image,
            bridges,
            namespace,
            settings,
        } = ingredients;
        let same_image = Arc::ptr_eq(&self.image, image) || self.image == **image;
        same_image
            && self.namespace == *namespace
            && self.log == settings.log
            && bridges.values().copied().eq(&self.bridges)
    }
}
