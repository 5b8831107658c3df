//! What is published on localhost, or not at all, is out of the reach of the LAN, whatever the LAN does.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;

use linkspan_tests::{Packet, Rig};

/// Ports 5000 (TCP) and 5300 (UDP) on localhost; 5001 and 5301 for everybody; 8080 and 53 are the container's own.
fn shop() -> Option<Rig> {
    let rig = Rig::start_with(&["python3", "cc", "musl-gcc"])?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    let clients = rig.clients();
    let site = format!(
        "
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['5000:8080', '[::1]:5000:8080', '0.0.0.0:5001:8080', '[::]:5001:8080']
  echo:
    image: busybox:test
    command: [/clients/glibc, udp, '5353']
    ports: ['5300:5353/udp', '0.0.0.0:5301:5353/udp']
    volumes: ['{}:/clients:ro']
networks: {{ default: {{ ipam: {{ config: [{{ subnet: 10.77.0.0/24 }}, {{ subnet: 'fd00:77::/64' }}] }} }} }}
",
        clients.display()
    );
    rig.up("shop", &site).ok();
    Some(rig)
}

/// What a careless administrator, or another program, may have switched on.
fn without_the_kernels_own_guards(rig: &Rig) {
    for link in ["all", "default", "wan0"] {
        rig.host()
            .sysctl(&format!("net.ipv4.conf.{link}.route_localnet"), "1");
        rig.host().sysctl(&format!("net.ipv4.conf.{link}.rp_filter"), "0");
        rig.host()
            .sysctl(&format!("net.ipv4.conf.{link}.accept_local"), "1");
    }
}

fn address(rig: &Rig, container: &str, v4: bool) -> String {
    let networks = rig.container(container)["networks"].clone();
    let all = networks["shop_default"].as_array().unwrap().clone();
    let found = all
        .iter()
        .filter_map(|one| one.as_str())
        .find(|one| one.parse::<IpAddr>().unwrap().is_ipv4() == v4);
    found.unwrap().to_owned()
}

#[test]
fn a_lan_host_that_routes_to_us_reaches_nothing_that_was_not_published() {
    let Some(rig) = shop() else { return };
    let (web4, web6) = (
        address(&rig, "shop-web-1", true),
        address(&rig, "shop-web-1", false),
    );
    let echo4 = address(&rig, "shop-echo-1", true);
    let lan = |args: &[&str]| rig.host().run_in_lan(args);
    // Its own loopback gives way to a route, as an attacker's would.
    lan(&["ip", "rule", "add", "pref", "1", "lookup", "local"]).ok();
    lan(&["ip", "rule", "del", "pref", "0"]).ok();
    lan(&[
        "ip",
        "rule",
        "add",
        "pref",
        "0",
        "to",
        "127.0.0.0/8",
        "lookup",
        "100",
    ])
    .ok();
    lan(&[
        "ip",
        "route",
        "add",
        "127.0.0.0/8",
        "via",
        "192.0.2.1",
        "table",
        "100",
    ])
    .ok();
    lan(&["ip", "route", "add", "10.77.0.0/24", "via", "192.0.2.1"]).ok();
    lan(&["ip", "route", "add", "fd00:77::/64", "via", "2001:db8::1"]).ok();
    lan(&["sysctl", "-qw", "net.ipv4.conf.all.route_localnet=1"]).ok();
    lan(&["sysctl", "-qw", "net.ipv4.conf.eth0.route_localnet=1"]).ok();

    let get = |url: &str| lan(&["curl", "-sS", "--max-time", "2", url]);
    // That the LAN can ask at all.
    assert_eq!(get("http://192.0.2.1:5001/health").ok(), "fine\n");
    assert_eq!(get("http://[2001:db8::1]:5001/health").ok(), "fine\n");
    assert!(rig.ask_udp_from_lan("192.0.2.1".parse().unwrap(), 5301).is_some());

    for guards in [true, false] {
        if !guards {
            without_the_kernels_own_guards(&rig);
        }
        for url in [
            "http://127.0.0.1:5000/health".to_owned(),
            "http://192.0.2.1:5000/health".to_owned(),
            "http://[2001:db8::1]:5000/health".to_owned(),
            "http://192.0.2.1:8080/health".to_owned(),
            format!("http://{web4}:8080/health"),
            format!("http://{web4}:5000/health"),
            format!("http://[{web6}]:8080/health"),
            // The bridge's own address is this host, but not for the LAN.
            "http://10.77.0.1:5000/health".to_owned(),
        ] {
            let ran = get(&url);
            assert_ne!(ran.code, 0, "{url} answers the LAN ({guards}): {}", ran.said());
        }
        for (to, port) in [
            ("127.0.0.1", 5300),
            ("192.0.2.1", 5300),
            ("192.0.2.1", 5353),
            (&*echo4, 5353),
        ] {
            let answer = rig.ask_udp_from_lan(to.parse().unwrap(), port);
            assert_eq!(answer, None, "udp {to}:{port} ({guards})");
        }
        assert!(
            lan(&["ping", "-c1", "-W1", &web4]).code != 0,
            "an unpublished container answers a ping ({guards})"
        );
    }
    // The host itself reaches all of them.
    for url in ["http://127.0.0.1:5000/health", "http://[::1]:5000/health"] {
        assert_eq!(rig.curl_raw(&[url]).unwrap().body, "fine\n", "{url}");
    }
    let own = rig.curl_raw(&[&format!("http://{web4}:8080/health")]).unwrap();
    assert_eq!(own.body, "fine\n");
    let said = rig.ask_udp("", "127.0.0.1".parse().unwrap(), 5300);
    assert!(said.is_some(), "the localhost UDP port answers this host");
}

#[test]
fn no_forged_frame_reaches_a_localhost_port_or_an_unpublished_container() {
    let Some(rig) = shop() else { return };
    let (web4, web6) = (
        address(&rig, "shop-web-1", true),
        address(&rig, "shop-web-1", false),
    );
    let echo4 = address(&rig, "shop-echo-1", true);
    let packet = |from, to, protocol, port| Packet {
        from,
        to,
        protocol,
        port,
    };
    // The witnesses see what is allowed.
    let seen = rig.throw(
        "shop-web-1",
        &[
            packet("192.0.2.2", "192.0.2.1", "tcp", 5001),
            packet("2001:db8::2", "2001:db8::1", "tcp", 5001),
        ],
    );
    assert!(
        seen.iter().all(|seen| seen.inside.contains("request")),
        "{seen:#?}"
    );
    let seen = rig.throw("shop-echo-1", &[packet("192.0.2.2", "192.0.2.1", "udp", 5301)]);
    assert!(seen[0].inside.contains("request"), "{seen:#?}");

    for guards in [true, false] {
        if !guards {
            without_the_kernels_own_guards(&rig);
        }
        let forged = [
            packet("192.0.2.2", "127.0.0.1", "tcp", 5000),
            packet("127.0.0.1", "127.0.0.1", "tcp", 5000),
            packet("127.0.0.1", "192.0.2.1", "tcp", 5000),
            packet("2001:db8::2", "::1", "tcp", 5000),
            packet("::1", "::1", "tcp", 5000),
            packet("::1", "2001:db8::1", "tcp", 5001),
            packet("192.0.2.2", &web4, "tcp", 8080),
            packet("127.0.0.1", &web4, "tcp", 8080),
            packet("10.77.0.1", &web4, "tcp", 8080),
            packet("2001:db8::2", &web6, "tcp", 8080),
            packet("::1", &web6, "tcp", 8080),
        ];
        let guarded = format!("with the kernel's own guards {guards}");
        none_is_through(&rig, "shop-web-1", &forged, &guarded);
        let forged = [
            packet("192.0.2.2", "127.0.0.1", "udp", 5300),
            packet("127.0.0.1", "127.0.0.1", "udp", 5300),
            packet("127.0.0.1", "192.0.2.1", "udp", 5300),
            packet("192.0.2.2", &echo4, "udp", 5353),
            packet("127.0.0.1", &echo4, "udp", 5353),
        ];
        none_is_through(&rig, "shop-echo-1", &forged, &guarded);
    }
}

#[track_caller]
fn none_is_through(rig: &Rig, container: &str, forged: &[Packet<'_>], when: &str) {
    let all = rig.throw(container, forged);
    let through: Vec<_> = forged
        .iter()
        .zip(&all)
        .filter(|(_, seen)| seen.is_through())
        .collect();
    assert!(through.is_empty(), "{when}: {through:#?}");
}

#[test]
fn nobody_outside_speaks_as_this_host_to_a_port_that_is_published() {
    let Some(rig) = shop() else { return };
    without_the_kernels_own_guards(&rig);
    let packet = |from, to, protocol, port| Packet {
        from,
        to,
        protocol,
        port,
    };
    // The container's hardware address must be known already: for a forged sender's sake it is asked for in vain.
    let seen = rig.throw("shop-web-1", &[packet("192.0.2.2", "192.0.2.1", "tcp", 5001)]);
    assert!(seen[0].is_through(), "{seen:#?}");
    for (container, forged) in [
        (
            "shop-web-1",
            vec![
                packet("127.0.0.1", "192.0.2.1", "tcp", 5001),
                packet("127.7.7.7", "192.0.2.1", "tcp", 5001),
                packet("10.77.0.1", "192.0.2.1", "tcp", 5001),
                packet("::1", "2001:db8::1", "tcp", 5001),
                packet("fd00:77::1", "2001:db8::1", "tcp", 5001),
            ],
        ),
        ("shop-echo-1", vec![packet("127.0.0.1", "192.0.2.1", "udp", 5301)]),
    ] {
        none_is_through(&rig, container, &forged, "to a published port");
    }
}
