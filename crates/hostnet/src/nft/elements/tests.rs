//! Compiling, comparing and reading back elements.

use std::net::IpAddr;

use linkspan_site::Protocol;

use super::*;

fn dnat(host_ip: &str, to_ip: &str, to_port: u16) -> Dnat {
    Dnat {
        protocol: Protocol::Udp,
        host_ip: host_ip.parse().unwrap(),
        host_port: 5353,
        to_ip: to_ip.parse().unwrap(),
        to_port,
        count: 1,
    }
}

#[test]
fn published_ports_read_back_as_they_were_written() {
    for (host, to) in [
        ("192.0.2.1", "10.1.0.2"),
        ("0.0.0.0", "10.1.0.2"),
        ("2001:db8::1", "fd00::2"),
        ("::", "fd00::2"),
    ] {
        let desired = Firewall {
            dnat: [dnat(host, to, 53)].into(),
            ..Firewall::default()
        };
        let read = published(&compile(&desired, false).unwrap());
        let host: IpAddr = host.parse().unwrap();
        let expected = Published {
            protocol: 17,
            host_ip: (!host.is_unspecified()).then_some(host),
            host_port: 5353,
            last_port: 5353,
            to_ip: to.parse().unwrap(),
            to_port: 53,
        };
        assert_eq!(read, [expected]);
    }
}

fn run(first: u16, count: u16, to_ip: &str) -> Dnat {
    Dnat {
        host_port: first,
        to_port: first,
        count,
        ..dnat(if to_ip.contains(':') { "::" } else { "0.0.0.0" }, to_ip, first)
    }
}

fn runs(dnat: impl IntoIterator<Item = Dnat>) -> Vec<(u16, u16)> {
    let desired = Firewall {
        dnat: dnat.into_iter().collect(),
        ..Firewall::default()
    };
    published(&compile(&desired, false).unwrap())
        .iter()
        .map(|port| (port.host_port, port.last_port))
        .collect()
}

#[test]
fn ten_thousand_ports_in_a_row_are_one_element() {
    assert_eq!(runs([run(20_000, 10_000, "10.1.0.2")]), [(20_000, 29_999)]);
    assert_eq!(runs([run(1, 65_535, "fd00::2")]), [(1, 65_535)]);
}

#[test]
fn of_runs_that_overlap_the_kernel_sees_only_what_is_left() {
    let overlapping = [
        run(100, 100, "10.1.0.2"),
        run(120, 10, "10.1.0.3"),
        run(150, 100, "10.1.0.4"),
        run(250, 10, "10.1.0.5"),
    ];
    assert_eq!(runs(overlapping), [(100, 199), (200, 249), (250, 259)]);
}

#[test]
fn a_run_that_changes_its_numbers_or_ends_above_the_last_port_is_refused() {
    for wrong in [
        Dnat {
            to_port: 30_000,
            ..run(20_000, 10, "10.1.0.2")
        },
        run(65_530, 10, "10.1.0.2"),
    ] {
        let desired = Firewall {
            dnat: [wrong].into(),
            ..Firewall::default()
        };
        assert!(compile(&desired, false).is_err());
    }
}

#[test]
fn a_port_that_moves_to_another_container_is_removed_and_added() {
    let before = Firewall {
        dnat: [dnat("0.0.0.0", "10.1.0.2", 53)].into(),
        ..Firewall::default()
    };
    let after = Firewall {
        dnat: [dnat("0.0.0.0", "10.1.0.3", 53)].into(),
        ..Firewall::default()
    };
    let (before, after) = (compile(&before, false).unwrap(), compile(&after, false).unwrap());
    let difference = Difference::between(&before, &after);
    assert_eq!(count(&difference.remove), 2, "the port, and who may ask himself");
    assert_eq!(count(&difference.add), 2);
    assert!(Difference::between(&after, &after).is_empty());
}

#[test]
fn a_subnet_inside_another_one_is_left_out() {
    let networks: Vec<Ipv4Network> = ["10.1.2.0/24", "10.1.0.0/16", "10.2.0.0/24", "10.1.255.0/24"]
        .map(|text| text.parse().unwrap())
        .into();
    let keys: Vec<_> = ranges4(&networks)
        .into_iter()
        .map(|key| (key.bytes, key.edge))
        .collect();
    assert_eq!(
        keys,
        [
            (vec![10, 1, 0, 0], Edge::Begin),
            (vec![10, 2, 0, 0], Edge::End),
            (vec![10, 2, 0, 0], Edge::Begin),
            (vec![10, 2, 1, 0], Edge::End),
        ]
    );
}

#[test]
fn the_last_subnet_of_all_has_no_end() {
    let last: Vec<Ipv4Network> = vec!["255.255.255.0/24".parse().unwrap()];
    assert_eq!(ranges4(&last).len(), 1);
}

#[test]
fn a_loopback_port_is_refused_since_it_is_not_nat() {
    let desired = Firewall {
        dnat: [dnat("127.0.0.1", "10.1.0.2", 53)].into(),
        ..Firewall::default()
    };
    let error = compile(&desired, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "port `127.0.0.1:5353/udp` cannot be published by NAT: loopback ports are sockets of the data plane"
    );
}

#[test]
fn a_port_of_one_family_cannot_lead_to_the_other() {
    let desired = Firewall {
        dnat: [dnat("0.0.0.0", "fd00::2", 53)].into(),
        ..Firewall::default()
    };
    assert!(compile(&desired, false).is_err());
}
