//! The resolver's legs, each with one end on a bridge and the other in the resolver's namespace.

use std::collections::{BTreeMap, BTreeSet};

use super::{is_ours, ways};
use crate::link::Link;
use crate::mirror::{Kept, Mirror};
use crate::{KernelError, ObservedLeg};

/// The resolver's legs: both ends have the same name.
#[derive(Debug, Default)]
pub(super) struct Legs {
    /// The ends inside: is it up, and what is there.
    inside: BTreeMap<String, (bool, ObservedLeg)>,
    /// On which bridge the end on the host is, by index.
    at: BTreeMap<String, u32>,
    on: BTreeMap<u32, BTreeSet<String>>,
    touched: BTreeSet<String>,
}

impl Legs {
    /// Is the link of this name on the host the end of a leg on a bridge?
    pub(super) fn is_leg(&self, name: &str) -> bool {
        self.at.contains_key(name)
    }

    /// Names of legs that changed inside since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.touched)
    }

    /// Looks at the ends inside.
    pub(super) async fn look(&mut self, inside: &Mirror) -> Result<(), KernelError> {
        inside
            .look(|kept| {
                let mut touched = kept.take_touched();
                if touched.all {
                    touched.links.extend(self.inside.keys().cloned());
                    touched
                        .links
                        .extend(kept.links.values().map(|link| link.name.clone()));
                }
                touched.links.retain(|name| is_ours(name));
                for name in &touched.links {
                    match kept.named(name) {
                        Some(link) => {
                            let (addresses, routes) = ways(kept, link);
                            let leg = ObservedLeg {
                                name: name.clone(),
                                mtu: link.mtu,
                                addresses,
                                routes,
                            };
                            self.inside.insert(name.clone(), (link.up, leg));
                        }
                        None => drop(self.inside.remove(name)),
                    }
                }
                self.touched.extend(touched.links);
            })
            .await
    }

    /// Notes where the end on the host is now. Answers which bridges that concerns, by name.
    pub(super) fn follow(&mut self, name: &str, kept: &Kept) -> Vec<String> {
        let before = self.at.remove(name);
        if let Some(on) = before.and_then(|bridge| self.on.get_mut(&bridge)) {
            on.remove(name);
        }
        let is_leg = self.inside.contains_key(name);
        let now = kept.named(name).filter(|_| is_leg).and_then(|link| link.master);
        if let Some(bridge) = now {
            self.at.insert(name.to_owned(), bridge);
            self.on.entry(bridge).or_default().insert(name.to_owned());
        }
        let bridges = before.into_iter().chain(now);
        bridges
            .filter_map(|bridge| kept.links.get(&bridge))
            .map(|link| link.name.clone())
            .collect()
    }

    /// The leg on a bridge, when both of its ends are there and up.
    pub(super) fn of(&self, bridge: &Link, kept: &Kept) -> Option<ObservedLeg> {
        let names = self.on.get(&bridge.index).into_iter().flatten();
        let mut legs = names.filter_map(|name| {
            let port = kept.named(name).filter(|port| port.up)?;
            let (_, leg) = self.inside.get(name).filter(|(up, _)| *up)?;
            Some(ObservedLeg {
                mtu: port.mtu.min(leg.mtu),
                ..leg.clone()
            })
        });
        legs.next()
    }
}
