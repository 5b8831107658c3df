//! Ranges that others use, so that networks of ours keep clear of them.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use super::Addresses;
use crate::Claim;
use crate::link::{Link, Route};

/// `RT_TABLE_MAIN` of `linux/rtnetlink.h`.
const TABLE_MAIN: u32 = 254;

/// Addresses and routes of other links, and the name servers of the host.
pub(super) fn claims(
    links: &[Link],
    addresses: &Addresses,
    routes: &[Route],
    ours: fn(&Link) -> bool,
) -> Vec<Claim> {
    let named = |index: &u32| links.iter().find(|link| link.index == *index);
    let mut claims = BTreeSet::new();
    for (index, addresses) in addresses {
        let Some(link) = named(index).filter(|link| !ours(link)) else {
            continue;
        };
        let source = format!("address of {}", link.name);
        claims.extend(addresses.iter().map(|address| Claim {
            range: whole(*address),
            source: source.clone(),
        }));
    }
    for route in routes {
        if route.links.iter().filter_map(named).any(ours) {
            continue;
        }
        let names: Vec<_> = route
            .links
            .iter()
            .filter_map(named)
            .map(|link| link.name.as_str())
            .collect();
        claims.insert(Claim {
            range: whole(route.to),
            source: route_source(route.table, &names),
        });
    }
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    claims.extend(name_servers(&text).map(|ip| Claim {
        range: ip.into(),
        source: "name server".to_owned(),
    }));
    claims.into_iter().filter(|claim| matters(claim.range)).collect()
}

fn route_source(table: u32, links: &[&str]) -> String {
    let table = if table == TABLE_MAIN || table == 0 {
        String::new()
    } else {
        format!(" in table {table}")
    };
    match links {
        [] => format!("route{table}"),
        links => format!("route{table} via {}", links.join(", ")),
    }
}

fn name_servers(text: &str) -> impl Iterator<Item = IpAddr> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        // A zone, as in `fe80::1%eth0`, makes it link-local, which claims nothing.
        (words.next() == Some("nameserver"))
            .then(|| words.next()?.parse().ok())
            .flatten()
    })
}

/// The network that an address is in.
fn whole(address: IpNetwork) -> IpNetwork {
    IpNetwork::new(address.network(), address.prefix()).unwrap_or(address)
}

/// Routes to everywhere, also in two or eight parts as VPNs set them, claim nothing; nor do ranges that no network of
/// ours can be in.
fn matters(range: IpNetwork) -> bool {
    match range {
        IpNetwork::V4(range) => {
            let ip = range.ip();
            range.prefix() > 1
                && !ip.is_loopback()
                && !ip.is_link_local()
                && !ip.is_multicast()
                && !ip.is_broadcast()
        }
        IpNetwork::V6(range) => {
            let ip = range.ip();
            range.prefix() > 3 && !ip.is_loopback() && !ip.is_unicast_link_local() && !ip.is_multicast()
        }
    }
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

    fn route(to: &str, table: u32, link: u32) -> Route {
        Route {
            to: to.parse().unwrap(),
            table,
            links: vec![link],
        }
    }

    #[test]
    fn a_vpn_that_takes_everything_claims_only_what_it_names() {
        let links = [link(2, "eth0"), link(3, "tun0"), link(4, "ls-1a")];
        let addresses = [(2, ["192.0.2.7/24".parse().unwrap()].into())].into();
        let routes = [
            route("0.0.0.0/0", 254, 2),
            route("0.0.0.0/1", 254, 3),
            route("128.0.0.0/1", 254, 3),
            route("2000::/3", 254, 3),
            route("10.8.0.0/16", 100, 3),
            route("169.254.0.0/16", 254, 2),
            route("10.77.0.0/24", 254, 4),
        ];
        let found = claims(&links, &addresses, &routes, super::super::ours);
        let found: Vec<_> = found
            .iter()
            .filter(|claim| claim.source != "name server")
            .map(|claim| (claim.range.to_string(), claim.source.as_str()))
            .collect();
        assert_eq!(
            found,
            [
                ("10.8.0.0/16".to_owned(), "route in table 100 via tun0"),
                ("192.0.2.0/24".to_owned(), "address of eth0"),
            ]
        );
    }

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\nnameserver 10.0.0.53\nsearch example.com\nnameserver  fd00::53\nnameserver fe80::1%eth0\n";
        let found: Vec<_> = name_servers(text).map(|ip| ip.to_string()).collect();
        assert_eq!(found, ["10.0.0.53", "fd00::53"]);
    }
}
