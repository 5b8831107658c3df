//! Mistakes about networks: a clear message that names the thing, exit status 2, and nothing half-made remains.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::{Ran, Rig};

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['5000:8080', '0.0.0.0:5001:8080']
networks: { default: { subnet: 10.77.0.0/24 } }
";

fn shop() -> Option<Rig> {
    let rig = Rig::start()?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

/// Links, firewall elements and containers, as they were with the shop alone.
#[derive(Debug, PartialEq, Eq)]
struct State {
    links: Vec<String>,
    firewall: String,
    containers: Vec<String>,
    sites: String,
}

fn state(rig: &Rig) -> State {
    let links = rig.host().run(&["ip", "-o", "link"]).ok();
    let name = |line: &str| line.split(": ").nth(1).unwrap().to_owned();
    State {
        links: links.lines().map(name).collect(),
        firewall: rig.host().run(&["nft", "list", "ruleset"]).ok(),
        containers: rig.ps().iter().map(|one| one["name"].to_string()).collect(),
        sites: rig.json(&["status"])["sites"].to_string(),
    }
}

/// Words that a message must hold.
#[track_caller]
fn refused(what: &str, ran: &Ran, holds: &[&str]) {
    assert_eq!(ran.code, 2, "{what}: {}", ran.said());
    for text in holds {
        assert!(ran.said().contains(text), "{what}: no `{text}` in {}", ran.said());
    }
}

/// A removal that fails is no mistake in what was typed; the status is Docker's.
fn failed(what: &str, ran: &Ran, holds: &[&str]) {
    assert_eq!(ran.code, 1, "{what}: {}", ran.said());
    for text in holds {
        assert!(ran.said().contains(text), "{what}: no `{text}` in {}", ran.said());
    }
}

#[test]
fn settings_that_make_no_sense_keep_the_daemon_from_starting() {
    let Some(rig) = Rig::without_daemon(&[]) else {
        return;
    };
    let folder = rig.folder().to_owned();
    let (settings, daemon_state) = (folder.join("config.yaml"), folder.join("state"));
    for (what, yaml, holds) in [
        (
            "overlapping pools",
            "pools: [{ base: 10.0.0.0/8 }, { base: 10.1.0.0/16 }]",
            &["10.0.0.0/8", "10.1.0.0/16", "overlap", "config.yaml"][..],
        ),
        (
            "a pool smaller than a block",
            "pools: [{ base: 10.0.0.0/25, size: 24 }]",
            &["10.0.0.0/25", "/24", "config.yaml"],
        ),
        (
            "blocks too small for a network",
            "pools: [{ base: 10.0.0.0/24, size: 31 }]",
            &["10.0.0.0/24", "/31"],
        ),
        (
            "no range at all",
            "pools: [{ base: 10.0.0.300/8 }]",
            &["config.yaml", "10.0.0.300"],
        ),
        (
            "a range to avoid that is none",
            "avoid: [10.0.0.0/33]",
            &["10.0.0.0/33"],
        ),
        (
            "an unknown key of a pool",
            "pools: [{ base: 10.0.0.0/8, sise: 24 }]",
            &["sise"],
        ),
    ] {
        rig.settings(yaml);
        let ran = rig.linkspan(&[
            "daemon",
            "--state-dir",
            daemon_state.to_str().unwrap(),
            "--config",
            settings.to_str().unwrap(),
        ]);
        refused(what, &ran, holds);
    }
    assert!(
        !daemon_state.exists(),
        "nothing is made before the settings are read"
    );
    assert_eq!(rig.leaks(), Vec::<String>::new());
}

#[test]
fn a_file_that_asks_for_the_impossible_is_refused_at_the_place() {
    let Some(rig) = shop() else { return };
    let before = state(&rig);
    let one = "containers:\n  web:\n    image: linkspan-demo/web:1\n";
    let mut wrong = Vec::new();
    for (what, yaml, holds) in [
        (
            "an address outside of its subnet",
            format!(
                "{one}    networks: {{ default: {{ ipv4_address: 10.80.1.5 }} }}\nnetworks: {{ default: {{ subnet: 10.80.0.0/24 }} }}\n"
            ),
            &["linkspan.yaml:4", "10.80.1.5", "10.80.0.0/24"][..],
        ),
        (
            "a gateway outside of its subnet",
            format!("{one}networks: {{ default: {{ subnet: 10.80.0.0/24, gateway: 10.80.1.1 }} }}\n"),
            &["linkspan.yaml:4", "10.80.1.1", "10.80.0.0/24"],
        ),
        (
            "the gateway's address for a container",
            format!(
                "{one}    networks: {{ default: {{ ipv4_address: 10.80.0.1 }} }}\nnetworks: {{ default: {{ subnet: 10.80.0.0/24, gateway: 10.80.0.1 }} }}\n"
            ),
            &["linkspan.yaml:4", "10.80.0.1", "bridge"],
        ),
        (
            "one address for two containers",
            format!(
                "{one}    networks: {{ default: {{ ipv4_address: 10.80.0.9 }} }}\n  api:\n    image: linkspan-demo/web:1\n    networks: {{ default: {{ ipv4_address: 10.80.0.9 }} }}\nnetworks: {{ default: {{ subnet: 10.80.0.0/24 }} }}\n"
            ),
            &["linkspan.yaml:4", "10.80.0.9", "`api`", "line 7"],
        ),
        (
            "a fixed address without a subnet",
            format!("{one}    networks: {{ default: {{ ipv4_address: 10.80.0.9 }} }}\n"),
            &["linkspan.yaml:4", "subnet"],
        ),
        (
            "two networks that overlap",
            format!(
                "{one}    networks: [a, b]\nnetworks: {{ a: {{ subnet: 10.80.0.0/16 }}, b: {{ subnet: 10.80.7.0/24 }} }}\n"
            ),
            &["linkspan.yaml:5", "10.80.0.0/16", "10.80.7.0/24"],
        ),
        (
            "an unknown network",
            format!("{one}    networks: [frnt]\nnetworks: {{ front: {{}} }}\n"),
            &["linkspan.yaml:4", "frnt", "front"],
        ),
        (
            "an MTU that no link has",
            format!("{one}networks: {{ default: {{ mtu: 20 }} }}\n"),
            &["linkspan.yaml:4", "mtu", "20"],
        ),
        (
            "an MTU beyond what packets can be",
            format!("{one}networks: {{ default: {{ mtu: 70000 }} }}\n"),
            &["linkspan.yaml:4", "70000"],
        ),
        (
            "a subnet with host bits",
            format!("{one}networks: {{ default: {{ subnet: 10.80.0.7/24 }} }}\n"),
            &["linkspan.yaml:4", "10.80.0.7/24", "10.80.0.0/24"],
        ),
        (
            "a subnet with room for nobody",
            format!("{one}networks: {{ default: {{ subnet: 10.80.0.0/31 }} }}\n"),
            &["linkspan.yaml:4", "10.80.0.0/31"],
        ),
        (
            "a parameter of the whole host's kernel",
            format!("{one}    sysctls: {{ kernel.panic: 1 }}\n"),
            &["linkspan.yaml:4", "kernel.panic"],
        ),
        (
            "a parameter that is the host's, by another name",
            format!("{one}    sysctls: {{ net.core.../../kernel/panic: 1 }}\n"),
            &["linkspan.yaml:4"],
        ),
        (
            "ports of unequal number",
            format!("{one}    ports: ['8000-8009:80-81']\n"),
            &["linkspan.yaml:4", "8000-8009:80-81"],
        ),
        (
            "a range that ends before it begins",
            format!("{one}    ports: ['8009-8000:8009-8000']\n"),
            &["linkspan.yaml:4", "8009-8000"],
        ),
        (
            "a hardware address that is a group's",
            format!("{one}    networks: {{ default: {{ mac_address: '01:00:5e:00:00:01' }} }}\n"),
            &["linkspan.yaml:4", "01:00:5e:00:00:01"],
        ),
        (
            "a driver that nobody knows",
            format!("{one}networks: {{ default: {{ driver: overlay }} }}\n"),
            &["linkspan.yaml:4", "overlay"],
        ),
    ] {
        let folder = rig.site("bad", &yaml);
        for verb in ["check", "up"] {
            let ran = rig.linkspan_in(&folder, &[verb]);
            let missing: Vec<_> = holds.iter().filter(|text| !ran.said().contains(**text)).collect();
            if ran.code != 2 || !missing.is_empty() {
                wrong.push(format!(
                    "{what}, `{verb}`: exit status {}, without {missing:?}:\n{}",
                    ran.code,
                    ran.said()
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(state(&rig), before);
}

#[test]
fn what_somebody_else_has_is_refused_and_named() {
    let Some(rig) = shop() else { return };
    rig.host().vpn();
    rig.host().vpn_route("10.90.0.0/16");
    rig.host().docker_bridge("172.30.0.1/16");
    let before = state(&rig);
    let one = "containers: { web: { image: linkspan-demo/web:1 } }\n";
    for (what, yaml, holds) in [
        (
            "a subnet that a VPN has",
            format!("{one}networks: {{ default: {{ subnet: 10.90.7.0/24 }} }}\n"),
            &["10.90.7.0/24", "10.90.0.0/16", "vpn0"][..],
        ),
        (
            "a subnet that another engine has",
            format!("{one}networks: {{ default: {{ subnet: 172.30.9.0/24 }} }}\n"),
            &["172.30.9.0/24", "docker0"],
        ),
        (
            "a subnet that another site has",
            format!("{one}networks: {{ default: {{ subnet: 10.77.0.128/25 }} }}\n"),
            &["10.77.0.128/25", "shop_default"],
        ),
        (
            "a port that another site has",
            "containers: { web: { image: linkspan-demo/web:1, ports: ['192.0.2.1:5001:80'] } }\n".to_owned(),
            &["5001", "shop"],
        ),
        (
            "a range with a port that another site has",
            "containers: { web: { image: linkspan-demo/web:1, ports: ['4990-5009:4990-5009'] } }\n"
                .to_owned(),
            &["shop"],
        ),
    ] {
        refused(what, &rig.up("bad", &yaml), holds);
    }
    assert_eq!(state(&rig), before);
}

#[test]
fn a_range_with_room_for_none_of_them_is_told_with_the_way_out() {
    let Some(rig) = shop() else { return };
    // Of eight addresses: network, broadcast, gateway and resolver; four are left.
    let site = |replicas: u32| {
        format!(
            "containers: {{ web: {{ image: busybox:test, command: [sleep, '1000'], stop_signal: KILL, replicas: {replicas} }} }}\n\
             networks: {{ default: {{ subnet: 10.80.0.0/29 }} }}\n"
        )
    };
    rig.up("small", &site(4)).ok();
    let ran = rig.up("small", &site(5));
    assert_ne!(ran.code, 0, "{}", ran.said());
    for text in ["small_default", "10.80.0.0/29", "subnet"] {
        assert!(ran.said().contains(text), "no `{text}` in {}", ran.said());
    }
    let running = rig.ps().iter().filter(|one| one["state"] == "running").count();
    assert_eq!(running, 5, "four and the shop go on");
    // Back to what fits: all is well again.
    rig.up("small", &site(4)).ok();
    rig.linkspan(&["down", "small"]).ok();
    rig.wait_until("nothing of it is left", Duration::from_secs(20), || {
        state(&rig).containers == ["\"shop-web-1\""]
            && !rig.host().run(&["ip", "-o", "address"]).out.contains("10.80.0.")
    });
}

#[test]
fn a_port_that_another_program_has_is_named_with_the_program() {
    let Some(rig) = shop() else { return };
    let before = state(&rig);
    for (what, bound, port) in [
        ("on localhost", "127.0.0.1:6000", "6000:8080"),
        ("on every address", "0.0.0.0:6001", "0.0.0.0:6001:8080"),
        ("on one address", "192.0.2.1:6002", "192.0.2.1:6002:8080"),
    ] {
        let _other = rig.spawn("other", &["busybox", "httpd", "-f", "-p", bound]);
        rig.wait_until("it listens", Duration::from_secs(10), || {
            rig.host()
                .run(&["sh", "-c", &format!("ss -ltn | grep -q {bound}")])
                .code
                == 0
        });
        let yaml = format!("containers: {{ web: {{ image: linkspan-demo/web:1, ports: ['{port}'] }} }}\n");
        let number = &bound[bound.len() - 4..];
        refused(what, &rig.up("bad", &yaml), &[number, "busybox", "pid"]);
    }
    assert_eq!(state(&rig), before);
}

#[test]
fn networks_of_the_user_that_can_not_be_are_refused() {
    let Some(rig) = shop() else { return };
    let before = state(&rig);
    let network = |args: &[&str]| rig.linkspan(&[&["network"], args].concat());
    failed(
        "deleting a network in use",
        &network(&["rm", "shop_default"]),
        &["shop_default", "shop"],
    );
    failed(
        "deleting what is not there",
        &network(&["rm", "nonesuch"]),
        &["nonesuch"],
    );
    failed(
        "looking at what is not there",
        &network(&["inspect", "nonesuch"]),
        &["nonesuch"],
    );
    refused(
        "connecting to what is not there",
        &network(&["connect", "nonesuch", "shop-web-1"]),
        &["nonesuch"],
    );
    refused(
        "a subnet that is taken",
        &network(&["create", "--subnet", "10.77.0.0/24", "mine"]),
        &["10.77.0.0/24", "shop_default"],
    );
    refused(
        "an MTU out of range",
        &network(&["create", "--mtu", "20", "mine"]),
        &["20"],
    );
    refused("no name", &network(&["create", "a/b"]), &["a/b"]);
    assert_eq!(state(&rig), before);

    network(&["create", "--subnet", "10.81.0.0/24", "mine"]).ok();
    refused("a name twice", &network(&["create", "mine"]), &["mine"]);
    refused(
        "a container that is not there",
        &network(&["connect", "mine", "nobody"]),
        &["nobody"],
    );
    refused(
        "an address outside of the subnet",
        &network(&["connect", "--ip", "10.82.0.9", "mine", "shop-web-1"]),
        &["10.82.0.9", "10.81.0.0/24"],
    );
    refused(
        "an address that is the gateway's",
        &network(&["connect", "--ip", "10.81.0.1", "mine", "shop-web-1"]),
        &["10.81.0.1"],
    );
    network(&["connect", "mine", "shop-web-1"]).ok();
    failed(
        "deleting one that somebody is on",
        &network(&["rm", "mine"]),
        &["mine", "shop-web-1"],
    );
    network(&["disconnect", "mine", "shop-web-1"]).ok();
    network(&["rm", "mine"]).ok();
    rig.wait_until("all is as it was", Duration::from_secs(20), || {
        state(&rig) == before
    });
}

#[test]
fn pools_that_are_exhausted_are_told_with_their_holders_and_nothing_is_made() {
    let Some(mut rig) = Rig::without_daemon(&[]) else {
        return;
    };
    rig.settings("pools: [{ base: 10.200.0.0/24, size: 24 }]\n");
    rig.start_daemon();
    rig.load_image("demo-web");
    let one = "containers: { web: { image: linkspan-demo/web:1 } }\n";
    rig.up("shop", one).ok();
    let before = state(&rig);
    refused(
        "a pool without a block",
        &rig.up("other", one),
        &["other_default", "shop_default", "network pools"],
    );
    assert_eq!(state(&rig), before);
    let pools = rig.linkspan(&["network", "pools"]).ok();
    assert!(
        pools.contains("10.200.0.0/24") && pools.contains("shop_default"),
        "{pools}"
    );
}
