//! May these containers be on that network, beside everybody else who is to be there?
//!
//! Asked before anything is stored, for a site that joins networks as for a container that is put on one by hand. Whoever
//! a file or a hand puts on a network counts, whether it runs or not: its address is promised to it all the same.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::{IpNetwork, Ipv4Network};
use linkspan_site::{Attachment, Driver, MOST_NETWORKS_OF_A_CONTAINER, MacAddress};

use crate::network::{declared, network_id};
use crate::template::{gateway6, resolver6};
use crate::{Desired, LanHolder, Leases, NetworkId, NetworkLease, Refusal, Slot, World};

/// Why a container can't be on a network as it is wished.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemberError {
    /// Nobody else fits in.
    #[error(
        "network `{network}` has room for {room} containers in {subnet}, and {wanted} are to be on it: {holders}; take some off it, or give it a larger subnet"
    )]
    Full {
        /// Which network.
        network: NetworkId,
        /// Its range.
        subnet: Ipv4Network,
        /// How many have room, beside the bridge and the resolver.
        room: u64,
        /// How many there would be.
        wanted: usize,
        /// Who, with addresses.
        holders: String,
    },
    /// The address is none of the network's.
    #[error("address {address} is not in the {family} range of network `{network}` ({range})")]
    OutOfRange {
        /// As written.
        address: IpAddr,
        /// `IPv4` or `IPv6`.
        family: &'static str,
        /// Which network.
        network: NetworkId,
        /// Its range, or `none`.
        range: String,
    },
    /// The first address of a range, or the last of an IPv4 one.
    #[error("address {address} is that of network `{network}` as a whole and can't be a container's")]
    NoHost {
        /// As written.
        address: IpAddr,
        /// Which network.
        network: NetworkId,
    },
    /// The network may move.
    #[error(
        "network `{network}` chose its range itself and may move, so nobody on it can have a fixed address; make it with `--subnet`"
    )]
    Moves {
        /// Which network.
        network: NetworkId,
    },
    /// The address is somebody else's.
    #[error("address {address} on network `{network}` is held by {holder}; choose another")]
    AddressTaken {
        /// As written.
        address: IpAddr,
        /// Which network.
        network: NetworkId,
        /// ``container `shop-web-1` ``, `the bridge`.
        holder: String,
    },
    /// The hardware address is somebody else's.
    #[error("hardware address {mac} on network `{network}` is held by container `{holder}`; choose another")]
    MacTaken {
        /// As written.
        mac: MacAddress,
        /// Which network.
        network: NetworkId,
        /// Who has it.
        holder: String,
    },
    /// One address for many.
    #[error("{count} containers can't all have {what}")]
    Shared {
        /// How many.
        count: usize,
        /// An address.
        what: String,
    },
    /// It would be on too many.
    #[error(
        "container `{container}` would be on {wanted} networks, and may be on {MOST_NETWORKS_OF_A_CONTAINER}"
    )]
    TooMany {
        /// Which.
        container: String,
        /// How many.
        wanted: usize,
    },
    /// Nobody's file has it any more.
    #[error("network `{network}` is being removed: no site has it any more")]
    Leaves {
        /// Which network.
        network: NetworkId,
    },
    /// Members of an ipvlan have the address of its parent.
    #[error(
        "network `{network}` is an ipvlan, whose members have the hardware address of its parent; a macvlan gives each its own"
    )]
    NoMac {
        /// Which network.
        network: NetworkId,
    },
}

/// Everybody whom a file or a hand puts on a network, with what is wished for him there.
pub(super) type Members<'a> = BTreeMap<Slot, &'a Attachment>;

/// Everybody who is to be on a network.
pub(super) fn members<'a>(desired: &'a Desired, id: &NetworkId) -> Members<'a> {
    let mut members = Members::new();
    for (project, site) in &desired.projects {
        let joins = |name| {
            let network = site.networks.get(name);
            network.is_some_and(|network| network_id(project, name, network) == *id)
        };
        for (container, parts) in &site.containers {
            for (_, wish) in parts.networks.iter().filter(|(name, _)| joins(*name)) {
                for index in 1..=parts.replicas {
                    let slot = Slot {
                        project: project.clone(),
                        container: container.clone(),
                        index,
                    };
                    members.insert(slot, wish);
                }
            }
        }
    }
    for (slot, wishes) in &desired.connections {
        let site = desired.projects.get(&slot.project);
        let declared = site.and_then(|site| site.containers.get(&slot.container));
        if declared.is_none_or(|declared| declared.replicas < slot.index) {
            continue;
        }
        match wishes.get(id) {
            Some(Some(wish)) => drop(members.insert(slot.clone(), wish)),
            Some(None) => drop(members.remove(slot)),
            None => {}
        }
    }
    members
}

/// All networks that a container is to be on.
fn networks_of(desired: &Desired, slot: &Slot) -> BTreeSet<NetworkId> {
    let site = desired.projects.get(&slot.project);
    let declared = site.and_then(|site| Some((site, site.containers.get(&slot.container)?)));
    let mut networks: BTreeSet<NetworkId> = declared
        .into_iter()
        .flat_map(|(site, container)| {
            let joined = container.networks.keys();
            joined.filter_map(|name| Some(network_id(&site.name, name, site.networks.get(name)?)))
        })
        .collect();
    for (id, wish) in desired.connections.get(slot).into_iter().flatten() {
        match wish {
            Some(_) => networks.insert(id.clone()),
            None => networks.remove(id),
        };
    }
    networks
}

/// A network with everybody who is to be on it.
pub(super) struct Ground<'a> {
    pub(super) id: &'a NetworkId,
    /// What its addresses are promised under.
    pub(super) bridge: &'a str,
    pub(super) lease: &'a NetworkLease,
    pub(super) members: &'a Members<'a>,
    /// Is it a hand that puts somebody there? What a file has may have run on another host of the LAN before, which the
    /// LAN still remembers.
    pub(super) by_hand: bool,
}

impl Ground<'_> {
    /// Is there room for all?
    pub(super) fn holds_all(&self, world: &World<'_>) -> Result<(), MemberError> {
        let room = self.lease.room();
        if self.members.len() as u64 <= room {
            return Ok(());
        }
        let mut holders: Vec<String> = self
            .members
            .keys()
            .map(|slot| match self.address_of(slot, world) {
                Some(address) => format!("{} {address}", slot.display_name()),
                None => slot.display_name(),
            })
            .collect();
        // Those that are there first: they are what can be taken off.
        holders.sort_by_key(|holder| !holder.contains(' '));
        let more = holders.len().saturating_sub(8);
        holders.truncate(8);
        if more > 0 {
            holders.push(format!("{more} more"));
        }
        Err(MemberError::Full {
            network: self.id.clone(),
            subnet: self.lease.v4,
            room,
            wanted: self.members.len(),
            holders: holders.join(", "),
        })
    }

    /// The address that an incarnation in a slot has there.
    fn address_of(&self, slot: &Slot, world: &World<'_>) -> Option<IpAddr> {
        let held = world.leases.addresses.get(self.bridge)?;
        held.iter().find_map(|(id, held)| {
            let seen = world.observed.containers.get(id)?;
            (seen.record.slot == *slot).then_some(IpAddr::V4(held.v4))
        })
    }

    /// May those in `slots` have what is wished for each of them?
    pub(super) fn suits(
        &self,
        slots: &[Slot],
        wish: &Attachment,
        world: &World<'_>,
    ) -> Result<(), MemberError> {
        let v4 = wish.ipv4_address.map(IpAddr::V4);
        let v6 = wish.ipv6_address.map(IpAddr::V6);
        for address in v4.into_iter().chain(v6) {
            self.address(address, slots, world)?;
            alone(slots, &address)?;
        }
        if let Some(mac) = wish.mac_address {
            if matches!(self.lease.driver, Driver::Ipvlan { .. }) {
                let network = self.id.clone();
                return Err(MemberError::NoMac { network });
            }
            if let Some(holder) = self.holder_of_mac(mac, slots, world) {
                return Err(MemberError::MacTaken {
                    mac,
                    network: self.id.clone(),
                    holder,
                });
            }
            alone(slots, &mac)?;
        }
        Ok(())
    }

    fn address(&self, address: IpAddr, slots: &[Slot], world: &World<'_>) -> Result<(), MemberError> {
        let network = || self.id.clone();
        let (range, family) = match address {
            IpAddr::V4(_) => (Some(IpNetwork::V4(self.lease.v4)), "IPv4"),
            IpAddr::V6(_) => (self.lease.v6.map(IpNetwork::V6), "IPv6"),
        };
        let Some(range) = range.filter(|range| range.contains(address)) else {
            return Err(MemberError::OutOfRange {
                address,
                family,
                network: network(),
                range: range.map_or_else(|| "none".to_owned(), |range| range.to_string()),
            });
        };
        if address == range.network() || range.is_ipv4() && address == range.broadcast() {
            return Err(MemberError::NoHost {
                address,
                network: network(),
            });
        }
        if !self.lease.fixed {
            return Err(MemberError::Moves { network: network() });
        }
        match self.holder_of(address, slots, world) {
            Some(holder) => Err(MemberError::AddressTaken {
                address,
                network: network(),
                holder,
            }),
            None => Ok(()),
        }
    }

    /// Who but those in `slots` has an address, or is to have it.
    fn holder_of(&self, address: IpAddr, slots: &[Slot], world: &World<'_>) -> Option<String> {
        let lease = self.lease;
        if address == lease.gateway || lease.v6.is_some_and(|v6| address == gateway6(v6)) {
            return Some(lease.gateway_is().to_owned());
        }
        let has_resolver = lease.driver == Driver::Bridge;
        if has_resolver && (address == lease.resolver || lease.v6.is_some_and(|v6| address == resolver6(v6)))
        {
            return Some("the resolver".to_owned());
        }
        let lan = lease
            .driver
            .parent()
            .and_then(|link| world.observed.lans.get(link));
        let on_lan = lan.and_then(|lan| lan.held.get(&address));
        if let Some(holder) =
            on_lan.filter(|holder| self.by_hand || !matches!(holder, LanHolder::Neighbour(_)))
        {
            return Some(holder.to_string());
        }
        let container = |slot: &Slot| format!("container `{}`", slot.display_name());
        let mut others = self.members.iter().filter(|(slot, _)| !slots.contains(slot));
        let written = others.find(|(_, wish)| {
            wish.ipv4_address.map(IpAddr::V4) == Some(address)
                || wish.ipv6_address.map(IpAddr::V6) == Some(address)
        });
        if let Some((slot, _)) = written {
            return Some(container(slot));
        }
        let held = world.leases.addresses.get(self.bridge)?;
        held.iter().find_map(|(id, held)| {
            let slot = &world.observed.containers.get(id)?.record.slot;
            let has_it = IpAddr::V4(held.v4) == address || held.v6.map(IpAddr::V6) == Some(address);
            // Who is to leave, or to have another, lets go of it.
            let stays = self.members.get(slot).is_some_and(|wish| match address {
                IpAddr::V4(_) => wish.ipv4_address.is_none(),
                IpAddr::V6(_) => wish.ipv6_address.is_none(),
            });
            (has_it && stays && !slots.contains(slot)).then(|| container(slot))
        })
    }

    fn holder_of_mac(&self, mac: MacAddress, slots: &[Slot], world: &World<'_>) -> Option<String> {
        let mut others = self.members.iter().filter(|(slot, _)| !slots.contains(slot));
        let written = others.find(|(_, wish)| wish.mac_address == Some(mac));
        if let Some((slot, _)) = written {
            return Some(slot.display_name());
        }
        // One that it was given has to stay as long as the link does.
        let mut links = world.observed.containers.values().flat_map(|seen| {
            let links = seen.record.spec.attachments.iter();
            links.map(move |link| (&seen.record.slot, link))
        });
        let held = links.find(|(slot, link)| {
            link.network == *self.id
                && link.mac == mac.0
                && !slots.contains(slot)
                && self
                    .members
                    .get(*slot)
                    .is_some_and(|wish| wish.mac_address.is_none())
        });
        held.map(|(slot, _)| slot.display_name())
    }
}

/// What only one can have.
fn alone(slots: &[Slot], what: &dyn ToString) -> Result<(), MemberError> {
    match slots.len() {
        0 | 1 => Ok(()),
        count => Err(MemberError::Shared {
            count,
            what: what.to_string(),
        }),
    }
}

/// May containers be put on a network by hand, as it is wished?
///
/// # Errors
/// The first thing that speaks against it.
pub fn admit_connection(
    id: &NetworkId,
    slots: &[Slot],
    wish: &Attachment,
    world: &World<'_>,
) -> Result<(), Refusal> {
    let mut desired = world.desired.clone();
    for slot in slots {
        let wishes = desired.connections.entry(slot.clone()).or_default();
        wishes.insert(id.clone(), Some(wish.clone()));
    }
    for slot in slots {
        let wanted = networks_of(&desired, slot).len();
        if wanted > MOST_NETWORKS_OF_A_CONTAINER {
            let container = slot.display_name();
            return Err(MemberError::TooMany { container, wanted }.into());
        }
    }
    let network = declared(world.desired, id).ok_or_else(|| MemberError::Leaves { network: id.clone() })?;
    let mut leases = Leases::clone(world.leases);
    let bridge = leases.promise(id, network, world)?;
    let Some(lease) = leases.networks.get(&bridge) else {
        return Ok(());
    };
    let ground = Ground {
        id,
        bridge: &bridge,
        lease,
        members: &members(&desired, id),
        by_hand: true,
    };
    ground.suits(slots, wish, world)?;
    ground.holds_all(world)?;
    Ok(())
}
