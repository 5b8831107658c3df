//! What happens to each incarnation of each container.

mod current;
mod room;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use linkspan_site::{Condition, Container, NetworkMode, Site};

use crate::lease::LeaseError;
use crate::network::Networks;
use crate::template::{Ingredients, Named, Templates};
use crate::{
    ContainerId, Health, HeldBack, Job, NetworkNamespace, Observation, Plan, Record, Run, Slot, Standing,
    World,
};
use current::decide_current;
use waiting::{unmet, wait};

/// Failures in a row after which `up` stops waiting.
const HOPELESS: u32 = 3;

/// Which incarnations serve, and for slots without one, why not.
#[derive(Debug, Default)]
pub(crate) struct Serving {
    /// By slot, those that may get requests.
    pub(crate) ready: BTreeMap<Slot, Vec<ContainerId>>,
    /// By slot, those that run and stay, ready or not.
    pub(crate) running: BTreeMap<Slot, Vec<ContainerId>>,
    /// Slots in which one will be ready before long.
    pub(crate) coming: BTreeSet<Slot>,
    /// Incarnations that are as they are wanted now.
    pub(crate) current: BTreeSet<ContainerId>,
    /// Why a slot has none.
    pub(crate) reasons: BTreeMap<Slot, String>,
}

/// Gives each incarnation at most one job.
pub(crate) fn decide(
    world: &World<'_>,
    networks: &Networks,
    templates: &mut Templates,
    plan: &mut Plan,
) -> Serving {
    // What those had that are gone now is free for those that this plan begins.
    let kept = |id: &&ContainerId| world.observed.containers.contains_key(*id);
    let addresses = plan.leases.addresses.values().flat_map(BTreeMap::keys);
    let stale = plan.leases.ids.keys().chain(addresses).filter(|id| !kept(id));
    let stale: BTreeSet<ContainerId> = stale.cloned().collect();
    for id in stale {
        plan.leases_mut().release(&id);
    }
    let scene = Scene {
        world,
        networks,
        by_slot: by_slot(world),
    };
    let mut serving = Serving::default();
    let mut slots = BTreeSet::new();
    for (project, site) in &world.desired.projects {
        plan.standing.entry(project.clone()).or_default().settled = true;
        for (name, container) in &site.containers {
            for index in 1..=container.replicas {
                let slot = Slot {
                    project: project.clone(),
                    container: name.clone(),
                    index,
                };
                decide_slot(&scene, templates, plan, &mut serving, site, container, &slot);
                slots.insert(slot);
            }
        }
    }
    for (id, seen) in &world.observed.containers {
        if !slots.contains(&seen.record.slot) {
            if let Some(standing) = plan.standing.get_mut(&seen.record.slot.project) {
                standing.settled = false;
            }
            retire(world, plan, id, seen);
        }
    }
    templates.forget_others(&slots);
    serving
}

/// What every slot is looked at against.
struct Scene<'a> {
    world: &'a World<'a>,
    networks: &'a Networks,
    by_slot: BySlot<'a>,
}

type BySlot<'a> = BTreeMap<&'a Slot, Vec<(&'a ContainerId, &'a Observation)>>;

fn by_slot<'a>(world: &World<'a>) -> BySlot<'a> {
    let mut all = BySlot::new();
    for (id, seen) in &world.observed.containers {
        all.entry(&seen.record.slot).or_default().push((id, seen));
    }
    all
}

impl<'a> Scene<'a> {
    /// The incarnations of a slot, in the order of their ids.
    fn incarnations(&self, slot: &Slot) -> &[(&'a ContainerId, &'a Observation)] {
        self.by_slot.get(slot).map_or(&[], Vec::as_slice)
    }

    /// All incarnations of a slot's container, in each of its slots that has some.
    fn replicas(
        &self,
        slot: &Slot,
    ) -> impl Iterator<Item = (&'a Slot, &[(&'a ContainerId, &'a Observation)])> {
        let end = |index| Slot {
            index,
            ..slot.clone()
        };
        let slots = self.by_slot.range::<Slot, _>(end(u32::MIN)..=end(u32::MAX));
        slots.map(|(slot, all)| (*slot, all.as_slice()))
    }
}

fn decide_slot(
    scene: &Scene<'_>,
    templates: &mut Templates,
    plan: &mut Plan,
    serving: &mut Serving,
    site: &Arc<Site>,
    container: &Container,
    slot: &Slot,
) {
    let world = scene.world;
    let incarnations = scene.incarnations(slot);
    let held = world.desired.held_back.get(slot).copied();
    if let Some(held) = held {
        hold_back(world, plan, incarnations, held);
        let word = if held == HeldBack::Stopped {
            "stopped"
        } else {
            "removed"
        };
        serving.reasons.insert(slot.clone(), word.to_owned());
        return;
    }
    standing(plan, slot).desired += 1;
    let template = match template(scene, templates, site, container, slot) {
        Ok(template) => template,
        Err(unready) => {
            match unready {
                Unready::Lacks(why) => {
                    plan.fail(&slot.project, slot.display_name(), why.clone());
                    serving.reasons.insert(slot.clone(), why);
                }
                Unready::Waits { what, comes } => {
                    if comes {
                        serving.coming.insert(slot.clone());
                    } else {
                        serving.reasons.insert(slot.clone(), format!("waits for {what}"));
                    }
                    wait(plan, slot, what);
                }
            }
            standing(plan, slot).settled = false;
            // What runs goes on; it is still the best there is.
            note_serving(plan, serving, slot, incarnations);
            return;
        }
    };
    let current = incarnations
        .iter()
        .filter(|(id, seen)| {
            seen.record.hash == template.hash
                && !is_being_removed(seen)
                && !world.desired.discarded.contains(*id)
        })
        .max_by_key(|(_, seen)| (seen.record.created_ms, seen.record.runs))
        .copied();
    let olds: Vec<_> = incarnations
        .iter()
        .filter(|(id, _)| current.is_none_or(|(kept, _)| kept != *id))
        .copied()
        .collect();

    let current_ready = current.is_some_and(|(_, seen)| is_ready(seen));
    let must_yield = template.is_exclusive;
    for (id, seen) in &olds {
        standing(plan, slot).settled = false;
        if world.desired.discarded.contains(*id) {
            discard(world, plan, id, seen);
        } else if current_ready || must_yield || !matches!(seen.run, Run::Running { .. }) {
            retire(world, plan, id, seen);
        }
    }
    // Their addresses are free only when nothing is left of them.
    let olds_gone = olds.is_empty();
    match current {
        Some((id, seen)) => {
            serving.current.insert(id.clone());
            decide_current(scene, plan, serving, site, container, slot, id, seen);
        }
        None => {
            standing(plan, slot).settled = false;
            serving.coming.insert(slot.clone());
            if let Some(what) = unmet(scene, site, container, slot) {
                wait(plan, slot, what);
            } else if (!must_yield || olds_gone)
                && let Err(error) = begin(scene, plan, slot, container, &template)
            {
                room::make(scene, plan, slot, container, &olds, &error);
            }
        }
    }
    note_serving(plan, serving, slot, incarnations);
}

fn template<'a>(
    scene: &'a Scene<'_>,
    templates: &mut Templates,
    site: &'a Arc<Site>,
    container: &'a Container,
    slot: &'a Slot,
) -> Result<Named<'a>, Unready> {
    let Scene { world, networks, .. } = scene;
    let Some(image) = world
        .observed
        .images
        .get(world.desired.image_key(&slot.project, &container.image))
    else {
        return Err(Unready::Lacks(format!(
            "image `{}` isn't in the store; load it with `linkspan load -i ARCHIVE`",
            container.image
        )));
    };
    let mut bridges = BTreeMap::new();
    for name in container.networks.keys() {
        let Some(bridge) = networks.of_project(&slot.project, name) else {
            return Err(Unready::Lacks(format!("network `{name}` could not be had")));
        };
        bridges.insert(name, bridge);
    }
    let ingredients = Ingredients {
        site,
        slot,
        container,
        image,
        bridges,
        namespace: namespace(scene, container, slot)?,
        settings: world.settings,
    };
    let template = templates.named(ingredients);
    if template.is_without_program {
        return Err(Unready::Lacks(format!(
            "image `{}` names no program; give the container a `command:` or `entrypoint:`",
            container.image
        )));
    }
    Ok(template)
}

/// Whose network namespace a container gets: that of another one means its newest incarnation that is there to stay.
fn namespace(scene: &Scene<'_>, container: &Container, slot: &Slot) -> Result<NetworkNamespace, Unready> {
    let target = match &container.network_mode {
        NetworkMode::Networks | NetworkMode::None => return Ok(NetworkNamespace::Own),
        NetworkMode::Host => return Ok(NetworkNamespace::Host),
        NetworkMode::Container(target) => Slot {
            project: slot.project.clone(),
            container: target.clone(),
            index: 1,
        },
    };
    let stays = |id: &ContainerId, seen: &Observation| {
        !is_being_removed(seen) && !scene.world.desired.discarded.contains(id)
    };
    scene
        .incarnations(&target)
        .iter()
        .filter(|(id, seen)| stays(id, seen) && matches!(seen.run, Run::Running { .. }))
        .max_by_key(|(_, seen)| seen.record.created_ms)
        .map(|(id, _)| NetworkNamespace::Container((*id).clone()))
        .ok_or_else(|| waiting::for_network_of(scene.world, &target))
}

/// Why a slot can't have a container now.
enum Unready {
    /// It takes somebody to do something.
    Lacks(String),
    /// The container whose network it shares doesn't run just now.
    Waits {
        /// Which that is, and why it doesn't.
        what: String,
        /// Does it run again by itself?
        comes: bool,
    },
}

/// A new incarnation, started in this plan.
fn begin(
    scene: &Scene<'_>,
    plan: &mut Plan,
    slot: &Slot,
    container: &Container,
    named: &Named<'_>,
) -> Result<(), LeaseError> {
    let Scene { world, networks, .. } = scene;
    let template = named.template();
    let leases = plan.leases_mut();
    let (counter, ids_cursor) = (leases.counter, leases.ids_cursor);
    let id = leases.new_container(world.settings);
    let spec = match template.instantiate(id.clone(), world, networks, leases) {
        Ok(spec) => spec,
        Err(error) => {
            leases.release(&id);
            // Nobody ever saw it.
            (leases.counter, leases.ids_cursor) = (counter, ids_cursor);
            return Err(error);
        }
    };
    plan.records.push(Record {
        slot: slot.clone(),
        spec,
        hash: named.hash.clone(),
        image: container.image.clone(),
        image_id: template.image_id().to_owned(),
        created_ms: world.now_ms,
        restarts: 0,
        failures: 0,
        not_before_ms: 0,
        error: None,
        exit: None,
        obeyed_restart: world.desired.restarts.get(slot).copied().unwrap_or(0),
        runs: 1,
    });
    plan.jobs.push(Job::Start { id });
    Ok(())
}

fn hold_back(
    world: &World<'_>,
    plan: &mut Plan,
    incarnations: &[(&ContainerId, &Observation)],
    held: HeldBack,
) {
    let newest = incarnations
        .iter()
        .max_by_key(|(_, seen)| seen.record.created_ms)
        .map(|(id, _)| *id);
    for (id, seen) in incarnations {
        let is_kept = held == HeldBack::Stopped && newest == Some(*id);
        if !is_kept || matches!(seen.run, Run::Running { .. }) {
            retire(world, plan, id, seen);
        }
    }
}

/// An incarnation that isn't wanted any more: drained, stopped, removed, one after the other.
fn retire(world: &World<'_>, plan: &mut Plan, id: &ContainerId, seen: &Observation) {
    give(
        world,
        plan,
        seen,
        match seen.run {
            Run::Running { .. } => Job::Stop {
                id: id.clone(),
                drain: true,
            },
            Run::Absent | Run::Exited => Job::Remove { id: id.clone() },
        },
    );
}

/// Thrown away: nobody waits for what is under way.
fn discard(world: &World<'_>, plan: &mut Plan, id: &ContainerId, seen: &Observation) {
    give(world, plan, seen, Job::Remove { id: id.clone() });
}

/// Gives an incarnation a job, unless one is under way or has just failed.
pub(crate) fn give(world: &World<'_>, plan: &mut Plan, seen: &Observation, job: Job) {
    if seen.busy.is_some() {
        return;
    }
    if seen.rests_until_ms > world.now_ms {
        plan.wake_at(seen.rests_until_ms);
        return;
    }
    plan.jobs.push(job);
}

fn note_serving(
    plan: &Plan,
    serving: &mut Serving,
    slot: &Slot,
    incarnations: &[(&ContainerId, &Observation)],
) {
    for (id, seen) in incarnations {
        if is_leaving(plan, seen) || !matches!(seen.run, Run::Running { .. }) {
            continue;
        }
        serving
            .running
            .entry(slot.clone())
            .or_default()
            .push((*id).clone());
        if is_ready(seen) {
            serving.ready.entry(slot.clone()).or_default().push((*id).clone());
        }
    }
}

/// It is being stopped or removed, or will be by this plan.
pub(crate) fn is_leaving(plan: &Plan, seen: &Observation) -> bool {
    let leaves = |job: &Job| matches!(job, Job::Stop { .. } | Job::Remove { .. });
    seen.busy.as_ref().is_some_and(leaves) || plan.job(&seen.record.spec.id).is_some_and(leaves)
}

/// Then it is too late to keep it. One that is only being stopped can be started again.
fn is_being_removed(seen: &Observation) -> bool {
    matches!(seen.busy, Some(Job::Remove { .. }))
}

fn is_ready(seen: &Observation) -> bool {
    matches!(seen.run, Run::Running { ready: true, .. })
}

fn dependency_met(scene: &Scene<'_>, slot: &Slot, condition: Condition) -> bool {
    scene.incarnations(slot).iter().any(|(_, seen)| match condition {
        Condition::Started => matches!(seen.run, Run::Running { .. }) || seen.record.exit.is_some(),
        Condition::Healthy => {
            matches!(
                seen.run,
                Run::Running {
                    health: Some(Health::Healthy),
                    ..
                }
            ) || (seen.record.spec.healthcheck.is_none() && is_ready(seen))
        }
        Condition::CompletedSuccessfully => {
            seen.run == Run::Exited && seen.record.exit.and_then(|exit| exit.code) == Some(0)
        }
    })
}

fn standing<'a>(plan: &'a mut Plan, slot: &Slot) -> &'a mut Standing {
    plan.standing.entry(slot.project.clone()).or_default()
}

/// Names of containers that a person may mean by `word`: id, id prefix, display name, `project/container` or the
/// container's name in its file.
pub fn named<'a>(
    containers: &'a BTreeMap<ContainerId, Arc<Observation>>,
    word: &str,
) -> Vec<&'a ContainerId> {
    let exact = |test: &dyn Fn(&Observation) -> bool| -> Vec<&'a ContainerId> {
        containers
            .iter()
            .filter(|(_, seen)| test(seen))
            .map(|(id, _)| id)
            .collect()
    };
    let by_name = exact(&|seen| seen.record.spec.name == word || seen.record.spec.id.as_str() == word);
    if !by_name.is_empty() {
        return by_name;
    }
    let by_service = exact(&|seen| {
        let slot = &seen.record.slot;
        slot.service() == word
            || format!("{}-{}", slot.project, slot.container) == word
            || slot.container.as_str() == word
    });
    if !by_service.is_empty() {
        return by_service;
    }
    if word.len() >= 3 {
        exact(&|seen| seen.record.spec.id.as_str().starts_with(word))
    } else {
        Vec::new()
    }
}
