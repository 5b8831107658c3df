//! Ports published in a row: one element, whatever their number, and each port where it should be.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use linkspan_hostnet::FirewallChange;
use linkspan_plan::Dnat;
use linkspan_site::Protocol::{Sctp, Tcp, Udp};

use crate::rig::*;

/// The first, one amid, and the last of 10,000.
const PORTS: [u16; 3] = [20_000, 25_000, 29_999];

fn serve_all(guest: &Guest) {
    for port in PORTS {
        serve(&guest.netns, guest.v4, port);
        serve(&guest.netns, guest.v6, port);
    }
}

/// How many runs the map `name` holds, as another tool reads it.
fn elements(name: &str) -> usize {
    let json = sh(&format!("nft -j list map inet linkspan {name}"));
    json.matches("\"range\"").count()
}

#[test]
fn ten_thousand_ports_in_a_row_are_one_element_and_each_leads_to_itself() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        serve_all(&a);
        for (on_all, maps) in [(true, ["runs4_any", "runs6_any"]), (false, ["runs4", "runs6"])] {
            let (v4, v6): (IpAddr, IpAddr) = match on_all {
                true => (Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()),
                false => (HOST4.into(), HOST6.into()),
            };
            let run = [
                publish_run(Tcp, v4, 20_000, 10_000, a.v4),
                publish_run(Tcp, v6, 20_000, 10_000, a.v6),
            ];
            rig.net.apply_firewall(&firewall(run.clone())).await.unwrap();
            assert_eq!(maps.map(elements), [1, 1]);
            let again = rig.net.apply_firewall(&firewall(run)).await.unwrap();
            assert_eq!(again, FirewallChange::default());
            for port in PORTS {
                assert_eq!(ask(&lan(), HOST4, port).unwrap(), LAN4.to_string(), "{port}");
                assert_eq!(ask(&lan(), HOST6, port).unwrap(), LAN6.to_string(), "{port}");
                assert!(ask(&here(), HOST4, port).is_ok(), "from the host itself: {port}");
                assert!(ask(&here(), HOST6, port).is_ok(), "from the host itself: {port}");
            }
        }
        let none = rig.net.apply_firewall(&firewall([])).await.unwrap();
        assert_eq!(none.removed, 4, "two runs, and who may ask himself");
        assert!(ask(&lan(), HOST4, 20_000).is_err());
        assert_eq!(["runs4", "runs6"].map(elements), [0, 0]);
    });
}

#[test]
fn a_run_ends_where_it_ends_and_a_single_port_in_it_goes_its_own_way() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(2, 10).await);
        for port in [19_999, 20_000, 20_099, 20_100] {
            serve(&a.netns, a.v4, port);
        }
        serve(&b.netns, b.v4, 80);
        serve(&here(), HOST4, 20_100);
        let ports = [
            publish_run(Tcp, Ipv4Addr::UNSPECIFIED, 20_000, 100, a.v4),
            publish(Tcp, Ipv4Addr::UNSPECIFIED, 20_050, b.v4, 80),
            // Another protocol, and the ports behind: neither is in the way of the other.
            publish_run(Udp, Ipv4Addr::UNSPECIFIED, 20_000, 100, b.v4),
            publish_run(Tcp, Ipv4Addr::UNSPECIFIED, 20_200, 100, b.v4),
        ];
        rig.net.apply_firewall(&firewall(ports)).await.unwrap();
        assert!(ask(&lan(), HOST4, 19_999).is_err());
        assert!(ask(&lan(), HOST4, 20_000).is_ok());
        assert!(ask(&lan(), HOST4, 20_099).is_ok());
        assert!(ask(&lan(), HOST4, 20_050).is_ok(), "nobody else serves there");
        assert!(ask(&lan(), HOST4, 20_100).is_ok(), "the host's own socket");
        assert!(
            !sh("nft list map inet linkspan runs4_any").contains("20100"),
            "which is not in the run"
        );
    });
}

#[test]
fn runs_that_change_are_one_transaction_and_the_next_daemon_adopts_them() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        serve_all(&a);
        serve(&b.netns, b.v4, 25_000);
        let any = Ipv4Addr::UNSPECIFIED;
        let steps: [Vec<Dnat>; 5] = [
            vec![publish_run(Tcp, any, 20_000, 10_000, a.v4)],
            // Another target; shorter; two of one; overlapping what was there before.
            vec![publish_run(Tcp, any, 20_000, 10_000, b.v4)],
            vec![publish_run(Tcp, any, 20_000, 5_001, b.v4)],
            vec![
                publish_run(Tcp, any, 20_000, 5_000, a.v4),
                publish_run(Tcp, any, 25_000, 5_000, b.v4),
            ],
            vec![publish_run(Tcp, any, 24_000, 5_999, b.v4)],
        ];
        for step in steps {
            let change = rig.net.apply_firewall(&firewall(step.clone())).await.unwrap();
            assert!(!change.rebuilt);
            assert_eq!(elements("runs4_any"), step.len());
            assert!(ask(&lan(), HOST4, 25_000).is_ok());
            assert_eq!(
                ask(&lan(), HOST4, 20_000).is_ok(),
                step[0].to_ip == IpAddr::from(a.v4),
                "only the first serves there"
            );
        }
        let last = firewall([publish_run(Tcp, any, 24_000, 5_999, b.v4)]);
        let next = rig.another_daemon().await;
        drop(rig);
        assert_eq!(
            next.apply_firewall(&last).await.unwrap(),
            FirewallChange::default(),
            "claimed as it was"
        );
    });
}

#[test]
fn a_udp_client_of_a_run_follows_the_container_behind_it() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        serve_udp(&a.netns, 29_999, "first");
        serve_udp(&b.netns, 29_999, "second");
        serve_udp(&a.netns, 30_000, "neighbour");
        let run = |to| publish_run(Udp, Ipv4Addr::UNSPECIFIED, 20_000, 10_000, to);
        let neighbour = publish(Udp, Ipv4Addr::UNSPECIFIED, 30_000, a.v4, 30_000);
        let mut client = udp_client(&lan(), HOST4, 29_999);
        let mut other = udp_client(&lan(), HOST4, 30_000);
        assert!(client().is_err(), "nobody yet; the kernel remembers this flow");
        rig.net
            .apply_firewall(&firewall([run(a.v4), neighbour.clone()]))
            .await
            .unwrap();
        assert_eq!(client().unwrap(), format!("first {LAN4}"));
        assert_eq!(other().unwrap(), format!("neighbour {LAN4}"));
        let flow = || sh("conntrack -L -o id -p udp --orig-port-dst 30000");
        let id = |line: String| line.split_once("id=").map(|(_, id)| id.trim().to_owned());
        let before = id(flow());
        rig.net
            .apply_firewall(&firewall([run(b.v4), neighbour.clone()]))
            .await
            .unwrap();
        assert_eq!(client().unwrap(), format!("second {LAN4}"));
        assert!(before.is_some());
        assert_eq!(
            id(flow()),
            before,
            "the flow of a port that did not change lives on"
        );
        rig.net.apply_firewall(&firewall([neighbour])).await.unwrap();
        assert!(client().is_err());
    });
}

#[test]
fn sctp_is_led_by_runs_and_single_ports() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        rig.net
            .apply_firewall(&firewall([
                publish_run(Sctp, Ipv4Addr::UNSPECIFIED, 20_000, 10_000, a.v4),
                publish(Sctp, HOST4, 5_000, a.v4, 6_000),
            ]))
            .await
            .unwrap();
        for (port, inside) in [
            (20_000, 20_000),
            (25_000, 25_000),
            (29_999, 29_999),
            (5_000, 6_000),
        ] {
            assert_eq!(init(&lan(), HOST4, port, &a.netns), Some(inside), "{port}");
        }
        assert_eq!(init(&lan(), HOST4, 30_000, &a.netns), None);
    });
}

/// Sends the first packet of an SCTP association; the port that it has when it arrives at `to`.
fn init(from: &Path, address: Ipv4Addr, port: u16, to: &Path) -> Option<u16> {
    use std::net::SocketAddrV4;
    use std::time::Duration;

    use nix::sys::socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, setsockopt,
        socket, sockopt::ReceiveTimeout,
    };
    use nix::sys::time::TimeVal;
    use std::os::fd::AsRawFd;

    let raw = || {
        socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::empty(),
            SockProtocol::Sctp,
        )
        .unwrap()
    };
    let (sender, receiver) = (within(from, raw), within(to, raw));
    let patience = Duration::from_millis(300).as_micros().try_into().unwrap();
    setsockopt(&receiver, ReceiveTimeout, &TimeVal::new(0, patience)).unwrap();
    let target = SockaddrIn::from(SocketAddrV4::new(address, port));
    sendto(sender.as_raw_fd(), &init_packet(port), &target, MsgFlags::empty()).unwrap();
    let mut buffer = [0; 256];
    let length = recv(receiver.as_raw_fd(), &mut buffer, MsgFlags::empty()).ok()?;
    // Behind the IP header: source port, destination port.
    let header = usize::from(buffer[0] & 15) * 4;
    (length >= header + 12).then(|| u16::from_be_bytes([buffer[header + 2], buffer[header + 3]]))
}

/// RFC 9260 §3.3.2.
fn init_packet(port: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(40_000_u16.to_be_bytes());
    packet.extend(port.to_be_bytes());
    packet.extend([0; 8]);
    packet.extend([1, 0, 0, 20]);
    packet.extend(1_u32.to_be_bytes());
    packet.extend(65_536_u32.to_be_bytes());
    packet.extend([0, 1, 0, 1, 0, 0, 0, 1]);
    let checksum = crc32c(&packet).to_le_bytes();
    packet[8..12].copy_from_slice(&checksum);
    packet
}

fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 }
        })
    })
}
