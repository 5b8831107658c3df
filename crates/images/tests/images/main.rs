//! The image store against real tools, hostile archives, and sudden death.

// A test fails by panicking, and its fixtures are written where they are used.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value)]

mod confined;
mod death;
mod full;
mod hostile;
mod layers;
mod names;
mod random;
mod real;
mod rig;
