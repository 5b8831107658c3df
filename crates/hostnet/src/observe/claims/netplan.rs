//! netplan: its YAML reference, "Properties for all device types" and "Routing".

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::page::Page;

#[derive(Debug, Deserialize)]
struct File {
    network: Option<Network>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Network {
    ethernets: Devices,
    modems: Devices,
    wifis: Devices,
    bonds: Devices,
    bridges: Devices,
    vlans: Devices,
    tunnels: Devices,
    vrfs: Devices,
    dummy_devices: Devices,
    virtual_ethernets: Devices,
    nm_devices: Devices,
}

/// Every part may be absent, and may be there without anything in it.
type Devices = Option<BTreeMap<String, Option<Device>>>;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Device {
    addresses: Option<Vec<Address>>,
    routes: Option<Vec<Route>>,
    peers: Option<Vec<Peer>>,
    nameservers: Option<NameServers>,
}

/// An address, or one with properties.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Address {
    Plain(String),
    With(BTreeMap<String, IgnoredAny>),
}

#[derive(Debug, Deserialize)]
struct Route {
    to: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Peer {
    allowed_ips: Option<Vec<String>>,
}

#[derive(Debug, Deserialize)]
struct NameServers {
    addresses: Option<Vec<String>>,
}

pub(super) fn read(page: &mut Page<'_>) {
    let file: Option<File> = match serde_saphyr::from_str(page.text) {
        Ok(file) => file,
        Err(error) => {
            // The first line says where and what; below is the place in the file.
            let text = error.to_string();
            let first = text.lines().next().unwrap_or_default();
            return page.note(None, first.trim_start_matches("error: "));
        }
    };
    let Some(network) = file.and_then(|file| file.network) else {
        return;
    };
    let kinds = [
        network.ethernets,
        network.modems,
        network.wifis,
        network.bonds,
        network.bridges,
        network.vlans,
        network.tunnels,
        network.vrfs,
        network.dummy_devices,
        network.virtual_ethernets,
        network.nm_devices,
    ];
    for (name, device) in kinds.into_iter().flatten().flatten() {
        if let Some(device) = device {
            tell(page, &name, device);
        }
    }
}

fn tell(page: &mut Page<'_>, name: &str, device: Device) {
    for address in device.addresses.into_iter().flatten() {
        let texts = match address {
            Address::Plain(text) => vec![text],
            Address::With(properties) => properties.into_keys().collect(),
        };
        for text in texts {
            page.claim(None, format_args!("address of `{name}`"), &text);
        }
    }
    let routes = device.routes.into_iter().flatten().filter_map(|route| route.to);
    for to in routes.filter(|to| to != "default") {
        page.claim(None, format_args!("route via `{name}`"), &to);
    }
    let peers = device.peers.into_iter().flatten();
    for range in peers.filter_map(|peer| peer.allowed_ips).flatten() {
        page.claim(None, format_args!("peer on `{name}`"), &range);
    }
    let servers = device.nameservers.and_then(|servers| servers.addresses);
    for server in servers.into_iter().flatten() {
        page.name_server(None, &server);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn addresses_routes_and_peers_are_claims() {
        let text = "\
network:
  version: 2
  renderer: networkd
  ethernets:
    eth0:
      match: { macaddress: 00:11:22:33:44:55 }
      dhcp4: true
      addresses:
        - 10.80.0.5/24
        - fd80::5/64: { lifetime: 0, label: \"eth0:1\" }
        - \"10.81.0.5/24\"
      nameservers: { search: [lan], addresses: [10.80.0.53, \"fd80::53\"] }
      routes:
        - to: default
          via: 10.80.0.1
        - { to: 10.82.0.0/16, via: 10.80.0.9, metric: 100 }
        - to: 0.0.0.0/0
          via: 10.80.0.1
    eth1: {}
    eth2:
  bridges:
    br0: { interfaces: [eth1], addresses: [10.83.0.1/24] }
  tunnels:
    wg0:
      mode: wireguard
      addresses: [10.84.0.2/24]
      peers:
        - keys: { public: x }
          allowed-ips: [10.85.0.0/16, \"fd85::/48\"]
  vlans:
";
        assert_eq!(
            told("/etc/netplan/01.yaml", text, read),
            [
                "10.80.0.0/24 address of `eth0` in /etc/netplan/01.yaml",
                "fd80::/64 address of `eth0` in /etc/netplan/01.yaml",
                "10.81.0.0/24 address of `eth0` in /etc/netplan/01.yaml",
                "10.82.0.0/16 route via `eth0` in /etc/netplan/01.yaml",
                "10.80.0.53/32 name server in /etc/netplan/01.yaml",
                "fd80::53/128 name server in /etc/netplan/01.yaml",
                "10.83.0.0/24 address of `br0` in /etc/netplan/01.yaml",
                "10.84.0.0/24 address of `wg0` in /etc/netplan/01.yaml",
                "10.85.0.0/16 peer on `wg0` in /etc/netplan/01.yaml",
                "fd85::/48 peer on `wg0` in /etc/netplan/01.yaml",
                "not 0.0.0.0/0 route via `eth0` in /etc/netplan/01.yaml: a default route",
            ]
        );
    }

    #[test]
    fn what_is_no_netplan_file_is_noted() {
        assert_eq!(told("/x", "", read), [""; 0]);
        assert_eq!(told("/x", "network: {version: 2}", read), [""; 0]);
        assert_eq!(told("/x", "network:\n  ethernets: [\n", read).len(), 1);
        assert_eq!(
            told("/x", "network:\n  ethernets: 7\n", read),
            ["! /x: line 2 column 14: expected mapping start"]
        );
    }
}
