//! What the kernel says: addresses of all links, also of those that are down, and routes and rules of all tables.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use super::range::network;
use super::{Found, no_claim};
use crate::Claim;
use crate::link::{Link, Route, RouteKind, Rule};
use crate::observe::Addresses;

/// `RT_TABLE_*` of `linux/rtnetlink.h`: tables that are asked for every address anyway.
const TABLES_OF_ALL: [u32; 4] = [0, TABLE_DEFAULT, TABLE_MAIN, TABLE_LOCAL];
const TABLE_DEFAULT: u32 = 253;
const TABLE_MAIN: u32 = 254;
const TABLE_LOCAL: u32 = 255;
const OURS: &str = "ours";

/// What was listed.
#[derive(Debug)]
pub(in crate::observe) struct Kernel<'a> {
    pub(in crate::observe) links: &'a [Link],
    pub(in crate::observe) addresses: &'a Addresses,
    pub(in crate::observe) routes: &'a [Route],
    pub(in crate::observe) rules: &'a [Rule],
    pub(in crate::observe) ours: fn(&Link) -> bool,
}

impl Kernel<'_> {
    pub(super) fn found(&self) -> Found {
        let links: BTreeMap<u32, &Link> = self.links.iter().map(|link| (link.index, link)).collect();
        let mut found = Found::default();
        let mut known = BTreeSet::new();
        for (index, addresses) in self.addresses {
            let Some(link) = links.get(index) else { continue };
            for range in addresses.iter().filter_map(whole) {
                known.insert((*index, range));
                let claim = Claim {
                    range,
                    source: format!("address of `{}`", link.name),
                };
                self.add(&mut found, claim, (self.ours)(link));
            }
        }
        for route in self.routes {
            // The route that comes with an address says nothing new.
            let comes_with_address =
                |range| matches!(route.links[..], [link] if known.contains(&(link, range)));
            let Some(range) = whole(&route.to).filter(|range| !comes_with_address(*range)) else {
                continue;
            };
            let over: Vec<&Link> = route
                .links
                .iter()
                .filter_map(|index| links.get(index).copied())
                .collect();
            let claim = Claim {
                range,
                source: route_source(route, &over),
            };
            if route.kind == RouteKind::Throw && no_claim(range).is_none() {
                found.disregard(claim, "it only ends the search in its table");
            } else {
                self.add(&mut found, claim, over.iter().any(|link| (self.ours)(link)));
            }
        }
        for rule in self.rules {
            self.rule(&mut found, rule);
        }
        found
    }

    /// A rule that picks a range out claims it, if its table has an answer for all of the range. Otherwise that table's
    /// routes do.
    fn rule(&self, found: &mut Found, rule: &Rule) {
        let Some(range) = whole(&rule.to) else { return };
        let (what, counts) = match rule.table {
            Some(table) if TABLES_OF_ALL.contains(&table) => return,
            Some(table) => (format!("rule for table {table}"), self.answers_all(table, range)),
            None => ("rule that drops".to_owned(), true),
        };
        let claim = Claim { range, source: what };
        if counts {
            self.add(found, claim, false);
        } else {
            found.disregard(
                claim,
                "its table has no route for all of it; those that it has count",
            );
        }
    }

    fn answers_all(&self, table: u32, range: IpNetwork) -> bool {
        self.routes.iter().any(|route| {
            route.table == table
                && route.kind != RouteKind::Throw
                && route.to.is_ipv4() == range.is_ipv4()
                && route.to.prefix() <= range.prefix()
                && route.to.contains(range.ip())
        })
    }

    fn add(&self, found: &mut Found, claim: Claim, ours: bool) {
        if ours {
            found.disregard(claim, OURS);
        } else {
            found.add(claim);
        }
    }
}

fn route_source(route: &Route, links: &[&Link]) -> String {
    let kind = match route.kind {
        RouteKind::Unicast => "route",
        RouteKind::Local => "route to this host",
        RouteKind::Blackhole => "blackhole route",
        RouteKind::Unreachable => "unreachable route",
        RouteKind::Prohibit => "prohibit route",
        RouteKind::Throw => "throw route",
    };
    let table = match route.table {
        0 | TABLE_MAIN => String::new(),
        TABLE_LOCAL => " in table local".to_owned(),
        table => format!(" in table {table}"),
    };
    let names: Vec<_> = links.iter().map(|link| format!("`{}`", link.name)).collect();
    // The kernel puts routes that drop IPv6 packets on `lo`.
    let via = match (&names[..], route.next_hop) {
        _ if route.kind.drops() => String::new(),
        ([], None) => String::new(),
        ([], Some(id)) => format!(" via next hop {id}"),
        (names, _) => format!(" via {}", names.join(", ")),
    };
    format!("{kind}{table}{via}")
}

/// The network that an address is in.
fn whole(range: &IpNetwork) -> Option<IpNetwork> {
    network(range.ip(), Some(range.prefix()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            ..Link::default()
        }
    }

    fn route(to: &str, table: u32, links: &[u32]) -> Route {
        Route {
            to: to.parse().unwrap(),
            table,
            links: links.to_vec(),
            gateways: Vec::new(),
            kind: RouteKind::Unicast,
            next_hop: None,
        }
    }

    fn told(addresses: &Addresses, routes: &[Route], rules: &[Rule]) -> Vec<String> {
        let links = [link(1, "lo"), link(2, "eth0"), link(3, "tun0"), link(4, "ls-1a")];
        let kernel = Kernel {
            links: &links,
            addresses,
            routes,
            rules,
            ours: crate::observe::ours,
        };
        let found = kernel.found().sorted();
        let counts = found
            .claims
            .iter()
            .map(|claim| format!("{} {}", claim.range, claim.source));
        let not = found
            .disregarded
            .iter()
            .map(|(claim, reason)| format!("not {} {}: {reason}", claim.range, claim.source));
        counts.chain(not).collect()
    }

    #[test]
    fn a_vpn_that_takes_everything_claims_only_what_it_names() {
        let addresses = [
            (2, ["192.0.2.7/24".parse().unwrap()].into()),
            (4, ["10.77.0.1/24".parse().unwrap()].into()),
        ];
        let routes = [
            route("0.0.0.0/0", 254, &[2]),
            route("0.0.0.0/1", 254, &[3]),
            route("128.0.0.0/1", 254, &[3]),
            route("2000::/3", 254, &[3]),
            route("10.8.0.0/16", 100, &[3]),
            route("169.254.0.0/16", 254, &[2]),
            route("192.0.2.0/24", 254, &[2]),
            route("10.77.0.0/24", 254, &[4]),
            route("10.78.0.0/24", 254, &[4]),
        ];
        assert_eq!(
            told(&addresses.into(), &routes, &[]),
            [
                "10.8.0.0/16 route in table 100 via `tun0`",
                "192.0.2.0/24 address of `eth0`",
                "not 0.0.0.0/0 route via `eth0`: a default route",
                "not 0.0.0.0/1 route via `tun0`: a part of a default route",
                "not 10.77.0.0/24 address of `ls-1a`: ours",
                "not 10.78.0.0/24 route via `ls-1a`: ours",
                "not 128.0.0.0/1 route via `tun0`: a part of a default route",
                "not 169.254.0.0/16 route via `eth0`: link-local",
                "not 2000::/3 route via `tun0`: a part of a default route",
            ]
        );
    }

    #[test]
    fn routes_that_lead_nowhere_or_several_ways_are_claims() {
        let of = |to, kind| Route {
            kind,
            ..route(to, 7, &[1])
        };
        let routes = [
            route("10.1.0.0/16", 254, &[2, 3]),
            of("10.2.0.0/16", RouteKind::Blackhole),
            of("fd03::/48", RouteKind::Unreachable),
            of("10.4.0.0/16", RouteKind::Prohibit),
            of("10.5.0.0/16", RouteKind::Throw),
            Route {
                table: 255,
                ..of("10.6.0.0/16", RouteKind::Local)
            },
            Route {
                next_hop: Some(9),
                ..route("10.7.0.0/16", 254, &[])
            },
        ];
        assert_eq!(
            told(&Addresses::new(), &routes, &[]),
            [
                "10.1.0.0/16 route via `eth0`, `tun0`",
                "10.2.0.0/16 blackhole route in table 7",
                "10.4.0.0/16 prohibit route in table 7",
                "10.6.0.0/16 route to this host in table local via `lo`",
                "10.7.0.0/16 route via next hop 9",
                "fd03::/48 unreachable route in table 7",
                "not 10.5.0.0/16 throw route in table 7: it only ends the search in its table",
            ]
        );
    }

    #[test]
    fn a_rule_claims_what_its_table_answers() {
        let rule = |to: &str, table| Rule {
            to: to.parse().unwrap(),
            table,
        };
        let routes = [
            route("0.0.0.0/0", 51, &[3]),
            route("10.9.0.0/24", 52, &[3]),
            route("::/0", 53, &[3]),
        ];
        let rules = [
            rule("10.8.0.0/16", Some(51)),
            rule("10.9.0.0/16", Some(52)),
            rule("10.10.0.0/16", Some(53)),
            rule("10.11.0.0/16", Some(254)),
            rule("10.12.0.0/16", None),
            rule("fd08::/48", Some(53)),
        ];
        let open = "its table has no route for all of it; those that it has count";
        assert_eq!(
            told(&Addresses::new(), &routes, &rules),
            [
                "10.8.0.0/16 rule for table 51".to_owned(),
                "10.9.0.0/24 route in table 52 via `tun0`".to_owned(),
                "10.12.0.0/16 rule that drops".to_owned(),
                "fd08::/48 rule for table 53".to_owned(),
                "not 0.0.0.0/0 route in table 51 via `tun0`: a default route".to_owned(),
                format!("not 10.9.0.0/16 rule for table 52: {open}"),
                format!("not 10.10.0.0/16 rule for table 53: {open}"),
                "not ::/0 route in table 53 via `tun0`: a default route".to_owned(),
            ]
        );
    }
}
