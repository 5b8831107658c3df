//! Addresses: subnets from pools, addresses from subnets, host ids from their pool.
//!
//! Everything is searched from a cursor onwards and around, so that what was released is reused last, and nothing
//! depends on chance.

mod taken;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::{IpNetwork, Ipv4Network, Ipv6Network};
use linkspan_site::{Driver, Network};

use crate::{
    AddressLease, Claim, ContainerId, IdRange, LINK_PREFIX, LanHolder, Leases, NetworkId, NetworkLease,
    Observed, Settings,
};

/// Ids of one container.
pub const IDS_PER_CONTAINER: u32 = 65_536;

/// Why nothing could be promised.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LeaseError {
    /// Every block of every pool is taken.
    #[error(
        "network `{network}` gets no subnet: all {blocks} blocks of the pools are in use or claimed (ours: {holders}); `linkspan network pools` shows by whom; add a pool to the daemon's settings"
    )]
    PoolsExhausted {
        /// Which network.
        network: NetworkId,
        /// How many blocks were looked at.
        blocks: u64,
        /// Networks of ours that have some.
        holders: String,
    },
    /// Nothing was promised for its network yet.
    #[error("the network of bridge `{bridge}` isn't there yet, so nobody can have an address on it")]
    NoNetwork {
        /// Its bridge.
        bridge: String,
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
    #[error("address {address} on network `{network}` is held by {holder}; choose another")]
    AddressTaken {
        /// Which network.
        network: NetworkId,
        /// As written.
        address: IpAddr,
        /// Who has it.
        holder: String,
    },
    /// Every id range is taken.
    #[error("no user id range is left for another container: all {ranges} are in use")]
    IdsExhausted {
        /// How many there are.
        ranges: u32,
    },
}

/// Why network `id` can't have a subnet, if it can't: another network of ours has it, or somebody else.
pub fn conflict(
    subnet: IpNetwork,
    id: &NetworkId,
    leases: &Leases,
    claims: &[Claim],
    settings: &Settings,
) -> Option<Claim> {
    let others = leases.networks.values().filter(|lease| lease.id != *id);
    let mut ours = others
        .filter(|lease| lease.driver == Driver::Bridge)
        .flat_map(|lease| {
            let v6 = lease.v6.map(IpNetwork::V6);
            let retiring = lease.retiring.iter().map(|left| left.range);
            std::iter::once(IpNetwork::V4(lease.v4))
                .chain(v6)
                .chain(retiring)
                .map(move |range| (range, &lease.id))
        });
    ours.find(|(range, _)| overlaps(*range, subnet))
        .map(|(range, id)| Claim {
            range,
            source: format!("network `{id}`"),
        })
        .or_else(|| claimed(subnet, claims, settings))
}

/// Who but us uses a range.
pub(crate) fn claimed(subnet: IpNetwork, claims: &[Claim], settings: &Settings) -> Option<Claim> {
    let avoided = settings
        .avoid
        .iter()
        .map(|range| (*range, "`avoid:` in the daemon's settings"));
    let claimed = claims.iter().map(|claim| (claim.range, claim.source.as_str()));
    avoided
        .chain(claimed)
        .find(|(range, _)| overlaps(*range, subnet))
        .map(|(range, source)| Claim {
            range,
            source: source.to_owned(),
        })
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
        let on_lan = network.driver != Driver::Bridge;
        let v4 = match network.subnet {
            // It joins a LAN, whose range is of course in use.
            Some(subnet) if on_lan => subnet,
            Some(subnet) => self
                .check_subnet(id, subnet.into(), observed, settings)
                .map(|()| subnet)?,
            None => self.pick_subnet(id, observed, settings)?,
        };
        let wants_v6 = network.ipv6.unwrap_or(true) && observed.ipv6;
        let v6 = match network.subnet6.filter(|_| wants_v6) {
            Some(subnet) if on_lan => Some(subnet),
            Some(subnet) => self
                .check_subnet(id, subnet.into(), observed, settings)
                .map(|()| Some(subnet))?,
            None if wants_v6 && !on_lan => self.pick_subnet6(id, observed, settings),
            None => None,
        };
        let number = self.next();
        let bridge = format!("{LINK_PREFIX}b{:08x}", mix(settings.seed ^ number) as u32);
        let (gateway, resolver) = match network.subnet {
            // The LAN has a router of its own, and no resolver of ours.
            Some(subnet) if on_lan => {
                let router = || router(&network.driver, subnet, observed);
                let gateway = network.gateway.or_else(router).unwrap_or_else(|| host(v4, 1));
                (gateway, gateway)
            }
            // In a subnet of their own people give out the first addresses themselves; the last one is least missed.
            Some(subnet) => {
                let gateway = network.gateway.unwrap_or_else(|| host(v4, 1));
                let hosts = host_count(subnet);
                let last = host(v4, hosts);
                (
                    gateway,
                    if last == gateway {
                        host(v4, hosts - 1)
                    } else {
                        last
                    },
                )
            }
            None => gateway_and_resolver(v4),
        };
        let lease = NetworkLease {
            id: id.clone(),
            v4,
            v6,
            gateway,
            resolver,
            internal: network.internal,
            mtu: network.mtu.unwrap_or(observed.mtu),
            mtu_written: network.mtu.is_some(),
            fixed: network.subnet.is_some(),
            driver: network.driver.clone(),
            isolated: network.isolated,
            retiring: Vec::new(),
            moves: Vec::new(),
            cursor: if network.subnet.is_some() { 1 } else { 2 },
        };
        self.networks.insert(bridge.clone(), lease);
        Ok(bridge)
    }

    pub(crate) fn check_subnet(
        &self,
        id: &NetworkId,
        subnet: IpNetwork,
        observed: &Observed,
        settings: &Settings,
    ) -> Result<(), LeaseError> {
        match conflict(subnet, id, self, &observed.claims, settings) {
            Some(claim) => Err(LeaseError::Overlap {
                network: id.clone(),
                subnet,
                range: claim.range,
                source_of: claim.source,
            }),
            None => Ok(()),
        }
    }

    /// A block of the pools that nobody uses, and that the network itself hasn't just left.
    pub(crate) fn pick_subnet(
        &self,
        id: &NetworkId,
        observed: &Observed,
        settings: &Settings,
    ) -> Result<Ipv4Network, LeaseError> {
        let taken = self.taken(id, &observed.claims, settings, true);
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
                if !taken.meets(subnet.into()) {
                    return Ok(subnet);
                }
            }
        }
        Err(LeaseError::PoolsExhausted {
            network: id.clone(),
            blocks: looked_at,
            holders: self.holders(),
        })
    }

    /// The block that the next network without a subnet of its own would get.
    pub fn next_subnet(&self, claims: &[Claim], settings: &Settings) -> Option<Ipv4Network> {
        let observed = Observed {
            claims: claims.to_vec(),
            ..Observed::default()
        };
        // No network is called so: a name can't be empty.
        let nobody = NetworkId(String::new());
        self.pick_subnet(&nobody, &observed, settings).ok()
    }

    /// A /64 of our own prefix; absent without a prefix, or when all 65,536 are taken.
    pub(crate) fn pick_subnet6(
        &self,
        id: &NetworkId,
        observed: &Observed,
        settings: &Settings,
    ) -> Option<Ipv6Network> {
        let prefix = settings.prefix6?;
        let taken = self.taken(id, &observed.claims, settings, false);
        // From the number that the next network gets onwards, so that one that was released is used last.
        (0..=u64::from(u16::MAX))
            .map(|step| subnet6(prefix, self.counter.wrapping_add(step + 1)))
            .find(|subnet| !taken.meets((*subnet).into()))
    }

    /// Who has which subnet: a few of them, for a message.
    fn holders(&self) -> String {
        let bridges = self
            .networks
            .values()
            .filter(|lease| lease.driver == Driver::Bridge);
        let mut all: Vec<String> = bridges
            .map(|lease| format!("{} {}", lease.id, lease.v4))
            .collect();
        let more = all.len().saturating_sub(8);
        all.truncate(8);
        if more > 0 {
            all.push(format!("{more} more"));
        }
        all.join(", ")
    }

    /// Gives everybody on a bridge addresses in its new subnets, with the same host parts where these are free.
    pub(crate) fn relocate(&mut self, bridge: &str) {
        let former = self.addresses.remove(bridge).unwrap_or_default();
        let Some(lease) = self.networks.get(bridge) else {
            return;
        };
        let (v4, v6) = (lease.v4, lease.v6);
        for (container, held) in former {
            let part = u32::from(held.v4) & !u32::from(v4.mask());
            let same = host(v4, part);
            let usable = part != 0 && same != v4.broadcast();
            let kept = usable.then_some(same);
            let v6 = v6.map(|subnet| {
                let low = held.v6.map_or(u128::from(u32::from(held.v4)), u128::from);
                Ipv6Addr::from(u128::from(subnet.network()) | (low & u128::from(u64::MAX)))
            });
            // Where neither can be had, it has no promise any more: the next look at where it should be says why.
            if self.new_address(bridge, &container, kept, v6, None).is_err() {
                self.new_address(bridge, &container, None, v6, None).ok();
            }
        }
    }

    /// Promises a container an address on a bridge; one that was `written` down for somebody only to him.
    pub(crate) fn new_address(
        &mut self,
        bridge: &str,
        container: &ContainerId,
        fixed4: Option<Ipv4Addr>,
        fixed6: Option<Ipv6Addr>,
        written: Option<&BTreeSet<Ipv4Addr>>,
    ) -> Result<AddressLease, LeaseError> {
        let Some(lease) = self.networks.get_mut(bridge) else {
            return Err(LeaseError::NoNetwork {
                bridge: bridge.to_owned(),
            });
        };
        let taken = self.addresses.entry(bridge.to_owned()).or_default();
        if let Some(held) = taken.get(container) {
            return Ok(*held);
        }
        let holder = |address: Ipv4Addr| match address {
            _ if address == lease.gateway => Some(lease.gateway_is()),
            _ if address == lease.resolver => Some("the resolver"),
            _ => taken
                .values()
                .any(|held| held.v4 == address)
                .then_some("another container"),
        };
        let is_taken = |address: Ipv4Addr| holder(address).is_some();
        let v4 = match fixed4.map(|address| (address, holder(address))) {
            Some((address, Some(holder))) => {
                return Err(LeaseError::AddressTaken {
                    network: lease.id.clone(),
                    address: address.into(),
                    holder: holder.to_owned(),
                });
            }
            Some((address, None)) => address,
            None => {
                let hosts = host_count(lease.v4);
                let found = (1..=hosts)
                    .map(|step| (lease.cursor.wrapping_add(step) - 1) % hosts + 1)
                    .find(|part| {
                        let address = host(lease.v4, *part);
                        !is_taken(address) && !written.is_some_and(|written| written.contains(&address))
                    });
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
        let is_taken6 = |address: Ipv6Addr| taken.values().any(|held| held.v6 == Some(address));
        let v6 = match (lease.v6, fixed6) {
            (None, _) => None,
            (Some(_), Some(address)) if is_taken6(address) => {
                return Err(LeaseError::AddressTaken {
                    network: lease.id.clone(),
                    address: address.into(),
                    holder: "another container".to_owned(),
                });
            }
            (Some(_), Some(address)) => Some(address),
            // The whole IPv4 address in the low bits: easy to read off, and neither the gateway's nor the resolver's. One
            // that moved here from another range keeps its own, so the number above may have to grow.
            (Some(subnet), None) => (0..=u128::from(u16::MAX))
                .map(|step| u128::from(subnet.network()) | step << 32 | u128::from(u32::from(v4)))
                .map(Ipv6Addr::from)
                .find(|address| !is_taken6(*address)),
        };
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
        let taken: BTreeSet<u32> = self.ids.values().map(|range| range.first).collect();
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

    /// Takes back a container's address on a bridge if it is not the one that it is to have.
    pub(crate) fn give_up_other(
        &mut self,
        bridge: &str,
        container: &ContainerId,
        fixed4: Option<Ipv4Addr>,
        fixed6: Option<Ipv6Addr>,
    ) {
        let held = self.addresses.get(bridge).and_then(|held| held.get(container));
        let is_other = held.is_some_and(|held| {
            fixed4.is_some_and(|wanted| wanted != held.v4)
                || fixed6.is_some_and(|wanted| held.v6.is_some_and(|v6| v6 != wanted))
        });
        if is_other {
            self.release_address(bridge, container);
        }
    }

    /// Takes back a container's address on one bridge.
    pub(crate) fn release_address(&mut self, bridge: &str, container: &ContainerId) {
        if let Some(held) = self.addresses.get_mut(bridge) {
            held.remove(container);
        }
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

impl NetworkLease {
    /// How many containers its subnet has room for, beside the bridge and the resolver, or the router.
    pub(crate) fn room(&self) -> u64 {
        let ours = if self.gateway == self.resolver { 1 } else { 2 };
        u64::from(host_count(self.v4).saturating_sub(ours))
    }

    /// What has the gateway's address.
    pub fn gateway_is(&self) -> &'static str {
        match self.driver {
            Driver::Bridge => "the bridge",
            Driver::Macvlan { .. } | Driver::Ipvlan { .. } => "the router",
        }
    }
}

/// The router of the LAN that a network is on, if it is known and in its subnet.
fn router(driver: &Driver, subnet: Ipv4Network, observed: &Observed) -> Option<Ipv4Addr> {
    let lan = observed.lans.get(driver.parent()?)?;
    lan.held.iter().find_map(|(ip, holder)| match ip {
        IpAddr::V4(ip) => (*holder == LanHolder::Router && subnet.contains(*ip)).then_some(*ip),
        IpAddr::V6(_) => None,
    })
}

/// The address with this host part.
pub(crate) fn host(subnet: Ipv4Network, part: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(subnet.network()).wrapping_add(part))
}

/// The bridge's address and the resolver's in a subnet that we chose: the first two.
pub(crate) fn gateway_and_resolver(v4: Ipv4Network) -> (Ipv4Addr, Ipv4Addr) {
    (host(v4, 1), host(v4, 2))
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
