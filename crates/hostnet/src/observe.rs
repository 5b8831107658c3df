//! Looks at everything: ours, and what others claim.
//!
//! Nearly always nearly nothing has changed, so what was worked out is kept, and worked out again only for what the
//! mirrors say was touched: a look costs what has changed, not what there is.

mod claims;
mod legs;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use ipnetwork::IpNetwork;
use linkspan_plan::LINK_PREFIX;

pub(crate) use claims::{Files, Wanted, wanted};

use claims::{Found, Kernel};
use legs::Legs;

use crate::link::{Kind, Link, Maker, Route};
use crate::mirror::{Kept, Mirror, Touched};
use crate::sysctl::Parameters;
use crate::{
    Claim, Claims, KernelError, ObserveError, Observed, ObservedBridge, ObservedRoute, TableState, resolver,
};

/// MTU when there is no default route to ask.
const DEFAULT_MTU: u32 = 1500;

/// Does the host pass on packets of IPv4, and of IPv6, which there may not be?
type Forwards = (bool, Option<bool>);

/// What was last worked out.
#[derive(Debug)]
pub(crate) struct Observer {
    parameters: Parameters,
    networks: Arc<BTreeMap<String, Arc<ObservedBridge>>>,
    veths: Arc<BTreeSet<String>>,
    legs: Legs,
    forwards: Forwards,
    files: Found,
    claims: Arc<Vec<Claim>>,
    notes: Arc<Vec<String>>,
    mtu: u32,
}

impl Observer {
    /// Of the calling thread's namespace.
    pub(crate) fn here() -> Self {
        Self {
            parameters: Parameters::here(),
            networks: Arc::default(),
            veths: Arc::default(),
            legs: Legs::default(),
            forwards: (false, None),
            files: Found::default(),
            claims: Arc::default(),
            notes: Arc::default(),
            mtu: DEFAULT_MTU,
        }
    }

    /// Looks at what has changed.
    pub(crate) async fn observe(
        &mut self,
        host: &Mirror,
        inside: &Mirror,
        table: TableState,
        files: Found,
    ) -> Result<Observed, ObserveError> {
        self.legs.look(inside).await?;
        host.look(|kept| {
            let touched = kept.take_touched();
            self.follow_links(kept, &touched);
            self.follow_claims(kept, &touched, files);
        })
        .await?;
        Ok(Observed {
            networks: Arc::clone(&self.networks),
            veths: Arc::clone(&self.veths),
            claims: Arc::clone(&self.claims),
            notes: Arc::clone(&self.notes),
            table,
            ipv6: self.parameters.has_ipv6(),
            mtu: self.mtu,
            turned_off: match self.networks.is_empty() {
                true => BTreeSet::new(),
                false => turned_off_for_all(self.forwards),
            },
        })
    }

    fn follow_links(&mut self, kept: &Kept, touched: &Touched) {
        self.parameters.look_for_ipv6();
        let forwards = self.parameters.forwards();
        let all = touched.all || self.forwards != forwards;
        self.forwards = forwards;
        let mut names = self.legs.take_touched();
        if all {
            let known = self.networks.keys().chain(self.veths.iter());
            names.extend(known.cloned());
            names.extend(kept.links.values().map(|link| link.name.clone()));
        } else {
            names.extend(touched.links.iter().cloned());
        }
        names.retain(|name| is_ours(name));
        let mut bridges = BTreeSet::new();
        for name in names {
            // A leg is of interest for the bridge that it is on, or was.
            bridges.extend(self.legs.follow(&name, kept));
            let kind = kept.named(&name).map(|link| link.kind);
            if kind == Some(Kind::Bridge) || self.networks.contains_key(&name) {
                bridges.insert(name.clone());
            }
            self.follow_veth(&name, kept);
        }
        for bridge in bridges {
            self.follow_bridge(&bridge, kept);
        }
    }

    fn follow_veth(&mut self, name: &str, kept: &Kept) {
        let is_bridge = |index| kept.links.get(&index).is_some_and(is_our_bridge);
        let is_containers = !self.legs.is_leg(name)
            && kept
                .named(name)
                .is_some_and(|link| link.kind == Kind::Veth && link.up && link.master.is_some_and(is_bridge));
        if is_containers == self.veths.contains(name) {
            return;
        }
        let veths = Arc::make_mut(&mut self.veths);
        if is_containers {
            veths.insert(name.to_owned());
        } else {
            veths.remove(name);
        }
    }

    fn follow_bridge(&mut self, name: &str, kept: &Kept) {
        let bridge = kept.named(name).filter(|link| link.kind == Kind::Bridge);
        let Some(bridge) = bridge else {
            if self.networks.contains_key(name) {
                Arc::make_mut(&mut self.networks).remove(name);
            }
            return;
        };
        let (addresses, routes) = ways(kept, bridge);
        let found = ObservedBridge {
            up: bridge.up,
            mtu: bridge.mtu,
            addresses,
            routes,
            turned_off: turned_off(bridge, self.forwards),
            leg: self.legs.of(bridge, kept),
        };
        if self.networks.get(name).is_none_or(|known| **known != found) {
            Arc::make_mut(&mut self.networks).insert(name.to_owned(), found.into());
        }
    }

    fn follow_claims(&mut self, kept: &Kept, touched: &Touched, files: Found) {
        let elsewhere = touched.all || touched.elsewhere || touched.links.iter().any(|name| !is_ours(name));
        if !elsewhere && files == self.files {
            return;
        }
        let found = claimed(kept, files.clone());
        self.files = files;
        self.mtu = default_mtu(kept);
        if *self.claims != found.claims {
            self.claims = Arc::new(found.claims);
        }
        if *self.notes != found.notes {
            self.notes = Arc::new(found.notes);
        }
    }
}

/// All that others use, and we, and what of it doesn't count, and why.
pub(crate) async fn claims(host: &Mirror, files: Found) -> Result<Claims, KernelError> {
    let found = host.look(|kept| claimed(kept, files)).await?;
    Ok(Claims {
        counting: found.claims,
        disregarded: found.disregarded,
        notes: found.notes,
    })
}

fn claimed(kept: &Kept, files: Found) -> Found {
    let links: Vec<Link> = kept.links.values().cloned().collect();
    let addresses = kept.addresses.iter();
    let addresses = addresses
        .map(|(link, held)| (*link, held.keys().copied().collect()))
        .collect();
    let routes: Vec<Route> = kept.routes().cloned().collect();
    let kernel = Kernel {
        links: &links,
        addresses: &addresses,
        routes: &routes,
        rules: &kept.rules,
        ours,
    };
    claims::claims(&kernel, files)
}

/// Do we make links of this name?
pub(crate) fn ours(link: &Link) -> bool {
    is_ours(&link.name)
}

fn is_ours(name: &str) -> bool {
    name.starts_with(LINK_PREFIX)
}

fn is_our_bridge(link: &Link) -> bool {
    ours(link) && link.kind == Kind::Bridge
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

/// Addresses of a link of ours, and routes over it.
fn ways(kept: &Kept, link: &Link) -> (BTreeSet<IpNetwork>, BTreeSet<ObservedRoute>) {
    let addresses = kept.addresses.get(&link.index).into_iter();
    let routes = kept
        .connected(link.index)
        .filter(|route| route.maker != Maker::Other);
    (
        addresses.flat_map(BTreeMap::keys).copied().collect(),
        routes
            .map(|route| ObservedRoute {
                to: route.to,
                source: route.source,
            })
            .collect(),
    )
}

/// The parameters of a bridge's own that keep its traffic from being passed on. With the host's, all of them go off and
/// on again.
fn turned_off(bridge: &Link, (v4, v6): Forwards) -> BTreeSet<String> {
    let own = |family: &str| format!("net.{family}.conf.{}.forwarding", bridge.name);
    let v4 = (v4 && !bridge.forwards4).then(|| own("ipv4"));
    let v6 = (v6 == Some(true) && bridge.forwards6 == Some(false)).then(|| own("ipv6"));
    v4.into_iter().chain(v6).collect()
}

/// The same of the whole host.
fn turned_off_for_all((v4, v6): Forwards) -> BTreeSet<String> {
    let v4 = (!v4).then(|| "net.ipv4.ip_forward".to_owned());
    let v6 = (v6 == Some(false)).then(|| "net.ipv6.conf.all.forwarding".to_owned());
    v4.into_iter().chain(v6).collect()
}

/// The link that leads to the outside; where there is none, a name that links of hosts often have.
pub(crate) fn uplink(kept: &Kept) -> String {
    way_out(kept).map_or("eth0".to_owned(), |link| link.name.clone())
}

fn default_mtu(kept: &Kept) -> u32 {
    way_out(kept).map_or(DEFAULT_MTU, |link| link.mtu)
}

fn way_out(kept: &Kept) -> Option<&Link> {
    let everywhere = kept.routes().filter(|route| route.to.prefix() == 0);
    let mut links = everywhere
        .flat_map(|route| &route.links)
        .filter_map(|index| kept.links.get(index));
    links.find(|link| link.name != "lo")
}
