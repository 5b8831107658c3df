//! Docker's `/etc/docker/daemon.json`; its networks are bridges, which the kernel tells of, also while they are down.
//!
//! `default-address-pools` are not claimed: Docker keeps clear of what is in use when it takes a network from a pool, and
//! the largest of its own pools would leave us nothing. Networks that Docker would make again after a start are in a
//! database of its own, in no format that it promises to keep.

use serde::Deserialize;

use super::page::Page;

const POOL_REASON: &str = "a pool: only what is taken from it counts";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Daemon {
    bip: Option<String>,
    bip6: Option<String>,
    fixed_cidr: Option<String>,
    fixed_cidr_v6: Option<String>,
    #[serde(default)]
    default_address_pools: Vec<AddressPool>,
}

#[derive(Debug, Deserialize)]
struct AddressPool {
    base: String,
}

pub(super) fn read(page: &mut Page<'_>) {
    // The daemon takes an empty file, too.
    if page.text.trim().is_empty() {
        return;
    }
    match serde_json::from_str::<Daemon>(page.text) {
        Ok(daemon) => {
            let ranges = [daemon.bip, daemon.bip6, daemon.fixed_cidr, daemon.fixed_cidr_v6];
            for range in ranges.iter().flatten().filter(|range| *range != "none") {
                page.claim(None, "Docker's default network", range);
            }
            for pool in &daemon.default_address_pools {
                page.disregard(None, "Docker's pool", &pool.base, POOL_REASON);
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
    fn the_default_network_is_a_claim_and_a_pool_is_not() {
        let text = r#"{
            "bip": "10.70.0.1/24", "fixed-cidr": "10.70.0.128/25", "fixed-cidr-v6": "fd70::/64", "debug": true,
            "default-address-pools": [{"base": "10.71.0.0/16", "size": 24}], "log-opts": {"max-size": "1m"}
        }"#;
        assert_eq!(
            told("/etc/docker/daemon.json", text, read),
            [
                "10.70.0.0/24 Docker's default network in /etc/docker/daemon.json",
                "10.70.0.128/25 Docker's default network in /etc/docker/daemon.json",
                "fd70::/64 Docker's default network in /etc/docker/daemon.json",
                "not 10.71.0.0/16 Docker's pool in /etc/docker/daemon.json: a pool: only what is taken from it counts",
            ]
        );
        assert_eq!(told("/x", "{}", read), [""; 0]);
        assert_eq!(told("/x", "", read), [""; 0]);
        assert_eq!(
            told("/x", "{\n\"bip\": 7}", read),
            ["! /x:2: invalid type: integer `7`, expected a string at line 2 column 8"]
        );
    }
}
