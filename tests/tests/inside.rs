//! What a container loses inside its own network namespace comes back within a second and is told by name; what it adds
//! there for itself stays.

#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, Instant};

use linkspan_tests::{Events, Rig};

const PROMPT: Duration = Duration::from_secs(1);
const LIMIT: Duration = Duration::from_secs(20);

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web: { image: linkspan-demo/web:1 }
  vpn: { image: busybox:test, command: [sleep, '1000'], cap_add: [NET_ADMIN] }
networks: { default: { ipam: { config: [{ subnet: 10.77.0.0/24 }, { subnet: 'fd00:77::/64' }] } } }
";

struct Shop {
    events: Events,
    rig: Rig,
}

impl Shop {
    fn open() -> Option<Shop> {
        let rig = Rig::start()?;
        rig.load_image("demo-web");
        rig.load_image("busybox");
        rig.up("shop", SHOP).ok();
        let events = Events::follow(&rig);
        Some(Shop { events, rig })
    }

    /// A command in a container's network namespace, by root of the host.
    fn enter(&self, container: &str, command: &[&str]) -> String {
        let pid = self.rig.container(container)["pid"].to_string();
        let enter = ["nsenter", "-t", &pid, "-n"];
        self.rig.host().run(&[&enter[..], command].concat()).ok()
    }

    fn state(&self, container: &str) -> String {
        [
            &["ip", "-o", "link"][..],
            &["ip", "-o", "addr"],
            &["ip", "route"],
            &["ip", "-6", "route"],
        ]
        .iter()
        .map(|command| self.enter(container, command))
        .collect()
    }

    /// Waits until words are among a container's links, addresses and routes again.
    fn is_back(&self, container: &str, words: &str, damage: &str, begun: Instant) {
        while !self.state(container).contains(words) {
            assert!(
                begun.elapsed() < LIMIT,
                "after `{damage}` {words} does not come back: {}\n{:#?}",
                self.state(container),
                self.events.with(&[])
            );
            thread::sleep(Duration::from_millis(10));
        }
        let took = begun.elapsed();
        assert!(
            took < PROMPT,
            "after `{damage}` {words} was back after {took:.1?}"
        );
    }

    fn reaches_the_lan(&self) -> Result<(), String> {
        for to in ["192.0.2.2", "2001:db8::2"] {
            let ran = self
                .rig
                .linkspan(&["exec", "shop-vpn-1", "ping", "-c1", "-W1", to]);
            if ran.code != 0 {
                return Err(ran.said());
            }
        }
        Ok(())
    }
}

/// What is done, what must be back, and what the event must name.
const DAMAGE: [(&str, &str, &str); 7] = [
    (
        "ip addr del 10.77.0.X/24 dev eth0",
        "inet 10.77.0.",
        "address 10.77.0.",
    ),
    (
        "ip -6 addr flush dev eth0 scope global",
        "inet6 fd00:77::",
        "address fd00:77::",
    ),
    (
        "ip route del default",
        "default via 10.77.0.1 ",
        "the default route by 10.77.0.1",
    ),
    (
        "ip -6 route del default",
        "default via fd00:77::1 ",
        "the default route by fd00:77::1",
    ),
    (
        "ip route del 169.254.53.53",
        "169.254.53.53 dev eth0",
        "the route to the resolver",
    ),
    (
        "ip link set eth0 down",
        "default via 10.77.0.1 ",
        "link `eth0`, which was down",
    ),
    ("ip link del eth0", "default via 10.77.0.1 ", "link `"),
];

#[test]
fn what_is_taken_from_a_container_inside_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let state = shop.state("shop-vpn-1");
    let (_, rest) = state.split_once("inet 10.77.0.").unwrap();
    let last = rest.split('/').next().unwrap();
    for (damage, back, named) in DAMAGE {
        let damage = damage.replace('X', last);
        let words = ["container", "shop-vpn-1", "repaired", named];
        let told = shop.events.with(&words).len();
        let begun = Instant::now();
        shop.enter("shop-vpn-1", &damage.split(' ').collect::<Vec<_>>());
        shop.is_back("shop-vpn-1", back, &damage, begun);
        shop.rig
            .wait_until(&format!("the end of `{damage}` is told"), LIMIT, || {
                shop.events.with(&words).len() > told
            });
        shop.rig
            .wait_until_ok(&format!("all works after `{damage}`"), LIMIT, || {
                shop.reaches_the_lan()
            });
    }
    let others = shop.events.with(&["shop-web-1"]);
    assert_eq!(others, Vec::<String>::new(), "the other container was touched");
}

#[test]
fn what_root_of_a_container_takes_from_it_is_back_too() {
    let Some(shop) = Shop::open() else { return };
    let begun = Instant::now();
    shop.rig
        .linkspan(&["exec", "shop-vpn-1", "ip", "route", "del", "default"])
        .ok();
    shop.is_back("shop-vpn-1", "default via 10.77.0.1 ", "exec", begun);
    shop.events
        .wait_for(&shop.rig, &["shop-vpn-1", "repaired", "default route"], LIMIT);
}

#[test]
fn what_was_taken_while_the_daemon_was_dead_is_back_when_it_is_there_again() {
    let Some(mut shop) = Shop::open() else { return };
    shop.rig.kill_daemon();
    let netns = shop
        .rig
        .host()
        .run(&["sh", "-c", "ls -d /run/linkspan/ns/*/net"])
        .ok();
    for netns in netns.lines() {
        let enter = format!("--net={netns}");
        shop.rig
            .host()
            .run(&["nsenter", &enter, "ip", "route", "del", "default"])
            .ok();
    }
    shop.rig.start_daemon();
    for container in ["shop-vpn-1", "shop-web-1"] {
        shop.rig.wait_until(&format!("{container} is whole"), LIMIT, || {
            shop.state(container).contains("default via 10.77.0.1 ")
        });
    }
    // The new daemon listens as well.
    let begun = Instant::now();
    shop.enter("shop-vpn-1", &["ip", "route", "del", "default"]);
    shop.is_back("shop-vpn-1", "default via 10.77.0.1 ", "route del", begun);
}

#[test]
fn what_a_container_sets_up_for_itself_is_left_alone() {
    let Some(shop) = Shop::open() else { return };
    let own = [
        "ip link add tun0 type veth peer name tun1",
        "ip addr add 10.8.0.2/24 dev tun0",
        "ip link set tun0 up",
        "ip link set tun1 up",
        "ip addr add 10.77.0.200/24 dev eth0",
        "ip route add 198.51.100.0/24 via 10.77.0.1",
        "ip route replace default dev tun0",
    ];
    for line in own {
        shop.enter("shop-vpn-1", &line.split(' ').collect::<Vec<_>>());
    }
    // Something that is ours goes, and comes back: the rest stays as it is.
    let begun = Instant::now();
    shop.enter("shop-vpn-1", &["ip", "route", "del", "169.254.53.53"]);
    shop.is_back("shop-vpn-1", "169.254.53.53 dev eth0", "route del", begun);
    shop.events
        .wait_for(&shop.rig, &["shop-vpn-1", "repaired", "resolver"], LIMIT);
    let state = shop.state("shop-vpn-1");
    for kept in [
        "10.8.0.2/24",
        "10.77.0.200/24",
        "198.51.100.0/24 via 10.77.0.1",
        "default dev tun0",
    ] {
        assert!(state.contains(kept), "no {kept} in {state}");
    }
    assert!(!state.contains("default via 10.77.0.1"), "{state}");
    assert_eq!(shop.events.with(&["repaired"]).len(), 1);
}

#[test]
fn who_takes_the_same_thing_again_and_again_is_answered_more_and_more_slowly() {
    let Some(shop) = Shop::open() else { return };
    // Over 200 attempts. The pauses between repairs double from a tenth of a second on, so that few fit into the time, and
    // fewer where all of this is slow.
    let stubborn = "n=0; while [ $n -lt 200 ]; do
        ip route del default 2>/dev/null; n=$((n + 1)); sleep 0.02
    done";
    shop.rig
        .linkspan(&["exec", "shop-vpn-1", "sh", "-c", stubborn])
        .ok();
    let repairs = shop.events.with(&["shop-vpn-1", "repaired"]).len();
    assert!((2..=10).contains(&repairs), "{repairs} repairs");
    shop.rig.wait_until("it is whole in the end", LIMIT, || {
        shop.state("shop-vpn-1").contains("default via 10.77.0.1 ")
    });
}
