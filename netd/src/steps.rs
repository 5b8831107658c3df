//! The parts of a plan, each carried out by one method. None decides; each says whether all of it came true.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use linkspan_api::feed;
use linkspan_hostnet::{AcceptChange, TableState};
use linkspan_plan::{Attachment, ContainerId, ContainerSpec, Job, NetworkSpec, Placement, Plan, Run};
use linkspan_site::Driver;
use linkspan_telemetry::chain;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::execute::{Hands, Task};
use crate::publish;
use crate::reconcile::{Accepts, FOREIGN, Reconciler, SnapshotOf};
use crate::supervise::Order;

/// The former addresses that a container gives up, if that is all that changes about where it is.
pub(crate) fn left(spec: &ContainerSpec, to: &Placement) -> Vec<String> {
    let stays = |link: &Attachment| {
        let mut same = to.attachments.iter();
        same.any(|other| (&other.host_link, other.v4, other.v6) == (&link.host_link, link.v4, link.v6))
    };
    if to.attachments.len() != spec.attachments.len() || !spec.attachments.iter().all(stays) {
        return Vec::new();
    }
    let of = |links: &[Attachment]| -> BTreeSet<IpAddr> {
        let left = links.iter().flat_map(|link| &link.retiring);
        left.map(|address| address.ip()).collect()
    };
    let kept = of(&to.attachments);
    let given_up = of(&spec.attachments).into_iter().filter(|ip| !kept.contains(ip));
    given_up.map(|ip| ip.to_string()).collect()
}

impl Reconciler {
    /// Turns on what somebody turned off for the whole host.
    pub(crate) fn turn_on(&mut self, plan: &Plan) -> bool {
        const ABOUT: &str = "kernel parameters";
        if plan.parameters.is_empty() {
            self.troubles.remove(ABOUT);
            return true;
        }
        if let Err(error) = self.hostnet.forward() {
            self.trouble(ABOUT, chain(&error));
            return false;
        }
        self.troubles.remove(ABOUT);
        if let Some(seen) = &mut self.host.observed {
            seen.turned_off.clear();
        }
        for name in &plan.parameters {
            let detail = "somebody had turned it off, and networks need it";
            self.emit(None, "parameter", name, "repaired", detail);
        }
        true
    }

    /// `lacks` is what [`Reconciler::lacks`] said before the plan's promises were made.
    pub(crate) async fn make_networks(&mut self, plan: &Plan, lacks: Vec<Option<Vec<String>>>) -> bool {
        let mut whole = true;
        for (spec, lacks) in plan.networks.iter().zip(lacks) {
            match self.hostnet.ensure_network(spec).await {
                Ok(()) => {
                    self.host.made_bridges.insert(spec.bridge.clone());
                    self.troubles.remove(&spec.bridge);
                    let (action, detail) = match lacks {
                        // It was changed, not damaged: whoever changed it tells.
                        Some(lacks) if lacks.is_empty() => continue,
                        Some(lacks) => ("repaired", format!("gone: {}", lacks.join(", "))),
                        None => ("created", spec.v4.to_string()),
                    };
                    self.emit(None, "network", &spec.id.0, action, &detail);
                }
                Err(error) => {
                    self.trouble(&spec.bridge, chain(&error));
                    whole = false;
                }
            }
        }
        whole
    }

    /// What somebody took from each network that is to be made: absent for one that is new, nothing for one that the plan
    /// itself changes.
    pub(crate) fn lacks(&self, plan: &Plan) -> Vec<Option<Vec<String>>> {
        plan.networks.iter().map(|spec| self.lost(spec)).collect()
    }

    fn lost(&self, spec: &NetworkSpec) -> Option<Vec<String>> {
        let promised = self.leases.networks.get(&spec.bridge)?;
        // Nor what a daemon that died in the middle of a move had not come to.
        let is_moving = !promised.moves.is_empty();
        if is_moving || linkspan_plan::network_spec(&spec.bridge, promised, &self.seen) != *spec {
            return Some(Vec::new());
        }
        if let Some(found) = self.host.observed.as_ref()?.networks.get(&spec.bridge) {
            return Some(found.missing(spec));
        }
        let mut running = self
            .seen
            .values()
            .filter(|seen| matches!(seen.run, Run::Running { .. }));
        let in_use = running.any(|seen| {
            let mut links = seen.record.spec.attachments.iter();
            links.any(|link| link.bridge == spec.bridge)
        });
        in_use.then(|| vec![format!("the bridge `{}`", spec.bridge)])
    }

    /// What of a container's links is gone, for people.
    fn lost_links(&self, spec: &ContainerSpec) -> String {
        let observed = self.host.observed.as_ref();
        let is_there = |link: &str| {
            observed.is_some_and(|seen| seen.veths.contains(link)) || self.host.made_links.contains(link)
        };
        let bridges = spec
            .attachments
            .iter()
            .filter(|link| link.driver == Driver::Bridge);
        let lost = bridges.filter(|link| !is_there(&link.host_link));
        let lost = lost.map(|link| format!("link `{}`", link.host_link));
        let lost: Vec<String> = lost.chain(self.inside.lost(&spec.id).cloned()).collect();
        if lost.is_empty() {
            "its bridge was made anew".to_owned()
        } else {
            format!("gone: {}", lost.join(", "))
        }
    }

    pub(crate) fn wants_to_coexist(&self) -> bool {
        self.settings.firewall_coexist && !self.leases.networks.is_empty()
    }

    /// Tells other firewalls that what our bridges carry is ours to judge, as long as there are any.
    pub(crate) fn coexist(&mut self) {
        if !self.accepts.is_empty() {
            // One at a time; what has changed meanwhile is looked at after it.
            self.coexist_at.get_or_insert_with(|| Instant::now() + FOREIGN);
            return;
        }
        let on = self.wants_to_coexist();
        self.coexists = on;
        self.coexist_at = None;
        let hostnet = self.hostnet.clone();
        self.accepts.spawn(async move { hostnet.coexist(on).await });
    }

    pub(crate) fn learn_accepts(&mut self, accepts: Accepts) {
        match accepts {
            Ok(accepts) => {
                self.troubles.remove("other firewalls");
                for accept in accepts {
                    let (action, detail) = match accept.done {
                        AcceptChange::Kept => continue,
                        AcceptChange::Made => ("accepted", "an accept for our bridges was made there"),
                        AcceptChange::Removed => ("withdrawn", "our accept there was removed"),
                    };
                    self.emit(None, "firewall", &accept.place, action, detail);
                }
            }
            Err(error) => self.trouble("other firewalls", chain(&error)),
        }
    }

    pub(crate) async fn set_firewall(&mut self, plan: &Plan) -> bool {
        match self.hostnet.apply_firewall(&plan.firewall).await {
            Ok(change) => {
                self.troubles.remove("firewall");
                let damaged = self
                    .host
                    .observed
                    .as_ref()
                    .is_some_and(|seen| seen.table == TableState::Damaged)
                    || change.rebuilt;
                if damaged {
                    self.emit(
                        None,
                        "firewall",
                        linkspan_plan::TABLE,
                        "written",
                        "the whole table",
                    );
                }
                true
            }
            Err(error) => {
                self.trouble("firewall", chain(&error));
                false
            }
        }
    }

    pub(crate) fn bind_ports(&mut self, plan: &Plan) -> bool {
        let mut whole = true;
        self.sockets.keep_ports(&plan.ports);
        for port in &plan.ports {
            let key = format!("port {port}");
            match self.sockets.hold(*port, self.shards) {
                Ok(_) => {
                    self.troubles.remove(&key);
                    self.foreign_ports.remove(port);
                }
                Err(error) => {
                    // At first it may be the proxy that still holds it for what was published before.
                    if self.troubles.contains_key(&key) {
                        self.foreign_ports.insert(*port);
                    }
                    self.trouble(&key, chain(&error));
                    whole = false;
                }
            }
        }
        whole
    }

    /// Sends the proxy what it doesn't know yet.
    pub(crate) fn publish(&mut self, plan: &Plan) -> bool {
        if !self.renew_snapshot(plan) {
            return false;
        }
        let Some(proxy) = self.proxy.as_mut().filter(|proxy| !proxy.current) else {
            return true;
        };
        let mut sockets = Vec::new();
        for (id, socket) in &self.sockets.served {
            if proxy.holds.contains(id) {
                continue;
            }
            match socket.try_clone() {
                Ok(socket) => sockets.push((id.clone(), socket)),
                Err(error) => {
                    tracing::error!(%error, "a socket can't be handed to the proxy: too many open files");
                    return false;
                }
            }
        }
        proxy.holds = self.sockets.served.keys().cloned().collect();
        proxy.current = true;
        self.orders
            .send(Order::Serve {
                sockets,
                snapshot: Box::new(self.snapshot.clone()),
            })
            .is_ok()
    }

    /// Makes the snapshot anew if it may have become another one.
    fn renew_snapshot(&mut self, plan: &Plan) -> bool {
        let of = SnapshotOf {
            published: Arc::clone(&plan.published),
            desired: Arc::clone(&self.desired),
            leases: Arc::clone(&plan.leases),
            listeners: self.sockets.served.keys().cloned().collect(),
            name_servers: self.name_servers(),
        };
        if self.snapshot_of.as_ref().is_some_and(|before| of.is_as(before)) {
            return true;
        }
        let mut snapshot = match publish::snapshot(&of, &self.settings, &mut self.authority) {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.trouble("certificates", chain(&error));
                return false;
            }
        };
        self.snapshot_of = Some(of);
        snapshot.generation = self.snapshot.generation;
        if snapshot != self.snapshot {
            snapshot.generation += 1;
            self.begin_drains(&snapshot);
            self.snapshot = snapshot;
            if let Some(proxy) = &mut self.proxy {
                proxy.current = false;
            }
        }
        true
    }

    /// An endpoint that is no longer published is drained: the proxy will say when nothing is under way to it.
    pub(crate) fn begin_drains(&mut self, next: &feed::Snapshot) {
        // The proxy counts requests; of ports that are merely forwarded it tells nothing.
        let endpoints = |snapshot: &feed::Snapshot| -> BTreeSet<String> {
            let targets = snapshot.routes.iter().filter_map(|route| match &route.action {
                feed::Action::Forward(targets) => Some(targets),
                feed::Action::Redirect { .. } => None,
            });
            let routed = targets.flatten().filter_map(|target| match target {
                feed::Target::Service { id, .. } => snapshot.services.get(id),
                feed::Target::Url { .. } => None,
            });
            routed
                .flat_map(|service| &service.endpoints)
                .map(|one| one.id.clone())
                .collect()
        };
        for id in endpoints(&self.snapshot).difference(&endpoints(next)) {
            if self.proxy.is_some() {
                self.drains
                    .insert(ContainerId(id.clone()), watch::Sender::new(false));
            }
        }
    }

    pub(crate) fn start_jobs(&mut self, plan: &Plan) {
        for job in &plan.jobs {
            let id = job.id().clone();
            let Some(seen) = self.seen.get_mut(&id).map(Arc::make_mut) else {
                continue;
            };
            seen.busy = Some(job.clone());
            let spec = seen.record.spec.clone();
            let slot = seen.record.slot.clone();
            if matches!(job, Job::Start { .. }) {
                // What is still to come of its last run means nothing for this one.
                self.early_exits.remove(&id);
                self.drains.remove(&id);
                self.ended.insert(id.clone(), watch::Sender::new(false));
            }
            let ended = self
                .ended
                .entry(id.clone())
                .or_insert_with(|| watch::Sender::new(false))
                .subscribe();
            let drained = match job {
                Job::Stop { drain: true, .. } => self.drains.get(&id).map(watch::Sender::subscribe),
                _ => None,
            };
            let action = match job {
                Job::Start { .. } => "starting",
                Job::Attach { .. } => "repairing",
                Job::Move { to, .. } if !left(&spec, to).is_empty() => "leaving",
                Job::Move { .. } => "moving",
                Job::Stop { .. } => "stopping",
                Job::Remove { .. } => "removing",
            };
            let detail = match job {
                Job::Attach { .. } => self.lost_links(&spec),
                Job::Move { to, .. } => left(&spec, to).join(", "),
                _ => String::new(),
            };
            if matches!(job, Job::Attach { .. }) {
                self.inside.mend(&id, &detail);
            }
            self.emit(
                Some(slot.project.as_str()),
                "container",
                &spec.name,
                action,
                &detail,
            );
            let hands = Hands {
                hostnet: self.hostnet.clone(),
                containers: self.containers.clone(),
            };
            let task = Task {
                job: job.clone(),
                spec,
                drained,
                drain: self.settings.drain,
                ended,
                served: (self.served.subscribe(), self.snapshot.generation),
            };
            let begun = self.jobs.spawn(hands.perform(task));
            self.job_tasks.insert(begun.id(), job.clone());
        }
    }

    pub(crate) async fn remove_networks(&mut self, plan: &Plan) -> bool {
        let mut whole = true;
        for gone in &plan.gone_networks {
            match self.hostnet.remove_network(&gone.bridge, &gone.leg).await {
                Ok(()) => {
                    if let Some(observed) = &mut self.host.observed {
                        Arc::make_mut(&mut observed.networks).remove(&gone.bridge);
                    }
                    self.host.made_bridges.remove(&gone.bridge);
                    let name = gone.id.as_ref().map_or(gone.bridge.as_str(), |id| id.0.as_str());
                    self.emit(None, "network", name, "removed", "");
                }
                Err(error) => {
                    self.trouble(&gone.bridge, chain(&error));
                    whole = false;
                }
            }
        }
        whole
    }

    /// Removes volumes that `down --volumes` doomed, once nobody has them.
    pub(crate) async fn doom_volumes(&mut self) {
        if self.desired.doomed_volumes.is_empty() {
            return;
        }
        let in_use: BTreeSet<&str> = self
            .seen
            .values()
            .flat_map(|seen| &seen.record.spec.mounts)
            .filter_map(|mount| match &mount.source {
                linkspan_plan::MountKind::Volume { name } => Some(name.as_str()),
                _ => None,
            })
            .collect();
        let free: Vec<String> = self
            .desired
            .doomed_volumes
            .iter()
            .filter(|name| !in_use.contains(name.as_str()))
            .cloned()
            .collect();
        for name in free {
            match self.containers.remove_volume(&name).await {
                Ok(()) => {
                    Arc::make_mut(&mut self.desired).doomed_volumes.remove(&name);
                    self.desired_unsaved = true;
                    self.emit(None, "volume", &name, "removed", "");
                }
                Err(error) => self.trouble(&format!("volume {name}"), error.to_string()),
            }
        }
    }
}
