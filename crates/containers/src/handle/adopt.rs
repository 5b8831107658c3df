//! Finding the containers that a netd before us left.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use linkspan_plan::ContainerId;

use super::{Containers, Known, blocking, hosts};
use crate::cgroup::Cgroup;
use crate::layout::{Layout, write_durably};
use crate::link::Link;
use crate::orders::{Orders, VERSION};
use crate::pidfd::Noted;
use crate::protocol::{Answer, Verb};
use crate::{Adopted, Exit, Health, Phase, pidfd};

/// A container that was ending when its shim died may take so long; after that its end is our doing.
const LAST_BREATH_MS: u16 = 50;

impl Containers {
    /// Every container on disk: reconnects to live shims, reads the exit statuses of dead ones, and kills what lost its
    /// shim. Health checks of running ones go on. Call once, before anything else.
    pub async fn adopt(&self) -> Vec<Adopted> {
        let layout = self.0.layout.clone();
        let found = blocking(move || on_disk(&layout)).await.unwrap_or_default();
        let tasks: Vec<_> = found
            .into_iter()
            .map(|orders| {
                let containers = self.clone();
                tokio::spawn(async move { containers.adopt_one(orders).await })
            })
            .collect();
        let mut adopted = Vec::new();
        for task in tasks {
            adopted.extend(task.await.ok().flatten());
        }
        adopted.sort_by(|a, b| a.id.cmp(&b.id));
        adopted
    }

    async fn adopt_one(&self, orders: Orders) -> Option<Adopted> {
        let spec = Arc::new(orders.spec);
        let id = spec.id.clone();
        let mut known = Known::new(Arc::clone(&spec), None);
        if let Some(exit) = read_exit(&self.0.layout, &id) {
            known.phase = Phase::Exited(exit);
            self.known().insert(id.clone(), known);
        } else if let Ok(link) = Link::connect(&self.0.layout, &id) {
            known.link = Some(Arc::clone(&link));
            self.known().insert(id.clone(), known);
            self.follow(&id, Arc::clone(&link));
            match link.ask(Verb::Hello { version: VERSION }).await {
                Ok(Answer::Hello { phase, shim, .. }) => {
                    // Those of a release before this are not noted.
                    if !self.0.layout.shim(&id).exists() {
                        note_shim(&self.0.layout, &id, shim);
                    }
                    self.resume(&id, phase);
                }
                // A shim that could not make its container, or hangs: the container is not to be had back.
                _ if self
                    .phase(&id)
                    .is_some_and(|phase| !matches!(phase, Phase::Exited(_))) =>
                {
                    let (layout, of) = (self.0.layout.clone(), id.clone());
                    let exit = blocking(move || end_without_shim(&layout, &of, None))
                        .await
                        .ok()?;
                    if let Some(known) = self.known().get_mut(&id) {
                        known.phase = Phase::Exited(exit);
                    }
                }
                _ => {}
            }
        } else {
            let (layout, of) = (self.0.layout.clone(), id.clone());
            let exit = blocking(move || end_without_shim(&layout, &of, None))
                .await
                .ok()?;
            known.phase = Phase::Exited(exit);
            self.known().insert(id.clone(), known);
        }
        let known = self.known();
        let one = known.get(&id)?;
        Some(Adopted {
            id,
            spec: (*spec).clone(),
            phase: one.phase,
            health: one.health.clone(),
        })
    }

    fn resume(&self, id: &ContainerId, phase: Phase) {
        let last = std::fs::read(self.0.layout.health(id)).unwrap_or_default();
        let last: Health = serde_json::from_slice(&last).unwrap_or(Health::Starting);
        let mut known = self.known();
        let Some(one) = known.get_mut(id) else { return };
        // Its end may have been told while we waited.
        if matches!(one.phase, Phase::Exited(_)) {
            return;
        }
        if let Phase::Running { pid, started_ms } = phase {
            one.runs(pid, started_ms);
            self.check_health(id, one, last);
        }
    }
}

/// Orders that can be read. Folders without are left for `leftovers`.
fn on_disk(layout: &Layout) -> Vec<Orders> {
    let Ok(entries) = std::fs::read_dir(layout.all_states()) else {
        return Vec::new();
    };
    let mut all = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else {
            continue;
        };
        match Orders::load(layout, &ContainerId(name)) {
            Ok(mut orders) => {
                if let Err(error) = hosts::finish(layout, &mut orders, Vec::new()) {
                    tracing::warn!(container = %orders.spec.id, %error, "a moved container has an old `/etc/hosts`");
                }
                all.push(orders);
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => tracing::warn!(path = %entry.path().display(), %error, "cannot adopt a container"),
        }
    }
    all
}

/// Leaves word of which process a shim is, for when it does not answer. Without, it could not be killed then, but all else goes
/// on.
pub(super) fn note_shim(layout: &Layout, id: &ContainerId, shim: i32) {
    let noted = Noted::now(shim).and_then(|noted| serde_json::to_vec(&noted).ok());
    if let Some(text) = noted
        && let Err(error) = std::fs::write(layout.shim(id), text)
    {
        tracing::warn!(container = %id, %error, "cannot note which process a shim is");
    }
}

pub(super) fn read_exit(layout: &Layout, id: &ContainerId) -> Option<Exit> {
    serde_json::from_slice(&std::fs::read(layout.exit(id)).ok()?).ok()
}

/// Kills what is left of a container whose shim died. How its first process ended is known only if it did so by itself,
/// and the kernel tells; otherwise nobody knows.
pub(super) fn end_without_shim(layout: &Layout, id: &ContainerId, process: Option<&OwnedFd>) -> Exit {
    let code = process
        .filter(|process| pidfd::ends_within(process.as_fd(), LAST_BREATH_MS))
        .and_then(|process| {
            // Between its end and the note that init(1) takes of it there is a moment.
            [0, 1, 2, 4, 8, 16].into_iter().find_map(|pause| {
                std::thread::sleep(Duration::from_millis(pause));
                pidfd::exit_status(process)
            })
        });
    let cgroup = Cgroup::of(layout, id);
    let oom = cgroup.out_of_memory();
    cgroup.kill();
    let at_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64);
    let exit = Exit { code, at_ms, oom };
    if let Ok(text) = serde_json::to_vec(&exit)
        && let Err(error) = write_durably(&layout.exit(id), &text)
    {
        tracing::warn!(container = %id, %error, "cannot note the end of a container");
    }
    exit
}
