//! Which containers another file would replace. Found out by planning it: a diff of texts would miss those that are
//! replaced for what they stand on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use linkspan_site::{Container, ContainerName, NetworkMode, Site};

use super::{Change, Sign};
use crate::template::Templates;
use crate::{Plan, Slot, World, lifecycle, network};

/// Adds to what a file changes which containers are replaced for it. `world` is as it would be with the file.
pub fn tell_replaced(changes: &mut Vec<Change>, site: &Site, world: &World<'_>) {
    let replaced = replaced(site, world);
    for (name, count) in &replaced {
        let Some(container) = site.containers.get(name) else {
            continue;
        };
        let told = changes
            .iter()
            .position(|change| change.kind == "container" && change.name == name.as_str());
        let what = match container.replicas {
            1 => "it is replaced".to_owned(),
            replicas => format!("{count} of {replicas} are replaced"),
        };
        match told.and_then(|at| changes.get_mut(at)) {
            Some(change) => change.detail = format!("{}; {what}", change.detail),
            None => {
                let why = why(container, changes, &replaced);
                changes.push(Change {
                    sign: Sign::Change,
                    kind: "container".to_owned(),
                    name: name.to_string(),
                    detail: format!("{what}: {why}"),
                });
            }
        }
    }
}

/// By container, how many of its replicas there are that no longer are what is wanted.
fn replaced(site: &Site, world: &World<'_>) -> BTreeMap<ContainerName, usize> {
    let mut plan = Plan {
        leases: Arc::clone(world.leases),
        ..Plan::default()
    };
    let networks = network::wanted(world, &mut plan);
    let serving = lifecycle::decide(world, &networks, &mut Templates::default(), &mut plan);
    // By slot, whether one of its incarnations is as it is wanted.
    let mut slots: BTreeMap<&Slot, bool> = BTreeMap::new();
    for (id, seen) in &world.observed.containers {
        if seen.record.slot.project == site.name {
            *slots.entry(&seen.record.slot).or_default() |= serving.current.contains(id);
        }
    }
    let mut replaced: BTreeMap<ContainerName, usize> = BTreeMap::new();
    for (slot, is_current) in &slots {
        let declared = site.containers.get(&slot.container);
        if !is_current && declared.is_some_and(|container| slot.index <= container.replicas) {
            *replaced.entry(slot.container.clone()).or_default() += 1;
        }
    }
    // Who shares a network follows whose it is, in a later plan than this one.
    let there: BTreeSet<&ContainerName> = slots.keys().map(|slot| &slot.container).collect();
    let sharers = site.containers.iter().filter(|(name, container)| {
        let target = shared(container);
        there.contains(name) && target.is_some_and(|target| replaced.contains_key(target))
    });
    let sharers: Vec<ContainerName> = sharers.map(|(name, _)| name.clone()).collect();
    for name in sharers {
        replaced.entry(name).or_insert(1);
    }
    replaced
}

fn shared(container: &Container) -> Option<&ContainerName> {
    match &container.network_mode {
        NetworkMode::Container(target) => Some(target),
        NetworkMode::Networks | NetworkMode::None | NetworkMode::Host => None,
    }
}

/// Why one is replaced of which the file says nothing new.
fn why(container: &Container, changes: &[Change], replaced: &BTreeMap<ContainerName, usize>) -> String {
    if let Some(target) = shared(container).filter(|target| replaced.contains_key(*target)) {
        return format!("so is `{target}`, whose network it shares");
    }
    let is_changed = |name: &str| {
        changes
            .iter()
            .any(|change| change.kind == "network" && change.name == name)
    };
    let networks = container.networks.keys().filter(|name| is_changed(name.as_str()));
    let networks: Vec<String> = networks.map(|name| format!("`{name}`")).collect();
    match networks.as_slice() {
        [] => "what it is made from has changed".to_owned(),
        [one] => format!("its network {one} is made anew"),
        many => format!("its networks {} are made anew", many.join(", ")),
    }
}
