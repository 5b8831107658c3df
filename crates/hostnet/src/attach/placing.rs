//! The addresses and routes of a container's link.
//!
//! When a network moves, its containers keep their former addresses until what was begun from and to them has ended.
//! Those are *deprecated* (preferred for no time at all), and nothing new is begun from them. With IPv6 that follows:
//! source selection avoids deprecated addresses (RFC 6724, rule 3). IPv4 knows no such rule: there, routes say what
//! packets come from. So each IPv4 route that we set names the current address, and the route to the former range,
//! which the kernel made with the former address and which siblings' connections still need, is replaced by one that
//! does too.
//!
//! Root of a container may add addresses and routes of its own. Ours bear our mark, and only those are taken away. A route
//! of its own that leads where one of ours would lead, as that of a VPN that takes over the default route, stays in the
//! place of ours.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;
use linkspan_plan::{Attachment, RESOLVER_ADDRESS};
use linkspan_site::Driver;
use rtnetlink::packet_route::AddressFamily;

use crate::KernelError;
use crate::link::{Address, Holding, Link, Links, Neighbours};

/// What a container's link is to have.
#[derive(Debug)]
pub(super) struct Placing<'a> {
    attachment: &'a Attachment,
    holdings: Vec<Holding>,
    /// Absent where the container has turned IPv6 off.
    gateway6: Option<IpAddr>,
}

impl<'a> Placing<'a> {
    pub(super) fn new(attachment: &'a Attachment, link: &Link) -> Self {
        let v4 = Holding::current(attachment.v4);
        let v6 = attachment.v6.filter(|_| link.speaks6);
        let mut holdings: Vec<_> = std::iter::once(v4).chain(v6.map(Holding::current)).collect();
        let retiring = attachment.retiring.iter();
        for former in retiring.filter(|former| former.is_ipv4() || link.speaks6) {
            // Moved back: then it is in use.
            if holdings.iter().all(|held| held.ip.ip() != former.ip()) {
                holdings.push(Holding::deprecated(*former));
            }
        }
        let gateway6 = attachment.gateway6.filter(|_| link.speaks6);
        Self {
            attachment,
            holdings,
            gateway6: gateway6.map(IpAddr::from),
        }
    }

    /// Gives the link its addresses. It may still be down.
    pub(super) async fn give(&self, inside: &Links, link: &Link, fresh: bool) -> Result<(), KernelError> {
        let found = if fresh {
            Vec::new()
        } else {
            inside.addresses_of(link).await?
        };
        for holding in &self.holdings {
            let held = |address: &&Address| holding.ip.ip() == address.ip.ip() && holding.deprecated;
            let holding = match found.iter().find(held) {
                Some(address) => Holding {
                    ip: address.ip,
                    ..*holding
                },
                None => *holding,
            };
            if !found.iter().any(|address| holding.is(address) && address.marked) {
                inside.give(link, holding).await?;
            }
        }
        Ok(())
    }

    /// Gives a link that is up its routes, and takes away what it has of ours from before.
    pub(super) async fn complete(&self, inside: &Links, link: &Link, fresh: bool) -> Result<(), KernelError> {
        let taken = if fresh {
            BTreeSet::new()
        } else {
            inside.led_by_others().await?
        };
        if !fresh || !self.attachment.retiring.is_empty() {
            self.divert(inside, link, &taken).await?;
        }
        let current = self.attachment.v4.ip();
        let resolver = Neighbours {
            to: IpNetwork::from(IpAddr::from(RESOLVER_ADDRESS)),
            source: Some(current.into()),
            with_address: false,
        };
        // A link on the LAN itself doesn't lead to the resolver's leg.
        let resolver =
            (self.attachment.resolver && self.attachment.driver == Driver::Bridge).then_some(resolver);
        if let Some(resolver) = resolver.filter(|resolver| !taken.contains(&resolver.to)) {
            inside.reconnect(link, resolver).await?;
        }
        let gateways = [
            (AddressFamily::Inet, self.attachment.gateway4.map(IpAddr::from)),
            (AddressFamily::Inet6, self.gateway6),
        ];
        for (family, gateway) in gateways {
            let is_taken = taken
                .iter()
                .any(|to| to.prefix() == 0 && to.is_ipv4() == (family == AddressFamily::Inet));
            match gateway {
                Some(_) if is_taken => {}
                Some(gateway) => inside.default_route(link, gateway, current).await?,
                None if fresh => {}
                None => inside.no_default_route(link, family).await?,
            }
        }
        if fresh && self.attachment.retiring.is_empty() {
            return Ok(());
        }
        self.tidy(inside, link, resolver).await
    }

    /// Makes sure of the routes to the ranges that it is in, or was in; what is begun by them comes from the current address.
    async fn divert(
        &self,
        inside: &Links,
        link: &Link,
        taken: &BTreeSet<IpNetwork>,
    ) -> Result<(), KernelError> {
        let held = inside.addresses_of(link).await?;
        let found = inside.connected(link).await?;
        for route in self.ranges(&held) {
            if !taken.contains(&route.to) && !found.iter().any(|found| route.is(found)) {
                inside.reconnect(link, route).await?;
            }
        }
        Ok(())
    }

    /// Takes away addresses and routes of ours that are of no use any more.
    async fn tidy(
        &self,
        inside: &Links,
        link: &Link,
        resolver: Option<Neighbours>,
    ) -> Result<(), KernelError> {
        let found = inside.addresses_of(link).await?;
        let marks = found.iter().any(|address| address.marked);
        let ours = |address: &Address| match marks {
            true => address.marked,
            false => address.deprecated && address.is_for_ever(),
        };
        let (kept, former): (Vec<_>, Vec<_>) = found
            .into_iter()
            .partition(|address| !ours(address) || self.holdings.iter().any(|held| held.is(address)));
        for address in former {
            inside.take(link, address).await?;
        }
        // An address takes the route with it that the kernel made for it, but not one that we put in the place of that.
        let ranges = self.ranges(&kept);
        for route in inside.connected(link).await? {
            let wanted = ranges.iter().chain(&resolver).any(|wanted| wanted.is(&route));
            let diverted = ranges.iter().any(|range| range.to == route.to);
            if !wanted && (route.is_ours() || diverted) {
                inside.disconnect(route).await?;
            }
        }
        Ok(())
    }

    /// The routes to the ranges of what it holds.
    fn ranges(&self, held: &[Address]) -> Vec<Neighbours> {
        let current = IpNetwork::from(self.attachment.v4);
        let ours = |address: &&Address| self.holdings.iter().any(|holding| holding.is(address));
        let ranges: BTreeSet<IpNetwork> = held
            .iter()
            .filter(ours)
            .filter(|address| IpNetwork::from(address.ip.ip()).prefix() != address.ip.prefix())
            .filter_map(|address| IpNetwork::new(address.ip.network(), address.ip.prefix()).ok())
            .collect();
        let route = |to: IpNetwork| Neighbours {
            to,
            source: to.is_ipv4().then_some(current.ip()),
            with_address: to.is_ipv6()
                || to.network() == current.network() && to.prefix() == current.prefix(),
        };
        ranges.into_iter().map(route).collect()
    }
}
