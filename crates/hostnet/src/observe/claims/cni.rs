//! Networks of CNI: the CNI specification, section 1, and the plugins `host-local` and `static`.

use serde::Deserialize;

use super::page::Page;

/// A file is one plugin, or a list of them.
#[derive(Debug, Deserialize)]
struct Network {
    #[serde(default)]
    name: String,
    ipam: Option<Ipam>,
    #[serde(default)]
    plugins: Vec<Plugin>,
}

#[derive(Debug, Deserialize)]
struct Plugin {
    ipam: Option<Ipam>,
}

#[derive(Debug, Deserialize)]
struct Ipam {
    subnet: Option<String>,
    #[serde(default)]
    ranges: Vec<Vec<Subnet>>,
    #[serde(default)]
    addresses: Vec<Address>,
}

#[derive(Debug, Deserialize)]
struct Subnet {
    subnet: String,
}

#[derive(Debug, Deserialize)]
struct Address {
    address: String,
}

pub(super) fn read(page: &mut Page<'_>) {
    let network: Network = match serde_json::from_str(page.text) {
        Ok(network) => network,
        Err(error) => return page.note(error.line(), error),
    };
    let who = format!("CNI network `{}`", network.name);
    let of_plugins = network.plugins.into_iter().map(|plugin| plugin.ipam);
    for ipam in of_plugins.chain([network.ipam]).flatten() {
        let ranges = ipam.ranges.into_iter().flatten().map(|range| range.subnet);
        let addresses = ipam.addresses.into_iter().map(|address| address.address);
        let all = ipam.subnet.into_iter().chain(ranges).chain(addresses);
        // Kubernetes has a word for what it fills in elsewhere.
        for range in all.filter(|range| !range.eq_ignore_ascii_case("usePodCidr")) {
            page.claim(None, &who, &range);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn subnets_and_ranges_are_claims() {
        let text = r#"{"cniVersion": "1.0.0", "name": "lab", "plugins": [
            {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipam": {"type": "host-local",
             "ranges": [[{"subnet": "10.91.0.0/24", "rangeStart": "10.91.0.9"}], [{"subnet": "fd91::/64"}]],
             "routes": [{"dst": "0.0.0.0/0"}]}},
            {"type": "portmap", "capabilities": {"portMappings": true}}]}"#;
        assert_eq!(
            told("/etc/cni/net.d/lab.conflist", text, read),
            [
                "10.91.0.0/24 CNI network `lab` in /etc/cni/net.d/lab.conflist",
                "fd91::/64 CNI network `lab` in /etc/cni/net.d/lab.conflist",
            ]
        );
        let single =
            r#"{"name": "one", "type": "bridge", "ipam": {"type": "host-local", "subnet": "10.92.0.0/16"}}"#;
        assert_eq!(told("/x", single, read), ["10.92.0.0/16 CNI network `one` in /x"]);
        let fixed = r#"{"name": "two", "type": "macvlan", "ipam": {"type": "static", "addresses": [{"address": "10.93.0.5/24"}]}}"#;
        assert_eq!(told("/x", fixed, read), ["10.93.0.0/24 CNI network `two` in /x"]);
        let kubernetes =
            r#"{"name": "k8s", "type": "ptp", "ipam": {"type": "host-local", "subnet": "usePodCidr"}}"#;
        assert_eq!(told("/x", kubernetes, read), [""; 0]);
        let wrong =
            r#"{"name": "bad", "type": "bridge", "ipam": {"type": "host-local", "subnet": "10.94/16"}}"#;
        assert_eq!(told("/x", wrong, read), ["! /x: `10.94/16` is no address range"]);
    }
}
