//! The program as people type it, against a stand-in that speaks the daemon's side of the socket.

#![allow(clippy::unwrap_used, reason = "a test that meets the unexpected has failed")]

mod daemon;
mod exec;
mod network;

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use daemon::{Daemon, Reply};
use linkspan_api::frames;
use linkspan_api::v1::frame;
use tempfile::TempDir;

const SITE: &str = "name: shop\nroutes:\n  shop.test: web:80\ncontainers:\n  web:\n    image: web:1\n";

fn linkspan(run_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_linkspan"));
    command
        .env("LINKSPAN_RUN_DIR", run_dir)
        .env_remove("NO_COLOR")
        .stdin(Stdio::null());
    command
}

/// Runs it in a folder with that site file.
fn in_site(daemon: &Daemon, text: &str, args: &[&str]) -> Output {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("linkspan.yaml"), text).unwrap();
    linkspan(daemon.run_dir())
        .args(args)
        .current_dir(folder.path())
        .output()
        .unwrap()
}

fn out(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn event(kind: &str, name: &str, action: &str, detail: &str) -> String {
    let event = serde_json::json!({
        "time_ms": 1, "generation": 3, "project": "shop", "kind": kind, "name": name, "action": action, "detail": detail,
    });
    format!("{event}\n")
}

const ROUTES: &str = r#"[{"host":"shop.test","project":"shop","target":"web:80","state":"ready 1/1",
    "url":"https://shop.test/"}]"#;

fn container(name: &str, state: &str) -> serde_json::Value {
    serde_json::json!({
        "id": format!("{name}-id"), "name": name, "project": "shop", "service": "web", "image": "web:1",
        "command": "web", "state": state, "status": "Up 2 minutes", "health": null, "created": 0, "pid": 5,
        "exit_code": null, "restarts": 0, "ports": [], "networks": {},
    })
}

fn containers() -> Reply {
    Reply::json(&serde_json::json!([container("shop-web-1", "running")]).to_string())
}

#[test]
fn without_a_daemon_it_says_how_to_start_one_and_exits_2() {
    let empty = tempfile::tempdir().unwrap();
    let output = linkspan(empty.path()).arg("ps").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        format!(
            "error: no daemon answers at `{}/linkspan.sock`; start one with `linkspan daemon`, or name its folder with `--run-dir`\n",
            empty.path().display()
        )
    );
}

#[test]
fn a_file_with_problems_is_shown_with_all_of_them_and_no_daemon_is_asked() {
    let daemon = Daemon::start(|_| unreachable!("the daemon was asked"));
    for verb in ["up", "plan", "check"] {
        let output = in_site(&daemon, "contianers: {}\nroutes: 7\n", &[verb]);
        assert_eq!(output.status.code(), Some(2), "{verb}");
        let text = err(&output);
        assert!(
            text.contains("linkspan.yaml:1:1") && text.contains("containers"),
            "{verb}: {text}"
        );
        assert!(text.contains("linkspan.yaml:2:"), "{verb}: {text}");
        assert_eq!(out(&output), "", "{verb}");
    }
    assert_eq!(daemon.asked(), Vec::<String>::new());
}

#[test]
fn up_tells_what_happens_and_ends_with_the_urls() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "PUT /v1/sites/shop" => Reply::json(r#"{"generation":3,"changed":true}"#),
        "GET /v1/events?site=shop&generation=3" => Reply::text(
            [
                event("network", "shop-default", "creating", ""),
                event("container", "shop-web-1", "starting", ""),
                event("container", "shop-web-1", "ready", ""),
                event("site", "shop", "converged", ""),
            ]
            .concat(),
        ),
        "GET /v1/containers?all=true" => containers(),
        "GET /v1/routes" => Reply::json(ROUTES),
        other => panic!("asked for {other}"),
    });
    let output = in_site(&daemon, SITE, &["up"]);
    assert_eq!(
        err(&output),
        "container shop-web-1 starting\ncontainer shop-web-1 ready\n"
    );
    assert_eq!(
        out(&output),
        "site `shop` is up\n  https://shop.test/  → web:80  ready 1/1\n"
    );
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn up_again_is_up_to_date_whatever_failed_earlier_in_that_generation() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "PUT /v1/sites/shop" => Reply::json(r#"{"generation":3,"changed":false}"#),
        "GET /v1/status" => Reply::json(
            r#"{"version":{"version":"0.1.0","kernel":"6.18","pid":1},"generation":3,"converged":true,
                "proxy":{"pid":2,"generation":3,"http":[],"https":[]},"sites":[],"warnings":[]}"#,
        ),
        "GET /v1/routes" => Reply::json(ROUTES),
        other => panic!("asked for {other}"),
    });
    let output = in_site(&daemon, SITE, &["up"]);
    assert!(
        out(&output).starts_with("site `shop` is up to date\n  https://"),
        "{}",
        out(&output)
    );
    assert_eq!(output.status.code(), Some(0));
    let output = in_site(&daemon, SITE, &["up", "--no-wait"]);
    assert_eq!(out(&output), "site `shop` is up to date\n");
}

#[test]
fn a_container_that_does_not_come_up_is_named_with_the_reason_and_its_last_lines() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "PUT /v1/sites/shop" => Reply::json(r#"{"generation":3,"changed":true}"#),
        "GET /v1/events?site=shop&generation=3" => Reply::text(
            event("container", "shop-web-1", "failed", "exited with status 3")
                + &event("site", "shop", "failed", ""),
        ),
        "GET /v1/containers?all=true" => {
            Reply::json(&serde_json::json!([container("shop-web-1", "exited")]).to_string())
        }
        "GET /v1/containers/shop-web-1-id/logs?tail=10" => {
            Reply::bytes(frames::encode(frame::STDERR, b"no config\n"))
        }
        other => panic!("asked for {other}"),
    });
    let output = in_site(&daemon, SITE, &["up"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "container shop-web-1 failed: exited with status 3\n\
         error: container `shop-web-1` failed: exited with status 3\n\
         container `shop-web-1`: Up 2 minutes\n    no config\n\
         error: site `shop` is not up\n"
    );
}

#[test]
fn up_gives_up_after_the_time_it_was_given() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "PUT /v1/sites/shop" => Reply::json(r#"{"generation":3,"changed":true}"#),
        "GET /v1/events?site=shop&generation=3" => Reply::silence(),
        "GET /v1/containers?all=true" => {
            Reply::json(&serde_json::json!([container("shop-web-1", "starting")]).to_string())
        }
        "GET /v1/containers/shop-web-1-id/logs?tail=10" => Reply::bytes(Vec::new()),
        other => panic!("asked for {other}"),
    });
    let output = in_site(&daemon, SITE, &["up", "--timeout", "1s"]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        err(&output),
        "container `shop-web-1`: Up 2 minutes\n\
         error: site `shop` is not up after 1 s; the daemon goes on trying\n"
    );
}

#[test]
fn a_hostname_that_another_project_holds_is_refused_with_2() {
    let daemon = Daemon::start(|_| {
        Reply::failure(
            409,
            "`shop.test` belongs to project `blog`; take it from there first",
        )
    });
    let output = in_site(&daemon, SITE, &["up"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "error: `shop.test` belongs to project `blog`; take it from there first\n"
    );
}

#[test]
fn a_daemon_that_is_killed_and_comes_back_does_not_end_an_up() {
    let times = std::sync::atomic::AtomicU32::new(0);
    let daemon = Daemon::start(move |asked| match asked.line.as_str() {
        "PUT /v1/sites/shop" => Reply::json(r#"{"generation":3,"changed":true}"#),
        "GET /v1/events?site=shop&generation=3" => {
            match times.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => Reply::cut_off(event("container", "shop-web-1", "starting", "")),
                _ => Reply::text(event("site", "shop", "converged", "")),
            }
        }
        "GET /v1/routes" => Reply::json("[]"),
        "GET /v1/containers?all=true" => containers(),
        other => panic!("asked for {other}"),
    });
    let output = in_site(&daemon, SITE, &["up"]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(out(&output), "site `shop` is up\n");
}

#[test]
fn stopping_by_the_files_name_stops_every_replica_and_a_typo_stops_none() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "GET /v1/containers?all=true" => {
            let all = [
                container("shop-web-2", "running"),
                container("shop-web-1", "running"),
            ];
            Reply::json(&serde_json::json!(all).to_string())
        }
        line if line.starts_with("POST ") => Reply::empty(),
        other => panic!("asked for {other}"),
    });
    let output = in_site(&daemon, SITE, &["stop", "-t", "3", "web"]);
    assert_eq!(out(&output), "shop-web-1\nshop-web-2\n");
    let output = in_site(&daemon, SITE, &["stop", "web", "wbe"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "error: no container `wbe`; `linkspan ps -a` lists all\n"
    );
    let posts: Vec<String> = daemon
        .asked()
        .into_iter()
        .filter(|line| line.starts_with("POST"))
        .collect();
    assert_eq!(
        posts,
        [
            "POST /v1/containers/shop-web-1-id/stop?timeout=3",
            "POST /v1/containers/shop-web-2-id/stop?timeout=3"
        ]
    );
}

#[test]
fn logs_keep_the_two_streams_apart() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "GET /v1/containers?all=true" => containers(),
        "GET /v1/containers/shop-web-1-id/logs?tail=2" => Reply::bytes(
            [
                frames::encode(frame::STDOUT, b"one\n"),
                frames::encode(frame::STDERR, b"two\n"),
            ]
            .concat(),
        ),
        other => panic!("asked for {other}"),
    });
    let output = in_site(&daemon, SITE, &["logs", "--tail", "2"]);
    assert_eq!((out(&output).as_str(), err(&output).as_str()), ("one\n", "two\n"));
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure_and_no_panic() {
    let daemon = Daemon::start(|_| containers());
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let output = linkspan(daemon.run_dir())
        .args(["ps", "--format", "json"])
        .stdout(writer)
        .output()
        .unwrap();
    assert_eq!((output.status.code(), err(&output).as_str()), (Some(0), ""));
}

#[test]
fn an_archive_goes_through_a_pipe_or_from_a_file() {
    let daemon = Daemon::start(|asked| {
        assert_eq!(asked.line, "POST /v1/images/load");
        let size = asked.body.len();
        Reply::json(&format!(
            r#"[{{"names":["web:1"],"digest":"sha256:d","id":"sha256:abc","size":{size},"created":0}}]"#
        ))
    });
    let mut child = linkspan(daemon.run_dir())
        .arg("load")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&[7; 300_000]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(out(&output), "loaded web:1 (abc, 300kB)\n");

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("web.tar");
    fs::write(&path, [7; 5_000]).unwrap();
    let output = linkspan(daemon.run_dir())
        .arg("load")
        .arg("-i")
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(out(&output), "loaded web:1 (abc, 5kB)\n");
    let output = linkspan(daemon.run_dir())
        .args(["load", "-i", "/nowhere.tar"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn an_archive_is_saved_whole_or_not_at_all() {
    let daemon = Daemon::start(|asked| match asked.line.as_str() {
        "GET /v1/images/save?name=web%3A1" => Reply::bytes(vec![7; 300_000]),
        _ => Reply::cut_off("half".to_owned()),
    });
    let folder: TempDir = tempfile::tempdir().unwrap();
    let save = |name: &str| {
        let path = folder.path().join("out.tar");
        linkspan(daemon.run_dir())
            .arg("save")
            .arg("-o")
            .arg(path)
            .arg(name)
            .output()
            .unwrap()
    };
    assert_eq!(save("torn:1").status.code(), Some(1));
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "half an archive was left behind"
    );
    assert_eq!(save("web:1").status.code(), Some(0));
    assert_eq!(fs::read(folder.path().join("out.tar")).unwrap(), vec![7; 300_000]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
}
