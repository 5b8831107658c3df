//! For whom a container waits, in words.

use linkspan_site::{Condition, Container, Site};

use super::{Scene, Unready, dependency_met, standing};
use crate::{HeldBack, Plan, Slot, World};

/// What of its dependencies a container still waits for.
pub(super) fn unmet(scene: &Scene<'_>, site: &Site, container: &Container, slot: &Slot) -> Option<String> {
    container.depends_on.iter().find_map(|(name, condition)| {
        let replicas = site.containers.get(name).map_or(0, |other| other.replicas);
        let others = (1..=replicas).map(|index| Slot {
            project: slot.project.clone(),
            container: name.clone(),
            index,
        });
        let mut lacking = others.filter(|other| {
            !scene.world.desired.held_back.contains_key(other) && !dependency_met(scene, other, *condition)
        });
        let what = match condition {
            Condition::Started => "to be started",
            Condition::Healthy => "to be healthy",
            Condition::CompletedSuccessfully => "to end well",
        };
        let other = lacking.next()?;
        Some(format!("`{}` {what}", other.display_name()))
    })
}

/// Waits for a container to run, for its network.
pub(super) fn for_network_of(world: &World<'_>, target: &Slot) -> Unready {
    let name = target.display_name();
    let held = world.desired.held_back.get(target);
    let how = match held {
        Some(HeldBack::Stopped) => format!("it was stopped; `linkspan start {name}` starts it"),
        Some(HeldBack::Removed) => "it was removed; the next `linkspan up` makes it again".to_owned(),
        None => "it doesn't run yet".to_owned(),
    };
    Unready::Waits {
        what: format!("`{name}`, whose network it shares: {how}"),
        comes: held.is_none(),
    }
}

/// Notes what a container waits for.
pub(super) fn wait(plan: &mut Plan, slot: &Slot, what: String) {
    let name = slot.display_name();
    standing(plan, slot).waiting.push((name, what));
}
