//! What was done to a site's containers by hand, and the next `up` forgets.

use linkspan_site::Site;

use super::{Change, Sign};
use crate::network::network_id;
use crate::{Desired, NetworkId};

/// Networks that containers of a site were put on or taken off by hand, where its file says otherwise.
pub fn forgotten(desired: &Desired, site: &Site) -> Vec<Change> {
    let own = desired
        .connections
        .iter()
        .filter(|(slot, _)| slot.project == site.name);
    let mut changes = Vec::new();
    for (slot, wishes) in own {
        let container = site.containers.get(&slot.container);
        let Some(container) = container.filter(|container| slot.index <= container.replicas) else {
            continue;
        };
        let declared = |id: &NetworkId| {
            let mut joined = container.networks.iter();
            let (_, wish) = joined.find(|(name, _)| {
                let network = site.networks.get(*name);
                network.is_some_and(|network| network_id(&site.name, name, network) == *id)
            })?;
            Some(wish)
        };
        for (id, wish) in wishes {
            let detail = match (wish, declared(id)) {
                (Some(_), None) => format!("leaves network `{id}`, which it was put on by hand"),
                (None, Some(_)) => format!("back to network `{id}`, which it was taken off by hand"),
                (Some(by_hand), Some(written)) if by_hand != written => {
                    format!("on network `{id}` as its file says, not as it was put there by hand")
                }
                (Some(_), Some(_)) | (None, None) => continue,
            };
            changes.push(Change {
                sign: Sign::Change,
                kind: "container".to_owned(),
                name: slot.display_name(),
                detail,
            });
        }
    }
    changes
}
