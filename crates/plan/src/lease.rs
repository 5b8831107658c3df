//! Addresses: subnets from pools, addresses from subnets, host ids from their pool.
//!
//! Everything is searched from a cursor onwards and around, so that what was released is reused last, and nothing
//! depends on chance.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use linkspan_site::Network;

use crate::{
    AddressLease, Claim, ContainerId, IdRange, LINK_PREFIX, Leases, NetworkId, NetworkLease, Observed,
    Settings,
};

/// Ids of one container.
pub const IDS_PER_CONTAINER: u32 = 65_536;

/// Why nothing could be promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Every block of every pool is taken.
    #[error(
        "network `{network}` gets no subnet: all {blocks} blocks of the pools are in use or claimed; add a pool to the daemon's settings"
    )]
    PoolsExhausted {
        /// Which network.
        network: NetworkId,
        /// How many blocks were looked at.
        blocks: u64,
    },
    /// The user's subnet is somebody else's.
    #[error(
        "network `{network}`: subnet {subnet} overlaps {range} ({source_of}); choose another `subnet:` or leave it out"
    )]
    Overlap {
        /// Which network.
        network: NetworkId,
        /// As written.
        subnet: IpNetwork,
        /// What it meets.
        range: IpNetwork,
        /// Whose that is.
        source_of: String,
    },
    /// Every address of a subnet is taken.
    #[error(
        "network `{network}` has no address left in {subnet}; give it a larger `subnet:` or run fewer containers on it"
    )]
    SubnetExhausted {
        /// Which network.
        network: NetworkId,
        /// Its subnet.
        subnet: Ipv4Network,
    },
    /// The static address is somebody else's.
    #[error("address {address} on network `{network}` is held by another container; choose another")]
    AddressTaken {
        /// Which network.
        network: NetworkId,
        /// As written.
        address: Ipv4Addr,
    },
    /// Every id range is taken.
    #[error("no user id range is left for another container: all {ranges} are in use")]
    IdsExhausted {
        /// How many there are.
        ranges: u32,
    },
}

/// Why a subnet can't be had, if it can't.
pub fn conflict(subnet: IpNetwork, leases: &Leases, claims: &[Claim], settings: &Settings) -> Option<Claim> {
    let ours = leases.networks.values().flat_map(|lease| {
        let v6 = lease.v6.map(IpNetwork::V6);
        std::iter::once(IpNetwork::V4(lease.v4))
            .chain(v6)
            .map(move |range| (range, format!("network `{}`", lease.id)))
    });
    let avoided = settings
        .avoid
        .iter()
        .map(|range| (*range, "`avoid:` in the daemon's settings".to_owned()));
    let claimed = claims.iter().map(|claim| (claim.range, claim.source.clone()));
    ours.chain(avoided)
        .chain(claimed)
        .find(|(range, _)| overlaps(*range, subnet))
        .map(|(range, source)| Claim { range, source })
}

/// Do two ranges share an address?
pub fn overlaps(a: IpNetwork, b: IpNetwork) -> bool {
    match (a, b) {
        (IpNetwork::V4(a), IpNetwork::V4(b)) => a.overlaps(b),
        (IpNetwork::V6(a), IpNetwork::V6(b)) => a.overlaps(b),
        _ => false,
    }
}

impl Leases {
    /// The next number that was never given out.
    fn next(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }

    /// An id that no container had before.
    pub(crate) fn new_container(&mut self, settings: &Settings) -> ContainerId {
        ContainerId(format!("{:016x}", mix(settings.seed ^ mix(self.next()))))
    }

    /// Promises a network a bridge and subnets; answers the bridge's name.
    pub(crate) fn new_network(
        &mut self,
        id: &NetworkId,
        network: &Network,
        observed: &Observed,
        settings: &Settings,
    ) -> Result<String, LeaseError> {
        let v4 = match network.subnet {
            Some(subnet) => self
                .check_subnet(id, IpNetwork::V4(subnet), observed, settings)
                .map(|()| subnet)?,
            None => self.pick_subnet(id, observed, settings)?,
        };
        let number = self.next();
        let v6 = match (network.ipv6.unwrap_or(true) && observed.ipv6, network.subnet6) {
            (false, _) => None,
            (true, Some(subnet)) => {
                self.check_subnet(id, IpNetwork::V6(subnet), observed, settings)?;
                Some(subnet)
            }
            (true, None) => settings.prefix6.map(|prefix| subnet6(prefix, number)),
        };
        let gateway = network.gateway.unwrap_or_else(|| host(v4, 1));
        let resolver = if host(v4, 2) == gateway {
            host(v4, 1)
        } else {
            host(v4, 2)
        };
        let bridge = format!("{LINK_PREFIX}b{:08x}", mix(settings.seed ^ number) as u32);
        let lease = NetworkLease {
            id: id.clone(),
            v4,
            v6,
            gateway,
            resolver,
            internal: network.internal,
            mtu: observed.mtu,
            fixed: network.subnet.is_some(),
            cursor: 2,
        };
        self.networks.insert(bridge.clone(), lease);
        Ok(bridge)
    }

    fn check_subnet(
        &self,
        id: &NetworkId,
        subnet: IpNetwork,
        observed: &Observed,
        settings: &Settings,
    ) -> Result<(), LeaseError> {
        match conflict(subnet, self, &observed.claims, settings) {
            Some(claim) => Err(LeaseError::Overlap {
                network: id.clone(),
                subnet,
                range: claim.range,
                source_of: claim.source,
            }),
            None => Ok(()),
        }
    }

    fn pick_subnet(
        &self,
        id: &NetworkId,
        observed: &Observed,
        settings: &Settings,
    ) -> Result<Ipv4Network, LeaseError> {
        let mut looked_at = 0;
        for pool in &settings.pools {
            let blocks = 1_u64 << pool.size.saturating_sub(pool.base.prefix()).min(31);
            let start = mix(settings.machine) % blocks;
            for step in 0..blocks {
                looked_at += 1;
                let offset = ((start + step) % blocks) << (32 - pool.size);
                let first = u32::from(pool.base.network()).wrapping_add(offset as u32);
                let Ok(subnet) = Ipv4Network::new(first.into(), pool.size) else {
                    continue;
                };
                if conflict(IpNetwork::V4(subnet), self, &observed.claims, settings).is_none() {
                    return Ok(subnet);
                }
            }
        }
        Err(LeaseError::PoolsExhausted {
            network: id.clone(),
            blocks: looked_at,
        })
    }

    /// Promises a container an address on a bridge.
    pub(crate) fn new_address(
        &mut self,
        bridge: &str,
        container: &ContainerId,
        fixed4: Option<Ipv4Addr>,
        fixed6: Option<Ipv6Addr>,
    ) -> Result<AddressLease, LeaseError> {
        let Some(lease) = self.networks.get_mut(bridge) else {
            return Err(LeaseError::PoolsExhausted {
                network: NetworkId(bridge.to_owned()),
                blocks: 0,
            });
        };
        let taken = self.addresses.entry(bridge.to_owned()).or_default();
        if let Some(held) = taken.get(container) {
            return Ok(*held);
        }
        let is_taken = |address: Ipv4Addr| {
            address == lease.gateway
                || address == lease.resolver
                || taken.values().any(|held| held.v4 == address)
        };
        let v4 = match fixed4 {
            Some(address) if is_taken(address) => {
                return Err(LeaseError::AddressTaken {
                    network: lease.id.clone(),
                    address,
                });
            }
            Some(address) => address,
            None => {
                let hosts = host_count(lease.v4);
                let found = (1..=hosts)
                    .map(|step| (lease.cursor.wrapping_add(step) - 1) % hosts + 1)
                    .find(|part| !is_taken(host(lease.v4, *part)));
                let Some(part) = found else {
                    return Err(LeaseError::SubnetExhausted {
                        network: lease.id.clone(),
                        subnet: lease.v4,
                    });
                };
                lease.cursor = part;
                host(lease.v4, part)
            }
        };
        let v6 = lease.v6.map(|subnet| {
            fixed6.unwrap_or_else(|| {
                // The whole IPv4 address in the low bits: easy to read off, and never the gateway's ::1.
                Ipv6Addr::from(u128::from(subnet.network()) | u128::from(u32::from(v4)))
            })
        });
        let address = AddressLease { v4, v6 };
        taken.insert(container.clone(), address);
        Ok(address)
    }

    /// Promises a container a range of host ids.
    pub(crate) fn new_ids(
        &mut self,
        container: &ContainerId,
        settings: &Settings,
    ) -> Result<IdRange, LeaseError> {
        if let Some(range) = self.ids.get(container) {
            return Ok(*range);
        }
        let ranges = settings.ids_ranges.max(1);
        let taken: std::collections::BTreeSet<u32> = self.ids.values().map(|range| range.first).collect();
        let first = |index: u32| settings.ids_first + index * IDS_PER_CONTAINER;
        let free = (0..ranges)
            .map(|step| (self.ids_cursor + step) % ranges)
            .find(|index| !taken.contains(&first(*index)))
            .ok_or(LeaseError::IdsExhausted { ranges })?;
        self.ids_cursor = (free + 1) % ranges;
        let range = IdRange {
            first: first(free),
            count: IDS_PER_CONTAINER,
        };
        self.ids.insert(container.clone(), range);
        Ok(range)
    }

    /// Takes back everything promised to a container.
    pub fn release(&mut self, container: &ContainerId) {
        for held in self.addresses.values_mut() {
            held.remove(container);
        }
        self.ids.remove(container);
    }

    /// Takes back a network.
    pub(crate) fn release_network(&mut self, bridge: &str) {
        self.networks.remove(bridge);
        self.addresses.remove(bridge);
    }
}

/// Usable host parts of a subnet: all but the network's own and the broadcast address.
fn host_count(subnet: Ipv4Network) -> u32 {
    subnet.size().saturating_sub(2).max(1)
}

/// The address with this host part.
pub(crate) fn host(subnet: Ipv4Network, part: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).wrapping_add(part))
}

/// The /64 with this number below our /48.
fn subnet6(prefix: Ipv6Network, number: u64) -> Ipv6Network {
    let bits = u128::from(prefix.network()) | (u128::from(number & 0xffff) << 64);
    Ipv6Network::new_checked(Ipv6Addr::from(bits), 64).unwrap_or(prefix)
}

/// Spreads a number over all bits (the finaliser of splitmix64), so that small counters make unlike names.
pub(crate) fn mix(number: u64) -> u64 {
    let a = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let b = (a ^ (a >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    b ^ (b >> 31)
}
