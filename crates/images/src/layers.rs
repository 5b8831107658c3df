//! Layers, unpacked: one folder for each chain id, whole or absent.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use crate::blobs::sync_folder;
use crate::catalog::Entry;
use crate::image::Image;
use crate::protocol::{MAX_BYTES, Report, RootAttributes, Task, Work};
use crate::sandbox::SandboxError;
use crate::store::{Inner, Store, TEMPORARY};

/// Why a layer can't be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// The image was removed meanwhile.
    #[error("the image `{0}` is not in the store any more; load it again")]
    Gone(String),
    /// The layer holds what must not be unpacked, or is damaged, or the disk is full; the text names the entry.
    #[error("layer `{layer}` can't be unpacked: {reason}")]
    Refused {
        /// The digest of its blob.
        layer: String,
        /// What the confined child said.
        reason: String,
    },
    /// The layer isn't the one that the image's configuration means.
    #[error(
        "layer `{layer}` unpacks to the digest `{found}`, but the image says `{expected}`; it was tampered with"
    )]
    DiffId {
        /// The digest of its blob.
        layer: String,
        /// In the image's configuration.
        expected: String,
        /// Of the bytes.
        found: String,
    },
    /// The confined child failed.
    #[error("layer `{layer}` can't be unpacked")]
    Sandbox {
        /// The digest of its blob.
        layer: String,
        /// The cause.
        #[source]
        source: SandboxError,
    },
    /// A folder or file.
    #[error("can't write `{}`", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The runtime is shutting down.
    #[error("unpacking was interrupted")]
    Interrupted,
}

impl Store {
    /// Makes sure that every layer of `image` lies unpacked in [`Store::layers_dir`]. Loading has done that; this is
    /// for trees that were lost since, and costs next to nothing when none was.
    pub async fn unpacked(&self, image: &Image) -> Result<(), UnpackError> {
        let inner = self.inner.clone();
        let image = image.clone();
        let work = tokio::task::spawn_blocking(move || inner.unpack_missing(&image));
        work.await.unwrap_or(Err(UnpackError::Interrupted))
    }
}

impl Inner {
    fn unpack_missing(&self, image: &Image) -> Result<(), UnpackError> {
        if image.layers.iter().all(|chain| self.tree(chain).is_dir()) {
            return Ok(());
        }
        let _relies = self.rely();
        let found = self.catalog().same(image).cloned();
        let found = found.ok_or_else(|| UnpackError::Gone(image.id.clone()))?;
        let _one = self.unpacking.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..found.image.layers.len() {
            let to = self.tree(&found.image.layers[number]);
            if to.is_dir() {
                continue;
            }
            let staging = self.stage_trees()?;
            let tree = staging.path().join("tree");
            self.unpack_stored(&found, number, &tree)?;
            let _change = self.change();
            adopt_tree(&tree, &to).map_err(at(&to))?;
            sync_folder(&self.layers).map_err(at(&self.layers))?;
        }
        Ok(())
    }

    fn unpack_stored(&self, entry: &Entry, number: usize, tree: &Path) -> Result<(), UnpackError> {
        let layer = &entry.layers[number].digest;
        let blob = self
            .blobs
            .open(layer)
            .map_err(at(&self.blobs.folder.join(layer)))?;
        let below = number
            .checked_sub(1)
            .map(|below| self.tree(&entry.image.layers[below]));
        self.unpack_layer(
            layer,
            blob.into(),
            &entry.diff_ids[number],
            below.as_deref(),
            tree,
        )
    }

    /// Where the tree of a chain id is or would be.
    pub(crate) fn tree(&self, chain: &str) -> PathBuf {
        self.layers.join(chain.strip_prefix("sha256:").unwrap_or(chain))
    }

    /// A folder for trees in the making, on the file system that they will stay on.
    pub(crate) fn stage_trees(&self) -> Result<tempfile::TempDir, UnpackError> {
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(&self.layers)
            .map_err(at(&self.layers))
    }

    /// Unpacks a layer's blob into the new folder `tree`. `below` is the tree of the layer under it.
    pub(crate) fn unpack_layer(
        &self,
        layer: &str,
        blob: OwnedFd,
        diff_id: &str,
        below: Option<&Path>,
        tree: &Path,
    ) -> Result<(), UnpackError> {
        fs::create_dir(tree).map_err(at(tree))?;
        // overlayfs shows the root of the topmost layer, so a layer that doesn't mention its root inherits it.
        let root = match below {
            Some(below) => root_attributes(below).map_err(at(below))?,
            None => RootAttributes::default(),
        };
        self.read_layer(layer, blob, diff_id, tree, Work::Layer { root })
    }

    /// Checks that a layer's blob is the one that the configuration means, and writes nothing.
    pub(crate) fn verify_layer(
        &self,
        layer: &str,
        blob: OwnedFd,
        diff_id: &str,
        empty: &Path,
    ) -> Result<(), UnpackError> {
        self.read_layer(layer, blob, diff_id, empty, Work::Verify)
    }

    fn read_layer(
        &self,
        layer: &str,
        blob: OwnedFd,
        diff_id: &str,
        target: &Path,
        work: Work,
    ) -> Result<(), UnpackError> {
        let layer = layer.to_owned();
        let task = Task {
            target: target.to_owned(),
            work,
            max_bytes: MAX_BYTES,
        };
        match self.sandbox.run(blob, &task) {
            Ok(Report::Layer { diff_id: found }) if found == diff_id => Ok(()),
            Ok(Report::Layer { diff_id: found }) => Err(UnpackError::DiffId {
                layer,
                expected: diff_id.to_owned(),
                found,
            }),
            Ok(Report::Failed { reason }) => Err(UnpackError::Refused { layer, reason }),
            Ok(Report::Archive { .. }) => Err(UnpackError::Refused {
                layer,
                reason: "the unpacking process answered another question".into(),
            }),
            Err(source) => Err(UnpackError::Sandbox { layer, source }),
        }
    }
}

/// Moves a finished tree to its place. False if one was there already.
pub(crate) fn adopt_tree(tree: &Path, to: &Path) -> io::Result<bool> {
    // A rename onto an empty folder would succeed, but an empty layer's tree is as good as another.
    if to.is_dir() {
        return Ok(false);
    }
    fs::rename(tree, to).map(|()| true)
}

fn root_attributes(tree: &Path) -> io::Result<RootAttributes> {
    let metadata = fs::symlink_metadata(tree)?;
    Ok(RootAttributes {
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
    })
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> UnpackError {
    let path = path.to_owned();
    move |source| UnpackError::Io { path, source }
}
