//! Containers that were found to be where they should be, with all that this depended on: nearly all, nearly always.

use std::collections::BTreeMap;
use std::sync::Arc;

use linkspan_site::Site;

use crate::network::Networks;
use crate::{
    AddressLease, Attachment, ContainerId, NetworkLease, NetworkNamespace, Observation, Plan, World,
};

/// What was found when the last plan looked.
#[derive(Debug, Default)]
pub(crate) struct InPlace {
    networks: Networks,
    found: BTreeMap<ContainerId, Found>,
}

#[derive(Debug)]
struct Found {
    seen: Arc<Observation>,
    site: Option<Arc<Site>>,
    is_current: bool,
    /// Of its links, in order.
    promises: Vec<(NetworkLease, AddressLease)>,
}

impl InPlace {
    /// To be called before a plan asks: what was found depends on these.
    pub(super) fn begin(&mut self, networks: &Networks) {
        if self.networks != *networks {
            self.found.clear();
            self.networks = networks.clone();
        }
    }

    /// Is this container where it should be, and nothing has changed since that was found out?
    pub(super) fn holds(
        &mut self,
        world: &World<'_>,
        plan: &Plan,
        id: &ContainerId,
        seen: &Arc<Observation>,
        is_current: bool,
    ) -> bool {
        let Some(found) = self.found.get_mut(id) else {
            return false;
        };
        let holds = Arc::ptr_eq(&found.seen, seen)
            && found.is_current == is_current
            && !is_connected(world, seen)
            && found.is_declared_so(world, seen)
            && found.is_promised(plan, id);
        if !holds {
            self.found.remove(id);
        }
        holds
    }

    /// It has just been found in place.
    pub(super) fn note(
        &mut self,
        world: &World<'_>,
        plan: &Plan,
        id: &ContainerId,
        seen: &Arc<Observation>,
        is_current: bool,
    ) {
        let spec = &seen.record.spec;
        // Where others are depends on more, and few are so.
        if spec.network != NetworkNamespace::Own || is_connected(world, seen) {
            return;
        }
        let promises = spec.attachments.iter().map(|link| {
            let (lease, address) = promise(plan, id, link)?;
            Some((lease.clone(), *address))
        });
        let Some(promises) = promises.collect() else {
            return;
        };
        let found = Found {
            seen: Arc::clone(seen),
            site: site(world, seen).cloned(),
            is_current,
            promises,
        };
        self.found.insert(id.clone(), found);
        // Those that are gone go when there are many.
        if self.found.len() > 2 * world.observed.containers.len() {
            self.found
                .retain(|id, _| world.observed.containers.contains_key(id));
        }
    }
}

impl Found {
    /// Does its site say the same of its networks?
    fn is_declared_so(&mut self, world: &World<'_>, seen: &Observation) -> bool {
        let now = site(world, seen);
        let (before, now) = match (&self.site, now) {
            (None, None) => return true,
            (Some(before), Some(now)) if Arc::ptr_eq(before, now) => return true,
            (Some(before), Some(now)) => (before, now),
            _ => return false,
        };
        let name = &seen.record.slot.container;
        let is_same = match (before.containers.get(name), now.containers.get(name)) {
            (Some(old), Some(new)) => {
                let mut names = new.networks.keys();
                old.networks == new.networks
                    && names.all(|name| before.networks.get(name) == now.networks.get(name))
            }
            (None, None) => true,
            _ => false,
        };
        self.site = Some(Arc::clone(now));
        is_same
    }

    /// Are its networks and its addresses there as they were? Where a network's search for a free address goes on is of
    /// no concern to those who have one.
    fn is_promised(&self, plan: &Plan, id: &ContainerId) -> bool {
        let links = &self.seen.record.spec.attachments;
        links.len() == self.promises.len()
            && links.iter().zip(&self.promises).all(|(link, (lease, address))| {
                promise(plan, id, link).is_some_and(|(now, held)| held == address && is_same(lease, now))
            })
    }
}

fn is_same(before: &NetworkLease, now: &NetworkLease) -> bool {
    let NetworkLease {
        id,
        v4,
        v6,
        gateway,
        resolver,
        internal,
        mtu,
        mtu_written: _,
        fixed,
        driver,
        isolated,
        retiring,
        moves: _,
        cursor: _,
    } = before;
    *id == now.id
        && *v4 == now.v4
        && *v6 == now.v6
        && *gateway == now.gateway
        && *resolver == now.resolver
        && *internal == now.internal
        && *mtu == now.mtu
        && *fixed == now.fixed
        && *driver == now.driver
        && *isolated == now.isolated
        && *retiring == now.retiring
}

fn promise<'a>(
    plan: &'a Plan,
    id: &ContainerId,
    link: &Attachment,
) -> Option<(&'a NetworkLease, &'a AddressLease)> {
    let lease = plan.leases.networks.get(&link.bridge)?;
    let address = plan.leases.addresses.get(&link.bridge)?.get(id)?;
    Some((lease, address))
}

/// Was it put on networks, or taken off, by hand?
fn is_connected(world: &World<'_>, seen: &Observation) -> bool {
    world.desired.connections.contains_key(&seen.record.slot)
}

fn site<'a>(world: &World<'a>, seen: &Observation) -> Option<&'a Arc<Site>> {
    world.desired.projects.get(&seen.record.slot.project)
}
