//! Networks whose members are on a LAN itself. There is nothing to make for them on the host; what they need is to know who
//! else is there.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use linkspan_plan::{ContainerId, Desired, Leases, NetworkLease, Run};
use linkspan_site::{Driver, Site};
use linkspan_telemetry::chain;

use crate::reconcile::Reconciler;

impl Reconciler {
    /// Looks at the LANs that networks are on, those of a new site too. Where there are none it asks nothing.
    pub(crate) async fn look_at_lans(&mut self, site: Option<&Site>) {
        let wanted = parents(&self.desired, site);
        for parent in wanted {
            if self.host.lans.contains_key(&parent) {
                continue;
            }
            match self.hostnet.lan(&parent).await {
                Ok(lan) => drop(self.host.lans.insert(parent, lan.into())),
                Err(error) => tracing::warn!(parent, error = chain(&error), "its LAN can't be looked at"),
            }
        }
    }

    /// Did somebody write this address down for a container?
    pub(crate) fn is_written(&self, id: &ContainerId, address: IpAddr) -> bool {
        let Some(seen) = self.seen.get(id) else {
            return false;
        };
        let slot = &seen.record.slot;
        let site = self.desired.projects.get(&slot.project);
        let declared = site.and_then(|site| site.containers.get(&slot.container));
        let declared = declared
            .into_iter()
            .flat_map(|container| container.networks.values());
        let by_hand = self.desired.connections.get(slot).into_iter().flatten();
        let mut wishes = declared.chain(by_hand.filter_map(|(_, wish)| wish.as_ref()));
        wishes.any(|wish| wish.ipv4_address.map(IpAddr::from) == Some(address))
    }

    /// Somebody on a LAN has the address that a container was to be started with. The next plan gives it another.
    pub(crate) fn learn_answered(&mut self, id: &ContainerId, why: &str) {
        self.host.lans.clear();
        let Some(seen) = self.seen.get_mut(id).map(Arc::make_mut) else {
            return;
        };
        if seen.record.exit.is_none() {
            seen.run = Run::Absent;
        } else {
            // It is started again whatever its policy: this was no run.
            seen.run = Run::Exited;
            seen.record.error = Some(why.to_owned());
        }
        let name = seen.record.spec.name.clone();
        let detail = format!("{why}; it gets another");
        self.emit_for(id, "container", &name, "readdressed", &detail);
    }

    /// Tells of such networks that are new, and of those that are gone.
    pub(crate) fn tell_lans(&self, before: &Leases) {
        let (was, is) = (on_lans(before), on_lans(&self.leases));
        for (bridge, lease) in &is {
            if !was.contains_key(bridge) {
                let detail = format!("{} on `{}`", lease.v4, lease.driver.parent().unwrap_or_default());
                self.emit(None, "network", &lease.id.0, "created", &detail);
            }
        }
        for (bridge, lease) in &was {
            if !is.contains_key(bridge) {
                self.emit(None, "network", &lease.id.0, "removed", "");
            }
        }
    }
}

fn on_lans(leases: &Leases) -> BTreeMap<&String, &NetworkLease> {
    let all = leases.networks.iter();
    all.filter(|(_, lease)| lease.driver != Driver::Bridge).collect()
}

/// The host's links that networks lie on.
fn parents(desired: &Desired, site: Option<&Site>) -> BTreeSet<String> {
    let sites = desired.projects.values().map(Arc::as_ref).chain(site);
    let declared = sites.flat_map(|site| site.networks.values());
    let all = desired.networks.values().chain(declared);
    all.filter_map(|network| network.driver.parent())
        .map(str::to_owned)
        .collect()
}
