//! Containers on the LAN itself: they get addresses that nobody there has, and no port of the host's.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::{Events, Rig};

const LIMIT: Duration = Duration::from_secs(20);

const HOME: &str = "
containers:
  tv:
    image: busybox:test
    command: [sleep, '1000']
    ports: ['0.0.0.0:8080:80']
    networks: [lan]
networks:
  lan: { driver: macvlan, driver_opts: { parent: wan0 }, subnet: 192.0.2.0/24, gateway: 192.0.2.2 }
";

/// Absent, and said, where the kernel has no such links.
fn home() -> Option<(Rig, Events)> {
    let rig = Rig::start()?;
    let probe = rig
        .host()
        .run(&["ip", "link", "add", "probe9", "link", "wan0", "type", "macvlan"]);
    if probe.code != 0 {
        println!("SKIP: no macvlan here: {}", probe.said());
        return None;
    }
    rig.host().run(&["ip", "link", "del", "probe9"]).ok();
    rig.load_image("busybox");
    let events = Events::follow(&rig);
    Some((rig, events))
}

fn address(rig: &Rig) -> String {
    let container = rig.container("home-tv-1");
    container["networks"]["home_lan"][0].as_str().unwrap().to_owned()
}

fn lan(rig: &Rig, command: &[&str]) {
    let enter = ["ip", "netns", "exec", "lan"];
    rig.host().run(&[&enter[..], command].concat()).ok();
}

#[test]
fn it_gets_an_address_that_nobody_on_the_lan_has() {
    let Some((rig, events)) = home() else { return };
    // .1 is this host, .2 the router. .3 has spoken with this host, .4 never has.
    for last in ["3", "4"] {
        lan(
            &rig,
            &["ip", "addr", "add", &format!("192.0.2.{last}/24"), "dev", "eth0"],
        );
    }
    rig.host().run(&["ping", "-c1", "-W1", "192.0.2.3"]).ok();
    rig.up("home", HOME).ok();
    assert_eq!(address(&rig), "192.0.2.5");
    let told = events.with(&["home-tv-1", "readdressed", "192.0.2.4", "in use on the LAN"]);
    assert_eq!(told.len(), 1, "{:#?}", events.with(&[]));
    assert_eq!(events.with(&["failed"]), Vec::<String>::new());
    lan(&rig, &["ping", "-c1", "-W1", "192.0.2.5"]);
    rig.linkspan(&["exec", "home-tv-1", "ping", "-c1", "-W1", "192.0.2.2"])
        .ok();
}

#[test]
fn it_has_no_port_of_the_hosts_and_says_so() {
    let Some((rig, events)) = home() else { return };
    // Another program has the port: that is no reason against it.
    let other = rig.spawn("other", &["busybox", "nc", "-l", "-p", "8080"]);
    rig.wait_until("the other program listens", LIMIT, || {
        rig.host().run(&["ss", "-ltn"]).out.contains(":8080")
    });
    let folder = rig.site("home", HOME);
    let told = rig.linkspan_in(&folder, &["check"]).ok();
    assert!(
        told.contains("`ports` of container `tv` have no meaning"),
        "{told}"
    );
    rig.up("home", HOME).ok();
    assert_eq!(
        rig.container("home-tv-1")["ports"],
        serde_json::json!(["80/tcp (on the LAN itself)"])
    );
    events.wait_for(
        &rig,
        &["network", "home_lan", "created", "192.0.2.0/24 on `wan0`"],
        LIMIT,
    );
    let refused = rig.up(
        "home",
        &HOME.replace("[lan]", "{ lan: { ipv4_address: 192.0.2.1 } }"),
    );
    assert!(
        refused
            .said()
            .contains("192.0.2.1 on network `home_lan` is held by this host (`wan0`)"),
        "{}",
        refused.said()
    );
    rig.linkspan_in(&folder, &["down"]).ok();
    events.wait_for(&rig, &["network", "home_lan", "removed"], LIMIT);
    drop(other);
}

#[test]
fn what_is_taken_from_it_inside_comes_back() {
    let Some((rig, events)) = home() else { return };
    rig.up("home", HOME).ok();
    let pid = rig.container("home-tv-1")["pid"].to_string();
    let enter = |command: &str| {
        let words: Vec<&str> = command.split(' ').collect();
        let enter = ["nsenter", "-t", &pid, "-n"];
        rig.host().run(&[&enter[..], &words].concat()).ok()
    };
    for (damage, named) in [
        ("ip route del default", "the default route by 192.0.2.2"),
        ("ip link del eth0", "link `eth0`"),
    ] {
        enter(damage);
        events.wait_for(&rig, &["home-tv-1", "repaired", named], LIMIT);
        assert!(
            enter("ip route").contains("default via 192.0.2.2"),
            "after {damage}"
        );
    }
}
