//! What somebody else takes away comes back within a second, is told by name, and costs no request.

#![allow(clippy::unwrap_used)]

use std::thread;
use std::time::{Duration, Instant};

use linkspan_tests::{Events, Load, Protocol, Rig};

/// Within which what was taken away must be back.
const PROMPT: Duration = Duration::from_secs(1);
/// Within which it must be told.
const TOLD: Duration = Duration::from_secs(5);
const LIMIT: Duration = Duration::from_secs(30);

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['0.0.0.0:5001:8080', '[::]:5001:8080']
  shell: { image: busybox:test, command: [sleep, '1000'] }
networks: { default: { ipam: { config: [{ subnet: 10.77.0.0/24 }, { subnet: 'fd00:77::/64' }] } } }
";

/// A shop under load, whose events are followed.
struct Shop {
    events: Events,
    loads: Vec<Load>,
    rig: Rig,
    /// Its bridge.
    bridge: String,
    /// The host's end of the web container's link.
    link: String,
}

impl Shop {
    fn open() -> Option<Shop> {
        let rig = Rig::start_with(&["iptables-nft"])?;
        rig.load_image("demo-web");
        rig.load_image("busybox");
        rig.up("shop", SHOP).ok();
        let bridge = link_named(&rig, "ls-b");
        let pid = rig.container("shop-web-1")["pid"].to_string();
        let link = peer(&rig, &pid);
        let events = Events::follow(&rig);
        let loads = vec![
            Load::start(&rig, Protocol::Http1, 3, "shop.test", "/who"),
            Load::start(&rig, Protocol::Fresh, 2, "shop.test", "/slow?ms=20"),
        ];
        for load in &loads {
            load.wait_for(20, LIMIT);
        }
        Some(Shop {
            events,
            loads,
            rig,
            bridge,
            link,
        })
    }

    /// Everything that the network is for works, in all directions.
    fn is_whole(&self) -> Result<(), String> {
        let lan = |url: &str| {
            let ran = self
                .rig
                .host()
                .run_in_lan(&["curl", "-sS", "--max-time", "1", url]);
            (ran.out == "fine\n")
                .then_some(())
                .ok_or_else(|| format!("from the LAN: {url}: {}", ran.said()))
        };
        lan("http://192.0.2.1:5001/health")?;
        lan("http://[2001:db8::1]:5001/health")?;
        let shell = |command: &[&str]| {
            let ran = self
                .rig
                .linkspan(&[&["exec", "shop-shell-1", "timeout", "1"], command].concat());
            (ran.code == 0)
                .then_some(())
                .ok_or_else(|| format!("inside: {command:?}: {}", ran.said()))
        };
        shell(&["wget", "-q", "-O", "-", "http://web:8080/health"])?;
        shell(&["ping", "-c1", "-W1", "192.0.2.2"])
    }

    /// Takes something away with a command, waits until `is_back`, then until all works and an event with these words
    /// has come.
    #[track_caller]
    fn sabotage(&self, what: &str, command: &[&str], event: &[&str], is_back: &dyn Fn() -> bool) {
        assert!(is_back(), "{what}: it was not there before");
        let told = self.events.with(event).len();
        let begun = Instant::now();
        self.rig.host().run(command).ok();
        // It may be back before one looks.
        while !is_back() {
            assert!(
                begun.elapsed() < LIMIT,
                "{what} does not come back; events: {:#?}",
                self.events.with(&[])
            );
            thread::sleep(Duration::from_millis(10));
        }
        let took = begun.elapsed();
        assert!(took < PROMPT, "{what} came back after {took:.1?}");
        self.rig
            .wait_until_ok(&format!("all works after {what}"), LIMIT, || self.is_whole());
        self.rig.wait_until_ok(&format!("{what} is told"), TOLD, || {
            let all = self.events.with(event).len();
            (all > told)
                .then_some(())
                .ok_or_else(|| format!("no event with {event:?} in {:#?}", self.events.with(&[])))
        });
        for load in &self.loads {
            load.wait_for(10, LIMIT);
        }
    }

    fn close(self) {
        for load in self.loads {
            let report = load.finish();
            assert_eq!((report.failures(), report.cuts()), (0, 0), "{report}");
        }
    }

    fn sees(&self, command: &[&str], words: &str) -> bool {
        self.rig.host().run(command).out.contains(words)
    }
}

/// The first link whose name begins so.
fn link_named(rig: &Rig, prefix: &str) -> String {
    let listed = rig.host().run(&["ip", "-o", "link"]).ok();
    let mut names = listed.lines().map(|line| {
        let name = line.split(": ").nth(1).unwrap();
        name.split('@').next().unwrap().to_owned()
    });
    names.find(|name| name.starts_with(prefix)).unwrap()
}

/// The host's end of a container's `eth0`.
fn peer(rig: &Rig, pid: &str) -> String {
    let inner = rig
        .host()
        .run(&["nsenter", "-t", pid, "-n", "ip", "-o", "link", "show", "eth0"])
        .ok();
    // `2: eth0@if7: <…`
    let (_, rest) = inner.split_once("@if").unwrap();
    let index = format!("{}: ", rest.split(':').next().unwrap());
    let listed = rig.host().run(&["ip", "-o", "link"]).ok();
    let line = listed.lines().find(|line| line.starts_with(&index)).unwrap();
    let name = line.split(": ").nth(1).unwrap();
    name.split('@').next().unwrap().to_owned()
}

#[test]
fn a_flushed_firewall_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let is_back = || {
        shop.sees(&["nft", "list", "table", "inet", "linkspan"], "masquerade")
            && shop.sees(
                &["nft", "list", "map", "inet", "linkspan", "publish4_any"],
                "5001",
            )
    };
    // Where the table is owned, somebody else's flush can't touch it, and nothing is repaired or told.
    let owned = shop.sees(&["nft", "list", "tables"], "flags owner")
        || shop.sees(&["nft", "list", "table", "inet", "linkspan"], "flags owner");
    for command in [
        &["nft", "flush", "ruleset"][..],
        &["nft", "delete", "table", "inet", "linkspan"],
        &["nft", "flush", "map", "inet", "linkspan", "publish4_any"],
        &["nft", "flush", "chain", "inet", "linkspan", "through"],
    ] {
        if owned {
            shop.rig.host().run(command);
            assert!(is_back(), "{command:?} touched an owned table");
            shop.is_whole().unwrap();
        } else {
            shop.sabotage(
                &format!("{command:?}"),
                command,
                &["firewall", "linkspan"],
                &is_back,
            );
        }
    }
    shop.close();
}

#[test]
fn flushed_iptables_are_none_of_our_business() {
    let Some(shop) = Shop::open() else { return };
    shop.rig.host().docker();
    let flush = "for tool in iptables-nft ip6tables-nft; do
        $tool -P FORWARD ACCEPT && $tool -F && $tool -X && $tool -t nat -F || exit 1
    done";
    shop.rig.host().run(&["sh", "-c", flush]).ok();
    shop.rig.wait_until_ok("all works", PROMPT, || shop.is_whole());
    assert_eq!(shop.events.with(&["repair"]), Vec::<String>::new());
    shop.close();
}

#[test]
fn a_deleted_bridge_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let bridge = shop.bridge.clone();
    shop.sabotage(
        "the bridge",
        &["ip", "link", "del", &bridge],
        &["network", "shop_default", "repaired", &bridge],
        &|| shop.sees(&["ip", "-o", "addr", "show", "dev", &bridge], "10.77.0.1"),
    );
    shop.close();
}

#[test]
fn a_bridge_that_is_down_is_up_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let bridge = shop.bridge.clone();
    shop.sabotage(
        "the bridge's state",
        &["ip", "link", "set", &bridge, "down"],
        &["network", "shop_default", "repaired", &bridge],
        &|| shop.sees(&["ip", "-o", "link", "show", "dev", &bridge], ",UP"),
    );
    shop.close();
}

#[test]
fn a_deleted_link_of_a_container_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let link = shop.link.clone();
    shop.sabotage(
        "the container's link",
        &["ip", "link", "del", &link],
        &["container", "shop-web-1", "repair", &link],
        &|| shop.sees(&["ip", "-o", "link"], &link),
    );
    shop.close();
}

#[test]
fn a_link_taken_from_its_bridge_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let link = shop.link.clone();
    let master = format!("master {}", shop.bridge);
    shop.sabotage(
        "the container's place on the bridge",
        &["ip", "link", "set", &link, "nomaster"],
        &["container", "shop-web-1", "repair", &link],
        &|| shop.sees(&["ip", "-o", "link", "show", "dev", &link], &master),
    );
    shop.close();
}

#[test]
fn a_deleted_leg_of_the_resolver_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let leg = link_named(&shop.rig, "ls-r");
    shop.sabotage(
        "the resolver's leg",
        &["ip", "link", "del", &leg],
        &["network", "shop_default", "repaired", &leg],
        &|| shop.sees(&["ip", "-o", "link"], &leg),
    );
    shop.close();
}

#[test]
fn a_deleted_address_of_the_bridge_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    let bridge = shop.bridge.clone();
    for address in ["10.77.0.1/24", "fd00:77::1/64"] {
        shop.sabotage(
            address,
            &["ip", "addr", "del", address, "dev", &bridge],
            &["network", "shop_default", "repaired", address],
            &|| shop.sees(&["ip", "-o", "addr", "show", "dev", &bridge], address),
        );
    }
    shop.close();
}

#[test]
fn a_deleted_route_to_a_network_is_back_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    for route in ["10.77.0.0/24", "fd00:77::/64"] {
        let family = if route.contains(':') { "-6" } else { "-4" };
        shop.sabotage(
            route,
            &["ip", "route", "del", route],
            &["network", "shop_default", "repaired", route],
            &|| shop.sees(&["ip", family, "route"], route),
        );
    }
    shop.close();
}

#[test]
fn forwarding_that_was_switched_off_is_on_within_a_second() {
    let Some(shop) = Shop::open() else { return };
    for name in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
        shop.sabotage(
            name,
            &["sysctl", "-qw", &format!("{name}=0")],
            &["parameter", "repaired", name],
            &|| shop.sees(&["sysctl", "-n", name], "1"),
        );
        // One thing was damaged, and one is told, however many networks and containers there are.
        let told = shop.events.with(&["repair"]);
        assert_eq!(
            told.len(),
            shop.events.with(&["parameter", "repaired"]).len(),
            "{told:#?}"
        );
    }
    shop.close();
}
