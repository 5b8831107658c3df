//! A reboot, and a power cut: all that was declared comes back, without being asked.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::Rig;

const LIMIT: Duration = Duration::from_secs(60);

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web: { image: linkspan-demo/web:1, replicas: 2 }
  data:
    image: busybox:test
    command: [sh, -c, 'date +%s%N >> /data/starts; sync; exec sleep 1000']
    volumes: ['data:/data']
  off: { image: busybox:test, command: [sleep, '1000'] }
volumes: { data: {} }
";

#[test]
fn after_a_power_cut_all_that_was_declared_comes_back() {
    let Some(mut rig) = shop() else { return };
    rig.linkspan(&["stop", "shop-off-1"]).ok();
    let starts = |rig: &Rig| {
        rig.linkspan(&["exec", "shop-data-1", "cat", "/data/starts"])
            .ok()
            .lines()
            .count()
    };
    assert_eq!(starts(&rig), 1);
    let ca = std::fs::read_to_string(rig.ca()).unwrap();

    rig.power_cut();
    rig.power_on();
    rig.start_daemon();
    rig.wait_until("the site answers", LIMIT, || {
        rig.curl("https://shop.test/health", &[])
            .is_ok_and(|answer| answer.status == 200)
    });
    rig.wait_until("all containers run", LIMIT, || {
        rig.ps()
            .iter()
            .filter(|container| container["state"] == "running")
            .count()
            == 3
    });
    assert_eq!(
        starts(&rig),
        2,
        "the volume is the same, and the container was started again"
    );
    assert_eq!(
        rig.linkspan(&["ca", "print"]).ok(),
        ca,
        "people who trusted the CA still do"
    );
    assert_ne!(
        rig.container("shop-off-1")["state"],
        "running",
        "what somebody stopped stays stopped"
    );
}

#[test]
fn power_cuts_at_any_moment_of_an_up_leave_a_daemon_that_converges() {
    let Some(mut rig) = Rig::start() else { return };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    for after in [5, 40, 120, 300] {
        let folder = rig.site("shop", SHOP);
        let mut up = rig
            .linkspan_command(&folder, &["up"])
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(after));
        rig.power_cut();
        let _ = up.wait();
        rig.power_on();
        rig.start_daemon();
        rig.up("shop", SHOP).ok();
        assert_eq!(
            rig.curl("https://shop.test/health", &[]).unwrap().status,
            200,
            "cut after {after} ms"
        );
        rig.linkspan(&["down", "shop"]).ok();
    }
}

#[test]
fn a_wiped_firewall_and_deleted_links_are_repaired() {
    let Some(rig) = shop() else { return };
    let served = |rig: &Rig| {
        rig.curl("https://shop.test/health", &["--max-time", "3"])
            .is_ok_and(|a| a.status == 200)
    };
    assert!(served(&rig));
    rig.host().run(&["nft", "flush", "ruleset"]);
    rig.wait_until("our table is there", Duration::from_secs(15), || {
        rig.host()
            .run(&["nft", "list", "tables"])
            .out
            .contains("linkspan")
    });
    let links = rig.host().run(&["ip", "-o", "link"]).ok();
    for name in links
        .lines()
        .filter_map(|line| line.split(": ").nth(1))
        .filter_map(|name| name.split('@').next())
    {
        if name.starts_with("ls-") {
            // A pair's other end may be gone already.
            rig.host().run(&["ip", "link", "delete", name]);
        }
    }
    rig.wait_until("served again", Duration::from_secs(30), || served(&rig));
    rig.wait_until(
        "containers find each other again",
        Duration::from_secs(30),
        || {
            rig.linkspan(&[
                "exec",
                "shop-data-1",
                "wget",
                "-q",
                "-O",
                "-",
                "http://web:8080/health",
            ])
            .out == "fine\n"
        },
    );
}

fn shop() -> Option<Rig> {
    let rig = Rig::start()?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    Some(rig)
}
