//! The incarnation of a slot that is as it is wanted: kept running, mended, started again.

use linkspan_site::{Container, Driver, Restart, Site};

use super::{HOPELESS, Scene, Serving, give, is_ready, standing, unmet, wait};
use crate::ending::how_it_ended;
use crate::{Attachment, ContainerId, Exit, Health, Job, Observation, Plan, Record, Run, Slot, World};

/// The incarnation that is wanted: keep it running, or start it again if its policy says so.
#[allow(clippy::too_many_arguments, reason = "each is another side of one decision")]
pub(super) fn decide_current(
    scene: &Scene<'_>,
    plan: &mut Plan,
    serving: &mut Serving,
    site: &Site,
    container: &Container,
    slot: &Slot,
    id: &ContainerId,
    seen: &Observation,
) {
    let world = scene.world;
    let asked = world.desired.restarts.get(slot).copied().unwrap_or(0);
    let restart_asked = seen.record.obeyed_restart < asked;
    if seen.busy.is_some() {
        standing(plan, slot).settled = false;
        serving.coming.insert(slot.clone());
        return;
    }
    if let Run::Running { health, .. } = seen.run {
        if restart_asked {
            standing(plan, slot).settled = false;
            serving.coming.insert(slot.clone());
            let stop = Job::Stop {
                id: id.clone(),
                drain: true,
            };
            give(world, plan, seen, stop);
        } else if is_ready(seen) {
            standing(plan, slot).ready += 1;
            mend_links(world, plan, id, seen);
        } else {
            standing(plan, slot).settled = false;
            if health == Some(Health::Unhealthy) {
                serving.reasons.insert(slot.clone(), "unhealthy".to_owned());
                plan.fail(
                    &slot.project,
                    slot.display_name(),
                    "its health check fails".to_owned(),
                );
            } else {
                serving.coming.insert(slot.clone());
            }
            mend_links(world, plan, id, seen);
        }
        return;
    }
    match next_start(world, container.restart, seen, restart_asked) {
        Next::Done(exit) => {
            // A run that ended well and isn't to be repeated is what was wanted.
            if exit.and_then(|exit| exit.code) == Some(0) {
                standing(plan, slot).ready += 1;
            } else {
                standing(plan, slot).settled = false;
                plan.fail(&slot.project, slot.display_name(), how_it_ended(exit));
            }
            serving.reasons.insert(slot.clone(), how_it_ended(exit));
        }
        Next::At(at_ms) => {
            standing(plan, slot).settled = false;
            if seen.record.failures >= HOPELESS || seen.record.error.is_some() {
                let why = seen
                    .record
                    .error
                    .clone()
                    .unwrap_or_else(|| how_it_ended(seen.record.exit));
                plan.fail(&slot.project, slot.display_name(), why);
            }
            let hold_ms = u64::try_from(world.settings.hold.as_millis()).unwrap_or(u64::MAX);
            if at_ms <= world.now_ms.saturating_add(hold_ms) {
                serving.coming.insert(slot.clone());
            } else {
                let wait = at_ms.saturating_sub(world.now_ms) / 1_000;
                let ended = how_it_ended(seen.record.exit);
                serving
                    .reasons
                    .insert(slot.clone(), format!("{ended}; next start in {wait} s"));
            }
            if at_ms > world.now_ms {
                plan.wake_at(at_ms);
            } else if let Some(what) = unmet(scene, site, container, slot) {
                wait(plan, slot, what);
            } else {
                let mut record = seen.record.clone();
                record.obeyed_restart = asked;
                record.runs += 1;
                record.error = None;
                record.restarts = if restart_asked {
                    0
                } else {
                    record.restarts.saturating_add(1)
                };
                record.spec.restart = container.restart;
                record.exit = None;
                plan.records.push(record);
                plan.jobs.push(Job::Start { id: id.clone() });
            }
        }
    }
}

enum Next {
    Done(Option<Exit>),
    At(u64),
}

/// When does an incarnation that doesn't run start again?
fn next_start(world: &World<'_>, policy: Restart, seen: &Observation, restart_asked: bool) -> Next {
    let record = &seen.record;
    let failed_to_start = record.error.is_some();
    let never_ended = record.exit.is_none();
    if restart_asked
        || (never_ended && !failed_to_start && matches!(seen.run, Run::Absent) && may_resume(policy, record))
    {
        return Next::At(world.now_ms);
    }
    let again = match policy {
        Restart::Always | Restart::UnlessStopped => true,
        Restart::No => failed_to_start,
        Restart::OnFailure { max } => {
            let failed = failed_to_start || record.exit.and_then(|exit| exit.code) != Some(0);
            failed && max.is_none_or(|max| record.restarts < max)
        }
    };
    if again {
        Next::At(record.not_before_ms.max(world.now_ms))
    } else {
        Next::Done(record.exit)
    }
}

/// After a reboot: what ran comes back, but for what was to run once and had begun.
fn may_resume(policy: Restart, record: &Record) -> bool {
    !matches!(policy, Restart::No) || record.runs <= 1
}

fn mend_links(world: &World<'_>, plan: &mut Plan, id: &ContainerId, seen: &Observation) {
    let broken = |bridge: &str| !world.observed.bridges.contains(bridge);
    // Of a link on top of one of the host's there is nothing to be seen but inside.
    let cut = |link: &Attachment| {
        link.driver == Driver::Bridge
            && (!world.observed.links.contains(&link.host_link) || broken(&link.bridge))
    };
    let mut links = seen.record.spec.attachments.iter();
    let lost = links.any(|link| cut(link) || world.observed.damaged_links.contains(&link.host_link));
    if lost {
        give(world, plan, seen, Job::Attach { id: id.clone() });
    }
}
