//! Who is on the LAN behind one of the host's links, as far as the host knows, and who answered when a container's address
//! was asked for.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use linkspan_plan::{Lan, LanHolder};

use crate::KernelError;
use crate::mirror::{Kept, Mirror};

/// What is known; nothing, when there is no link of that name.
pub(crate) async fn look(host: &Mirror, parent: &str) -> Result<Lan, KernelError> {
    let known = host.look(|kept| {
        let link = kept.named(parent)?.index;
        Some((link, known(kept, link)))
    });
    let Some((link, mut lan)) = known.await? else {
        return Ok(Lan::default());
    };
    for (ip, mac) in host.links().neighbours(link).await? {
        lan.held.entry(ip).or_insert(LanHolder::Neighbour(mac));
    }
    Ok(lan)
}

fn known(kept: &Kept, link: u32) -> Lan {
    let routers = kept.routers(link).map(|ip| (ip, LanHolder::Router));
    let mut held: BTreeMap<_, _> = routers.collect();
    // An address of another link of the host's is no less taken.
    for (link, addresses) in &kept.addresses {
        let name = kept.links.get(link).map(|link| link.name.clone());
        let holder = LanHolder::Host(name.unwrap_or_default());
        held.extend(addresses.keys().map(|address| (address.ip(), holder.clone())));
    }
    Lan { held }
}

/// Whoever answered may be gone after this time.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Those who answered for an address that a container was about to get, by the host's link.
#[derive(Debug, Default)]
pub(crate) struct Answers(BTreeMap<(String, Ipv4Addr), (String, Instant)>);

impl Answers {
    pub(crate) fn note(&mut self, parent: &str, address: Ipv4Addr, mac: &str) {
        let key = (parent.to_owned(), address);
        self.0.insert(key, (mac.to_owned(), Instant::now()));
    }

    pub(crate) fn add_to(&mut self, parent: &str, lan: &mut Lan) {
        self.0.retain(|_, (_, at)| at.elapsed() < REMEMBERED);
        for ((_, address), (mac, _)) in self.0.iter().filter(|((link, _), _)| link == parent) {
            let holder = || LanHolder::Neighbour(mac.clone());
            lan.held.entry(IpAddr::V4(*address)).or_insert_with(holder);
        }
    }
}
