//! The last step of a load: what was staged and checked becomes part of the store.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::{Load, LoadError, at};
use crate::blobs::sync_folder;
use crate::catalog::Entry;
use crate::image::Image;
use crate::layers::adopt_tree;
use crate::store::discard;

impl Load<'_> {
    /// Puts everything into place. On failure what was put there is taken away again.
    pub(super) fn commit(&self, entries: &[Entry]) -> Result<Vec<Image>, LoadError> {
        let _change = self.store.change();
        let mut added = Vec::new();
        let result = self.place(entries, &mut added);
        if result.is_err() {
            let catalog = self.store.catalog();
            let used = |path: &PathBuf| {
                let name = path
                    .file_name()
                    .map_or_else(String::new, |name| name.to_string_lossy().into_owned());
                let digest = format!("sha256:{name}");
                catalog.blobs().contains(digest.as_str()) || catalog.layers().contains(digest.as_str())
            };
            added
                .iter()
                .filter(|path| !used(path))
                .for_each(|path| discard(path));
        }
        result
    }

    fn place(&self, entries: &[Entry], added: &mut Vec<PathBuf>) -> Result<Vec<Image>, LoadError> {
        let store = self.store;
        let needed: BTreeSet<&str> = entries
            .iter()
            .flat_map(Entry::blobs)
            .map(|blob| blob.digest.as_str())
            .collect();
        for (digest, path) in self
            .blobs
            .iter()
            .filter(|(digest, _)| needed.contains(digest.as_str()))
        {
            let to = store.blobs.path(digest).map_err(at(path))?;
            if store.blobs.adopt(digest, path).map_err(at(&to))? {
                added.push(to);
            }
        }
        store.blobs.sync().map_err(at(&store.blobs.folder))?;
        for (chain, tree) in &self.layers {
            let to = store.tree(chain);
            if adopt_tree(tree, &to).map_err(at(&to))? {
                added.push(to);
            }
        }
        sync_folder(&store.layers).map_err(at(&store.layers))?;
        let before = store.catalog();
        let after = before.with(entries.to_vec());
        let images = entries
            .iter()
            .filter_map(|entry| Some(after.same(&entry.image)?.image.clone()));
        let images = images.collect();
        store
            .replace(&after, &before)
            .map_err(at(&store.images.join("index.json")))?;
        Ok(images)
    }
}
