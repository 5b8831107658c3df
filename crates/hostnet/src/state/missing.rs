//! What a bridge lacks, in words.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use linkspan_plan::NetworkSpec;

use super::{ObservedBridge, ObservedRoute};
use crate::link::{Holding, Neighbours};
use crate::network::Addressing;

impl ObservedBridge {
    /// Is it exactly as `spec` says?
    pub fn is_whole(&self, spec: &NetworkSpec) -> bool {
        self.missing(spec).is_empty()
    }

    /// What keeps it from being as `spec` says, each in a few words that a person understands: `mtu 1400`, `address
    /// 10.0.2.1/24 of the bridge`, `the resolver's leg`. What is there and doesn't belong is named too.
    pub fn missing(&self, spec: &NetworkSpec) -> Vec<String> {
        let mut missing = Vec::new();
        missing.extend((!self.up).then(|| format!("link `{}`, which was down", spec.bridge)));
        missing.extend((self.mtu != spec.mtu).then(|| format!("mtu {}", spec.mtu)));
        let bridge = Part {
            addresses: ("of the bridge", &self.addresses),
            routes: ("the route to", &self.routes),
        };
        missing.extend(bridge.missing(&Addressing::bridge(spec)));
        match self.leg.as_ref().filter(|leg| leg.name == spec.leg) {
            None => missing.push(format!("the resolver's leg `{}`", spec.leg)),
            Some(leg) => {
                missing
                    .extend((leg.mtu != spec.mtu).then(|| format!("mtu {} of the resolver's leg", spec.mtu)));
                let part = Part {
                    addresses: ("of the resolver's leg", &leg.addresses),
                    routes: ("the resolver's route to", &leg.routes),
                };
                missing.extend(part.missing(&Addressing::leg(spec)));
            }
        }
        let concern = |name: &&String| spec.v6.is_some() || !name.starts_with("net.ipv6.");
        missing.extend(
            self.turned_off
                .iter()
                .filter(concern)
                .map(|name| format!("kernel parameter {name}")),
        );
        missing
    }
}

/// One end of it all: what is there, and how it is called.
struct Part<'a> {
    addresses: (&'a str, &'a BTreeSet<IpNetwork>),
    routes: (&'a str, &'a BTreeSet<ObservedRoute>),
}

impl Part<'_> {
    fn missing(&self, wanted: &Addressing) -> Vec<String> {
        let (of, addresses) = self.addresses;
        let (route_to, routes) = self.routes;
        let holds = |wanted: &&Holding, found: &IpNetwork| {
            wanted.ip == *found || wanted.deprecated && wanted.ip.ip() == found.ip()
        };
        let lost = wanted
            .holdings
            .iter()
            .filter(|wanted| !addresses.iter().any(|found| holds(wanted, found)))
            .map(|wanted| format!("address {} {of}", wanted.ip));
        let strange = addresses
            .iter()
            .filter(|found| !left_alone(found) && !wanted.holdings.iter().any(|wanted| holds(&wanted, found)))
            .map(|address| format!("address {address} {of}, which doesn't belong there"));
        let fits = |wanted: &Neighbours, found: &ObservedRoute| wanted.leads(found.to, found.source);
        let cut = wanted
            .routes
            .iter()
            .filter(|wanted| !routes.iter().any(|found| fits(wanted, found)));
        let stray = routes
            .iter()
            .filter(|found| !wanted.routes.iter().any(|wanted| fits(wanted, found)));
        let cut = cut.map(|route| format!("{route_to} {}", route.to));
        let stray = stray.map(|route| format!("{route_to} {}, which doesn't belong there", route.to));
        lost.chain(strange).chain(cut).chain(stray).collect()
    }
}

/// Link-local addresses are between the kernel and whoever gave them.
fn left_alone(address: &IpNetwork) -> bool {
    matches!(address.ip(), IpAddr::V4(ip) if ip.is_link_local())
}
