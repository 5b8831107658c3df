//! What each piece of news changes in what is known.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use linkspan_api::feed;
use linkspan_containers::{Event, Exit};
use linkspan_plan::{ContainerId, Health, Job, Run};
use linkspan_site::Restart;

use crate::events::now_ms;
use crate::execute::{Done, Outcome};
use crate::ready::{Ready, routed_ports, until_ready};
use crate::reconcile::{Proxy, Reconciler};
use crate::requests::ask_for_restart;
use crate::steps::left;
use crate::supervise::Note;

/// Between attempts at a job that fails.
const REST_MS: u64 = 1_000;

impl Reconciler {
    pub(crate) fn learn_event(&mut self, event: Event) {
        match event {
            Event::Exited { id, exit } => self.learn_exit(&id, exit),
            Event::ShimLost { id } => {
                let name = self.name_of(&id);
                self.emit_for(
                    &id,
                    "container",
                    &name,
                    "shim-lost",
                    "its shim was killed; it is restarted by its policy",
                );
            }
            Event::Health { id, health } => self.learn_health(&id, &health),
        }
    }

    fn learn_exit(&mut self, id: &ContainerId, exit: Exit) {
        let Some(seen) = self.seen.get_mut(id).map(Arc::make_mut) else {
            return;
        };
        let Run::Running { since_ms, .. } = seen.run else {
            // Its start isn't reported yet; that comes first.
            if matches!(seen.busy, Some(Job::Start { .. })) {
                self.early_exits.insert(id.clone(), exit);
            }
            return;
        };
        let asked_for = matches!(seen.busy, Some(Job::Stop { .. } | Job::Remove { .. }));
        let noted = linkspan_plan::Exit {
            code: exit.code,
            at_ms: exit.at_ms,
            oom: exit.oom,
        };
        let record = seen.record.clone();
        seen.record = if asked_for {
            linkspan_plan::Record {
                exit: Some(noted),
                failures: 0,
                not_before_ms: 0,
                error: None,
                ..record
            }
        } else {
            record.after_exit(noted, since_ms)
        };
        seen.run = Run::Exited;
        let batch = std::mem::take(&mut self.unsaved);
        self.unsaved = batch.record(&seen.record);
        if let Some(probe) = self.probing.remove(id) {
            probe.abort();
        }
        if let Some(ended) = self.ended.get(id) {
            ended.send_replace(true);
        }
        let name = self.name_of(id);
        let code = exit
            .code
            .map_or_else(|| "unknown".to_owned(), |code| code.to_string());
        let detail = if exit.oom {
            format!("status {code}, out of memory")
        } else {
            format!("status {code}")
        };
        self.emit_for(id, "container", &name, "exited", &detail);
    }

    fn learn_health(&mut self, id: &ContainerId, health: &linkspan_containers::Health) {
        let Some(seen) = self.seen.get_mut(id).map(Arc::make_mut) else {
            return;
        };
        let now = plan_health(health);
        let Run::Running {
            ready, health: known, ..
        } = &mut seen.run
        else {
            return;
        };
        if *known == Some(now) {
            return;
        }
        *known = Some(now);
        *ready = now == Health::Healthy;
        let (action, detail) = match health {
            linkspan_containers::Health::Starting => return,
            linkspan_containers::Health::Healthy => ("healthy", String::new()),
            linkspan_containers::Health::Unhealthy { output } => ("unhealthy", output.trim().to_owned()),
        };
        let name = self.name_of(id);
        self.emit_for(id, "container", &name, action, &detail);
    }

    pub(crate) fn learn_note(&mut self, note: Note) {
        match note {
            Note::Up {
                pid,
                generation,
                sockets,
            } => {
                let holds: BTreeSet<_> = sockets.iter().map(|(id, _)| id.clone()).collect();
                // Ours are the same sockets; what only the proxy has, we lack since we are new.
                let missing: Vec<_> = sockets
                    .into_iter()
                    .filter(|(id, _)| !self.sockets.served.contains_key(id))
                    .collect();
                self.sockets.adopt(missing);
                self.snapshot.generation = self.snapshot.generation.max(generation);
                self.served.send_replace(generation);
                self.proxy = Some(Proxy {
                    pid,
                    served: generation,
                    holds,
                    current: false,
                });
                self.emit(None, "proxy", &pid.to_string(), "up", "");
            }
            Note::TooLong(length) => self.trouble(
                "proxy",
                format!(
                    "its snapshot would be {} MiB, more than the {} MiB that there may be, so sites stay as they were; take away pages, users or routes",
                    length >> 20,
                    feed::FRAME_MAX >> 20
                ),
            ),
            Note::Serving(generation) => {
                self.troubles.remove("proxy");
                if let Some(proxy) = &mut self.proxy {
                    proxy.served = generation;
                }
                self.served.send_replace(generation);
            }
            Note::Drained { endpoint, run } => {
                let id = ContainerId(endpoint);
                let is_this_run = self.seen.get(&id).is_some_and(|seen| seen.record.runs == run);
                if is_this_run && let Some(drain) = self.drains.remove(&id) {
                    drain.send_replace(true);
                }
            }
            Note::Unhealthy { endpoint, reason } => self.learn_hint(&ContainerId(endpoint), &reason),
            Note::Down(why) => {
                if self.proxy.take().is_some() {
                    self.emit(None, "proxy", "proxy", "down", &why);
                } else {
                    tracing::info!(why, "no proxy yet");
                }
                // With it, everything that was under way is gone.
                for (_, drain) in std::mem::take(&mut self.drains) {
                    drain.send_replace(true);
                }
            }
            Note::Stopped => self.proxy = None,
        }
    }

    /// The proxy can't reach an endpoint: look whether it still accepts, and leave it out until it does.
    fn learn_hint(&mut self, id: &ContainerId, reason: &str) {
        let Some(seen) = self.seen.get_mut(id).map(Arc::make_mut) else {
            return;
        };
        let Run::Running {
            ready: ready @ true, ..
        } = &mut seen.run
        else {
            return;
        };
        if seen.record.spec.healthcheck.is_some() {
            return;
        }
        *ready = false;
        let name = self.name_of(id);
        self.emit_for(id, "container", &name, "unreachable", reason);
        self.probe(id);
    }

    pub(crate) fn learn_done(&mut self, done: Done) {
        let id = done.id.clone();
        self.learn_outcome(done);
        self.look_inside_after(&id);
    }

    fn learn_outcome(&mut self, done: Done) {
        let Some(seen) = self.seen.get_mut(&done.id).map(Arc::make_mut) else {
            return;
        };
        seen.busy = None;
        let name = seen.record.spec.name.clone();
        if done.outcome.is_ok() {
            self.troubles.remove(&name);
        }
        let outcome = match done.outcome {
            // One that nobody wrote down is replaced by another; that is no failure.
            Ok(Outcome::Answered { address, why }) if !self.is_written(&done.id, address) => {
                return self.learn_answered(&done.id, &why);
            }
            Ok(Outcome::Answered { why, .. }) => Err(why),
            outcome => outcome,
        };
        let Some(seen) = self.seen.get_mut(&done.id).map(Arc::make_mut) else {
            return;
        };
        match outcome {
            Ok(Outcome::Answered { .. }) => {}
            Ok(Outcome::Started { pid }) => {
                // Its first check may have been heard of before this.
                let health = seen.record.spec.healthcheck.is_some().then(|| {
                    self.containers
                        .health(&done.id)
                        .map_or(Health::Starting, |health| plan_health(&health))
                });
                let ready = health == Some(Health::Healthy);
                seen.run = Run::Running {
                    pid,
                    since_ms: now_ms(),
                    ready,
                    health,
                };
                seen.record.error = None;
                self.inside.mended(&done.id);
                let links = seen
                    .record
                    .spec
                    .attachments
                    .iter()
                    .map(|link| link.host_link.clone());
                self.host.made_links.extend(links);
                self.emit_for(&done.id, "container", &name, "started", &format!("pid {pid}"));
                if health.is_none() {
                    self.probe(&done.id);
                }
                if let Some(exit) = self.early_exits.remove(&done.id) {
                    self.learn_exit(&done.id, exit);
                }
            }
            Ok(Outcome::Attached) => {
                let links = seen
                    .record
                    .spec
                    .attachments
                    .iter()
                    .map(|link| link.host_link.clone());
                self.host.made_links.extend(links);
                let detail = self.inside.mended(&done.id);
                self.emit_for(&done.id, "container", &name, "repaired", &detail);
            }
            Ok(Outcome::Moved { bound }) => {
                let Job::Move { to, .. } = done.job else { return };
                self.inside.mended(&done.id);
                let left = left(&seen.record.spec, &to);
                seen.record.spec.put(*to);
                let links = &seen.record.spec.attachments;
                let at: Vec<String> = links.iter().map(|link| link.v4.ip().to_string()).collect();
                self.host
                    .made_links
                    .extend(links.iter().map(|link| link.host_link.clone()));
                let batch = std::mem::take(&mut self.unsaved);
                self.unsaved = batch.record(&seen.record);
                let is_asked = matches!(
                    seen.run,
                    Run::Running {
                        ready: false,
                        health: None,
                        ..
                    }
                );
                match left.as_slice() {
                    [] => self.emit_for(&done.id, "container", &name, "moved", &at.join(", ")),
                    left => self.emit_for(&done.id, "container", &name, "left", &left.join(", ")),
                }
                if is_asked {
                    // It was asked where it no longer is.
                    self.probe(&done.id);
                }
                if !bound.is_empty() {
                    self.restart_bound(&done.id, &bound);
                }
            }
            Ok(Outcome::Stopped) => {
                self.drains.remove(&done.id);
                self.emit_for(&done.id, "container", &name, "stopped", "");
            }
            Ok(Outcome::Removed) => {
                self.emit_for(&done.id, "container", &name, "removed", "");
                self.seen.remove(&done.id);
                self.ended.remove(&done.id);
                self.inside.forget(&done.id);
                self.drains.remove(&done.id);
                if let Some(probe) = self.probing.remove(&done.id) {
                    probe.abort();
                }
                self.unsaved = std::mem::take(&mut self.unsaved).forget(&done.id);
                if self.desired.discarded.contains(&done.id) {
                    Arc::make_mut(&mut self.desired).discarded.remove(&done.id);
                    self.desired_unsaved = true;
                }
            }
            Err(why) => {
                let failed_start = matches!(done.job, Job::Start { .. });
                // The next attempt may meet another world; until then the cause is on the events.
                seen.rests_until_ms = now_ms() + REST_MS;
                if failed_start {
                    seen.record = seen.record.clone().after_failed_start(why.clone(), now_ms());
                    seen.run = Run::Exited;
                    let batch = std::mem::take(&mut self.unsaved);
                    self.unsaved = batch.record(&seen.record);
                }
                // What isn't a start is tried again until it works: told once, and shown until then.
                let is_known = self.troubles.get(&name) == Some(&why);
                if failed_start || !is_known {
                    self.emit_for(&done.id, "container", &name, "failed", &why);
                }
                if !failed_start {
                    self.troubles.insert(name, why);
                }
            }
        }
    }

    /// A program that listens at one address and not at all of them doesn't follow a move: it is started again, if its
    /// policy allows.
    fn restart_bound(&mut self, id: &ContainerId, bound: &[String]) {
        let Some(seen) = self.seen.get(id) else { return };
        let at = bound.join(", ");
        let (restarts, detail) = match seen.record.spec.restart {
            Restart::No => (
                false,
                format!("it listens at {at}, which it is losing, and its policy is not to restart it"),
            ),
            _ => (
                true,
                format!("it listens at {at}, which it is losing; it is restarted"),
            ),
        };
        let name = seen.record.spec.name.clone();
        if restarts {
            ask_for_restart(Arc::make_mut(&mut self.desired), seen);
            self.desired_unsaved = true;
        }
        self.emit_for(id, "container", &name, "bound", &detail);
    }

    pub(crate) fn learn_ready(&mut self, ready: &Ready) {
        let Some(seen) = self.seen.get_mut(&ready.id).map(Arc::make_mut) else {
            return;
        };
        if seen.record.runs != ready.run {
            return;
        }
        self.probing.remove(&ready.id);
        if let Run::Running { ready: is_ready, .. } = &mut seen.run {
            *is_ready = true;
            let name = self.name_of(&ready.id);
            self.emit_for(&ready.id, "container", &name, "ready", "");
        }
    }

    /// Begins to ask whether a container accepts on its routed ports.
    pub(crate) fn probe(&mut self, id: &ContainerId) {
        let Some(seen) = self.seen.get(id) else { return };
        let ports = routed_ports(&self.desired, &seen.record.slot);
        let address: Option<IpAddr> = seen.record.spec.addresses.first().copied();
        let run = seen.record.runs;
        let probe = self.probes.spawn(until_ready(id.clone(), run, address, ports));
        if let Some(former) = self.probing.insert(id.clone(), probe) {
            former.abort();
        }
    }

    pub(crate) fn name_of(&self, id: &ContainerId) -> String {
        self.seen
            .get(id)
            .map_or_else(|| id.to_string(), |seen| seen.record.spec.name.clone())
    }

    pub(crate) fn emit_for(&self, id: &ContainerId, kind: &str, name: &str, action: &str, detail: &str) {
        let project = self.seen.get(id).map(|seen| seen.record.slot.project.to_string());
        self.emit(project.as_deref(), kind, name, action, detail);
    }
}

pub(crate) fn plan_health(health: &linkspan_containers::Health) -> Health {
    match health {
        linkspan_containers::Health::Starting => Health::Starting,
        linkspan_containers::Health::Healthy => Health::Healthy,
        linkspan_containers::Health::Unhealthy { .. } => Health::Unhealthy,
    }
}
