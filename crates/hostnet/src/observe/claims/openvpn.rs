//! OpenVPN: openvpn(8), sections "Server options" and "Virtual network options".
//!
//! `push "route …"` is not looked at: it tells clients what lies behind this server, which this host has as addresses
//! and routes of its own. `iroute` neither: it goes with a `route`, which is.

use super::lines::lines;
use super::page::Page;
use super::range::{address, is_mask, masked};

pub(super) fn read(page: &mut Page<'_>) {
    let mut inline: Option<String> = None;
    for (line, text) in lines(page.text) {
        // Certificates and keys stand between tags.
        if let Some(end) = &inline {
            if text.starts_with(end.as_str()) {
                inline = None;
            }
            continue;
        }
        if let Some(tag) = text.strip_prefix('<') {
            inline = Some(format!("</{tag}"));
            continue;
        }
        // A comment ends the line; options may also be written as on a command line.
        let words: Vec<_> = text
            .split_whitespace()
            .take_while(|word| !word.starts_with(['#', ';']))
            .map(|word| word.trim_matches(['"', '\'']))
            .collect();
        if let Some((option, words)) = words.split_first() {
            directive(page, line, option.trim_start_matches("--"), words);
        }
    }
}

fn directive(page: &mut Page<'_>, line: usize, option: &str, words: &[&str]) {
    const HOST: &str = "255.255.255.255";
    let at = |index: usize| words.get(index).copied();
    match (option, at(0)) {
        ("route", Some(to)) => {
            let mask = at(1).filter(|mask| *mask != "default").unwrap_or(HOST);
            // The other words that may stand there, `vpn_gateway` and names of hosts, are single addresses elsewhere.
            if address(to).is_some() {
                with_mask(page, line, "OpenVPN route", to, mask);
            }
        }
        ("server" | "server-bridge", Some(network)) => {
            if let Some(mask) = at(1) {
                with_mask(page, line, "OpenVPN server", network, mask);
            }
        }
        ("ifconfig", Some(local)) => match at(1) {
            Some(mask) if is_mask(mask) => with_mask(page, line, "OpenVPN address", local, mask),
            // Point to point: the second is the other end.
            remote => [Some(local), remote]
                .into_iter()
                .flatten()
                .for_each(|address| page.claim(line, "OpenVPN address", address)),
        },
        ("route-ipv6", Some(range)) => page.claim(line, "OpenVPN route", range),
        ("server-ipv6", Some(range)) => page.claim(line, "OpenVPN server", range),
        ("ifconfig-ipv6", Some(range)) => page.claim(line, "OpenVPN address", range),
        ("dhcp-option", Some("DNS" | "DNS6")) => page.name_server(line, at(1).unwrap_or_default()),
        _ => {}
    }
}

fn with_mask(page: &mut Page<'_>, line: usize, who: &str, network: &str, mask: &str) {
    match masked(network, mask) {
        Some(range) => page.add(line, who, range),
        None => page.note(line, format_args!("`{network} {mask}` is no address range")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn routes_servers_and_addresses_are_claims() {
        let text = r#"
client
remote vpn.example.com 1194   # route 10.99.0.0 255.255.0.0
route 10.20.0.0 255.255.0.0
route 10.21.0.7
route 10.22.0.0 255.255.255.0 vpn_gateway 50
route 10.23.0.1 default net_gateway
route remote_host 255.255.255.255 net_gateway
--route "10.24.0.0" "255.255.255.0"
route 0.0.0.0 128.0.0.0
route-ipv6 fd20::/48
server 10.25.0.0 255.255.255.0
server-bridge 10.26.0.4 255.255.255.0 10.26.0.128 10.26.0.254
server-bridge
server-ipv6 fd25::/64
ifconfig 10.27.0.1 10.27.0.2
ifconfig 10.28.0.1 255.255.255.0
ifconfig-ipv6 fd28::1/64 fd28::2
push "route 10.98.0.0 255.255.0.0"
iroute 10.97.0.0 255.255.0.0
dhcp-option DNS 10.20.0.53
dhcp-option DOMAIN example.com
<ca>
route 10.96.0.0 255.255.0.0
</ca>
; route 10.95.0.0 255.255.0.0
route 10.94.0.0 255.0.255.0
"#;
        assert_eq!(
            told("/etc/openvpn/office.conf", text, read),
            [
                "10.20.0.0/16 OpenVPN route in /etc/openvpn/office.conf:4",
                "10.21.0.7/32 OpenVPN route in /etc/openvpn/office.conf:5",
                "10.22.0.0/24 OpenVPN route in /etc/openvpn/office.conf:6",
                "10.23.0.1/32 OpenVPN route in /etc/openvpn/office.conf:7",
                "10.24.0.0/24 OpenVPN route in /etc/openvpn/office.conf:9",
                "fd20::/48 OpenVPN route in /etc/openvpn/office.conf:11",
                "10.25.0.0/24 OpenVPN server in /etc/openvpn/office.conf:12",
                "10.26.0.0/24 OpenVPN server in /etc/openvpn/office.conf:13",
                "fd25::/64 OpenVPN server in /etc/openvpn/office.conf:15",
                "10.27.0.1/32 OpenVPN address in /etc/openvpn/office.conf:16",
                "10.27.0.2/32 OpenVPN address in /etc/openvpn/office.conf:16",
                "10.28.0.0/24 OpenVPN address in /etc/openvpn/office.conf:17",
                "fd28::/64 OpenVPN address in /etc/openvpn/office.conf:18",
                "10.20.0.53/32 name server in /etc/openvpn/office.conf:21",
                "not 0.0.0.0/1 OpenVPN route in /etc/openvpn/office.conf:10: a part of a default route",
                "! /etc/openvpn/office.conf:27: `10.94.0.0 255.0.255.0` is no address range",
            ]
        );
    }
}
