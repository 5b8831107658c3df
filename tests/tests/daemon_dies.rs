//! The daemons may die: `kill -9` of either, under load, and what is known afterwards.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::{Load, Protocol, Rig};

const LIMIT: Duration = Duration::from_secs(60);

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web: { image: linkspan-demo/web:1, replicas: 2 }
  counter: { image: busybox:test, command: [sh, -c, 'i=0; while :; do i=$$((i+1)); echo line $$i; sleep 0.02; done'] }
  short: { image: busybox:test, restart: 'no', command: [sh, -c, 'sleep 4; exit 7'] }
";

#[test]
fn the_control_daemon_may_die_under_load() {
    let Some(mut rig) = shop() else { return };
    let loads = [
        Load::start(&rig, Protocol::Http1, 4, "shop.test", "/who"),
        Load::start(&rig, Protocol::Http2, 4, "shop.test", "/who"),
        Load::start(&rig, Protocol::Fresh, 2, "shop.test", "/who"),
    ];
    for load in &loads {
        load.wait_for(30, LIMIT);
    }
    let pids = |rig: &Rig| {
        let all = rig.ps();
        // One of them is to end meanwhile.
        let last = all.iter().filter(|container| container["name"] != "shop-short-1");
        let mut pids: Vec<String> = last.map(|container| container["pid"].to_string()).collect();
        pids.sort();
        pids
    };
    let before = (rig.proxy_pid(), pids(&rig));

    rig.kill_daemon();
    // Served without anybody in control.
    for load in &loads {
        load.wait_for(100, LIMIT);
    }
    rig.start_daemon();
    for load in &loads {
        load.wait_for(100, LIMIT);
    }
    assert_eq!(
        (rig.proxy_pid(), pids(&rig)),
        before,
        "the new daemon adopts what runs"
    );
    assert_eq!(
        rig.json(&["plan", "--file", &site_file(&rig)])["steps"],
        serde_json::json!([])
    );
    rig.up("shop", SHOP).ok();
    assert_eq!(
        (rig.proxy_pid(), pids(&rig)),
        before,
        "`up` of the same file changes nothing"
    );
    for load in loads {
        let report = load.finish();
        assert_eq!((report.failures(), report.cuts()), (0, 0), "{report}");
    }
}

#[test]
fn logs_are_whole_and_exit_statuses_known_after_the_daemon_died() {
    let Some(mut rig) = shop() else { return };
    assert_eq!(rig.container("shop-short-1")["state"], "running");
    rig.kill_daemon();
    // It ends while nobody is there to see it.
    std::thread::sleep(Duration::from_secs(5));
    rig.start_daemon();
    rig.wait_until("the exit status is known", LIMIT, || {
        let short = rig.container("shop-short-1");
        short["state"] == "exited" && short["exit_code"] == 7
    });
    std::thread::sleep(Duration::from_millis(500));
    let log = rig.linkspan(&["logs", "shop-counter-1"]).ok();
    let numbers: Vec<u64> = log
        .lines()
        .filter_map(|line| line.rsplit("line ").next()?.parse().ok())
        .collect();
    assert!(numbers.len() > 50, "{} lines", numbers.len());
    assert_eq!(
        numbers,
        (1..=numbers.len() as u64).collect::<Vec<_>>(),
        "no line is lost, none is there twice"
    );
}

#[test]
fn a_killed_proxy_serves_again_within_a_second_and_refuses_nobody() {
    let Some(rig) = shop() else { return };
    let load = Load::start(&rig, Protocol::Fresh, 4, "shop.test", "/who");
    load.wait_for(50, LIMIT);
    for _ in 0..3 {
        let before = rig.proxy_pid();
        rig.host().kill(before, "KILL");
        rig.wait_until("another proxy", LIMIT, || {
            let pid = rig.json(&["status"])["proxy"]["pid"].as_u64();
            pid.is_some_and(|pid| pid != u64::from(before))
        });
        load.wait_for(50, LIMIT);
    }
    let report = load.finish();
    let refused: Vec<&String> = report
        .failed
        .keys()
        .filter(|how| how.starts_with("connect"))
        .collect();
    assert!(refused.is_empty(), "{report}");
    assert!(report.longest_pause < Duration::from_secs(1), "{report}");
    // At most what was under way on a proxy that was killed is lost: one request a worker and kill.
    assert!(report.failures() + report.cuts() <= 12, "{report}");
}

#[test]
fn a_killed_proxy_and_then_a_killed_daemon_are_both_survived() {
    let Some(mut rig) = shop() else { return };
    let proxy = rig.proxy_pid();
    rig.kill_daemon();
    rig.host().kill(proxy, "KILL");
    rig.start_daemon();
    rig.wait_until_ok("served again", Duration::from_secs(10), || served(&rig));
}

fn served(rig: &Rig) -> Result<(), String> {
    let answer = rig.curl("https://shop.test/health", &["--max-time", "5"])?;
    if answer.status == 200 {
        Ok(())
    } else {
        Err(format!("{answer:?}"))
    }
}

fn shop() -> Option<Rig> {
    let rig = Rig::start()?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

fn site_file(rig: &Rig) -> String {
    rig.folder()
        .join("sites/shop/linkspan.yaml")
        .to_str()
        .unwrap()
        .to_owned()
}
