//! The addresses and routes of a bridge, and of the resolver's leg on it.
//!
//! A network that moved keeps its former gateway and resolver addresses until what was begun with them has ended, with
//! a route to everybody who still answers there, and no more: the rest of the former range may be somebody else's
//! by now. No established connection may find its address or its route missing for a moment. So what is new comes
//! before what is old goes, routes to single members come before the route to the whole range goes, and an address
//! that stays is left in place.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use linkspan_plan::NetworkSpec;

use crate::KernelError;
use crate::link::{Holding, Link, Links, Neighbours};

/// What one link must have, no less and no more.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Addressing {
    pub(crate) holdings: Vec<Holding>,
    pub(crate) routes: Vec<Neighbours>,
}

impl Addressing {
    /// That of a network's bridge.
    pub(crate) fn bridge(spec: &NetworkSpec) -> Self {
        let v6 = spec.v6.as_ref().map(|v6| v6.gateway);
        let mut addressing = Self::new(spec, spec.gateway.into(), v6.map(IpAddr::from));
        for left in &spec.retiring {
            // The data plane is a neighbour too. Where a bridge shows its frames to IP's hooks, what comes from an address
            // that isn't known to be behind the bridge counts as forged.
            let neighbours = left.members.iter().chain([&left.resolver]);
            addressing.retire(left.gateway, neighbours);
        }
        addressing
    }

    /// That of the resolver's leg on it, inside the resolver's namespace.
    pub(crate) fn leg(spec: &NetworkSpec) -> Self {
        let v6 = spec.v6.as_ref().map(|v6| v6.resolver);
        let mut addressing = Self::new(spec, spec.resolver.into(), v6.map(IpAddr::from));
        for left in &spec.retiring {
            addressing.retire(left.resolver, &left.members);
        }
        addressing
    }

    fn new(spec: &NetworkSpec, v4: IpAddr, v6: Option<IpAddr>) -> Self {
        let mut addressing = Self::default();
        addressing.live(v4, spec.v4.into());
        if let (Some(ip), Some(v6)) = (v6, &spec.v6) {
            addressing.live(ip, v6.subnet.into());
        }
        addressing
    }

    fn live(&mut self, ip: IpAddr, range: IpNetwork) {
        // The prefix is one of the same family, so it fits.
        self.holdings
            .extend(IpNetwork::new(ip, range.prefix()).map(Holding::current));
        self.routes.extend(
            IpNetwork::new(range.network(), range.prefix()).map(|to| Neighbours {
                to,
                // An IPv6 route that comes with an address doesn't say where packets come from.
                source: ip.is_ipv4().then_some(ip),
                with_address: true,
            }),
        );
    }

    fn retire<'a>(&mut self, ip: IpAddr, neighbours: impl IntoIterator<Item = &'a IpAddr>) {
        // Back on it already, or two ranges with one address: then it is in use and needs nothing beside.
        if self.holdings.iter().all(|held| held.ip.ip() != ip) {
            self.holdings.push(Holding::deprecated(ip));
        }
        for neighbour in neighbours {
            let to = IpNetwork::from(*neighbour);
            if self.routes.iter().all(|route| route.to != to) {
                self.routes.push(Neighbours {
                    to,
                    source: Some(ip),
                    with_address: false,
                });
            }
        }
    }

    /// Gives a link its addresses. It may still be down.
    pub(crate) async fn give(&self, links: &Links, link: &Link, fresh: bool) -> Result<(), KernelError> {
        if !fresh {
            return links.give_missing(link, &self.holdings).await;
        }
        for holding in &self.holdings {
            links.give(link, *holding).await?;
        }
        Ok(())
    }

    /// Gives a link that is up its routes, and takes away what doesn't belong. One that is `fresh` has nothing of that.
    pub(crate) async fn complete(&self, links: &Links, link: &Link, fresh: bool) -> Result<(), KernelError> {
        let found = if fresh {
            Vec::new()
        } else {
            links.connected(link).await?
        };
        for route in self.routes.iter().filter(|route| !route.with_address) {
            if !found.iter().any(|found| route.is(found)) {
                links.connect(link, *route).await?;
            }
        }
        if fresh {
            return Ok(());
        }
        links.settle(link, &self.holdings).await?;
        let (found, stray): (Vec<_>, Vec<_>) = links
            .connected(link)
            .await?
            .into_iter()
            .partition(|found| self.routes.iter().any(|route| route.is(found)));
        for route in stray {
            let to = route.to;
            links.disconnect(route).await?;
            if let IpNetwork::V4(range) = to
                && self.routes.iter().all(|route| route.to != to)
            {
                links.forget_broadcast(link, range).await?;
            }
        }
        for route in &self.routes {
            if !found.iter().any(|found| route.is(found)) {
                links.connect(link, *route).await?;
            }
        }
        Ok(())
    }
}
