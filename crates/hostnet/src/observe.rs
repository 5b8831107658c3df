//! Looks at everything: ours, and what others claim.

mod claims;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use ipnetwork::IpNetwork;
use linkspan_plan::LINK_PREFIX;

use crate::link::{Kind, Link, Links, Route};
use crate::{ObserveError, Observed, ObservedBridge, ObservedLeg, TableState, resolver, sysctl};

/// MTU when there is no default route to ask.
const DEFAULT_MTU: u32 = 1500;

/// Lists it all. The table's state is looked at by whoever has its socket.
pub(crate) async fn observe(
    host: &Links,
    inside: &Links,
    pins: &Path,
    table: TableState,
) -> Result<Observed, ObserveError> {
    let links = host.list().await?;
    let addresses = by_link(host.addresses().await?);
    let routes = host.routes().await?;
    let legs = legs(inside).await?;
    let networks = networks(&links, &addresses, &legs);
    let of_networks: BTreeSet<&str> = networks
        .values()
        .filter_map(|found| Some(found.leg.as_ref()?.name.as_str()))
        .collect();
    let veths = links
        .iter()
        .filter(|link| ours(link) && link.kind == Kind::Veth)
        .filter(|link| !of_networks.contains(link.name.as_str()) && !legs.contains_key(&link.name))
        .map(|link| link.name.clone())
        .collect();
    Ok(Observed {
        veths,
        sandboxes: sandboxes(pins)?,
        claims: claims::claims(&links, &addresses, &routes, ours),
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

fn by_link(addresses: Vec<(u32, IpNetwork)>) -> Addresses {
    let mut result = Addresses::new();
    for (index, address) in addresses {
        result.entry(index).or_default().insert(address);
    }
    result
}

/// The resolver's ends of its legs, with their addresses, by name.
async fn legs(inside: &Links) -> Result<BTreeMap<String, (Link, BTreeSet<IpNetwork>)>, ObserveError> {
    let mut addresses = by_link(inside.addresses().await?);
    let links = inside.list().await?;
    Ok(links
        .into_iter()
        .filter(ours)
        .map(|link| {
            (
                link.name.clone(),
                (link.clone(), addresses.remove(&link.index).unwrap_or_default()),
            )
        })
        .collect())
}

fn networks(
    links: &[Link],
    addresses: &Addresses,
    legs: &BTreeMap<String, (Link, BTreeSet<IpNetwork>)>,
) -> BTreeMap<String, ObservedBridge> {
    let bridges = links
        .iter()
        .filter(|link| ours(link) && link.kind == Kind::Bridge);
    bridges
        .map(|bridge| {
            let leg = links.iter().find_map(|port| {
                let (inside, addresses) = legs.get(&port.name)?;
                let works = port.master == Some(bridge.index) && port.up && inside.up;
                works.then(|| ObservedLeg {
                    name: port.name.clone(),
                    addresses: addresses.clone(),
                })
            });
            let found = ObservedBridge {
                up: bridge.up,
                mtu: bridge.mtu,
                addresses: addresses.get(&bridge.index).cloned().unwrap_or_default(),
                leg,
            };
            (bridge.name.clone(), found)
        })
        .collect()
}

fn default_mtu(links: &[Link], routes: &[Route]) -> u32 {
    let way_out = routes
        .iter()
        .filter(|route| route.to.prefix() == 0)
        .flat_map(|route| &route.links)
        .find_map(|index| {
            links
                .iter()
                .find(|link| link.index == *index && link.name != "lo")
        });
    way_out.map_or(DEFAULT_MTU, |link| link.mtu)
}
