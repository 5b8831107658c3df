//! The zone: which names an asker may see. An immutable snapshot, swapped whole.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

/// Every name on every network of this host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Zone {
    /// By network id.
    pub networks: BTreeMap<String, ZoneNetwork>,
    /// Which networks a container address is on; an asker that isn't listed is refused.
    pub askers: BTreeMap<IpAddr, Asker>,
}

/// The names of one network.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZoneNetwork {
    /// Lower-case name (container name, instance name, alias, or `name.project`) to the addresses of those that answer to it.
    pub names: BTreeMap<String, Vec<IpAddr>>,
}

/// Somebody who asks.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asker {
    /// The networks it is on, by id.
    pub networks: Vec<String>,
    /// May names that aren't containers be forwarded for it? False on internal networks only.
    pub forward: bool,
    /// Name servers of its own (`dns:`) instead of the host's.
    pub servers: Vec<IpAddr>,
}
