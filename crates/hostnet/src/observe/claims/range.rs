//! Ranges as people write them.

use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::{IpNetwork, ip_mask_to_prefix};

/// `10.0.0.5/24`, `10.0.0.5/255.255.255.0`, `10.0.0.5`, and the like of IPv6: the network that the address is in. An
/// address without a prefix is a range of its own.
pub(super) fn range(text: &str) -> Option<IpNetwork> {
    let text = text.trim();
    match text.split_once('/') {
        Some((address, prefix)) => masked(address, prefix),
        None => network(address(text)?, None),
    }
}

/// An address and a prefix length or a netmask.
pub(super) fn masked(text: &str, mask: &str) -> Option<IpNetwork> {
    let mask = mask.trim();
    let prefix = match mask.parse() {
        Ok(prefix) => prefix,
        Err(_) => ip_mask_to_prefix(mask.parse().ok()?).ok()?,
    };
    network(address(text)?, Some(prefix))
}

/// An address, its zone left out: a range is the same on whatever link.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    text.split_once('%')
        .map_or(text, |(address, _)| address)
        .parse()
        .ok()
}

/// The network that an address is in. IPv4 in the clothes of IPv6 (RFC 4291, 2.5.5.2) is IPv4.
pub(super) fn network(ip: IpAddr, prefix: Option<u8>) -> Option<IpNetwork> {
    const MAPPED: u8 = 96;
    let (ip, prefix) = match (ip, prefix) {
        (IpAddr::V6(long), prefix) if prefix.is_none_or(|prefix| prefix >= MAPPED) => {
            match long.to_ipv4_mapped() {
                Some(short) => (short.into(), prefix.map(|prefix| prefix - MAPPED)),
                None => (ip, prefix),
            }
        }
        other => other,
    };
    let full = if ip.is_ipv4() { 32 } else { 128 };
    let with_host = IpNetwork::new(ip, prefix.unwrap_or(full)).ok()?;
    IpNetwork::new(with_host.network(), with_host.prefix()).ok()
}

/// Is this a netmask, and not an address? Netmasks begin with eight ones at least.
pub(super) fn is_mask(text: &str) -> bool {
    let mask: Option<Ipv4Addr> = text.parse().ok();
    mask.is_some_and(|mask| mask.octets()[0] == 255 && ip_mask_to_prefix(mask.into()).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_understood_in_every_form() {
        for (text, expected) in [
            ("10.8.0.5/24", Some("10.8.0.0/24")),
            (" 10.8.0.5/24 ", Some("10.8.0.0/24")),
            ("10.8.0.5", Some("10.8.0.5/32")),
            ("10.8.0.5/255.255.240.0", Some("10.8.0.0/20")),
            ("10.8.0.5/0", Some("0.0.0.0/0")),
            ("fd00:1::5/64", Some("fd00:1::/64")),
            ("fd00:1::5", Some("fd00:1::5/128")),
            ("fd00:1::5/ffff:ffff:ffff::", Some("fd00:1::/48")),
            ("fe80::1%eth0/64", Some("fe80::/64")),
            ("::ffff:10.8.0.5", Some("10.8.0.5/32")),
            ("::ffff:10.8.0.5/120", Some("10.8.0.0/24")),
            ("::ffff:10.8.0.5/64", Some("::/64")),
            ("10.8.0.5/33", None),
            ("10.8.0.5/255.0.255.0", None),
            ("10.8.0", None),
            ("10.8.0.0/", None),
            ("example.com", None),
            ("", None),
        ] {
            assert_eq!(
                range(text).map(|range| range.to_string()).as_deref(),
                expected,
                "{text}"
            );
        }
    }

    #[test]
    fn a_netmask_is_told_from_an_address() {
        assert!(is_mask("255.255.255.0"));
        assert!(is_mask("255.255.255.255"));
        assert!(!is_mask("10.8.0.2"));
        assert!(!is_mask("255.0.255.0"));
        assert!(!is_mask("0.0.0.0"));
    }
}
