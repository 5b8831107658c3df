//! Real input: other people's software in other people's archives, served by name to other people's clients.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use linkspan_tests::{Rig, WebSocket};

const NGINX: &str = "
routes: { nginx.test: web:80 }
containers: { web: { image: debian-nginx:test } }
";

const BUSYBOX: &str = "
routes: { busybox.test: files:80 }
containers: { files: { image: busybox:test } }
";

const SHOP: &str = "
routes:
  shop.test: web:8080
  shop.test/api: api:8080
  '*.preview.test': web:8080
  www.shop.test: { redirect: https://shop.test }
containers:
  web: { image: linkspan-demo/web:1, replicas: 2 }
  api: { image: linkspan-demo/web:1, ports: ['5000:8080', '0.0.0.0:5001:8080'] }
  shell: { image: busybox:test, command: [sleep, '1000'] }
";

#[test]
fn debians_nginx_and_busybox_are_two_sites_to_curl_nghttp_and_chromium() {
    let Some(rig) = Rig::start_with(&["nghttp", "chromium", "certutil"]) else {
        return;
    };
    rig.load_image("nginx");
    rig.load_image("busybox");
    rig.up("nginx", NGINX).ok();
    rig.up("busybox", BUSYBOX).ok();

    for (url, text) in [
        ("https://nginx.test/", "Welcome to nginx!"),
        ("https://busybox.test/", "busybox says hello"),
    ] {
        for (protocol, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
            let answer = rig.curl(url, &[protocol]).unwrap();
            assert_eq!((answer.status, answer.version.as_str()), (200, version), "{url}");
            assert!(answer.body.contains(text), "{url}: {}", answer.body);
        }
    }

    hosts(&rig, "127.0.0.1 nginx.test busybox.test\n");
    let said = rig.host().run(&["nghttp", "-v", "https://nginx.test/"]).ok();
    assert!(
        said.contains("The negotiated protocol: h2") && said.contains(":status: 200"),
        "{said}"
    );

    let home = rig.folder().join("home");
    let store = home.join(".pki/nssdb");
    fs::create_dir_all(&store).unwrap();
    let store = format!("sql:{}", store.display());
    rig.host()
        .run(&["certutil", "-d", &store, "-N", "--empty-password"])
        .ok();
    let ca = rig.ca();
    rig.host()
        .run(&[
            "certutil",
            "-d",
            &store,
            "-A",
            "-t",
            "C,,",
            "-n",
            "linkspan",
            "-i",
            ca.to_str().unwrap(),
        ])
        .ok();
    for (url, text) in [
        ("https://nginx.test/", "Welcome to nginx!"),
        ("https://busybox.test/", "busybox says hello"),
    ] {
        let page = chromium(&rig, &home, url);
        assert!(page.contains(text), "{url}: {page}");
    }
    // The same browser without our CA refuses: what it showed above it had verified.
    let stranger = rig.folder().join("stranger");
    fs::create_dir_all(&stranger).unwrap();
    let page = chromium(&rig, &stranger, "https://nginx.test/");
    assert!(!page.contains("Welcome to nginx!"), "shown without trust: {page}");
}

#[test]
fn a_site_answers_by_host_path_wildcard_redirect_and_websocket() {
    let Some(rig) = shop() else { return };
    let hostname = |url: &str| rig.curl(url, &[]).unwrap().body;

    // Both replicas take their share.
    let mut seen: Vec<String> = (0..20).map(|_| hostname("https://shop.test/who")).collect();
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 2, "{seen:?}");

    let api = rig.curl("https://shop.test/api/hello", &[]).unwrap();
    assert!(
        api.body.contains("\"path\":\"/api/hello\"") && !seen.iter().any(|web| api.body.contains(web.trim()))
    );
    // The path ends where a segment does.
    assert_eq!(
        rig.curl("https://shop.test/apis", &[]).unwrap().status,
        404,
        "the program's own 404"
    );
    assert_eq!(
        rig.curl("https://a.preview.test/health", &[]).unwrap().body,
        "fine\n"
    );

    let redirect = rig.curl("https://www.shop.test/cart?item=1", &[]).unwrap();
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (308, Some("https://shop.test/cart?item=1"))
    );
    let redirect = rig.curl("http://shop.test/cart?item=1", &[]).unwrap();
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (308, Some("https://shop.test/cart?item=1"))
    );

    let mut socket = WebSocket::open(&rig, "shop.test", "/ws").unwrap();
    assert!(socket.ask("ahoy").unwrap().ends_with(": ahoy"));

    let headers = rig
        .curl("https://shop.test/headers", &["-H", "X-Forwarded-For: 6.6.6.6"])
        .unwrap();
    let headers = headers.body.to_ascii_lowercase();
    for line in [
        "host: shop.test",
        "x-forwarded-proto: https",
        "x-forwarded-for: 127.0.0.1",
        "via: ",
    ] {
        assert!(headers.contains(line), "no `{line}` in {headers}");
    }
    assert!(
        !headers.contains("6.6.6.6"),
        "a client's own X-Forwarded-For was believed: {headers}"
    );
}

#[test]
fn bodies_pass_whole_in_both_directions() {
    let Some(rig) = shop() else { return };
    let file = rig.folder().join("body");
    fs::write(&file, "0123456789".repeat(300_000)).unwrap();
    let data = format!("@{}", file.display());
    for protocol in ["--http2", "--http1.1"] {
        let args = [
            protocol,
            "-H",
            "Content-Type: application/octet-stream",
            "--data-binary",
            &data,
        ];
        let echo = rig.curl("https://shop.test/echo", &args).unwrap();
        assert_eq!(echo.body.len(), 3_000_000, "{protocol}");
        assert!(
            echo.body == "0123456789".repeat(300_000),
            "{protocol}: the bytes differ"
        );
        let big = rig.curl("https://shop.test/big?n=20000000", &[protocol]).unwrap();
        assert_eq!(big.body.len(), 20_000_000, "{protocol}");
    }
    let drip = rig.curl("https://shop.test/drip?n=3&ms=50", &[]).unwrap();
    assert_eq!(drip.body, "drop 1 of 3\ndrop 2 of 3\ndrop 3 of 3\n");
}

#[test]
fn a_host_that_nobody_serves_is_404_and_a_stopped_container_503_with_the_reason() {
    let Some(rig) = shop() else { return };
    let unknown = rig
        .curl("https://shop.test/", &["-H", "Host: nobody.test"])
        .unwrap();
    assert!([404, 421].contains(&unknown.status), "{unknown:?}");
    rig.linkspan(&["stop", "shop-api-1"]).ok();
    let down = rig.curl("https://shop.test/api", &[]).unwrap();
    assert_eq!(down.status, 503);
    assert!(down.body.contains("stopped"), "{}", down.body);
    // Its neighbour on the same host is served.
    assert_eq!(rig.curl("https://shop.test/health", &[]).unwrap().status, 200);
    rig.linkspan(&["start", "shop-api-1"]).ok();
    rig.wait_until("the api is back", Duration::from_secs(20), || {
        rig.curl("https://shop.test/api", &[])
            .is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn containers_find_each_other_by_name_and_no_stranger_reaches_a_localhost_port() {
    let Some(rig) = shop() else { return };
    for name in ["api", "api.shop", "shop-api-1"] {
        let url = format!("http://{name}:8080/health");
        let said = rig
            .linkspan(&["exec", "shop-shell-1", "wget", "-q", "-O", "-", &url])
            .ok();
        assert_eq!(said, "fine\n", "{name}");
    }
    let health = |host: &str, port: u16| format!("http://{host}:{port}/health");
    assert_eq!(
        rig.curl_raw(&[&health("127.0.0.1", 5000)]).unwrap().body,
        "fine\n"
    );
    let lan = |url: &str| rig.host().run_in_lan(&["curl", "-sS", "--max-time", "5", url]);
    assert_eq!(lan(&health("192.0.2.1", 5001)).ok(), "fine\n");
    assert_ne!(
        lan(&health("192.0.2.1", 5000)).code,
        0,
        "a port without an address is this host's alone"
    );
    // The host's own port, by the host's own address.
    assert_eq!(
        rig.curl_raw(&[&health("192.0.2.1", 5001)]).unwrap().body,
        "fine\n"
    );
}

#[test]
fn what_runs_inside_sees_a_root_that_is_not_the_hosts() {
    let Some(rig) = shop() else { return };
    let inside = |command: &[&str]| rig.linkspan(&[&["exec", "shop-shell-1"], command].concat());
    assert_eq!(inside(&["id", "-u"]).ok(), "0\n");
    let map = inside(&["cat", "/proc/self/uid_map"]).ok();
    let first: u64 = map.split_whitespace().nth(1).unwrap().parse().unwrap();
    assert!(first >= 65_536, "container root is the host's uid {first}");
    let status = inside(&["cat", "/proc/self/status"]).ok();
    assert!(
        status.contains("Seccomp:\t2") && status.contains("NoNewPrivs:\t1"),
        "{status}"
    );
    assert_ne!(
        inside(&["mount", "-t", "tmpfs", "tmpfs", "/tmp"]).code,
        0,
        "mount(2) must be out of reach"
    );
    assert_eq!(inside(&["sh", "-c", "exit 9"]).code, 9);
    // The data plane holds nothing either.
    let proxy = rig.proxy_pid();
    let status = rig.host().run(&["cat", &format!("/proc/{proxy}/status")]).ok();
    assert!(
        status.contains("CapEff:\t0000000000000000") && status.contains("Seccomp:\t2"),
        "{status}"
    );
    assert!(!status.contains("Uid:\t0\t"), "{status}");
}

fn shop() -> Option<Rig> {
    let rig = Rig::start()?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

fn hosts(rig: &Rig, lines: &str) {
    let file = rig.folder().join("hosts");
    fs::write(&file, lines).unwrap();
    rig.host()
        .run(&["mount", "--bind", file.to_str().unwrap(), "/etc/hosts"])
        .ok();
}

fn chromium(rig: &Rig, home: &Path, url: &str) -> String {
    let (home_var, profile) = (format!("HOME={}", home.display()), home.join("profile"));
    let profile = format!("--user-data-dir={}", profile.display());
    let fixed = [
        "env",
        &home_var,
        "chromium",
        "--headless=new",
        "--no-sandbox",
        "--disable-gpu",
    ];
    let more = [
        "--disable-dev-shm-usage",
        "--no-first-run",
        &profile,
        "--timeout=20000",
        "--dump-dom",
        url,
    ];
    let ran = rig.host().run_within(
        Duration::from_secs(90),
        Path::new("/"),
        &[&fixed[..], &more].concat(),
    );
    ran.out
}
