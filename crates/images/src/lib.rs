//! Images: a content-addressed store on disk, and archives going in and out of it.
//!
//! The store is an OCI image layout (`images/`) that other tools can read, beside the same layers unpacked
//! (`layers/`), ready to be mounted. Nothing in it is ever half there: blobs and trees are made under a temporary
//! name, checked, flushed, and renamed; `index.json`, which names them, is replaced as the last step.
//!
//! Bytes from outside are decompressed and parsed as tar in a confined child only ([`unpack_main`]), which sees
//! nothing but an empty folder. The store itself reads JSON and computes digests.

mod blobs;
mod catalog;
mod documents;
mod image;
mod layers;
mod load;
mod protocol;
mod reference;
mod remove;
mod sandbox;
mod save;
mod store;
mod unpack;

pub use image::{Image, ImageConfig, ImageHealthcheck};
pub use layers::UnpackError;
pub use load::LoadError;
pub use reference::{ReferenceError, familiar, full_name};
pub use remove::RemoveError;
pub use sandbox::SandboxError;
pub use save::SaveError;
pub use store::{Config, OpenError, Store};
pub use unpack::unpack_main;
