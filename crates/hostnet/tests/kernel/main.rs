//! Networks, ports and repair in the real kernel: every test is a host of its own in fresh namespaces.

#![allow(clippy::unwrap_used)]

mod claims;
mod coexist;
mod foreign;
mod inside;
mod isolated;
mod lan;
mod moves;
mod networks;
mod ports;
mod repair;
mod rig;
mod runs;
mod sandboxes;
mod table;
mod talk;
