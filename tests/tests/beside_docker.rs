//! Another engine on the same host, whose firewall drops what it doesn't know.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::Rig;

const LIMIT: Duration = Duration::from_secs(20);

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['5000:8080', '0.0.0.0:5001:8080', '[::]:5001:8080']
  shell: { image: busybox:test, command: [sleep, '1000'] }
  other: { image: busybox:test, command: [sleep, '1000'], networks: [other] }
networks:
  default: { ipam: { config: [{ subnet: 10.77.0.0/24 }, { subnet: 'fd00:77::/64' }] } }
  other: {}
";

/// All that a network is for.
fn flows(rig: &Rig) -> Result<(), String> {
    let lan = |url: &str| {
        let ran = rig.host().run_in_lan(&["curl", "-sS", "--max-time", "2", url]);
        (ran.out == "fine\n")
            .then_some(())
            .ok_or_else(|| format!("from the LAN: {url}: {}", ran.said()))
    };
    lan("http://192.0.2.1:5001/health")?;
    lan("http://[2001:db8::1]:5001/health")?;
    let inside = |who: &str, command: &[&str]| {
        let ran = rig.linkspan(&[&["exec", who, "timeout", "2"], command].concat());
        (ran.code == 0)
            .then_some(())
            .ok_or_else(|| format!("{who}: {command:?}: {}", ran.said()))
    };
    inside(
        "shop-shell-1",
        &["wget", "-q", "-O", "-", "http://web:8080/health"],
    )?;
    inside(
        "shop-shell-1",
        &["wget", "-q", "-O", "-", "http://192.0.2.1:5001/health"],
    )?;
    inside(
        "shop-other-1",
        &["wget", "-q", "-O", "-", "http://192.0.2.1:5001/health"],
    )?;
    inside("shop-shell-1", &["ping", "-c1", "-W1", "192.0.2.2"])?;
    inside("shop-shell-1", &["ping", "-c1", "-W1", "2001:db8::2"])?;
    let own = rig.curl_raw(&["--max-time", "2", "http://127.0.0.1:5000/health"])?;
    let site = rig.curl("https://shop.test/health", &[])?;
    (own.body == "fine\n" && site.body == "fine\n")
        .then_some(())
        .ok_or_else(|| format!("the host itself: {own:?} {site:?}"))
}

/// Bridges show their frames to IP's hooks, as Docker and Kubernetes ask for.
fn bridged_frames_are_filtered(rig: &Rig) {
    for name in ["bridge-nf-call-iptables", "bridge-nf-call-ip6tables"] {
        rig.host().sysctl(&format!("net.bridge.{name}"), "1");
    }
}

#[test]
fn bridged_frames_that_pass_ips_hooks_flow() {
    let Some(rig) = Rig::start() else { return };
    bridged_frames_are_filtered(&rig);
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    rig.wait_until_ok("traffic flows", LIMIT, || flows(&rig));
}

#[test]
fn dockers_rules_stop_nothing_of_ours_whichever_came_first() {
    for docker_is_first in [true, false] {
        let Some(mut rig) = Rig::without_daemon(&["iptables-nft"]) else {
            return;
        };
        if docker_is_first {
            rig.host().docker();
            bridged_frames_are_filtered(&rig);
        }
        rig.start_daemon();
        rig.load_image("demo-web");
        rig.load_image("busybox");
        rig.up("shop", SHOP).ok();
        if !docker_is_first {
            rig.wait_until_ok("traffic flows", LIMIT, || flows(&rig));
            rig.host().docker();
            bridged_frames_are_filtered(&rig);
        }
        rig.wait_until_ok(
            &format!("traffic flows (Docker was first: {docker_is_first})"),
            LIMIT,
            || flows(&rig),
        );
        // What is its own is as it was, but for the accept that the settings allow.
        let rules = rig.host().run(&["iptables-nft", "-S"]).ok();
        assert!(rules.contains("-P FORWARD DROP"), "{rules}");
        let ours: Vec<&str> = rules
            .lines()
            .filter(|line| line.contains("linkspan") || line.contains("ls-"))
            .collect();
        assert!(
            ours.iter().all(|line| line.starts_with("-A DOCKER-USER")),
            "only in the chain that is the user's: {ours:?}"
        );
    }
}
