//! WireGuard: wg-quick(8), wg(8).

use super::lines::entries;
use super::page::Page;

pub(super) fn read(page: &mut Page<'_>) {
    for entry in entries(page.text) {
        let line = entry.line;
        if entry.is("interface", "address") {
            entry
                .list()
                .for_each(|range| page.claim(line, "WireGuard address", range));
        } else if entry.is("interface", "dns") {
            entry.list().for_each(|server| page.name_server(line, server));
        } else if entry.is("peer", "allowedips") {
            // A sign adds to what the running link has, or takes away from it.
            let kept = entry.list().filter(|range| !range.starts_with('-'));
            kept.for_each(|range| page.claim(line, "peer", range.trim_start_matches('+')));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn addresses_and_what_peers_may_use_are_claims() {
        let text = "\
[Interface]
PrivateKey = cGxlYXNlIGRvbid0IHVzZSB0aGlzIGtleSBhbnl3aGVyZSE=
Address = 10.8.0.2/24, fd08::2/64
dns = 10.8.0.1, fd08::1, corp.example.com
[Peer]
AllowedIPs = 10.9.0.0/16,10.10.3.7 # the office
allowedips=fd09::/48
[Peer]
# AllowedIPs = 10.66.0.0/16
AllowedIPs = 0.0.0.0/0, ::/0
AllowedIPs = 0.0.0.0/1, 128.0.0.0/1, ::/1, 8000::/1
AllowedIPs = +10.11.0.0/16, -10.12.0.0/16
AllowedIPs =
AllowedIPs = 10.0.0/24
";
        assert_eq!(
            told("/etc/wireguard/wg0.conf", text, read),
            [
                "10.8.0.0/24 WireGuard address in /etc/wireguard/wg0.conf:3",
                "fd08::/64 WireGuard address in /etc/wireguard/wg0.conf:3",
                "10.8.0.1/32 name server in /etc/wireguard/wg0.conf:4",
                "fd08::1/128 name server in /etc/wireguard/wg0.conf:4",
                "10.9.0.0/16 peer in /etc/wireguard/wg0.conf:6",
                "10.10.3.7/32 peer in /etc/wireguard/wg0.conf:6",
                "fd09::/48 peer in /etc/wireguard/wg0.conf:7",
                "10.11.0.0/16 peer in /etc/wireguard/wg0.conf:12",
                "not 0.0.0.0/0 peer in /etc/wireguard/wg0.conf:10: a default route",
                "not ::/0 peer in /etc/wireguard/wg0.conf:10: a default route",
                "not 0.0.0.0/1 peer in /etc/wireguard/wg0.conf:11: a part of a default route",
                "not 128.0.0.0/1 peer in /etc/wireguard/wg0.conf:11: a part of a default route",
                "not ::/1 peer in /etc/wireguard/wg0.conf:11: a part of a default route",
                "not 8000::/1 peer in /etc/wireguard/wg0.conf:11: a part of a default route",
                "! /etc/wireguard/wg0.conf:14: `10.0.0/24` is no address range",
            ]
        );
    }
}
