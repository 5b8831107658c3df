//! IPsec: swanctl.conf(5) and ipsec.conf(5), of strongSwan and Libreswan.
//!
//! Only the other side's ranges count. This side's are behind this host, so that an address or a route tells of them; and
//! who lets others reach a network of ours through a tunnel writes that network there.

use super::lines::lines;
use super::page::Page;

/// Keys for the other side: left is this one by custom, and where neither is known.
const REMOTE: [&str; 5] = [
    "remote_ts",
    "rightsubnet",
    "rightsubnets",
    "rightsourceip",
    "addrs",
];
const LOCAL: [&str; 3] = ["local_ts", "leftsubnet", "leftsubnets"];
const LOCAL_REASON: &str = "this side of the tunnel";

pub(super) fn read(page: &mut Page<'_>) {
    for (line, text) in lines(page.text) {
        let text = text.split('#').next().unwrap_or_default();
        // Several settings may share a line between braces.
        for (key, value) in split(text) {
            let selectors = value
                .split([',', ' ', '\t'])
                .map(|selector| selector.trim_matches(['"', '\'', '{', '}']))
                .map(|selector| selector.split('[').next().unwrap_or_default());
            for range in selectors.filter(|selector| is_range(selector)) {
                if REMOTE.contains(&key) {
                    page.claim(line, "IPsec peer", range);
                } else if LOCAL.contains(&key) {
                    page.disregard(line, "IPsec selector", range, LOCAL_REASON);
                }
            }
        }
    }
}

fn split(text: &str) -> Vec<(&str, &str)> {
    let multiple = |key: &str| key.ends_with("subnets");
    let whole = text.split_once('=').map(|(key, value)| (key.trim(), value));
    match whole {
        // The one value that has braces of its own.
        Some((key, value)) if multiple(key) => vec![(key, value)],
        _ => text
            .split(['{', '}', ';'])
            .filter_map(|part| part.split_once('='))
            .map(|(key, value)| (key.trim(), value))
            .collect(),
    }
}

/// Selectors are also `dynamic`, `%dynamic`, `vhost:…`, and ranges of two addresses, which nobody writes for a network.
fn is_range(selector: &str) -> bool {
    selector.starts_with(|first: char| first.is_ascii_hexdigit() || first == ':')
        && selector.contains(['.', ':'])
        && !selector.contains('-')
        && !selector.contains("host:")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn what_lies_behind_the_other_side_is_a_claim() {
        let text = "\
connections {
  office {
    remote_addrs = vpn.example.com
    children {
      net {
        local_ts = 10.60.0.0/16
        remote_ts = 10.61.0.0/16, 10.62.0.0/24[tcp/443], dynamic, fd61::/48
      }
      web { remote_ts = 10.63.0.0/24 } # remote_ts = 10.99.0.0/16
      all { remote_ts = 0.0.0.0/0 }
      odd { remote_ts = 10.64.0.0/40 }
    }
  }
}
";
        assert_eq!(
            told("/etc/swanctl/swanctl.conf", text, read),
            [
                "10.61.0.0/16 IPsec peer in /etc/swanctl/swanctl.conf:7",
                "10.62.0.0/24 IPsec peer in /etc/swanctl/swanctl.conf:7",
                "fd61::/48 IPsec peer in /etc/swanctl/swanctl.conf:7",
                "10.63.0.0/24 IPsec peer in /etc/swanctl/swanctl.conf:9",
                "not 10.60.0.0/16 IPsec selector in /etc/swanctl/swanctl.conf:6: this side of the tunnel",
                "not 0.0.0.0/0 IPsec peer in /etc/swanctl/swanctl.conf:10: a default route",
                "! /etc/swanctl/swanctl.conf:11: `10.64.0.0/40` is no address range",
            ]
        );
    }

    #[test]
    fn the_older_format_is_read_too() {
        let text = "\
conn office
    left=%defaultroute
    leftsubnet=10.60.0.0/16
    right=192.0.2.9
    rightsubnet=10.65.0.0/16,10.66.0.0/16
    rightsubnets={10.67.0.0/16 fd67::/48}
    rightsourceip=%dhcp
";
        assert_eq!(
            told("/etc/ipsec.conf", text, read),
            [
                "10.65.0.0/16 IPsec peer in /etc/ipsec.conf:5",
                "10.66.0.0/16 IPsec peer in /etc/ipsec.conf:5",
                "10.67.0.0/16 IPsec peer in /etc/ipsec.conf:6",
                "fd67::/48 IPsec peer in /etc/ipsec.conf:6",
                "not 10.60.0.0/16 IPsec selector in /etc/ipsec.conf:3: this side of the tunnel",
            ]
        );
    }
}
