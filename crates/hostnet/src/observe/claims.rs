//! Ranges that others use, so that networks of ours keep clear of them.
//!
//! What the kernel knows is only half of it: a VPN that is down, a network of another engine that no container is on,
//! a link that has no carrier yet have addresses and routes in a file, and take them the moment they come up. So files
//! are read too, of those programs that people have on such hosts. What is found there counts like an address or a
//! route: better a range left out in vain than a VPN that nobody can reach.
//!
//! A file that can't be read or understood never hides the rest: it is noted, and what could be read of it counts.

mod cni;
mod docker;
mod files;
mod ifupdown;
mod kernel;
mod libvirt;
mod lines;
mod name_servers;
mod netplan;
mod network_manager;
mod networkd;
mod openvpn;
mod page;
mod podman;
mod range;
mod sources;
mod strongswan;
mod wireguard;

use ipnetwork::IpNetwork;

use crate::Claim;

pub(crate) use files::Files;
pub(super) use kernel::Kernel;
pub(crate) use sources::{Wanted, wanted};

/// What was found out about ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Found {
    /// Those that count.
    pub(crate) claims: Vec<Claim>,
    /// Those that don't, and why.
    pub(crate) disregarded: Vec<(Claim, &'static str)>,
    /// What could not be read.
    pub(crate) notes: Vec<String>,
}

impl Found {
    /// Somebody uses a range; whether that counts depends on the range alone.
    fn add(&mut self, claim: Claim) {
        match no_claim(claim.range) {
            Some(reason) => self.disregard(claim, reason),
            None => self.claims.push(claim),
        }
    }

    fn disregard(&mut self, claim: Claim, reason: &'static str) {
        self.disregarded.push((claim, reason));
    }

    fn extend(&mut self, other: Self) {
        self.claims.extend(other.claims);
        self.disregarded.extend(other.disregarded);
        self.notes.extend(other.notes);
    }

    /// In order of the ranges, each told once.
    fn sorted(mut self) -> Self {
        self.claims.sort();
        self.claims.dedup();
        self.disregarded.sort();
        self.disregarded.dedup();
        self
    }
}

/// All that the kernel and files say.
pub(super) fn claims(kernel: &Kernel<'_>, files: Found) -> Found {
    let mut found = kernel.found();
    found.extend(files);
    found.sorted()
}

/// Why nobody claims a range by using it, if so: routes to everywhere, also in two or eight parts as VPNs set them, and
/// ranges that no network of ours can be in.
fn no_claim(range: IpNetwork) -> Option<&'static str> {
    const DEFAULT: &str = "a default route";
    const HALF: &str = "a part of a default route";
    const LOOPBACK: &str = "loopback";
    const LINK_LOCAL: &str = "link-local";
    const MULTICAST: &str = "multicast";
    /// What systemd-networkd takes for "choose one", and nothing that a packet is sent to.
    const NONE: &str = "no address in particular";
    let prefix = range.prefix();
    let unspecified = range.ip().is_unspecified() && prefix >= 8;
    match range {
        _ if prefix == 0 => Some(DEFAULT),
        IpNetwork::V4(_) if prefix == 1 => Some(HALF),
        IpNetwork::V6(_) if prefix <= 3 => Some(HALF),
        _ if unspecified => Some(NONE),
        _ if range.ip().is_loopback() => Some(LOOPBACK),
        _ if range.ip().is_multicast() => Some(MULTICAST),
        IpNetwork::V4(range) if range.ip().is_link_local() => Some(LINK_LOCAL),
        IpNetwork::V6(range) if range.ip().is_unicast_link_local() => Some(LINK_LOCAL),
        IpNetwork::V4(range) if range.ip().is_broadcast() => Some("broadcast"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_no_network_of_ours_can_be_in_is_no_claim_and_told_why() {
        for (range, reason) in [
            ("0.0.0.0/0", Some("a default route")),
            ("::/0", Some("a default route")),
            ("0.0.0.0/1", Some("a part of a default route")),
            ("128.0.0.0/1", Some("a part of a default route")),
            ("2000::/3", Some("a part of a default route")),
            ("8000::/1", Some("a part of a default route")),
            ("127.0.0.0/8", Some("loopback")),
            ("127.0.0.53/32", Some("loopback")),
            ("::1/128", Some("loopback")),
            ("169.254.0.0/16", Some("link-local")),
            ("fe80::/64", Some("link-local")),
            ("224.0.0.0/4", Some("multicast")),
            ("ff00::/8", Some("multicast")),
            ("255.255.255.255/32", Some("broadcast")),
            ("0.0.0.0/28", Some("no address in particular")),
            ("::/64", Some("no address in particular")),
            // A quarter of everything holds 10.0.0.0/8, and nobody sets four of them for a default route.
            ("0.0.0.0/2", None),
            ("10.0.0.0/8", None),
            ("192.0.2.1/32", None),
            ("fd00::/8", None),
            ("2000::/4", None),
        ] {
            assert_eq!(no_claim(range.parse().unwrap()), reason, "{range}");
        }
    }
}
