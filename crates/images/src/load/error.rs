//! Why an archive is not loaded.

use std::io;
use std::path::{Path, PathBuf};

use crate::catalog::EntryError;
use crate::documents::{MAX_DOCUMENT, MAX_IMAGES};
use crate::layers::UnpackError;
use crate::sandbox::SandboxError;

/// Why an archive or layout is not loaded. The store is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The sender failed, or hung up.
    #[error("the archive can't be received")]
    Read(#[source] io::Error),
    /// It is not a tar archive, is cut short, or holds what must not be there.
    #[error("the archive is not loaded: {reason}")]
    Archive {
        /// What the confined child said; names the member.
        reason: String,
    },
    /// No image in it.
    #[error(
        "the archive holds no image: neither `index.json` (OCI) nor `manifest.json` (docker-archive); make it with \
         `docker save`, `skopeo copy`, `buildah push` or `umoci`"
    )]
    NoImages,
    /// A file that another one speaks of.
    #[error("`{name}` is missing; the archive is incomplete")]
    Missing {
        /// The member.
        name: String,
    },
    /// A member can't be read.
    #[error("`{name}` can't be read")]
    Member {
        /// The member.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A document that isn't what its place demands.
    #[error("`{name}` is not a document that describes an image")]
    Document {
        /// The member.
        name: String,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
    /// A document of megabytes.
    #[error("`{name}` is larger than {MAX_DOCUMENT} bytes, which no such document is")]
    TooLarge {
        /// The member.
        name: String,
    },
    /// The bytes are not those that were meant.
    #[error(
        "`{name}` has the digest `{found}` where `{expected}` is expected; it is damaged or was tampered with"
    )]
    Digest {
        /// The member.
        name: String,
        /// From the descriptor.
        expected: String,
        /// Of the bytes.
        found: String,
    },
    /// The length is not the one that was meant.
    #[error("`{name}` has {found} bytes where {expected} are expected; it is damaged or was tampered with")]
    Size {
        /// The member.
        name: String,
        /// From the descriptor.
        expected: u64,
        /// Of the file.
        found: u64,
    },
    /// Manifest and configuration contradict each other.
    #[error("{0}")]
    Image(String),
    /// A format that we don't take.
    #[error("`{name}` has the media type `{media_type}`, which is not supported")]
    MediaType {
        /// The member or digest.
        name: String,
        /// As written.
        media_type: String,
    },
    /// Not for this machine.
    #[error("`{image}` is for {offered}, and this host is {host}; load an image for {host}")]
    Platform {
        /// Name or digest.
        image: String,
        /// Its platforms.
        offered: String,
        /// Ours.
        host: String,
    },
    /// An index in an index in an index.
    #[error("`{name}` is an index nested too deeply")]
    Nested {
        /// The digest.
        name: String,
    },
    /// Absurdly many images.
    #[error("the archive holds {count} images; at most {MAX_IMAGES} are loaded at once")]
    TooMany {
        /// How many.
        count: usize,
    },
    /// A layer.
    #[error(transparent)]
    Unpack(#[from] UnpackError),
    /// The confined child failed.
    #[error("the archive can't be read")]
    Sandbox(#[from] SandboxError),
    /// A folder or file of the store.
    #[error("can't write `{}`", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The runtime is shutting down.
    #[error("loading was interrupted")]
    Interrupted,
}

impl From<EntryError> for LoadError {
    fn from(error: EntryError) -> Self {
        Self::Image(error.to_string())
    }
}

pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> LoadError {
    let path = path.to_owned();
    move |source| LoadError::Io { path, source }
}
