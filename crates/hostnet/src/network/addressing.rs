//! The addresses and routes of a bridge, and of the resolver's leg on it.
//!
//! A network that moved keeps its former gateway and resolver addresses until what was begun with them has ended, each
//! alone, with a route to every member that still answers there: the rest of the former range may be somebody else's
//! by now. So that no established connection finds its address or its route missing for a moment, the new is there
//! before the old goes: first addresses, then routes to single members, and only then the route to the whole range.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use linkspan_plan::{NetworkSpec, Subnet};

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
        Self::new(spec, spec.gateway.into(), v6.map(IpAddr::from), |left| {
            left.gateway
        })
    }

    /// That of the resolver's leg on it, inside the resolver's namespace.
    pub(crate) fn leg(spec: &NetworkSpec) -> Self {
        let v6 = spec.v6.as_ref().map(|v6| v6.resolver);
        Self::new(spec, spec.resolver.into(), v6.map(IpAddr::from), |left| {
            left.resolver
        })
    }

    fn new(spec: &NetworkSpec, v4: IpAddr, v6: Option<IpAddr>, former: fn(&Subnet) -> IpAddr) -> Self {
        let mut addressing = Self::default();
        addressing.live(v4, spec.v4.into());
        if let (Some(ip), Some(v6)) = (v6, &spec.v6) {
            addressing.live(ip, v6.subnet.into());
        }
        for left in &spec.retiring {
            addressing.retire(former(left), &left.members);
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

    fn retire(&mut self, ip: IpAddr, members: &[IpAddr]) {
        // Back on it already, or two ranges with one address: then it is in use and needs nothing beside.
        if self.holdings.iter().all(|held| held.ip.ip() != ip) {
            self.holdings.push(Holding::deprecated(ip));
        }
        for member in members {
            let to = IpNetwork::from(*member);
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
            links.disconnect(route).await?;
        }
        for route in &self.routes {
            if !found.iter().any(|found| route.is(found)) {
                links.connect(link, *route).await?;
            }
        }
        Ok(())
    }
}
