//! Podman's networks, as netavark keeps them: containers/common, `libnetwork/types/network.go`.
//!
//! The default network has a file only when somebody changed it; as long as nobody did, its bridge tells of it once it is
//! used. `/run/containers/networks` has leases and names, and no ranges that these files don't have.

use serde::Deserialize;

use super::page::Page;

#[derive(Debug, Deserialize)]
struct Network {
    #[serde(default)]
    name: String,
    #[serde(default)]
    subnets: Option<Vec<Subnet>>,
}

#[derive(Debug, Deserialize)]
struct Subnet {
    subnet: String,
}

pub(super) fn read(page: &mut Page<'_>) {
    match serde_json::from_str::<Network>(page.text) {
        Ok(network) => {
            let who = format!("Podman network `{}`", network.name);
            for subnet in network.subnets.iter().flatten() {
                page.claim(None, &who, &subnet.subnet);
            }
        }
        Err(error) => page.note(error.line(), error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn subnets_are_claims() {
        let text = r#"{
            "name": "foo", "id": "b1c2", "driver": "bridge", "network_interface": "podman1",
            "created": "2024-05-01T10:00:00.000000000Z",
            "subnets": [
                {"subnet": "10.89.0.0/24", "gateway": "10.89.0.1", "lease_range": {"start_ip": "10.89.0.9"}},
                {"subnet": "fd89::/64", "gateway": "fd89::1"}
            ],
            "routes": [{"destination": "10.99.0.0/16", "gateway": "10.89.0.9"}],
            "ipv6_enabled": true, "internal": false, "dns_enabled": true, "ipam_options": {"driver": "host-local"}
        }"#;
        assert_eq!(
            told("/etc/containers/networks/foo.json", text, read),
            [
                "10.89.0.0/24 Podman network `foo` in /etc/containers/networks/foo.json",
                "fd89::/64 Podman network `foo` in /etc/containers/networks/foo.json",
            ]
        );
        let without = r#"{"name": "lan", "driver": "macvlan", "subnets": null}"#;
        assert_eq!(told("/x", without, read), [""; 0]);
        assert_eq!(
            told("/x", "{\"name\": ", read),
            ["! /x:1: EOF while parsing a value at line 1 column 9"]
        );
    }
}
