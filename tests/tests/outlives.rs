//! The route outlives the address: whatever happens to the containers behind a name, no request fails.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::{Load, Protocol, Report, Rig};

const LIMIT: Duration = Duration::from_secs(60);

fn site(replicas: u32, subnet: u32, color: &str) -> String {
    format!(
        "
routes: {{ shop.test: web:8080 }}
containers:
  web:
    image: linkspan-demo/web:1
    replicas: {replicas}
    environment: {{ COLOR: {color} }}
networks:
  default: {{ subnet: 10.{subnet}.0.0/24 }}
"
    )
}

/// A shop under load over three kinds of connections.
struct Shop {
    rig: Rig,
    loads: Vec<Load>,
}

impl Shop {
    fn open(replicas: u32) -> Option<Shop> {
        let rig = Rig::start()?;
        rig.load_image("demo-web");
        rig.up("shop", &site(replicas, 77, "red")).ok();
        let loads = vec![
            Load::start(&rig, Protocol::Http1, 4, "shop.test", "/who"),
            Load::start(&rig, Protocol::Http2, 4, "shop.test", "/big?n=50000"),
            Load::start(&rig, Protocol::Fresh, 2, "shop.test", "/slow?ms=30"),
        ];
        let shop = Shop { rig, loads };
        shop.breathe();
        Some(shop)
    }

    /// Until all kinds of load have seen the present state.
    fn breathe(&self) {
        for load in &self.loads {
            load.wait_for(30, LIMIT);
        }
    }

    fn close(self) -> Vec<Report> {
        self.loads.into_iter().map(Load::finish).collect()
    }

    /// For what is a fault: nothing failed before its head; what was cut, the client could tell.
    fn close_after_faults(self) {
        for report in self.close() {
            assert_eq!(report.failures(), 0, "{report}");
            assert!(report.longest_wait < Duration::from_secs(15), "{report}");
        }
    }

    /// For what was asked for in good order.
    fn close_after_graceful_changes(self) {
        for report in self.close() {
            assert_eq!((report.failures(), report.cuts()), (0, 0), "{report}");
            assert!(report.longest_wait < Duration::from_secs(15), "{report}");
        }
    }

    fn kill_first(&self) {
        let pid = self.rig.container("shop-web-1")["pid"].as_u64().unwrap();
        self.rig.host().kill(u32::try_from(pid).unwrap(), "KILL");
    }

    fn wait_for_running(&self, replicas: usize) {
        self.rig.wait_until("all replicas run", LIMIT, || {
            self.rig
                .ps()
                .iter()
                .filter(|container| container["state"] == "running")
                .count()
                == replicas
        });
    }
}

#[test]
fn a_killed_container_comes_back_and_no_request_fails() {
    let Some(shop) = Shop::open(1) else { return };
    for _ in 0..4 {
        let before = shop.rig.container("shop-web-1")["pid"].clone();
        shop.kill_first();
        shop.rig.wait_until("it runs again", LIMIT, || {
            let container = shop.rig.container("shop-web-1");
            container["state"] == "running" && container["pid"] != before
        });
        shop.breathe();
    }
    shop.close_after_faults();
}

#[test]
fn a_killed_replica_is_not_missed() {
    let Some(shop) = Shop::open(2) else { return };
    shop.kill_first();
    shop.wait_for_running(2);
    shop.breathe();
    shop.close_after_faults();
}

#[test]
fn a_restart_loses_nothing() {
    let Some(shop) = Shop::open(1) else { return };
    for _ in 0..5 {
        shop.rig.linkspan(&["restart", "shop-web-1"]).ok();
        shop.breathe();
    }
    shop.close_after_graceful_changes();
}

#[test]
fn a_container_removed_and_recreated_is_waited_for() {
    let Some(shop) = Shop::open(2) else { return };
    let before = shop.rig.container("shop-web-1")["id"].clone();
    shop.rig.linkspan(&["rm", "-f", "shop-web-1"]).ok();
    shop.breathe();
    shop.rig.up("shop", &site(2, 77, "red")).ok();
    shop.wait_for_running(2);
    assert_ne!(shop.rig.container("shop-web-1")["id"], before);
    shop.breathe();
    shop.close_after_faults();
}

#[test]
fn a_deploy_loses_nothing() {
    let Some(shop) = Shop::open(2) else { return };
    for color in ["blue", "green", "white"] {
        shop.rig.up("shop", &site(2, 77, color)).ok();
        let shown = shop.rig.curl("https://shop.test/env", &[]).unwrap().body;
        assert!(shown.contains(&format!("COLOR={color}\n")), "{shown}");
        shop.breathe();
    }
    shop.close_after_graceful_changes();
}

#[test]
fn a_network_moves_under_load_and_every_address_changes() {
    let Some(shop) = Shop::open(1) else { return };
    let addresses = |shop: &Shop| shop.rig.container("shop-web-1")["networks"].to_string();
    assert!(addresses(&shop).contains("10.77.0."), "{}", addresses(&shop));
    shop.rig.up("shop", &site(1, 78, "red")).ok();
    let after = addresses(&shop);
    assert!(
        after.contains("10.78.0.") && !after.contains("10.77.0."),
        "{after}"
    );
    shop.breathe();
    shop.close_after_graceful_changes();
}

#[test]
fn scaling_up_and_down_loses_nothing() {
    let Some(shop) = Shop::open(1) else { return };
    shop.rig.up("shop", &site(3, 77, "red")).ok();
    shop.wait_for_running(3);
    shop.breathe();
    shop.rig.up("shop", &site(1, 77, "red")).ok();
    assert_eq!(shop.rig.ps().len(), 1);
    shop.breathe();
    let served: usize = shop
        .loads
        .iter()
        .map(|load| load.so_far().by.len())
        .max()
        .unwrap();
    assert_eq!(served, 3, "all three took their share");
    shop.close_after_graceful_changes();
}

#[test]
fn what_comes_while_the_container_starts_slowly_is_held() {
    let Some(rig) = Rig::start() else { return };
    rig.load_image("demo-web");
    let slow = "
routes: { slow.test: web:8080 }
containers:
  web:
    image: linkspan-demo/web:1
    environment: { START_DELAY_MS: '1500' }
    healthcheck: { test: [CMD, /web, check, /health], interval: 1s, start_interval: 100ms, start_period: 20s }
";
    rig.up("slow", slow).ok();
    let load = Load::start(&rig, Protocol::Http1, 3, "slow.test", "/who");
    load.wait_for(10, LIMIT);
    rig.linkspan(&["restart", "slow-web-1"]).ok();
    load.wait_for(20, LIMIT);
    let report = load.finish();
    assert_eq!((report.failures(), report.cuts()), (0, 0), "{report}");
    assert!(
        report.longest_wait >= Duration::from_secs(1),
        "nothing was held: {report}"
    );
}
