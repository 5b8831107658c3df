//! Trees of files for a container: its root, its volumes, the host's folders.
//!
//! All of it happens in the mount namespace of the short-lived process that creates the container. The container's
//! own namespace starts as a copy of that one and keeps what it pivots into; when the creator ends, the rest is
//! gone. So no mount of a container is ever seen by the host, pins another one, or is left behind by a crash.

mod bind;
mod calls;
mod host_path;
mod idmap;
mod inside;
mod root;
mod sys;
mod volume;

pub(crate) use bind::{BindError, bind};
pub(crate) use calls::{Tree, in_root, make_private_namespace};
pub(crate) use host_path::HostPathError;
pub(crate) use idmap::IdMap;
pub(crate) use inside::as_root_of;
pub(crate) use root::{RootError, mount_root};
pub(crate) use sys::mount_sys;
pub(crate) use volume::{VolumeError, fill_from_image};
