//! Removing names, and images with their last name.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;

use crate::catalog::{Catalog, Entry};
use crate::store::{Inner, Store};

/// Why an image is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// No such image.
    #[error("there is no image `{0}`; see what there is with `linkspan images`")]
    NotFound(String),
    /// A container needs it.
    #[error("the image `{0}` is used by a container; remove that first, or take only the name away by force")]
    InUse(String),
    /// Called by its id, it would lose more names than one.
    #[error("the image `{id}` has the names {}; remove each, or all by force", quoted(.names))]
    Names {
        /// As typed.
        id: String,
        /// All of them, in full.
        names: Vec<String>,
    },
    /// `index.json` can't be replaced; the image is still there.
    #[error("can't write `{}`", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The runtime is shutting down.
    #[error("removing was interrupted")]
    Interrupted,
}

impl Store {
    /// Takes a name away; with the last name the image goes, and the blobs and layers that no other image needs.
    ///
    /// Called by its id, an image loses all names. One whose id is in `in_use` keeps its last name, or with `force`
    /// loses that but stays, without a name, until nobody uses it.
    pub async fn remove(
        &self,
        name: &str,
        in_use: &BTreeSet<String>,
        force: bool,
    ) -> Result<(), RemoveError> {
        let inner = self.inner.clone();
        let (name, in_use) = (name.to_owned(), in_use.clone());
        let work = tokio::task::spawn_blocking(move || inner.remove(&name, &in_use, force));
        work.await.unwrap_or(Err(RemoveError::Interrupted))
    }
}

impl Inner {
    fn remove(&self, text: &str, in_use: &BTreeSet<String>, force: bool) -> Result<(), RemoveError> {
        let _takes = self.take_away();
        let _change = self.change();
        let before = self.catalog();
        let (entry, name) = before
            .find(text)
            .ok_or_else(|| RemoveError::NotFound(text.to_owned()))?;
        let id = &entry.image.id;
        let same: Vec<&Entry> = match &name {
            Some(_) => vec![entry],
            None => before
                .entries()
                .iter()
                .filter(|other| other.image.id == *id)
                .collect(),
        };
        let mut names: Vec<String> = same.iter().flat_map(|entry| entry.image.names.clone()).collect();
        if let (Some(name), true) = (&name, names.len() > 1) {
            return self.change_to(&before.without_name(name), &before);
        }
        if name.is_none() && names.len() > 1 && !force {
            return Err(RemoveError::Names {
                id: text.to_owned(),
                names,
            });
        }
        if !in_use.contains(id) {
            let digests: BTreeSet<&str> = same.iter().map(|entry| entry.image.digest.as_str()).collect();
            return self.change_to(
                &before.without(|entry| digests.contains(entry.image.digest.as_str())),
                &before,
            );
        }
        if !force || names.is_empty() {
            return Err(RemoveError::InUse(text.to_owned()));
        }
        let nameless = names
            .drain(..)
            .fold((*before).clone(), |catalog, name| catalog.without_name(&name));
        self.change_to(&nameless, &before)
    }

    fn change_to(&self, after: &Catalog, before: &Catalog) -> Result<(), RemoveError> {
        let path = self.images.join("index.json");
        self.replace(after, before)
            .map_err(|source| RemoveError::Io { path, source })
    }
}

fn quoted(names: &[String]) -> String {
    names
        .iter()
        .map(|name| format!("`{name}`"))
        .collect::<Vec<_>>()
        .join(", ")
}
