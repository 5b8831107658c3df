//! Keeps networks clear of ranges that others use.
//!
//! A range that was free when a network was made may be claimed later: a VPN comes up, somebody adds a route. A network
//! whose range Linkspan chose then moves: it gets a free range, and everybody on it an address there with the same host
//! part. Its bridge stays the same, so nothing that is made from it is replaced. The range that it left is *retiring*
//! for a while: bridge, resolver and containers go on answering at their old addresses, one by one and no longer as a
//! network, so that what was begun there comes to its end while the rest of the range is already whose it became.
//!
//! A range that somebody wrote is never changed; the conflict is shown.

use ipnetwork::IpNetwork;
use linkspan_site::{Driver, Network, OnConflict};

use crate::lease::{claimed, gateway_and_resolver};
use crate::template::{gateway6, resolver6};
use crate::{Claim, Conflict, NetworkLease, Plan, Retiring, World};

/// A former range is given up after this time, whatever is still going on there.
const RETIRE_MS: u64 = 70_000;
/// Ranges that a network may be leaving at the same time. With more, claims come and go faster than it can follow.
const MOST_RETIRING: usize = 4;

/// Moves a network out of the way, or says why it stays. Gives up former ranges whose time is over.
pub(super) fn keep_clear(world: &World<'_>, plan: &mut Plan, bridge: &str, network: &Network) {
    let Some(lease) = plan.leases.networks.get(bridge) else {
        return;
    };
    if lease.driver != Driver::Bridge {
        return;
    }
    let is_over = |left: &Retiring| left.until_ms <= world.now_ms;
    if lease.retiring.iter().any(is_over)
        && let Some(lease) = plan.leases_mut().networks.get_mut(bridge)
    {
        lease.retiring.retain(|left| !is_over(left));
    }
    let Some(lease) = plan.leases.networks.get(bridge).cloned() else {
        return;
    };
    if let Some(until_ms) = lease.retiring.iter().map(|left| left.until_ms).min() {
        plan.wake_at(until_ms);
    }
    let v4 = Some((IpNetwork::V4(lease.v4), network.subnet.is_some()));
    let v6 = lease
        .v6
        .map(|range| (IpNetwork::V6(range), network.subnet6.is_some()));
    let mut moves = false;
    for (range, is_written) in [v4, v6].into_iter().flatten() {
        let Some(claim) = claimed(range, &world.observed.claims, world.settings) else {
            continue;
        };
        let goal = match stays(&lease, network, is_written) {
            Some(why) => Err(why),
            None => goal(world, plan, &lease, range),
        };
        if let Ok(to) = goal {
            leave(world, plan, bridge, range, to);
            moves = true;
        }
        let conflict = Conflict {
            network: lease.id.clone(),
            range,
            claim,
            moved_to: goal.as_ref().ok().copied(),
            stays: goal.err(),
        };
        if conflict.moved_to.is_some()
            && let Some(lease) = plan.leases_mut().networks.get_mut(bridge)
        {
            lease.moves.push(conflict.words());
        }
        plan.conflicts.push(conflict);
    }
    if moves {
        plan.leases_mut().relocate(bridge);
    }
}

/// Why a network isn't moved.
fn stays(lease: &NetworkLease, network: &Network, is_written: bool) -> Option<String> {
    if is_written {
        Some("its subnet is written down; choose another, or leave it out".to_owned())
    } else if network.on_conflict == OnConflict::Report {
        Some("`on_conflict: report`".to_owned())
    } else if lease.retiring.len() >= MOST_RETIRING {
        Some(format!("it has moved {MOST_RETIRING} times within a minute"))
    } else {
        None
    }
}

/// Where it could move.
fn goal(world: &World<'_>, plan: &Plan, lease: &NetworkLease, range: IpNetwork) -> Result<IpNetwork, String> {
    match range {
        IpNetwork::V4(_) => plan
            .leases
            .pick_subnet(&lease.id, world.observed, world.settings)
            .map(IpNetwork::V4)
            .map_err(|error| error.to_string()),
        IpNetwork::V6(_) => plan
            .leases
            .pick_subnet6(&lease.id, world.observed, world.settings)
            .map(IpNetwork::V6)
            .ok_or_else(|| "no other IPv6 range is free".to_owned()),
    }
}

fn leave(world: &World<'_>, plan: &mut Plan, bridge: &str, range: IpNetwork, to: IpNetwork) {
    let until_ms = world.now_ms.saturating_add(RETIRE_MS);
    plan.wake_at(until_ms);
    let Some(lease) = plan.leases_mut().networks.get_mut(bridge) else {
        return;
    };
    let (gateway, resolver) = match (range, to) {
        (IpNetwork::V4(_), IpNetwork::V4(to)) => {
            let left = (lease.gateway.into(), lease.resolver.into());
            (lease.gateway, lease.resolver) = gateway_and_resolver(to);
            lease.v4 = to;
            left
        }
        (IpNetwork::V6(from), IpNetwork::V6(to)) => {
            lease.v6 = Some(to);
            (gateway6(from).into(), resolver6(from).into())
        }
        // A range moves within its family.
        _ => return,
    };
    lease.retiring.push(Retiring {
        range,
        gateway,
        resolver,
        until_ms,
    });
}

impl Conflict {
    /// What happened, for people.
    pub fn words(&self) -> String {
        let Claim { range, source } = &self.claim;
        let met = format!("its range {} is also {source} ({range})", self.range);
        match (&self.moved_to, &self.stays) {
            (Some(to), _) => format!("{met}; it moves to {to}"),
            (None, Some(why)) => format!("{met}; it stays: {why}"),
            (None, None) => met,
        }
    }
}
