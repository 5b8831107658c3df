//! Names inside: who finds whom, on which networks, and that it stays so while containers come and go.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use linkspan_tests::{Ran, Rig};

const LIMIT: Duration = Duration::from_secs(30);

const SHOP: &str = "
containers:
  web:
    image: linkspan-demo/web:1
    replicas: 3
    stop_signal: KILL
    networks: { front: { aliases: [www, shop.internal] } }
  db:
    image: linkspan-demo/web:1
    stop_signal: KILL
    networks: [back]
  api:
    image: busybox:test
    command: [sleep, '1000']
    stop_signal: KILL
    networks: [front, back]
  front:
    image: busybox:test
    command: [sleep, '1000']
    stop_signal: KILL
    networks: [front]
  back:
    image: busybox:test
    command: [sleep, '1000']
    stop_signal: KILL
    networks: [back]
networks:
  front: { subnet: 10.77.0.0/24 }
  back: { subnet: 10.78.0.0/24, internal: true }
";

/// A resolver's answer as `dig` shows it, asked from a container's network namespace.
fn dig(rig: &Rig, container: &str, words: &[&str]) -> Ran {
    let pid = rig.container(container)["pid"].to_string();
    let server = server(rig, container);
    let at = format!("@{server}");
    let fixed = ["nsenter", "-t", &pid, "-n", "dig", &at, "+time=3", "+tries=1"];
    rig.host().run(&[&fixed[..], words].concat())
}

/// The name server that the container's programs are told.
fn server(rig: &Rig, container: &str) -> String {
    let text = rig.linkspan(&["exec", container, "cat", "/etc/resolv.conf"]).ok();
    let line = text
        .lines()
        .find(|line| line.starts_with("nameserver "))
        .unwrap()
        .to_owned();
    line["nameserver ".len()..].to_owned()
}

fn addresses(rig: &Rig, container: &str, name: &str) -> BTreeSet<String> {
    let said = dig(rig, container, &["+short", name, "A"]).ok();
    said.lines().map(str::to_owned).collect()
}

fn address(rig: &Rig, container: &str, network: &str) -> String {
    rig.container(container)["networks"][network][0]
        .as_str()
        .unwrap()
        .to_owned()
}

fn shop() -> Option<Rig> {
    let rig = Rig::start_with(&["dig"])?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

#[test]
fn a_container_is_found_by_its_names_on_the_networks_of_who_asks_and_nowhere_else() {
    let Some(rig) = shop() else { return };
    let web: BTreeSet<String> = (1..=3)
        .map(|index| address(&rig, &format!("shop-web-{index}"), "shop_front"))
        .collect();
    for name in ["web", "web.shop", "www", "shop.internal", "WWW", "web."] {
        assert_eq!(addresses(&rig, "shop-front-1", name), web, "{name}");
    }
    let second = address(&rig, "shop-web-2", "shop_front");
    assert_eq!(
        addresses(&rig, "shop-front-1", "shop-web-2"),
        [second.clone()].into()
    );
    // Who is on both networks has a name on each, with the address of that network.
    for (asker, network) in [("shop-front-1", "shop_front"), ("shop-back-1", "shop_back")] {
        assert_eq!(
            addresses(&rig, asker, "api"),
            [address(&rig, "shop-api-1", network)].into()
        );
    }
    // Others are not known at all: no address, and no hint that there is such a name.
    for (asker, name) in [
        ("shop-front-1", "db"),
        ("shop-front-1", "shop-db-1"),
        ("shop-back-1", "web"),
        ("shop-back-1", "www"),
        ("shop-back-1", "shop-web-1"),
    ] {
        let said = dig(&rig, asker, &[name]).ok();
        assert!(
            said.contains("status: NXDOMAIN"),
            "{asker} asks for {name}: {said}"
        );
    }
    // An address is known backwards, by those who share its network.
    let said = dig(&rig, "shop-front-1", &["+short", "-x", &second]).ok();
    assert!(said.starts_with("shop-web-2."), "{said}");
    let said = dig(&rig, "shop-back-1", &["-x", &second]).ok();
    assert!(!said.contains("shop-web-2"), "{said}");
}

#[test]
fn answers_live_for_five_seconds_at_most_and_take_turns_and_come_over_tcp_too() {
    let Some(rig) = shop() else { return };
    let said = dig(&rig, "shop-front-1", &["+noall", "+answer", "web", "A"]).ok();
    let lives: Vec<u32> = said
        .lines()
        .map(|line| line.split_whitespace().nth(1).unwrap().parse().unwrap())
        .collect();
    assert_eq!(lives.len(), 3, "{said}");
    assert!(lives.iter().all(|life| *life <= 5), "{said}");
    let firsts: BTreeSet<String> = (0..12)
        .map(|_| {
            let said = dig(&rig, "shop-front-1", &["+short", "web", "A"]).ok();
            said.lines().next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(
        firsts.len(),
        3,
        "each replica comes first now and then: {firsts:?}"
    );
    let said = dig(&rig, "shop-front-1", &["+tcp", "+short", "web", "A"]).ok();
    assert_eq!(said.lines().count(), 3, "{said}");
    let said = dig(&rig, "shop-front-1", &["+bufsize=1232", "web", "A"]).ok();
    assert!(said.contains("EDNS: version: 0"), "{said}");
    // Of a name that there is, but without this kind of record.
    let said = dig(&rig, "shop-front-1", &["web", "MX"]).ok();
    assert!(
        said.contains("status: NOERROR") && said.contains("ANSWER: 0"),
        "{said}"
    );
}

#[test]
fn a_name_follows_its_container_to_another_address_at_once() {
    let Some(rig) = Rig::start_with(&["dig"]) else {
        return;
    };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    let site = |last: u32| {
        format!(
            "
containers:
  web:
    image: linkspan-demo/web:1
    stop_signal: KILL
    networks: {{ default: {{ ipv4_address: 10.77.0.{last} }} }}
  asker: {{ image: busybox:test, command: [sleep, '1000'], stop_signal: KILL }}
networks: {{ default: {{ subnet: 10.77.0.0/24 }} }}
"
        )
    };
    for last in [50, 51, 52, 50] {
        rig.up("shop", &site(last)).ok();
        assert_eq!(
            addresses(&rig, "shop-asker-1", "web"),
            [format!("10.77.0.{last}")].into()
        );
        let said = rig.linkspan(&[
            "exec",
            "shop-asker-1",
            "wget",
            "-q",
            "-O",
            "-",
            "http://web:8080/health",
        ]);
        assert_eq!(said.ok(), "fine\n");
    }
    rig.linkspan(&["restart", "shop-web-1"]).ok();
    assert_eq!(addresses(&rig, "shop-asker-1", "web").len(), 1);
    rig.linkspan(&["stop", "shop-web-1"]).ok();
    assert_eq!(addresses(&rig, "shop-asker-1", "web"), BTreeSet::new());
    rig.linkspan(&["start", "shop-web-1"]).ok();
    rig.wait_until("the name is back", LIMIT, || {
        addresses(&rig, "shop-asker-1", "web").len() == 1
    });
}

#[test]
fn glibc_musl_and_who_reads_resolv_conf_once_find_a_container_where_it_is_now() {
    let Some(rig) = Rig::start_with(&["cc", "musl-gcc"]) else {
        return;
    };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    let clients = rig.clients().display().to_string();
    let asker = |name: &str, command: &str| {
        format!(
            "  {name}: {{ image: busybox:test, command: [{command}, web, '8080'], stop_signal: KILL, volumes: ['{clients}:/clients:ro'] }}\n"
        )
    };
    let site = |last: u32| {
        format!(
            "containers:
  web: {{ image: linkspan-demo/web:1, networks: {{ default: {{ ipv4_address: 10.77.0.{last} }} }} }}
{}{}{}networks: {{ default: {{ subnet: 10.77.0.0/24 }} }}\n",
            asker("glibc", "/clients/glibc, poll"),
            asker("musl", "/clients/musl, poll"),
            asker("once", "/clients/glibc, once"),
        )
    };
    for last in [50, 51, 50] {
        rig.up("shop", &site(last)).ok();
        for asker in ["shop-glibc-1", "shop-musl-1", "shop-once-1"] {
            rig.wait_until_ok(&format!("{asker} finds 10.77.0.{last}"), LIMIT, || {
                let last_line = rig.lines_of(asker).last().cloned().unwrap_or_default();
                let found = last_line.starts_with(&format!("10.77.0.{last}: "))
                    && last_line.ends_with(&format!("at 10.77.0.{last}"));
                found.then_some(()).ok_or(last_line)
            });
        }
    }
}

#[test]
fn fifty_containers_ask_at_once_and_all_are_answered() {
    let Some(rig) = Rig::start_with(&["cc", "musl-gcc"]) else {
        return;
    };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    let clients = rig.clients();
    let site = format!(
        "
containers:
  web: {{ image: linkspan-demo/web:1, replicas: 2, stop_signal: KILL }}
  asker:
    image: busybox:test
    command: [sh, -c, 'until [ -e /go/now ]; do sleep 0.05; done; /clients/musl query web 200; sleep 1000']
    stop_signal: KILL
    replicas: 50
    volumes: ['{}:/clients:ro', '{}:/go:ro']
networks: {{ default: {{ subnet: 10.77.0.0/24 }} }}
",
        clients.display(),
        rig.folder().join("go").display()
    );
    std::fs::create_dir_all(rig.folder().join("go")).unwrap();
    rig.up("town", &site).ok();
    std::fs::write(rig.folder().join("go/now"), "").unwrap();
    let said = |index: u32| rig.linkspan(&["logs", &format!("town-asker-{index}")]).ok();
    for index in 1..=50 {
        rig.wait_until_ok(&format!("asker {index} is done"), Duration::from_secs(60), || {
            let said = said(index);
            said.contains("slowest").then_some(()).ok_or(said)
        });
        let said = said(index);
        assert!(said.starts_with("200 asked, 0 failed"), "asker {index}: {said}");
    }
}

#[test]
fn fifty_containers_ask_for_each_other_at_once_and_all_answers_are_right() {
    let Some(rig) = Rig::start() else { return };
    rig.load_image("busybox");
    let folder = rig.folder().join("go");
    std::fs::create_dir_all(&folder).unwrap();
    // Every asker knows who is where, asks for all, and says how many answers were that. A name of nobody has none.
    let ask = r#"
        until [ -e /go/whereabouts ]; do sleep 0.05; done
        right=0; wrong=0
        while read name address; do
            if nslookup -type=a $$name | grep -q "Address: $$address$$"; then
                right=$$((right + 1))
            else
                wrong=$$((wrong + 1)); echo "$$name is not at $$address:"; nslookup -type=a $$name
            fi
        done < /go/whereabouts
        nslookup -type=a nobody | grep -q NXDOMAIN && echo "nobody is nobody"
        echo "done: $$right right, $$wrong wrong"
        sleep 1000"#;
    let site = format!(
        "
containers:
  asker:
    image: busybox:test
    command: [sh, -c, {}]
    stop_signal: KILL
    replicas: 50
    volumes: ['{}:/go:ro']
networks: {{ default: {{ subnet: 10.77.0.0/24 }} }}
",
        serde_json::to_string(ask).unwrap(),
        folder.display()
    );
    rig.up("town", &site).ok();
    let names = (1..=50).map(|index| format!("town-asker-{index}"));
    let whereabouts: BTreeSet<String> = names
        .map(|name| format!("{name} {}\n", address(&rig, &name, "town_default")))
        .collect();
    assert_eq!(whereabouts.len(), 50);
    std::fs::write(folder.join("new"), String::from_iter(whereabouts)).unwrap();
    std::fs::rename(folder.join("new"), folder.join("whereabouts")).unwrap();
    for index in 1..=50 {
        let said = || rig.linkspan(&["logs", &format!("town-asker-{index}")]).ok();
        rig.wait_until_ok(&format!("asker {index} is done"), Duration::from_secs(90), || {
            let said = said();
            said.contains("done: ").then_some(()).ok_or(said)
        });
        assert_eq!(
            said(),
            "nobody is nobody\ndone: 50 right, 0 wrong\n",
            "asker {index}"
        );
    }
}
