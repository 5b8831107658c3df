//! What the store and its confined child say to each other: one task down, one report up, as JSON.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The child sends this when it is in its own namespaces and waits for its id maps.
pub(crate) const UNSHARED: u8 = b'U';

/// Most bytes that one archive or layer may hold, decompressed.
pub(crate) const MAX_BYTES: u64 = 64 << 30;
/// Most entries of one layer.
pub(crate) const MAX_ENTRIES: u64 = 2_000_000;
/// Most members of one image archive: 1000 images with 128 layers and their documents fit in.
pub(crate) const MAX_MEMBERS: u64 = 200_000;
/// Most bytes of a report; the names of all members fit in.
pub(crate) const MAX_REPORT: u64 = 64 << 20;

/// What the child shall do with the bytes on its standard input.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The only folder that the child keeps: it becomes the child's root.
    pub(crate) target: PathBuf,
    /// What to do.
    pub(crate) work: Work,
    /// Stop with an error past this many decompressed bytes.
    pub(crate) max_bytes: u64,
}

/// The three things the child can do.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Work {
    /// Split an image archive into files `0`, `1`, … in the target.
    Archive,
    /// Unpack a layer into the target in overlayfs's form.
    Layer {
        /// The target's own attributes where the layer has no entry for its root.
        root: RootAttributes,
    },
    /// Read a layer to its end, for its diff id.
    Verify,
}

/// Owner and mode of a layer's topmost folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RootAttributes {
    /// Permission bits, setuid and sticky included.
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Default for RootAttributes {
    fn default() -> Self {
        Self {
            mode: 0o755,
            uid: 0,
            gid: 0,
        }
    }
}

/// How it went.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Report {
    /// An archive was split.
    Archive { members: Vec<Member> },
    /// A layer was unpacked or verified: the SHA-256 of its decompressed bytes.
    Layer { diff_id: String },
    /// Refused or failed; the text is for people and names the entry.
    Failed { reason: String },
}

/// A member of an image archive.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Member {
    /// Path in the archive, without leading `./` and `/`.
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// Where a member's bytes are.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) enum Content {
    /// In the target, in the file with this number for a name.
    File(u64),
    /// In another member. Old `docker save` links layers that images share: relative to the member's folder.
    Symlink(String),
    /// In another member, named from the archive's root.
    Hardlink(String),
}
