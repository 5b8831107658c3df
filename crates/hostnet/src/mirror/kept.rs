//! The state of a namespace, and what each change makes of it.
//!
//! The kernel tells everything but one thing: IPv4 routes that go because their link goes down or away, or because the
//! address that they name as source does, go in silence.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::message::{Change, RouteChange, RouteKey, changes};
use crate::link::{Address, Connected, Link, Links, Listing, Route, Rule};
use crate::{Hint, KernelError};

/// Everything of one namespace that is looked at.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    pub(crate) links: BTreeMap<u32, Link>,
    by_name: BTreeMap<String, u32>,
    /// By link.
    pub(crate) addresses: BTreeMap<u32, BTreeMap<IpNetwork, Address>>,
    /// By link; below 0 those that lead over none.
    routes: BTreeMap<u32, Routes>,
    /// That lead several ways, or over an object of the kernel's.
    others: Vec<Route>,
    pub(crate) rules: Vec<Rule>,
    is_unsure: bool,
    touched: Touched,
}

/// By what tells them apart.
type Routes = BTreeMap<RouteKey, (Option<Route>, Option<Connected>)>;

/// What has changed since somebody last asked.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Touched {
    /// Everything may have.
    pub(crate) all: bool,
    /// By name, links that came, went, or changed in any way, their addresses and routes included.
    pub(crate) links: BTreeSet<String>,
    /// Routes that lead over no link, or rules.
    pub(crate) elsewhere: bool,
}

impl Kept {
    /// Asks the kernel for all of it.
    pub(super) async fn list(links: &Links) -> Result<Self, KernelError> {
        let mut kept = Self::default();
        for link in links.list().await? {
            kept.by_name.insert(link.name.clone(), link.index);
            kept.links.insert(link.index, link);
        }
        for address in links.addresses().await? {
            let held = kept.addresses.entry(address.link).or_default();
            held.insert(address.ip, address);
        }
        for Listing {
            key,
            route,
            connected,
        } in links.all_routes().await?
        {
            match key {
                Some(key) if route.is_some() || connected.is_some() => {
                    let over = kept.routes.entry(key.link).or_default();
                    over.insert(key, (route, connected));
                }
                Some(_) => {}
                None => kept.others.extend(route),
            }
        }
        kept.rules = links.rules().await?;
        Ok(kept)
    }

    /// Must it be listed anew?
    pub(super) fn is_unsure(&self) -> bool {
        self.is_unsure
    }

    pub(super) fn touch_all(&mut self) {
        self.touched.all = true;
    }

    /// What has changed since the last call.
    pub(crate) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
    }

    /// The link of this name.
    pub(crate) fn named(&self, name: &str) -> Option<&Link> {
        self.links.get(self.by_name.get(name)?)
    }

    /// All routes that claim something.
    pub(crate) fn routes(&self) -> impl Iterator<Item = &Route> {
        let known = self.routes.values().flat_map(BTreeMap::values);
        known.filter_map(|(route, _)| route.as_ref()).chain(&self.others)
    }

    /// The routers behind one link that lead everywhere.
    pub(crate) fn routers(&self, link: u32) -> impl Iterator<Item = IpAddr> {
        let over = self.routes.get(&link).into_iter().flat_map(BTreeMap::values);
        let over = over.filter_map(|(route, _)| route.as_ref());
        let several = self
            .others
            .iter()
            .filter(move |route| route.links.contains(&link));
        let everywhere = over.chain(several).filter(|route| route.to.prefix() == 0);
        everywhere.flat_map(|route| &route.gateways).copied()
    }

    /// Routes to neighbours on one link.
    pub(crate) fn connected(&self, link: u32) -> impl Iterator<Item = &Connected> {
        let over = self.routes.get(&link).into_iter().flat_map(BTreeMap::values);
        over.filter_map(|(_, connected)| connected.as_ref())
    }

    /// Takes in a datagram, and says what kinds of things changed.
    pub(super) fn apply(&mut self, datagram: &[u8], hints: &mut BTreeSet<Hint>) {
        for change in changes(datagram) {
            hints.extend(self.take_in(change));
        }
    }

    fn take_in(&mut self, change: Change) -> Option<Hint> {
        match change {
            Change::Link(link) => self.link(link).then_some(Hint::Links),
            Change::LinkGone(index) => self.link_gone(index).then_some(Hint::Links),
            Change::Address(address) => self.address(address).then_some(Hint::Addresses),
            Change::AddressGone { link, ip } => self.address_gone(link, ip).then_some(Hint::Addresses),
            Change::Route(change) => self.route(*change).then_some(Hint::Routes),
            Change::RouteGone(key) => self.route_gone(&key).then_some(Hint::Routes),
            Change::Rules | Change::Unclear => {
                self.is_unsure = true;
                self.touched.elsewhere = true;
                Some(Hint::Routes)
            }
            Change::Forwarding { link, v4, on } => self.forwarding(link, v4, on).then_some(Hint::Parameters),
            Change::Parameters => Some(Hint::Parameters),
            Change::Nothing => None,
        }
    }

    fn touch(&mut self, index: u32) {
        match self.links.get(&index) {
            Some(link) => drop(self.touched.links.insert(link.name.clone())),
            None => self.touched.elsewhere = true,
        }
    }

    fn link(&mut self, link: Link) -> bool {
        let index = link.index;
        let is_down = !link.up;
        let before = self.links.get(&index);
        if before == Some(&link) {
            return false;
        }
        if let Some(before) = before.filter(|before| before.name != link.name) {
            self.touched.links.insert(before.name.clone());
            self.by_name.remove(&before.name);
        }
        self.by_name.insert(link.name.clone(), index);
        self.links.insert(index, link);
        self.touch(index);
        if is_down {
            self.cut(index);
        }
        true
    }

    fn link_gone(&mut self, index: u32) -> bool {
        self.touch(index);
        self.cut(index);
        self.routes.remove(&index);
        self.addresses.remove(&index);
        let Some(gone) = self.links.remove(&index) else {
            return false;
        };
        if self.by_name.get(&gone.name) == Some(&index) {
            self.by_name.remove(&gone.name);
        }
        true
    }

    /// A link is down or gone, and IPv4 routes over it with it.
    fn cut(&mut self, index: u32) {
        if let Some(over) = self.routes.get_mut(&index) {
            over.retain(|key, _| !key.v4);
        }
        // Of several ways one is gone; how that is shown is the kernel's.
        self.is_unsure |= self.others.iter().any(|route| route.links.contains(&index));
    }

    fn address(&mut self, address: Address) -> bool {
        let link = address.link;
        let held = self.addresses.entry(link).or_default();
        if held.get(&address.ip) == Some(&address) {
            return false;
        }
        held.insert(address.ip, address);
        self.touch(link);
        true
    }

    fn address_gone(&mut self, link: u32, ip: IpNetwork) -> bool {
        let gone = self.addresses.get_mut(&link).and_then(|held| held.remove(&ip));
        if gone.is_none() {
            return false;
        }
        self.touch(link);
        let is_held = |ip: IpAddr| self.addresses.values().flatten().any(|(held, _)| held.ip() == ip);
        if ip.is_ipv4() && !is_held(ip.ip()) {
            let mut touched = Vec::new();
            for (link, over) in &mut self.routes {
                let before = over.len();
                over.retain(|key, _| !key.v4 || key.source != Some(ip.ip()));
                touched.extend((over.len() != before).then_some(*link));
            }
            for link in touched {
                self.touch(link);
            }
            self.is_unsure |= !self.others.is_empty();
        }
        true
    }

    fn route(&mut self, change: RouteChange) -> bool {
        let RouteChange {
            key,
            route,
            connected,
            replaces,
        } = change;
        let link = key.link;
        let mut changed = false;
        if replaces {
            for over in self.routes.values_mut() {
                let before = over.len();
                over.retain(|known, _| !known.competes(&key));
                changed |= over.len() != before;
            }
        }
        if route.is_some() || connected.is_some() {
            let over = self.routes.entry(link).or_default();
            let now = (route, connected);
            changed |= over.get(&key) != Some(&now);
            over.insert(key, now);
        }
        if changed {
            self.touch(link);
        }
        changed
    }

    fn route_gone(&mut self, key: &RouteKey) -> bool {
        let over = self.routes.get_mut(&key.link);
        if over.is_some_and(|over| over.remove(key).is_some()) {
            self.touch(key.link);
            return true;
        }
        // One that we know nothing of is gone; but where one like it stays, that is perhaps the one, or one way of it.
        let mut alike = self.routes.get(&key.link).into_iter().flat_map(BTreeMap::keys);
        let mut several = self.others.iter();
        let is_perhaps = alike.any(|known| known.competes(key))
            || several.any(|known| known.table == key.table && key.to.is_none_or(|to| to == known.to));
        if is_perhaps {
            self.is_unsure = true;
            self.touched.elsewhere = true;
        }
        is_perhaps
    }

    fn forwarding(&mut self, link: u32, v4: bool, on: bool) -> bool {
        let Some(known) = self.links.get_mut(&link) else {
            return false;
        };
        let before = known.clone();
        if v4 {
            known.forwards4 = on;
        } else {
            known.forwards6 = Some(on);
        }
        let changed = *known != before;
        if changed {
            self.touch(link);
        }
        changed
    }
}
