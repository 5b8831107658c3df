//! After `down` and the daemon's stop, the host is as it was.

#![allow(clippy::unwrap_used)]

use linkspan_tests::{Rig, binary};

const EVERYTHING: &str = "
routes: { shop.test: web:8080 }
containers:
  web: { image: linkspan-demo/web:1, replicas: 3, ports: ['0.0.0.0::8080'], networks: [default, back] }
  db: { image: busybox:test, command: [sleep, '1000'], volumes: ['data:/data'], tmpfs: /scratch, networks: [back] }
  crash: { image: busybox:test, command: ['false'] }
networks: { back: { internal: true } }
volumes: { data: {} }
";

#[test]
fn after_down_and_stop_nothing_is_left() {
    let Some(mut rig) = Rig::start() else { return };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    for _ in 0..2 {
        rig.up(
            "shop",
            &EVERYTHING.replace("  crash: { image: busybox:test, command: ['false'] }\n", ""),
        )
        .ok();
        assert_eq!(rig.curl("https://shop.test/health", &[]).unwrap().status, 200);
        rig.linkspan(&["down", "shop", "--volumes"]).ok();
        assert!(rig.ps().is_empty());
    }
    rig.stop_daemon();
    assert_eq!(rig.leaks(), Vec::<String>::new());
}

#[test]
fn what_crashes_all_the_time_leaves_nothing_either() {
    let Some(mut rig) = Rig::start() else { return };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    // A container that can't stay up is told; the others are.
    let ran = rig.up("shop", EVERYTHING);
    assert!(ran.said().contains("crash"), "{}", ran.said());
    rig.linkspan(&["down", "shop", "--volumes"]).ok();
    rig.stop_daemon();
    assert_eq!(rig.leaks(), Vec::<String>::new());
}

#[test]
fn down_after_the_daemon_was_killed_leaves_nothing() {
    let Some(mut rig) = Rig::start() else { return };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up(
        "shop",
        &EVERYTHING.replace("  crash: { image: busybox:test, command: ['false'] }\n", ""),
    )
    .ok();
    rig.kill_daemon();
    rig.start_daemon();
    rig.linkspan(&["down", "shop", "--volumes"]).ok();
    rig.stop_daemon();
    assert_eq!(rig.leaks(), Vec::<String>::new());
}

#[test]
fn the_demo_works_as_printed_and_removes_every_trace() {
    let Some(rig) = Rig::without_daemon(&[]) else {
        return;
    };
    for name in ["demo-web", "demo-site"] {
        linkspan_tests::image(name);
    }
    let (xtask, linkspan) = (binary("xtask"), binary("linkspan"));
    let demo = [
        xtask.to_str().unwrap(),
        "demo",
        "--once",
        "--binary",
        linkspan.to_str().unwrap(),
    ];
    let ran = rig.host().run_within(
        std::time::Duration::from_secs(120),
        &linkspan_tests::root(),
        &demo,
    );
    let said = ran.said();
    assert_eq!(ran.code, 0, "{said}");
    assert!(
        said.contains("lines work as printed") && said.contains("nothing is left"),
        "{said}"
    );
    assert_eq!(rig.leaks(), Vec::<String>::new());
}
