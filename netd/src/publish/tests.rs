//! What becomes of a plan's names.

use std::net::IpAddr;

use linkspan_plan::{Location as Port, NetworkId, NetworkLease, NetworkNames, Retiring};
use linkspan_site::MacvlanMode;

use super::*;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn lease(v4: &str, driver: Driver) -> NetworkLease {
    NetworkLease {
        id: NetworkId("shop_default".into()),
        v4: v4.parse().unwrap(),
        v6: Some("fd00:1::/64".parse().unwrap()),
        gateway: [10, 1, 0, 1].into(),
        resolver: [10, 1, 0, 254].into(),
        internal: false,
        mtu: 1500,
        mtu_written: false,
        fixed: false,
        driver,
        isolated: false,
        moves: Vec::new(),
        retiring: Vec::new(),
        cursor: 0,
    }
}

#[test]
fn names_pointers_and_ports_find_their_network() {
    let port = |protocol, port| Port {
        name: "web".into(),
        protocol,
        port,
        targets: vec!["shop-web-1".into()],
    };
    let names = NetworkNames {
        names: [("web".to_owned(), vec![ip("10.1.0.2")])].into(),
        pointers: [(ip("10.1.0.2"), "shop-web-1".to_owned())].into(),
        locations: vec![
            port(Protocol::Tcp, 80),
            port(Protocol::Tcp, 81),
            port(Protocol::Udp, 53),
        ],
    };
    let published = Published {
        networks: [("ls-1".to_owned(), names)].into(),
        ..Published::default()
    };
    let zone = zone(&published, &Leases::default());
    let network = &zone.networks["ls-1"];
    assert_eq!(network.names["web"], [ip("10.1.0.2")]);
    assert_eq!(network.pointers[&ip("10.1.0.2")], "shop-web-1");
    let ports = |place: &str| -> Vec<u16> {
        network.locations[place]
            .iter()
            .map(|location| location.port)
            .collect()
    };
    assert_eq!((ports("_tcp.web"), ports("_udp.web")), (vec![80, 81], vec![53]));
    assert_eq!(network.locations["_udp.web"][0].targets, ["shop-web-1"]);
}

#[test]
fn a_networks_ranges_are_those_it_has_and_those_it_leaves_but_not_the_lans() {
    let mut moved = lease("10.1.0.0/24", Driver::Bridge);
    moved.retiring.push(Retiring {
        range: "10.7.0.0/24".parse().unwrap(),
        gateway: ip("10.7.0.1"),
        resolver: ip("10.7.0.254"),
        until_ms: 1,
    });
    let on_lan = Driver::Macvlan {
        parent: "eth0".into(),
        mode: MacvlanMode::Bridge,
    };
    let networks = [
        ("ls-1".to_owned(), moved),
        ("ls-2".to_owned(), lease("192.168.1.0/24", on_lan)),
    ];
    let leases = Leases {
        networks: BTreeMap::from(networks),
        ..Leases::default()
    };
    let zone = zone(&Published::default(), &leases);
    let ranges: Vec<String> = zone.networks["ls-1"]
        .ranges
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(ranges, ["10.1.0.0/24", "fd00:1::/64", "10.7.0.0/24"]);
    assert!(!zone.networks.contains_key("ls-2"));
}
