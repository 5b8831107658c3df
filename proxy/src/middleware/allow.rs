//! Which client addresses may use a route.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// May a client with this address enter? An empty list lets everybody in.
pub(crate) fn admits(allow: &[IpNetwork], client: IpAddr) -> bool {
    // A client on a dual-stack socket shows as ::ffff:a.b.c.d, while people write a.b.c.d.
    let client = client.to_canonical();
    allow.is_empty() || allow.iter().any(|network| network.contains(client))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_networks_enter_also_over_a_dual_stack_socket() {
        let allow: Vec<IpNetwork> = vec!["10.0.0.0/8".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let admitted = |address: &str| admits(&allow, address.parse().unwrap());
        assert!(admitted("10.1.2.3") && admitted("::ffff:10.1.2.3") && admitted("2001:db8::1"));
        assert!(!admitted("11.0.0.1") && !admitted("::ffff:11.0.0.1") && !admitted("::1"));
        assert!(admits(&[], "192.0.2.1".parse().unwrap()));
    }
}
