//! The zone: which names an asker may see. An immutable snapshot, swapped whole.
//!
//! It travels on the feed, so whatever is added later has a default: either side may be the older one.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
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
    /// The one name that stands for an address (PTR), in lower case.
    #[serde(default)]
    pub pointers: BTreeMap<IpAddr, String>,
    /// Where containers serve (SRV), by what is asked for when no port is named: `_tcp.web`.
    #[serde(default)]
    pub locations: BTreeMap<String, Vec<Location>>,
    /// Its subnets. What is asked about an address in them is answered here or not at all.
    #[serde(default)]
    pub ranges: Vec<IpNetwork>,
}

/// A port and those that serve it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Location {
    /// Inside the containers.
    pub port: u16,
    /// Names of the replicas, in lower case; each is a name of the same network.
    pub targets: Vec<String>,
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
