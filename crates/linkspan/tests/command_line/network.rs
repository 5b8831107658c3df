//! `linkspan network`, `doctor` and `events`: what is asked of the daemon, what is shown, and the exit status.

use std::io::{Read, Write};
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::daemon::{Asked, Daemon, Reply};
use crate::exec::{on_terminal, terminal};
use crate::{SITE, containers, err, in_site, linkspan, out};

fn run(daemon: &Daemon, args: &[&str]) -> Output {
    linkspan(daemon.run_dir()).args(args).output().unwrap()
}

fn network(name: &str, project: Option<&str>, containers: u32) -> Value {
    json!({
        "name": name, "project": project, "driver": "bridge", "subnets": ["10.201.3.0/24"], "internal": false,
        "isolated": false, "containers": containers, "state": "ok", "labels": {},
    })
}

fn networks() -> Reply {
    let all = [
        network("shop_default", Some("shop"), 2),
        network("office", None, 0),
        network("lab", None, 0),
    ];
    Reply::json(&json!(all).to_string())
}

fn body(asked: &Asked) -> Value {
    serde_json::from_slice(&asked.body).unwrap()
}

#[test]
fn a_network_is_made_as_it_was_asked_for_and_its_name_is_printed() {
    let daemon = Daemon::start(|asked| {
        assert_eq!(asked.line, "POST /v1/networks");
        let expected = json!({
            "name": "lan", "driver": "ipvlan", "subnets": ["192.168.1.0/24"], "gateway": "192.168.1.1",
            "internal": false, "isolated": false, "ipv6": false, "mtu": 1400, "on_conflict": "report",
            "options": { "parent": "eth0", "ipvlan_mode": "l3" }, "labels": { "floor": "2" },
        });
        assert_eq!(body(asked), expected);
        Reply::json(&network("lan", None, 0).to_string())
    });
    let args = [
        "network",
        "create",
        "-d",
        "ipvlan",
        "--subnet=192.168.1.0/24",
        "--gateway",
        "192.168.1.1",
        "--ipv6=false",
        "-o",
        "parent=eth0",
        "-o",
        "ipvlan_mode=l3",
        "-o",
        "com.docker.network.driver.mtu=1400",
        "--label",
        "floor=2",
        "--on-conflict",
        "report",
        "--attachable",
        "lan",
    ];
    let output = run(&daemon, &args);
    assert_eq!((out(&output).as_str(), err(&output).as_str()), ("lan\n", ""));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_network_that_can_not_be_is_refused_with_2_and_the_daemons_problems() {
    let daemon = Daemon::start(|_| {
        Reply::refusal(
            422,
            "network `lan` can't be made",
            &["a macvlan network needs a `parent`; `-o parent=eth0`"],
        )
    });
    let output = run(&daemon, &["network", "create", "-d", "macvlan", "lan"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "error: network `lan` can't be made\na macvlan network needs a `parent`; `-o parent=eth0`\n"
    );
    // What the command line alone can tell is told without the daemon.
    let before = daemon.asked().len();
    for (args, reason) in [
        (
            ["create", "lan", "--scope=swarm"],
            "`--scope` is of Docker's swarm",
        ),
        (["create", "lan", "-oparetn=eth0"], "did you mean `parent`?"),
        (["connect", "office", "web"], "--link-local-ip"),
        (["craete", "lan", "--internal"], "'create'"),
        (["ls", "--filter", "nmae=x"], "did you mean `name`?"),
    ] {
        let mut args = [&["network"], args.as_slice()].concat();
        if args[1] == "connect" {
            args.push("--link-local-ip=169.254.1.1");
        }
        let output = run(&daemon, &args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(err(&output).contains(reason), "{args:?}: {}", err(&output));
    }
    assert_eq!(daemon.asked().len(), before);
}

#[test]
fn networks_are_listed_for_people_and_for_programs() {
    let daemon = Daemon::start(|asked| {
        assert_eq!(asked.line, "GET /v1/networks");
        networks()
    });
    assert_eq!(
        out(&run(&daemon, &["network", "ls"])),
        "NAME           DRIVER   SUBNET          CONTAINERS   STATE   SITE\n\
         shop_default   bridge   10.201.3.0/24   2            ok      shop\n\
         office         bridge   10.201.3.0/24   0            ok      -\n\
         lab            bridge   10.201.3.0/24   0            ok      -\n"
    );
    let quiet = [
        "network",
        "list",
        "-q",
        "--filter",
        "dangling=true",
        "-f",
        "name=la",
    ];
    assert_eq!(out(&run(&daemon, &quiet)), "lab\n");
    let listed: Value = serde_json::from_str(&out(&run(
        &daemon,
        &["network", "ls", "--format", "json", "-f", "project=shop"],
    )))
    .unwrap();
    assert_eq!(listed, json!([network("shop_default", Some("shop"), 2)]));
}

#[test]
fn removing_goes_on_after_a_failure_and_says_each() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "GET /v1/networks" => networks(),
        "DELETE /v1/networks/shop_default" => Reply::failure(
            409,
            "network `shop_default` belongs to site `shop`; `linkspan down shop` removes it",
        ),
        "DELETE /v1/networks/office" => Reply::empty(),
        "DELETE /v1/networks/lab" => Reply::failure(404, "no network `lab`"),
        other => panic!("asked for {other}"),
    });
    let args = ["network", "rm", "offcie", "default", "office"];
    let output = in_site(&daemon, SITE, &args);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(out(&output), "office\n");
    assert_eq!(
        err(&output),
        "error: no network `offcie`; did you mean `office`?\n\
         error: network `shop_default` belongs to site `shop`; `linkspan down shop` removes it\n"
    );
    let output = run(
        &daemon,
        &["network", "remove", "--force", "nowhere", "lab", "office"],
    );
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
    assert_eq!(out(&output), "office\n");
}

#[test]
fn inspecting_shows_those_that_are_there() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "GET /v1/networks" => networks(),
        "GET /v1/networks/office" => {
            let mut detail = network("office", None, 0);
            detail.as_object_mut().unwrap().extend(
                json!({
                    "bridge": "ls-office", "gateways": ["10.201.3.1"], "mtu": 1500, "written": false,
                    "on_conflict": "move", "retiring": { "10.9.0.0/24": 42 }, "labels": {}, "members": [],
                })
                .as_object()
                .unwrap()
                .clone(),
            );
            Reply::json(&detail.to_string())
        }
        other => panic!("asked for {other}"),
    });
    let output = run(&daemon, &["network", "inspect", "office"]);
    assert_eq!(output.status.code(), Some(0));
    let shown: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(
        (&shown[0]["name"], &shown[0]["retiring"]["10.9.0.0/24"]),
        (&json!("office"), &json!(42))
    );
    let output = run(&daemon, &["network", "inspect", "office", "nope"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "error: no network `nope`; `linkspan network ls` lists all\n"
    );
    let shown: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!(shown.as_array().unwrap().len(), 1);
}

#[test]
fn containers_are_put_on_a_network_and_taken_off() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "GET /v1/networks" => networks(),
        "GET /v1/containers?all=true" => containers(),
        "POST /v1/networks/office/connect" => {
            let expected = json!({
                "container": "shop-web-1-id", "aliases": ["www", "front"], "ipv4_address": "10.201.3.7",
                "ipv6_address": "fd00::7", "mac_address": "02:00:00:00:00:07", "gateway_priority": -1,
            });
            assert_eq!(body(asked), expected);
            Reply::empty()
        }
        "POST /v1/networks/shop_default/disconnect" => {
            assert_eq!(body(asked), json!({ "container": "shop-web-1-id" }));
            Reply::failure(
                409,
                "container `shop-web-1` is on no other network; stop it first",
            )
        }
        other => panic!("asked for {other}"),
    });
    let args = [
        "network",
        "connect",
        "--alias",
        "www",
        "--alias",
        "front",
        "--ip",
        "10.201.3.7",
        "--ip6",
        "fd00::7",
        "--mac-address",
        "02:00:00:00:00:07",
        "--gw-priority",
        "-1",
        "office",
        "web",
    ];
    let output = in_site(&daemon, SITE, &args);
    assert_eq!(
        (output.status.code(), out(&output).as_str(), err(&output).as_str()),
        (Some(0), "", "")
    );
    let output = in_site(
        &daemon,
        SITE,
        &["network", "disconnect", "-f", "default", "shop-web-1"],
    );
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "error: container `shop-web-1` is on no other network; stop it first\n"
    );
    let output = run(&daemon, &["network", "connect", "office", "wbe"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "error: no container `wbe`; `linkspan ps -a` lists all\n"
    );
}

#[test]
fn pruning_asks_on_a_terminal_and_only_there() {
    let daemon = || {
        Daemon::start(|asked| {
            assert_eq!(asked.line, "POST /v1/networks/prune");
            Reply::json(r#"["office","lab"]"#)
        })
    };
    let pruned = daemon();
    let output = run(&pruned, &["network", "prune"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "error: standard input is no terminal to ask on; say yes with `-f`\n"
    );
    assert_eq!(pruned.asked(), Vec::<String>::new());
    let output = run(&pruned, &["network", "prune", "-f"]);
    assert_eq!(out(&output), "Deleted Networks:\noffice\nlab\n");

    for (answer, asked) in [("n\n", 0), ("y\n", 1)] {
        let pruned = daemon();
        let (mut ours, theirs) = terminal();
        let mut child = on_terminal(linkspan(pruned.run_dir()).args(["network", "prune"]), &theirs);
        let mut question = Vec::new();
        while !question.ends_with(b"[y/N] ") {
            let mut byte = [0];
            ours.read_exact(&mut byte).unwrap();
            question.push(byte[0]);
        }
        assert_eq!(
            pruned.asked(),
            Vec::<String>::new(),
            "it didn't wait for the answer"
        );
        ours.write_all(answer.as_bytes()).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(0));
        assert_eq!(pruned.asked().len(), asked, "{answer}");
    }
}

#[test]
fn pools_tell_what_is_left_and_who_has_the_rest() {
    let daemon = Daemon::start(|asked| {
        assert_eq!(asked.line, "GET /v1/pools");
        Reply::json(
            r#"[{"base":"10.192.0.0/22","size":24,"blocks":4,"free":0,"next":null,"held":[
                {"range":"10.192.0.0/22","holder":"route via `tun0`","ours":false,"blocks":4}]}]"#,
        )
    });
    assert_eq!(
        out(&run(&daemon, &["network", "pools"])),
        "POOL            BLOCK   BLOCKS   FREE   NEXT\n\
         10.192.0.0/22   /24     4        0      none left\n\
         \n\
         POOL            HELD            BLOCKS   BY\n\
         10.192.0.0/22   10.192.0.0/22   4        route via `tun0`\n"
    );
}

/// A daemon whose doctor finds what it is told.
fn patient(
    conflict: Option<&'static str>,
    remedy: Option<&'static str>,
    warning: Option<&'static str>,
) -> Daemon {
    Daemon::start(move |asked| {
        match asked.line.as_str() {
        "GET /v1/doctor/network" => Reply::json(
            &json!({
                "claims": [{ "range": "10.0.0.0/8", "source": "route via `tun0`", "disregarded": null }],
                "networks": [{
                    "network": "office", "range": "10.201.3.0/24", "reason": "written by hand", "conflict": conflict,
                }],
                "notes": [],
            })
            .to_string(),
        ),
        "GET /v1/doctor/firewall" => Reply::json(
            &json!({
                "table": "owned",
                "rules": [{
                    "chain": "guard", "hook": "prerouting", "priority": -300, "words": "drops martians", "elements": {},
                }],
                "foreign": [{
                    "chain": "ip filter FORWARD", "hook": "forward", "priority": 0, "policy": "drop", "owner": "Docker",
                    "effect": "drops it", "remedy": remedy,
                }],
            })
            .to_string(),
        ),
        "GET /v1/status" => Reply::json(
            &json!({
                "version": { "version": "0.1.0", "kernel": "6.18", "pid": 1 }, "generation": 3, "converged": true,
                "proxy": { "pid": 2, "generation": 3, "http": [], "https": [] }, "sites": [],
                "warnings": warning.iter().collect::<Vec<_>>(),
            })
            .to_string(),
        ),
        other => panic!("asked for {other}"),
    }
    })
}

#[test]
fn the_doctor_exits_with_1_when_something_needs_attention() {
    let well = patient(None, None, None);
    for args in [&["doctor"][..], &["doctor", "network"], &["doctor", "firewall"]] {
        let output = run(&well, args);
        assert_eq!(
            (output.status.code(), err(&output).as_str()),
            (Some(0), ""),
            "{args:?}"
        );
    }
    let cases = [
        (
            patient(Some("meets `tun0`"), None, None),
            [Some(1), Some(1), Some(0)],
        ),
        (
            patient(None, Some("iptables -P FORWARD ACCEPT"), None),
            [Some(1), Some(0), Some(1)],
        ),
        (
            patient(None, None, Some("the disk is full")),
            [Some(1), Some(0), Some(0)],
        ),
    ];
    for (daemon, codes) in cases {
        let code = |args: &[&str]| run(&daemon, args).status.code();
        let found = [
            code(&["doctor"]),
            code(&["doctor", "network"]),
            code(&["doctor", "firewall", "--format=json"]),
        ];
        assert_eq!(found, codes);
    }
}

#[test]
fn the_doctor_speaks_json_too() {
    let daemon = patient(Some("meets `tun0`"), Some("iptables -P FORWARD ACCEPT"), None);
    let shown = |args: &[&str]| -> Value { serde_json::from_str(&out(&run(&daemon, args))).unwrap() };
    let all = shown(&["doctor", "--format", "json"]);
    assert_eq!(
        all["attention"],
        json!([
            "network `office` (10.201.3.0/24): meets `tun0`",
            "chain `ip filter FORWARD` of Docker: drops it\nto change that: iptables -P FORWARD ACCEPT",
        ])
    );
    assert_eq!(all["network"], shown(&["doctor", "network", "--format", "json"]));
    assert_eq!(
        all["firewall"],
        shown(&["doctor", "firewall", "--format", "json"])
    );
    assert_eq!(all["firewall"]["rules"][0]["words"], "drops martians");
}

#[test]
fn status_shows_a_conflict() {
    let daemon = patient(
        None,
        None,
        Some("network `office`: meets `tun0`; it was written, so it stays"),
    );
    let output = run(&daemon, &["status"]);
    assert!(
        out(&output).ends_with("\nwarning network `office`: meets `tun0`; it was written, so it stays\n"),
        "{}",
        out(&output)
    );
}

fn event(time_ms: u64, kind: &str, name: &str, action: &str) -> String {
    let event = json!({
        "time_ms": time_ms, "generation": 3, "project": "shop", "kind": kind, "name": name, "action": action,
    });
    format!("{event}\n")
}

#[test]
fn events_of_the_past_end_where_they_were_asked_to() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "GET /v1/events?since=1000000&until=3000000" => Reply::text(
            [
                // A daemon that doesn't know of times tells everything.
                event(999_999, "container", "shop-web-1", "starting"),
                event(1_500_000, "container", "shop-web-1", "ready"),
                event(2_000_000, "network", "office", "created"),
                event(3_000_001, "container", "shop-web-1", "exited"),
            ]
            .concat(),
        ),
        "GET /v1/containers?all=true" => containers(),
        other => panic!("asked for {other}"),
    });
    let events = |args: &[&str]| {
        let line = ["events", "--since", "1000", "--until", "3000"];
        let output = linkspan(daemon.run_dir())
            .env("TZ", "UTC")
            .args([&line, args].concat())
            .output()
            .unwrap();
        assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
        out(&output)
    };
    assert_eq!(
        events(&[]),
        "1970-01-01T00:25:00.000+00:00 container ready shop-web-1\n\
         1970-01-01T00:33:20.000+00:00 network created office\n"
    );
    let lines = events(&["--filter", "container=web", "--format", "json"]);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    assert_eq!(
        lines.parse::<Value>().unwrap(),
        event(1_500_000, "container", "shop-web-1", "ready")
            .parse::<Value>()
            .unwrap()
    );
    assert_eq!(events(&["--filter", "network=lab"]), "");
    let output = run(&daemon, &["events", "--since", "3000", "--until", "1000"]);
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn events_are_shown_when_they_happen_and_a_lost_daemon_is_a_failure() {
    let daemon = Daemon::start(|asked| {
        assert_eq!(asked.line, "GET /v1/events");
        let line = event(1_000, "network", "office", "moved");
        Reply::slowly(vec![line.clone(), line], std::time::Duration::from_millis(300))
    });
    let mut child = linkspan(daemon.run_dir())
        .env("TZ", "UTC")
        .arg("events")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let expected = b"1970-01-01T00:00:01.000+00:00 network moved office\n";
    let mut shown = vec![0; expected.len()];
    let out = child.stdout.as_mut().unwrap();
    out.read_exact(&mut shown).unwrap();
    assert_eq!(shown, expected);
    assert!(
        child.try_wait().unwrap().is_none(),
        "it ended before the second event"
    );
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.stdout, expected);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "error: the daemon has ended; `linkspan status` says when it is back\n"
    );
}

#[test]
fn an_until_ends_also_when_the_daemon_goes_on() {
    let daemon = Daemon::start(|_| Reply::silence());
    let start = std::time::Instant::now();
    let output = run(&daemon, &["events", "--since", "1m", "--until", "0s"]);
    assert_eq!((output.status.code(), out(&output).as_str()), (Some(0), ""));
    assert!(
        start.elapsed() < std::time::Duration::from_millis(4_500),
        "{:?}",
        start.elapsed()
    );
}
