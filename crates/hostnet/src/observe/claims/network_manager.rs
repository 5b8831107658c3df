//! NetworkManager's connections: nm-settings-keyfile(5).

use super::lines::{Entry, entries};
use super::page::Page;

pub(super) fn read(page: &mut Page<'_>) {
    let name = entries(page.text)
        .find(|entry| entry.is("connection", "id"))
        .map_or_else(String::new, |entry| format!(" of connection `{}`", entry.value));
    for entry in entries(page.text) {
        let line = entry.line;
        if is_ip(&entry.section) {
            // `address1=10.0.0.5/24,10.0.0.1`: behind the comma is a gateway.
            let first = entry.value.split(',').next().unwrap_or_default().trim();
            if is_numbered(&entry, "address") {
                page.claim(line, format_args!("address{name}"), first);
            } else if is_numbered(&entry, "route") {
                page.claim(line, format_args!("route{name}"), first);
            } else if entry.key.eq_ignore_ascii_case("dns") {
                entry.list().for_each(|server| page.name_server(line, server));
            }
        } else if entry.section.starts_with("wireguard-peer.") && entry.key == "allowed-ips" {
            entry
                .list()
                .for_each(|range| page.claim(line, format_args!("peer{name}"), range));
        }
    }
}

fn is_ip(section: &str) -> bool {
    section == "ipv4" || section == "ipv6"
}

/// `address1`, `addresses2`, but not `address-data` or `route1_options`.
fn is_numbered(entry: &Entry<'_>, stem: &str) -> bool {
    let rest = entry.key.strip_prefix(stem);
    let number = rest.map(|rest| {
        rest.strip_prefix("es")
            .or_else(|| rest.strip_prefix('s'))
            .unwrap_or(rest)
    });
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit())) && !entry.value.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn addresses_routes_and_peers_are_claims() {
        let text = "\
[connection]
id=office
[wireguard-peer.bm90IGEga2V5IG9mIGFueWJvZHkncywgcmVhbGx5IQ==]
endpoint=192.0.2.7:51820
allowed-ips=10.50.0.0/16;fd50::/48;
[ipv4]
address1=10.51.0.5/24,10.51.0.1
address2=10.52.0.5
route1=10.53.0.0/16,10.51.0.9,100
route1_options=onlink=true
route2=0.0.0.0/0,10.51.0.1
dns=10.51.0.53;
method=manual
[ipv6]
addresses1=fd51::5/64
address1=nonsense
";
        assert_eq!(
            told("/x", text, read),
            [
                "10.50.0.0/16 peer of connection `office` in /x:5",
                "fd50::/48 peer of connection `office` in /x:5",
                "10.51.0.0/24 address of connection `office` in /x:7",
                "10.52.0.5/32 address of connection `office` in /x:8",
                "10.53.0.0/16 route of connection `office` in /x:9",
                "10.51.0.53/32 name server in /x:12",
                "fd51::/64 address of connection `office` in /x:15",
                "not 0.0.0.0/0 route of connection `office` in /x:11: a default route",
                "! /x:16: `nonsense` is no address range",
            ]
        );
    }
}
