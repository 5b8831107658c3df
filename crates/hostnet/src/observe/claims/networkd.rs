//! systemd-networkd: systemd.network(5), systemd.netdev(5).
//!
//! Whether a `[Match]` fits a link that may come is not for us to know: what any of these files says counts.

use super::lines::entries;
use super::page::Page;

/// Section, key, and what it says.
const KEYS: [(&str, &str, &str); 8] = [
    ("network", "address", "systemd-networkd address"),
    ("address", "address", "systemd-networkd address"),
    ("address", "peer", "systemd-networkd peer address"),
    ("dhcpserver", "serveraddress", "systemd-networkd address"),
    ("route", "destination", "systemd-networkd route"),
    ("ipv6prefix", "prefix", "systemd-networkd prefix"),
    ("ipv6routeprefix", "route", "systemd-networkd prefix"),
    ("wireguardpeer", "allowedips", "WireGuard peer"),
];

pub(super) fn read(page: &mut Page<'_>) {
    for entry in entries(page.text) {
        let known = KEYS.iter().find(|(section, key, _)| entry.is(section, key));
        if let Some((.., who)) = known {
            entry.list().for_each(|range| page.claim(entry.line, who, range));
        } else if entry.is("network", "dns") {
            entry
                .list()
                .for_each(|server| page.name_server(entry.line, server));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn addresses_routes_and_peers_are_claims() {
        let text = "\
[Match]
Name=eth1
Address=10.99.0.0/16
[Network]
Address=10.30.0.5/24
Address=fd30::5/64
DNS=10.30.0.53#dns.example.com fe80::53%eth1
Gateway=10.30.0.1
Address=
[Address]
Address=10.31.0.1
Peer=10.31.0.2/32
[Route]
Destination=10.32.0.0/16
Gateway=10.30.0.9
[Route]
Destination=0.0.0.0/0
[WireGuardPeer]
AllowedIPs=10.33.0.0/16,\\
  fd33::/48
[Network]
# Choose one.
Address=0.0.0.0/28
Address=ten
";
        assert_eq!(
            told("/etc/systemd/network/a.network", text, read),
            [
                "10.30.0.0/24 systemd-networkd address in /etc/systemd/network/a.network:5",
                "fd30::/64 systemd-networkd address in /etc/systemd/network/a.network:6",
                "10.30.0.53/32 name server in /etc/systemd/network/a.network:7",
                "10.31.0.1/32 systemd-networkd address in /etc/systemd/network/a.network:11",
                "10.31.0.2/32 systemd-networkd peer address in /etc/systemd/network/a.network:12",
                "10.32.0.0/16 systemd-networkd route in /etc/systemd/network/a.network:14",
                "10.33.0.0/16 WireGuard peer in /etc/systemd/network/a.network:19",
                "fd33::/48 WireGuard peer in /etc/systemd/network/a.network:19",
                "not 0.0.0.0/0 systemd-networkd route in /etc/systemd/network/a.network:17: a default route",
                "not 0.0.0.0/28 systemd-networkd address in /etc/systemd/network/a.network:23: no address in particular",
                "! /etc/systemd/network/a.network:24: `ten` is no address range",
            ]
        );
    }
}
