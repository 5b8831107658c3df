//! Somebody else comes to use a range that Linkspan chose: the network moves, and nobody notices but those who ask.

#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use linkspan_tests::{Events, Load, Office, Protocol, Rig, WebSocket};

const LIMIT: Duration = Duration::from_secs(30);
/// From the claim until the host reaches the other side of it.
const AT_ONCE: Duration = Duration::from_secs(3);
/// What was open when the network moved stays open for at least so long.
const GRACE: Duration = Duration::from_secs(60);
/// Until then nothing of the old range is left.
const GONE: Duration = Duration::from_secs(90);

const POOL: &str = "pools: [{ base: 10.200.0.0/14, size: 24 }]\n";

fn town(rig: &Rig) -> String {
    let clients = rig.clients().display().to_string();
    let asker = |name: &str, command: &str| {
        format!(
            "  {name}: {{ image: busybox:test, command: [{command}, web, '8080'], stop_signal: KILL, volumes: ['{clients}:/clients:ro'] }}\n"
        )
    };
    format!(
        "routes: {{ shop.test: web:8080 }}
containers:
  web: {{ image: linkspan-demo/web:1, ports: ['5000:8080', '0.0.0.0:5001:8080'] }}
{}{}{}",
        asker("glibc", "/clients/glibc, poll"),
        asker("musl", "/clients/musl, poll"),
        asker("once", "/clients/glibc, once"),
    )
}

fn rig() -> Option<Rig> {
    let mut rig = Rig::without_daemon(&["cc", "musl-gcc", "ping"])?;
    rig.settings(POOL);
    rig.host().vpn();
    rig.start_daemon();
    rig.load_image("demo-web");
    rig.load_image("busybox");
    Some(rig)
}

/// The newest IPv4 address of a container.
fn address(rig: &Rig, container: &str) -> Ipv4Addr {
    let networks = rig.container(container)["networks"]["shop_default"].clone();
    networks[0].as_str().unwrap().parse().unwrap()
}

/// `10.201.7.`: what all addresses of a container's /24 begin with.
fn prefix(address: Ipv4Addr) -> String {
    let [a, b, c, _] = address.octets();
    format!("{a}.{b}.{c}.")
}

/// Everything on the host, in the firewall and in the containers that still shows a range.
fn traces(rig: &Rig, prefix: &str) -> String {
    let mut all = String::new();
    let mut look = |args: &[&str]| {
        let said = rig.host().run(args).ok();
        let found = said
            .lines()
            // The VPN's own.
            .filter(|line| line.contains(prefix) && !line.contains("vpn0"));
        for line in found {
            all.push_str(&format!("{args:?}: {line}\n"));
        }
    };
    look(&["ip", "-o", "address"]);
    look(&["ip", "route", "show", "table", "all"]);
    look(&["nft", "list", "ruleset"]);
    for container in rig.ps() {
        let pid = container["pid"].to_string();
        look(&["nsenter", "-t", &pid, "-n", "ip", "-o", "address"]);
        look(&["nsenter", "-t", &pid, "-n", "ip", "route"]);
        look(&["cat", &format!("/proc/{pid}/root/etc/hosts")]);
    }
    all
}

#[test]
fn a_vpn_that_comes_up_moves_the_network_and_no_request_fails() {
    let Some(rig) = rig() else { return };
    rig.up("shop", &town(&rig)).ok();
    let before = address(&rig, "shop-web-1");
    let old = prefix(before);
    let server: Ipv4Addr = format!("{old}200").parse().unwrap();
    let office = Office::serve(&rig, server);
    let events = Events::follow(&rig);
    let loads = [
        Load::start(&rig, Protocol::Http1, 4, "shop.test", "/who"),
        Load::start(&rig, Protocol::Http2, 4, "shop.test", "/big?n=50000"),
        Load::start(&rig, Protocol::Fresh, 2, "shop.test", "/slow?ms=30"),
    ];
    let breathe = || loads.iter().for_each(|load| load.wait_for(30, LIMIT));
    breathe();
    let mut socket = WebSocket::open(&rig, "shop.test", "/ws").unwrap();
    assert!(socket.ask("before").unwrap().ends_with(": before"));

    // The route covers the network and more, as a company's does.
    let [a, b, ..] = before.octets();
    let claim = format!("{a}.{b}.0.0/16");
    let claimed = Instant::now();
    rig.host().vpn_route(&claim);
    let ask = format!("http://{server}/");
    rig.wait_until_ok("the host reaches the office", AT_ONCE, || {
        let ran = rig.host().run(&["curl", "-sS", "--max-time", "1", &ask]);
        (ran.out == "the office\n").then_some(()).ok_or(ran.said())
    });
    rig.host().run(&["ping", "-c1", "-W1", &server.to_string()]).ok();
    rig.wait_until("the container has an address elsewhere", LIMIT, || {
        prefix(address(&rig, "shop-web-1")) != old
    });
    let after = address(&rig, "shop-web-1");
    assert!(
        !after.to_string().starts_with(&format!("{a}.{b}.")),
        "{after} is claimed too"
    );
    events.wait_for(&rig, &["network", "shop_default", "moved", &claim, "vpn0"], LIMIT);
    breathe();

    // The LAN, the host and the other containers find it where it is now.
    let lan = rig
        .host()
        .run_in_lan(&["curl", "-sS", "--max-time", "5", "http://192.0.2.1:5001/who"])
        .ok();
    assert!(lan.contains(&after.to_string()), "{lan}");
    assert!(
        rig.curl_raw(&["http://127.0.0.1:5000/who"])
            .unwrap()
            .body
            .contains(&after.to_string())
    );
    for asker in ["shop-glibc-1", "shop-musl-1", "shop-once-1"] {
        rig.wait_until_ok(&format!("{asker} asks the new address"), LIMIT, || {
            let lines = rig.lines_of(asker);
            let last = lines.last().cloned().unwrap_or_default();
            last.starts_with(&format!("{after}: ")).then_some(()).ok_or(last)
        });
    }
    // What was open stays so, over the old address.
    while claimed.elapsed() < GRACE {
        let said = socket.ask("still here").unwrap();
        assert!(said.ends_with(": still here"), "{said}");
        thread::sleep(Duration::from_secs(2));
    }
    rig.wait_until_ok("the old range is gone", GONE - claimed.elapsed(), || {
        let left = traces(&rig, &old);
        left.is_empty().then_some(()).ok_or(left)
    });
    breathe();
    for load in loads {
        let report = load.finish();
        assert_eq!((report.failures(), report.cuts()), (0, 0), "{report}");
    }
    for asker in ["shop-glibc-1", "shop-musl-1", "shop-once-1"] {
        let lines = rig.lines_of(asker);
        // It may have begun before there was anybody to ask.
        let asked = lines.iter().skip_while(|line| line.contains("failed"));
        let failed: Vec<_> = asked.filter(|line| line.contains("failed")).collect();
        assert!(failed.is_empty(), "{asker}, of {}: {failed:?}", lines.len());
    }
    let restarts: Vec<_> = rig.ps().iter().map(|one| one["restarts"].clone()).collect();
    assert!(
        restarts.iter().all(|times| *times == 0),
        "nothing was restarted: {restarts:?}"
    );
    office.close();
    rig.linkspan(&["down", "shop"]).ok();
}

/// Brings a network up, has somebody claim its range, and waits until it is elsewhere. `claim` is given the /24's first
/// three numbers, and the IPv6 subnet.
#[track_caller]
fn moves_away(what: &str, claim: impl Fn(&Rig, &str, &str)) {
    let Some(rig) = rig() else { return };
    rig.up(
        "shop",
        "routes: { shop.test: web:8080 }\ncontainers: { web: { image: linkspan-demo/web:1 } }\n",
    )
    .ok();
    let all = |rig: &Rig| rig.container("shop-web-1")["networks"]["shop_default"].clone();
    let before = all(&rig);
    let load = Load::start(&rig, Protocol::Fresh, 2, "shop.test", "/who");
    load.wait_for(20, LIMIT);
    let old = prefix(address(&rig, "shop-web-1"));
    let old6 = before[1].as_str().unwrap().split("::").next().unwrap().to_owned() + "::/64";
    claim(&rig, old.trim_end_matches('.'), &old6);
    rig.wait_until(
        &format!("the network has moved: {what}"),
        Duration::from_secs(45),
        || all(&rig) != before,
    );
    load.wait_for(20, LIMIT);
    let report = load.finish();
    assert_eq!((report.failures(), report.cuts()), (0, 0), "{what}: {report}");
    // A daemon that is started anew finds no reason to move once more.
    let moved = all(&rig);
    thread::sleep(Duration::from_secs(3));
    assert_eq!(all(&rig), moved, "{what}");
}

fn run(rig: &Rig, line: &str) {
    rig.host().run(&line.split(' ').collect::<Vec<_>>()).ok();
}

#[test]
fn an_address_that_a_link_gets_moves_the_network() {
    moves_away("an address", |rig, old, _| {
        run(rig, &format!("ip address add {old}.77/20 dev vpn0"));
    });
}

#[test]
fn an_ipv6_route_moves_the_network() {
    moves_away("a route of IPv6", |rig, _, old6| rig.host().vpn_route(old6));
}

#[test]
fn another_engines_new_bridge_moves_the_network() {
    moves_away("a bridge", |rig, old, _| {
        rig.host().docker_bridge(&format!("{old}.1/16"));
    });
}

#[test]
fn a_name_server_of_the_range_moves_the_network() {
    moves_away("a name server", |rig, old, _| {
        rig.host()
            .replace("/etc/resolv.conf", &format!("nameserver {old}.53\n"));
    });
}

#[test]
fn a_wireguard_file_moves_the_network() {
    moves_away("a WireGuard file", |rig, old, _| {
        rig.host().write(
            "/etc/wireguard/wg7.conf",
            &format!("[Interface]\nAddress = 198.18.7.2/32\n[Peer]\nAllowedIPs = {old}.0/24\n"),
        );
    });
}

#[test]
fn a_podman_network_moves_the_network() {
    moves_away("a Podman network", |rig, old, _| {
        rig.host().write(
            "/etc/containers/networks/lab.json",
            &format!(
                r#"{{"name": "lab", "driver": "bridge", "subnets": [{{"subnet": "{old}.0/24", "gateway": "{old}.1"}}]}}"#
            ),
        );
    });
}

#[test]
fn a_daemon_that_dies_in_the_middle_of_a_move_leaves_it_to_the_next_to_tell() {
    let Some(mut rig) = rig() else { return };
    rig.up(
        "shop",
        "routes: { shop.test: web:8080 }\ncontainers: { web: { image: linkspan-demo/web:1 } }\n",
    )
    .ok();
    let before = address(&rig, "shop-web-1");
    let events = Events::follow(&rig);
    // A proxy that is held up has each container wait a moment before it moves.
    let proxy = rig.proxy_pid().to_string();
    rig.host().run(&["kill", "-STOP", &proxy]).ok();
    // Another prefix than that of the route which is there.
    let claim = format!("{}0/25", prefix(before));
    rig.host().vpn_route(&claim);
    events.wait_for(&rig, &["container", "shop-web-1", "moving"], LIMIT);
    rig.kill_daemon();
    assert_eq!(events.with(&["network", "moved"]), Vec::<String>::new());
    drop(events);
    rig.host().run(&["kill", "-CONT", &proxy]).ok();
    rig.start_daemon();
    let events = Events::since_start(&rig);
    events.wait_for(&rig, &["network", "shop_default", "moved", &claim, "vpn0"], LIMIT);
    assert_ne!(prefix(address(&rig, "shop-web-1")), prefix(before));
    rig.wait_until("the old range is given up", GONE, || {
        traces(&rig, &prefix(before)).is_empty()
    });
    assert_eq!(events.with(&["network", "moved"]).len(), 1);
    events.wait_for(
        &rig,
        &["container", "shop-web-1", "left", &before.to_string()],
        LIMIT,
    );
    assert_eq!(events.with(&["container", "moved"]).len(), 1);
    let repaired = events.with(&["repair"]);
    assert!(repaired.is_empty(), "nothing was damaged: {repaired:?}");
}

#[test]
fn what_the_user_chose_stays_and_is_reported() {
    let Some(rig) = rig() else { return };
    rig.up(
        "shop",
        "
routes: { shop.test: web:8080 }
containers:
  web: { image: linkspan-demo/web:1, networks: [fixed, kept] }
networks:
  fixed: { subnet: 10.77.0.0/24 }
  kept: { on_conflict: report }
",
    )
    .ok();
    let networks = |rig: &Rig| rig.container("shop-web-1")["networks"].clone();
    let before = networks(&rig);
    let kept: Ipv4Addr = before["shop_kept"][0].as_str().unwrap().parse().unwrap();
    let kept = format!("{}0/25", prefix(kept));
    let events = Events::follow(&rig);
    rig.host().vpn_route("10.77.0.0/16");
    rig.host().vpn_route(&kept);
    for (network, claim) in [("shop_fixed", "10.77.0.0/16"), ("shop_kept", kept.as_str())] {
        events.wait_for(&rig, &["network", network, "conflict", claim, "vpn0"], LIMIT);
        rig.wait_until_ok(&format!("status tells of {network}"), LIMIT, || {
            let warnings = rig.json(&["status"])["warnings"].to_string();
            let told = [network, claim, "vpn0"]
                .iter()
                .all(|word| warnings.contains(word));
            told.then_some(()).ok_or(warnings)
        });
    }
    assert_eq!(networks(&rig), before);
    assert_eq!(rig.curl("https://shop.test/health", &[]).unwrap().status, 200);
    // Once the claim is gone, so is the warning.
    rig.host().run(&["ip", "link", "del", "vpn0"]).ok();
    rig.wait_until_ok("status tells of nothing", LIMIT, || {
        let warnings = rig.json(&["status"])["warnings"].clone();
        (warnings == serde_json::json!([]))
            .then_some(())
            .ok_or(warnings.to_string())
    });
}
