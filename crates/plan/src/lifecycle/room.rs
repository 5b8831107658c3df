//! Where there is no address left for a second incarnation beside the first, the first makes room: one after the other.

use linkspan_site::Container;

use super::{Scene, is_leaving, is_ready, retire, wait};
use crate::lease::LeaseError;
use crate::{ContainerId, Observation, Plan, Slot};

/// A new incarnation could not be had. If that is for want of addresses, those that it replaces give up theirs; but only
/// while all other replicas serve, so that never more than one is missing for it.
pub(super) fn make(
    scene: &Scene<'_>,
    plan: &mut Plan,
    slot: &Slot,
    container: &Container,
    olds: &[(&ContainerId, &Observation)],
    error: &LeaseError,
) {
    let LeaseError::SubnetExhausted { network, .. } = error else {
        plan.fail(&slot.project, slot.display_name(), error.to_string());
        return;
    };
    if olds.is_empty() {
        plan.fail(&slot.project, slot.display_name(), error.to_string());
        return;
    }
    if others_serve(scene, plan, slot, container) {
        for (id, seen) in olds {
            retire(scene.world, plan, id, seen);
        }
    } else {
        let what = format!("an address on network `{network}`, which has none left");
        wait(plan, slot, what);
    }
}

fn others_serve(scene: &Scene<'_>, plan: &Plan, slot: &Slot, container: &Container) -> bool {
    let others = 1..=container.replicas;
    let mut lacking = others.filter(|index| *index != slot.index).count();
    for (own, incarnations) in scene.replicas(slot) {
        let mut all = incarnations.iter();
        // One that is on its way out will leave its address to somebody.
        if all.clone().any(|(_, seen)| is_leaving(plan, seen)) {
            return false;
        }
        let counts = own.index != slot.index && own.index <= container.replicas;
        lacking -= usize::from(counts && all.any(|(_, seen)| is_ready(seen)));
    }
    lacking == 0
}
