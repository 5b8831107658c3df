//! Looks at everything: ours, and what others claim.

mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ipnetwork::IpNetwork;
use linkspan_plan::LINK_PREFIX;

pub(crate) use claims::{Files, Wanted, wanted};

use claims::{Found, Kernel};

use crate::link::{Address, Connected, Kind, Link, Links, Maker, Route};
use crate::{
    ObserveError, Observed, ObservedBridge, ObservedLeg, ObservedRoute, TableState, resolver, sysctl,
};

/// MTU when there is no default route to ask.
const DEFAULT_MTU: u32 = 1500;

/// Lists it all. The table's state is looked at by whoever has its socket.
pub(crate) async fn observe(
    host: &Links,
    inside: &Links,
    pins: &Path,
    table: TableState,
    files: Found,
) -> Result<Observed, ObserveError> {
    let links = host.list().await?;
    let held = host.addresses().await?;
    let addresses = by_link(&held);
    let (routes, connected) = host.routes().await?;
    let rules = host.rules().await?;
    let legs = legs(inside).await?;
    let networks = networks(&links, &Ways::new(&held, &connected), &legs);
    let of_networks: BTreeSet<&str> = networks
        .values()
        .filter_map(|found| Some(found.leg.as_ref()?.name.as_str()))
        .collect();
    let is_bridge = |index| {
        links
            .iter()
            .any(|link| link.index == index && networks.contains_key(&link.name))
    };
    let veths = links
        .iter()
        .filter(|link| ours(link) && link.kind == Kind::Veth)
        .filter(|link| !of_networks.contains(link.name.as_str()) && !legs.contains_key(&link.name))
        .filter(|link| link.up && link.master.is_some_and(is_bridge))
        .map(|link| link.name.clone())
        .collect();
    let kernel = Kernel {
        links: &links,
        addresses: &addresses,
        routes: &routes,
        rules: &rules,
        ours,
    };
    let found = claims::claims(&kernel, files);
    Ok(Observed {
        veths,
        sandboxes: sandboxes(pins)?,
        claims: found.claims,
        disregarded: found.disregarded,
        notes: found.notes,
        table,
        ipv6: sysctl::has_ipv6(),
        mtu: default_mtu(&links, &routes),
        networks,
    })
}

/// Do we make links of this name?
pub(crate) fn ours(link: &Link) -> bool {
    link.name.starts_with(LINK_PREFIX)
}

/// The names of all sandboxes, also of those that were left half made.
pub(crate) fn sandboxes(pins: &Path) -> Result<BTreeSet<String>, ObserveError> {
    let folder = |source| ObserveError::Folder {
        path: pins.to_owned(),
        source,
    };
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(pins).map_err(folder)? {
        let entry = entry.map_err(folder)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name != resolver::NAME && entry.path().is_dir() {
            names.insert(name);
        }
    }
    Ok(names)
}

/// Addresses by index of their link.
type Addresses = BTreeMap<u32, BTreeSet<IpNetwork>>;

fn by_link(addresses: &[Address]) -> Addresses {
    let mut result = Addresses::new();
    for address in addresses {
        result.entry(address.link).or_default().insert(address.ip);
    }
    result
}

/// Addresses and routes of links of ours, by index of the link.
#[derive(Debug, Default)]
struct Ways {
    addresses: Addresses,
    routes: BTreeMap<u32, BTreeSet<ObservedRoute>>,
}

impl Ways {
    fn new(addresses: &[Address], connected: &[Connected]) -> Self {
        let mut ways = Self {
            addresses: by_link(addresses),
            ..Self::default()
        };
        for route in connected.iter().filter(|route| route.maker != Maker::Other) {
            let known = ways.routes.entry(route.link).or_default();
            known.insert(ObservedRoute {
                to: route.to,
                source: route.source,
            });
        }
        ways
    }

    fn of(&self, link: &Link) -> (BTreeSet<IpNetwork>, BTreeSet<ObservedRoute>) {
        (
            self.addresses.get(&link.index).cloned().unwrap_or_default(),
            self.routes.get(&link.index).cloned().unwrap_or_default(),
        )
    }
}

/// The resolver's ends of its legs, by name.
type Legs = BTreeMap<String, (Link, ObservedLeg)>;

async fn legs(inside: &Links) -> Result<Legs, ObserveError> {
    let links = inside.list().await?;
    let (_, connected) = inside.routes().await?;
    let ways = Ways::new(&inside.addresses().await?, &connected);
    let legs = links.into_iter().filter(ours).map(|link| {
        let (addresses, routes) = ways.of(&link);
        let leg = ObservedLeg {
            name: link.name.clone(),
            mtu: link.mtu,
            addresses,
            routes,
        };
        (link.name.clone(), (link, leg))
    });
    Ok(legs.collect())
}

fn networks(links: &[Link], ways: &Ways, legs: &Legs) -> BTreeMap<String, ObservedBridge> {
    let forwards = sysctl::forwards();
    let bridges = links
        .iter()
        .filter(|link| ours(link) && link.kind == Kind::Bridge);
    bridges
        .map(|bridge| {
            let leg = links.iter().find_map(|port| {
                let (inside, leg) = legs.get(&port.name)?;
                let works = port.master == Some(bridge.index) && port.up && inside.up;
                works.then(|| ObservedLeg {
                    mtu: port.mtu.min(leg.mtu),
                    ..leg.clone()
                })
            });
            let (addresses, routes) = ways.of(bridge);
            let found = ObservedBridge {
                up: bridge.up,
                mtu: bridge.mtu,
                addresses,
                routes,
                turned_off: turned_off(bridge, forwards),
                leg,
            };
            (bridge.name.clone(), found)
        })
        .collect()
}

/// The parameters that keep a bridge's traffic from being passed on: the host's, or its own.
fn turned_off(bridge: &Link, (v4, v6): (bool, Option<bool>)) -> BTreeSet<String> {
    let own = |family: &str| format!("net.{family}.conf.{}.forwarding", bridge.name);
    let v4 = match v4 {
        false => Some("net.ipv4.ip_forward".to_owned()),
        true => (!bridge.forwards4).then(|| own("ipv4")),
    };
    let v6 = match v6 {
        None => None,
        Some(false) => Some("net.ipv6.conf.all.forwarding".to_owned()),
        Some(true) => (bridge.forwards6 == Some(false)).then(|| own("ipv6")),
    };
    v4.into_iter().chain(v6).collect()
}

/// The link that leads to the outside; where there is none, a name that links of hosts often have.
pub(crate) fn uplink(links: &[Link], routes: &[Route]) -> String {
    way_out(links, routes).map_or("eth0".to_owned(), |link| link.name.clone())
}

fn default_mtu(links: &[Link], routes: &[Route]) -> u32 {
    way_out(links, routes).map_or(DEFAULT_MTU, |link| link.mtu)
}

fn way_out<'a>(links: &'a [Link], routes: &[Route]) -> Option<&'a Link> {
    routes
        .iter()
        .filter(|route| route.to.prefix() == 0)
        .flat_map(|route| &route.links)
        .find_map(|index| {
            links
                .iter()
                .find(|link| link.index == *index && link.name != "lo")
        })
}
