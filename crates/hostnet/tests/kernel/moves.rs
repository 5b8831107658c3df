//! Networks that move to another range, with their containers, while these talk.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};

use linkspan_hostnet::Bound;
use linkspan_plan::{Attachment, NetworkSpec, NetworkV6, RESOLVER_ADDRESS, Subnet};
use linkspan_site::Protocol::Tcp;

use crate::rig::*;
use crate::talk::{Monitor, Talk};

/// Where host `number` of network 1 moves to.
fn moved4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 94, 1, number)
}

fn moved6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd94, 0, 0, 1, 0, 0, 0, u16::from(number))
}

/// Network 1 after its move; these members still answer where it was.
fn moved_network(members: &[u8]) -> NetworkSpec {
    let left = |ip: fn(u8) -> IpAddr| Subnet {
        gateway: ip(1),
        resolver: ip(2),
        members: members.iter().map(|number| ip(*number)).collect(),
    };
    let retiring = match members {
        [] => Vec::new(),
        _ => vec![
            left(|number| guest4(1, number).into()),
            left(|number| guest6(1, number).into()),
        ],
    };
    NetworkSpec {
        v4: "10.94.1.0/24".parse().unwrap(),
        gateway: moved4(1),
        resolver: moved4(2),
        v6: Some(NetworkV6 {
            subnet: "fd94:0:0:1::/64".parse().unwrap(),
            gateway: moved6(1),
            resolver: moved6(2),
        }),
        retiring,
        ..network(1)
    }
}

fn moved_attachment(number: u8, retiring: bool) -> Attachment {
    let before = attachment(1, number);
    let former = [before.v4.into(), before.v6.unwrap().into()];
    Attachment {
        v4: format!("{}/24", moved4(number)).parse().unwrap(),
        v6: Some(format!("{}/64", moved6(number)).parse().unwrap()),
        gateway4: Some(moved4(1)),
        gateway6: Some(moved6(1)),
        retiring: former.into_iter().filter(|_| retiring).collect(),
        ..before
    }
}

/// What a new connection from a namespace to an address would come from.
fn source(netns: &Path, to: impl Into<IpAddr>) -> IpAddr {
    let to = SocketAddr::new(to.into(), 9);
    let any: IpAddr = if to.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    within(netns, move || {
        let socket = UdpSocket::bind((any, 0)).unwrap();
        socket.connect(to).unwrap();
        socket.local_addr().unwrap().ip()
    })
}

fn ip(netns: &Path, words: &str) -> String {
    sh(&format!("nsenter --net={} ip {words}", netns.display()))
}

#[test]
fn a_network_moves_and_no_connection_notices() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        let (host, resolver) = (here(), rig.resolver());
        serve(&lan(), LAN4, 80);
        let published = firewall([publish(Tcp, HOST4, 8080, a.v4, 8080)]);
        rig.net.apply_firewall(&published).await.unwrap();
        let listener = within(&a.netns, || TcpListener::bind("0.0.0.0:8080").unwrap());
        let port = SocketAddr::new(HOST4.into(), 8080);
        let talks = [
            Talk::begin("host to container", &host, &a.netns, a.v4, 1001),
            Talk::begin("host to container, IPv6", &host, &a.netns, a.v6, 1002),
            Talk::begin("data plane to container", &resolver, &a.netns, a.v4, 1003),
            Talk::begin("data plane to container, IPv6", &resolver, &a.netns, a.v6, 1004),
            Talk::begin("container to sibling", &b.netns, &a.netns, a.v4, 1005),
            Talk::begin("container to sibling, IPv6", &b.netns, &a.netns, a.v6, 1006),
            Talk::begin("container to LAN", &a.netns, &lan(), LAN4, 1007),
            Talk::begin("container to LAN, IPv6", &a.netns, &lan(), LAN6, 1008),
            Talk::begin(
                "container to data plane",
                &a.netns,
                &resolver,
                RESOLVER_ADDRESS,
                1009,
            ),
            Talk::begin("container to gateway", &a.netns, &host, guest4(1, 1), 1010),
            Talk::begin_with("sibling to published port", &b.netns, listener, port),
        ];
        assert_eq!(talks[0].local, guest4(1, 1));
        assert_eq!(talks[2].local, guest4(1, 2));
        let monitors = [Monitor::start(&host), Monitor::start(&resolver)];
        // A VPN comes up in the very range.
        sh("ip link add tun9 index 200 type veth peer name tun8");
        sh("ip addr add 10.90.1.200/24 dev tun9");
        sh("ip addr add fd90:0:0:1::200/64 dev tun9 nodad");
        sh("ip link set tun9 up");
        sh("ip link set tun8 up");

        let spec = moved_network(&[10, 11]);
        let firewall_of_both = || {
            let mut firewall = firewall([publish(Tcp, HOST4, 8080, moved4(10), 8080)]);
            firewall.masquerade4.insert(spec.v4);
            firewall.masquerade6.insert(spec.v6.as_ref().unwrap().subnet);
            firewall
        };
        let start = Instant::now();
        rig.net.ensure_network(&spec).await.unwrap();
        println!("network moved in {:?}", start.elapsed());
        rig.net.apply_firewall(&firewall_of_both()).await.unwrap();
        for number in [10, 11] {
            let name = format!("guest-1-{number}");
            let start = Instant::now();
            rig.net
                .attach(&name, &moved_attachment(number, true))
                .await
                .unwrap();
            println!("container moved in {:?}", start.elapsed());
        }
        let lost = rig.net.observe().await.unwrap().networks["ls-b1"].missing(&spec);
        assert_eq!(lost, Vec::<String>::new());

        // The range is the VPN's, save those who still answer there.
        for (netns, range) in [(&host, "10.90.1.0/24"), (&host, "fd90:0:0:1::/64")] {
            let routes = ip(netns, &format!("route show {range}"));
            assert!(!routes.contains("ls-b1"), "{routes}");
        }
        assert!(ip(&host, "route get 10.90.1.77").contains("dev tun9"));
        assert!(ip(&host, "route get 10.90.1.254").contains("dev tun9"));
        assert!(ip(&host, "route get fd90:0:0:1::77").contains("dev tun9"));
        let to_member = ip(&host, "route get 10.90.1.10");
        assert!(to_member.contains("dev ls-b1 src 10.90.1.1"), "{to_member}");
        assert!(ip(&resolver, "route get 10.90.1.10").contains("dev ls-r1 src 10.90.1.2"));
        let stray = ip(&host, "route show table local dev ls-b1");
        assert!(!stray.contains("broadcast 10.90.1."), "{stray}");

        // What is new is begun from new addresses, also to where siblings were.
        assert_eq!(source(&host, moved4(10)), moved4(1));
        assert_eq!(source(&host, moved6(10)), moved6(1));
        assert_eq!(source(&resolver, moved4(10)), moved4(2));
        assert_eq!(source(&resolver, moved6(10)), moved6(2));
        for to in [
            LAN4.into(),
            LAN6.into(),
            IpAddr::from(RESOLVER_ADDRESS),
            guest4(1, 11).into(),
            guest6(1, 11).into(),
            moved4(11).into(),
            moved6(11).into(),
        ] {
            let expected: IpAddr = match to {
                IpAddr::V4(_) => moved4(10).into(),
                IpAddr::V6(_) => moved6(10).into(),
            };
            assert_eq!(source(&a.netns, to), expected, "to {to}");
        }
        assert_eq!(ask(&a.netns, LAN4, 80).unwrap(), HOST4.to_string());
        assert!(pings(&host, moved4(10)) && pings(&host, moved6(10)));
        assert!(pings(&b.netns, moved4(10)) && pings(&b.netns, moved6(10)));
        assert!(pings(&resolver, moved4(10)) && pings(&resolver, moved6(10)));
        assert!(pings(&a.netns, guest4(1, 11)), "where its sibling was");

        // Twice is as good as once.
        let state = || [&host, &resolver, &a.netns].map(|netns| ip(netns, "addr") + &ip(netns, "route"));
        let before = state();
        rig.net.ensure_network(&spec).await.unwrap();
        rig.net
            .attach("guest-1-10", &moved_attachment(10, true))
            .await
            .unwrap();
        assert_eq!(state(), before);

        for talk in talks {
            talk.end();
        }
        for (monitor, former) in monitors.into_iter().zip(["10.90.1.1", "10.90.1.2"]) {
            let seen = monitor.end();
            let gone: Vec<_> = seen
                .lines()
                .filter(|line| {
                    line.starts_with(&format!("Deleted local {former} "))
                        || line.starts_with("Deleted") && line.contains(&format!(" inet {former}/"))
                })
                .collect();
            assert!(gone.is_empty(), "{gone:?}");
            assert!(seen.contains("10.94.1."), "the monitor saw nothing: {seen}");
        }

        // Their time is over.
        let spec = moved_network(&[]);
        let talks = [
            Talk::begin("host to container", &host, &a.netns, moved4(10), 1011),
            Talk::begin(
                "data plane to container, IPv6",
                &resolver,
                &a.netns,
                moved6(10),
                1012,
            ),
            Talk::begin("container to LAN", &a.netns, &lan(), LAN4, 1013),
        ];
        rig.net.ensure_network(&spec).await.unwrap();
        for number in [10, 11] {
            let name = format!("guest-1-{number}");
            rig.net
                .attach(&name, &moved_attachment(number, false))
                .await
                .unwrap();
        }
        std::thread::sleep(Duration::from_millis(300));
        for talk in talks {
            talk.end();
        }
        for (netns, link) in [(&host, "ls-b1"), (&resolver, "ls-r1"), (&a.netns, "eth0")] {
            for words in ["addr show", "-4 route show table all", "-6 route show table all"] {
                let found = ip(netns, &format!("{words} dev {link}"));
                assert!(
                    !found.contains("10.90.1.") && !found.contains("fd90:0:0:1:"),
                    "{found}"
                );
            }
        }
        assert!(pings(&a.netns, LAN4) && pings(&a.netns, LAN6) && pings(&b.netns, moved4(10)));
        let lost = rig.net.observe().await.unwrap().networks["ls-b1"].missing(&spec);
        assert_eq!(lost, Vec::<String>::new());
    });
}

#[test]
fn what_a_container_gave_itself_stays_when_its_network_moves() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        // Its own address in the range that goes is secondary to ours there.
        ip(&a.netns, "addr add 10.90.1.77/24 dev eth0");
        ip(&a.netns, "addr add 172.31.0.1/16 dev eth0");
        ip(&a.netns, "addr add fd77::1/64 dev eth0 nodad");
        ip(&a.netns, "route add 10.8.0.0/16 dev eth0");
        ip(&a.netns, "route add 10.9.0.0/16 via 172.31.0.9");
        let mac = ip(&a.netns, "link show dev eth0");
        for attachment in [moved_attachment(10, true), moved_attachment(10, false)] {
            rig.net.ensure_network(&moved_network(&[])).await.unwrap();
            rig.net.attach("guest-1-10", &attachment).await.unwrap();
            let addresses = ip(&a.netns, "addr show dev eth0");
            for kept in ["10.90.1.77/24", "172.31.0.1/16", "fd77::1/64"] {
                assert!(addresses.contains(kept), "{kept}: {addresses}");
            }
            let routes = ip(&a.netns, "route");
            for kept in ["10.8.0.0/16 dev eth0", "10.9.0.0/16 via 172.31.0.9"] {
                assert!(routes.contains(kept), "{kept}: {routes}");
            }
            assert_eq!(ip(&a.netns, "link show dev eth0"), mac);
        }
        let addresses = ip(&a.netns, "addr show dev eth0");
        assert!(!addresses.contains("10.90.1.10/"), "{addresses}");
        assert!(!addresses.contains("fd90:0:0:1::a/"), "{addresses}");
        assert!(pings(&here(), moved4(10)) && pings(&here(), moved6(10)));
    });
}

#[test]
fn a_container_that_gets_another_address_of_the_same_range_begins_nothing_from_the_old() {
    on_a_host(async |rig| {
        rig.networks().await;
        let (a, b) = (rig.guest(1, 10).await, rig.guest(1, 11).await);
        let talk = Talk::begin("to the old address", &b.netns, &a.netns, a.v4, 1001);
        let attachment = Attachment {
            v4: "10.90.1.50/24".parse().unwrap(),
            retiring: vec![a.attachment.v4.into()],
            ..a.attachment.clone()
        };
        rig.net.attach("guest-1-10", &attachment).await.unwrap();
        for to in [b.v4, LAN4, RESOLVER_ADDRESS] {
            assert_eq!(source(&a.netns, to), IpAddr::from(guest4(1, 50)), "to {to}");
        }
        std::thread::sleep(Duration::from_millis(300));
        talk.end();
        let attachment = Attachment {
            retiring: Vec::new(),
            ..attachment
        };
        for _ in 0..2 {
            rig.net.attach("guest-1-10", &attachment).await.unwrap();
            let addresses = ip(&a.netns, "addr show dev eth0");
            assert!(!addresses.contains("10.90.1.10/"), "{addresses}");
            assert!(addresses.contains("10.90.1.50/24"), "{addresses}");
            assert!(pings(&b.netns, guest4(1, 50)) && pings(&a.netns, LAN4) && pings(&a.netns, b.v4));
        }
    });
}

#[test]
fn a_network_that_moves_back_is_as_it_was() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let state = || -> BTreeSet<String> {
            let mut lines = BTreeSet::new();
            for netns in [&here(), &rig.resolver(), &a.netns] {
                for words in [
                    "-4 addr",
                    "-6 addr",
                    "-4 route show table all",
                    "-6 route show table all",
                ] {
                    let text = ip(netns, words);
                    let told = text.lines().map(|line| format!("{}: {line}", netns.display()));
                    lines.extend(told);
                }
            }
            lines
        };
        let before = state();
        rig.net.ensure_network(&moved_network(&[10])).await.unwrap();
        rig.net
            .attach("guest-1-10", &moved_attachment(10, true))
            .await
            .unwrap();
        assert_ne!(state(), before);
        rig.net.ensure_network(&network(1)).await.unwrap();
        rig.net.attach("guest-1-10", &a.attachment).await.unwrap();
        let after = state();
        let differing: Vec<_> = after.symmetric_difference(&before).collect();
        assert_eq!(differing, Vec::<&String>::new());
        assert!(pings(&a.netns, LAN4) && pings(&a.netns, LAN6));
    });
}

#[test]
fn the_default_route_goes_to_another_network_and_comes_back() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let second = |default: bool| Attachment {
            link: "eth1".to_owned(),
            gateway4: Some(guest4(2, 1)).filter(|_| default),
            gateway6: Some(guest6(2, 1)).filter(|_| default),
            resolver: default,
            ..attachment(2, 10)
        };
        let first = |default: bool| Attachment {
            gateway4: a.attachment.gateway4.filter(|_| default),
            gateway6: a.attachment.gateway6.filter(|_| default),
            resolver: default,
            ..a.attachment.clone()
        };
        let defaults = || {
            let lines = ip(&a.netns, "route show default") + &ip(&a.netns, "-6 route show default");
            let links = ["eth0", "eth1"].map(|link| lines.matches(&format!("dev {link}")).count());
            (lines.lines().count(), links)
        };
        assert_eq!(defaults(), (2, [2, 0]));
        // In either order.
        for order in [[first(false), second(true)], [second(false), first(true)]]
            .into_iter()
            .chain([[second(true), first(false)], [first(true), second(false)]])
        {
            for attachment in &order {
                rig.net.attach("guest-1-10", attachment).await.unwrap();
            }
            let to_second = order.contains(&second(true));
            let expected = if to_second { [0, 2] } else { [2, 0] };
            assert_eq!(defaults(), (2, expected), "{order:?}");
            let number = if to_second { 2 } else { 1 };
            assert_eq!(source(&a.netns, LAN4), IpAddr::from(guest4(number, 10)));
            assert_eq!(
                source(&a.netns, RESOLVER_ADDRESS),
                IpAddr::from(guest4(number, 10))
            );
            assert!(pings(&a.netns, LAN4) && pings(&a.netns, LAN6));
        }
        // A default route that the container has set itself is its own business.
        rig.net.attach("guest-1-10", &first(false)).await.unwrap();
        ip(&a.netns, "route add default via 10.90.1.99");
        rig.net.attach("guest-1-10", &first(false)).await.unwrap();
        assert!(ip(&a.netns, "route show default").contains("via 10.90.1.99"));
    });
}

#[test]
fn an_mtu_changes_while_containers_run() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        for mtu in [1400, 9000, 1500] {
            let spec = NetworkSpec { mtu, ..network(1) };
            rig.net.ensure_network(&spec).await.unwrap();
            let attachment = Attachment {
                mtu,
                ..a.attachment.clone()
            };
            rig.net.attach("guest-1-10", &attachment).await.unwrap();
            for (netns, link) in [
                (here(), "ls-b1"),
                (here(), "ls-r1"),
                (here(), "ls-v1-10"),
                (rig.resolver(), "ls-r1"),
                (a.netns.clone(), "eth0"),
            ] {
                let found = ip(&netns, &format!("link show dev {link}"));
                assert!(found.contains(&format!(" mtu {mtu} ")), "{link}: {found}");
            }
            assert!(pings(&here(), a.v4) && pings(&here(), a.v6));
            let found = rig.net.observe().await.unwrap();
            assert_eq!(found.networks["ls-b1"].missing(&spec), Vec::<String>::new());
        }
    });
}

#[test]
fn sockets_that_are_bound_to_an_address_are_named() {
    on_a_host(async |rig| {
        rig.networks().await;
        let a = rig.guest(1, 10).await;
        let (v4, v6) = (a.v4, a.v6);
        let sockets = within(&a.netns, move || {
            let tcp = |ip: IpAddr, port| TcpListener::bind((ip, port)).unwrap();
            let udp = |ip: IpAddr, port| UdpSocket::bind((ip, port)).unwrap();
            let mapped = v4.to_ipv6_mapped();
            let connected = udp(v4.into(), 2009);
            connected.connect((guest4(1, 1), 9)).unwrap();
            (
                [
                    tcp(v4.into(), 2001),
                    tcp(v6.into(), 2002),
                    tcp(mapped.into(), 2003),
                    tcp(Ipv4Addr::UNSPECIFIED.into(), 2004),
                    tcp(Ipv6Addr::UNSPECIFIED.into(), 2005),
                    tcp(Ipv4Addr::LOCALHOST.into(), 2006),
                ],
                [
                    udp(v4.into(), 2007),
                    udp(v6.into(), 2008),
                    connected,
                    udp(Ipv4Addr::UNSPECIFIED.into(), 2010),
                ],
            )
        });
        let named = async |addresses: &[IpAddr]| -> Vec<String> {
            let found = rig.net.bound_to("guest-1-10", addresses).await.unwrap();
            let name = |bound: &Bound| format!("{} {}", bound.protocol.name(), bound.address);
            found.iter().map(name).collect()
        };
        assert_eq!(
            named(&[v4.into(), v6.into()]).await,
            [
                "tcp 10.90.1.10:2001",
                "tcp 10.90.1.10:2003",
                "tcp [fd90:0:0:1::a]:2002",
                "udp 10.90.1.10:2007",
                "udp [fd90:0:0:1::a]:2008",
            ]
        );
        assert_eq!(named(&[v6.into()]).await.len(), 2);
        assert_eq!(named(&[moved4(10).into()]).await, Vec::<String>::new());
        assert_eq!(named(&[]).await, Vec::<String>::new());
        drop(sockets);
        assert_eq!(named(&[v4.into(), v6.into()]).await, Vec::<String>::new());
        assert!(rig.net.bound_to("nobody", &[v4.into()]).await.is_err());
    });
}
