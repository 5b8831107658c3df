//! What the planner gets to see, put together from what every capability last said.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, PoisonError};

use linkspan_hostnet::ObservedBridge;
use linkspan_images::Image;
use linkspan_plan::{Claim, ContainerId, Leases, NetworkLease, Observation, Observed, World, network_spec};
use linkspan_site::{Healthcheck, Site};

use crate::events::now_ms;
use crate::reconcile::Reconciler;

impl Reconciler {
    /// The world as it is known now.
    pub(crate) fn observed(&self) -> Observed {
        let mut observed = Observed {
            containers: self.seen.clone(),
            ..Observed::default()
        };
        // Those on loopback are the host's alone.
        let servers = self.name_servers().into_iter().map(|at| at.ip());
        observed.name_servers = servers.filter(|ip| !ip.is_loopback()).collect();
        observed.foreign_ports.clone_from(&self.foreign_ports);
        observed.bridges.clone_from(&self.host.made_bridges);
        observed.links.clone_from(&self.host.made_links);
        observed.lans.clone_from(&self.host.lans);
        observed.damaged_links = self.inside.damaged_links();
        if let Some(seen) = &self.host.observed {
            observed.ipv6 = seen.ipv6;
            observed.mtu = seen.mtu;
            observed.turned_off.clone_from(&seen.turned_off);
            observed.links.extend(seen.veths.iter().cloned());
            observed.claims = self.claims();
            let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
            for (bridge, found) in seen.networks.iter() {
                let set = if judged.is_whole(bridge, found, &self.leases, &self.seen) {
                    &mut observed.bridges
                } else {
                    &mut observed.damaged
                };
                set.insert(bridge.clone());
            }
        }
        for site in self.desired.projects.values() {
            self.observe_images(site, &mut observed);
        }
        observed
    }

    /// The world of requests, with what `observed` says of it.
    pub(crate) fn world<'a>(&'a self, observed: &'a Observed) -> World<'a> {
        World {
            desired: &self.desired,
            observed,
            leases: &self.leases,
            settings: &self.plan_settings,
            now_ms: now_ms(),
        }
    }

    /// Is this what was seen before, with what we have made since then, and nothing else?
    pub(crate) fn expects(&self, now: &linkspan_hostnet::Observed) -> bool {
        let Some(before) = &self.host.observed else {
            return false;
        };
        let links = before.veths.union(&self.host.made_links);
        let elsewhere = linkspan_hostnet::Observed {
            networks: Arc::clone(&before.networks),
            veths: Arc::clone(&before.veths),
            ..now.clone()
        };
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        elsewhere.is_as(before)
            && now.veths.iter().eq(links)
            && before
                .networks
                .keys()
                .all(|bridge| now.networks.contains_key(bridge))
            && now.networks.iter().all(|(bridge, found)| {
                let is_same = before
                    .networks
                    .get(bridge)
                    .is_some_and(|known| Arc::ptr_eq(known, found));
                let is_made = self.host.made_bridges.contains(bridge);
                is_same && !is_made || is_made && judged.is_whole(bridge, found, &self.leases, &self.seen)
            })
    }

    /// Ranges that others were seen to use.
    pub(crate) fn claims(&self) -> Vec<Claim> {
        let seen = self.host.observed.iter().flat_map(|seen| seen.claims.iter());
        seen.map(plan_claim).collect()
    }

    /// Looks up what a site's image names stand for.
    pub(crate) fn observe_images(&self, site: &Site, observed: &mut Observed) {
        let names: BTreeSet<&str> = site
            .containers
            .values()
            .flat_map(|container| {
                [
                    container.image.as_str(),
                    self.desired.image_key(&site.name, &container.image),
                ]
            })
            .collect();
        for name in names {
            if !observed.images.contains_key(name)
                && let Some(image) = self.images.resolve(name)
            {
                observed.images.insert(name.to_owned(), plan_image(&image).into());
            }
        }
    }
}

/// Bridges that were compared with what they should be, as they were then.
#[derive(Debug, Default)]
pub(crate) struct Judged(BTreeMap<String, (Arc<ObservedBridge>, NetworkLease, bool)>);

impl Judged {
    fn is_whole(
        &mut self,
        bridge: &str,
        found: &Arc<ObservedBridge>,
        leases: &Leases,
        containers: &BTreeMap<ContainerId, Arc<Observation>>,
    ) -> bool {
        let Some(lease) = leases.networks.get(bridge) else {
            self.0.remove(bridge);
            return false;
        };
        if let Some((before, promised, whole)) = self.0.get(bridge)
            && Arc::ptr_eq(before, found)
            && promised == lease
            // Who is still at a former address is for others to say.
            && lease.retiring.is_empty()
        {
            return *whole;
        }
        let whole = found.is_whole(&network_spec(bridge, lease, containers));
        let judged = (Arc::clone(found), lease.clone(), whole);
        self.0.insert(bridge.to_owned(), judged);
        // Those that are gone go when there are many.
        if self.0.len() > 2 * leases.networks.len() {
            self.0.retain(|bridge, _| leases.networks.contains_key(bridge));
        }
        whole
    }
}

/// A claim in the planner's words.
pub(crate) fn plan_claim(claim: &linkspan_hostnet::Claim) -> Claim {
    Claim {
        range: claim.range,
        source: claim.source.clone(),
    }
}

/// What a plan must know of an image.
pub(crate) fn plan_image(image: &Image) -> linkspan_plan::Image {
    let config = &image.config;
    linkspan_plan::Image {
        id: image.id.clone(),
        layers: image.layers.clone(),
        entrypoint: config.entrypoint.clone(),
        command: config.command.clone(),
        env: config.env.clone(),
        working_dir: config.working_dir.clone(),
        user: config.user.clone(),
        volumes: config.volumes.clone(),
        stop_signal: config.stop_signal.clone(),
        healthcheck: config.healthcheck.as_ref().and_then(healthcheck),
    }
}

/// The image's check with Docker's defaults filled in.
fn healthcheck(check: &linkspan_images::ImageHealthcheck) -> Option<Healthcheck> {
    use std::time::Duration;
    let or = |value: Option<Duration>, default| {
        value
            .filter(|value| !value.is_zero())
            .unwrap_or(Duration::from_secs(default))
    };
    let test = match check.test.split_first()? {
        (kind, rest) if kind == "CMD" => rest.to_vec(),
        (kind, rest) if kind == "CMD-SHELL" => {
            ["/bin/sh".to_owned(), "-c".to_owned(), rest.join(" ")].to_vec()
        }
        _ => return None,
    };
    Some(Healthcheck {
        test,
        interval: or(check.interval, 30),
        timeout: or(check.timeout, 30),
        retries: check.retries.filter(|retries| *retries > 0).unwrap_or(3),
        start_period: check.start_period.unwrap_or_default(),
        start_interval: or(check.start_interval, 5),
    })
}
