//! The core journeys on a host that has only one of the two families of addresses.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::{Load, Protocol, Rig, WebSocket};

const LIMIT: Duration = Duration::from_secs(30);

/// The family that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Only {
    V4,
    V6,
}

impl Only {
    fn rig(self) -> Option<Rig> {
        let mut rig = Rig::without_daemon(&["dig"])?;
        match self {
            Only::V4 => rig.host().without_ipv6(),
            Only::V6 => rig.host().without_ipv4(),
        }
        rig.start_daemon();
        rig.load_image("demo-web");
        rig.load_image("busybox");
        Some(rig)
    }

    /// This host, as the LAN knows it.
    fn host(self) -> &'static str {
        match self {
            Only::V4 => "192.0.2.1",
            Only::V6 => "[2001:db8::1]",
        }
    }

    /// The LAN host.
    fn lan(self) -> &'static str {
        match self {
            Only::V4 => "192.0.2.2",
            Only::V6 => "2001:db8::2",
        }
    }

    fn site(self, subnet: u32) -> String {
        let any = match self {
            Only::V4 => "0.0.0.0",
            Only::V6 => "[::]",
        };
        format!(
            "
routes: {{ shop.test: web:8080 }}
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['5000:8080', '{any}:5001:8080']
  shell: {{ image: busybox:test, command: [sleep, '1000'], stop_signal: KILL }}
networks: {{ default: {{ ipam: {{ config: [{{ subnet: 10.{subnet}.0.0/24 }}, {{ subnet: 'fd00:{subnet}::/64' }}] }} }} }}
"
        )
    }
}

/// Serving, ports, names, the way out.
fn serves(only: Only, rig: &Rig) {
    for protocol in ["--http1.1", "--http2"] {
        let answer = rig.curl("https://shop.test/who", &[protocol]).unwrap();
        assert_eq!(answer.status, 200, "{protocol}");
    }
    let mut socket = WebSocket::open(rig, "shop.test", "/ws").unwrap();
    assert!(socket.ask("ahoy").unwrap().ends_with(": ahoy"));

    assert_eq!(
        rig.curl_raw(&["http://127.0.0.1:5000/health"]).unwrap().body,
        "fine\n"
    );
    let url = format!("http://{}:5001/peer", only.host());
    let peer = rig
        .host()
        .run_in_lan(&["curl", "-sS", "--max-time", "5", &url])
        .ok();
    assert!(peer.contains(only.lan()), "the LAN client's own address: {peer}");
    let site = format!("shop.test:443:{}", only.host());
    let said = rig
        .host()
        .run_in_lan(&[
            "curl",
            "-sS",
            "-k",
            "--max-time",
            "5",
            "--resolve",
            &site,
            "https://shop.test/health",
        ])
        .ok();
    assert_eq!(said, "fine\n", "the site, from the LAN");

    let shell =
        |command: &[&str]| rig.linkspan(&[&["exec", "shop-shell-1", "timeout", "3"], command].concat());
    for url in [
        "http://web:8080/health",
        "http://web.shop:8080/health",
        &url.replace("/peer", "/health"),
    ] {
        assert_eq!(
            shell(&["wget", "-q", "-O", "-", url]).ok(),
            "fine\n",
            "{url} inside"
        );
    }
    shell(&["ping", "-c1", "-W2", only.lan()]).ok();
}

fn the_core_journeys(only: Only) {
    let Some(rig) = only.rig() else { return };
    rig.up("shop", &only.site(77)).ok();
    serves(only, &rig);

    let loads = [
        Load::start(&rig, Protocol::Http1, 3, "shop.test", "/who"),
        Load::start(&rig, Protocol::Fresh, 2, "shop.test", "/slow?ms=20"),
    ];
    let breathe = || loads.iter().for_each(|load| load.wait_for(20, LIMIT));
    breathe();
    rig.linkspan(&["restart", "shop-web-1"]).ok();
    breathe();
    // The network moves since its file says so.
    rig.up("shop", &only.site(78)).ok();
    breathe();
    serves(only, &rig);
    for load in loads {
        let report = load.finish();
        assert_eq!((report.failures(), report.cuts()), (0, 0), "{report}");
    }
    let warnings = rig.json(&["status"])["warnings"].clone();
    assert_eq!(
        warnings,
        serde_json::json!([]),
        "nothing is wrong with such a host"
    );
    rig.linkspan_in(&rig.folder().join("sites/shop"), &["down"]).ok();
}

#[test]
fn a_host_without_ipv6_serves() {
    the_core_journeys(Only::V4);
}

#[test]
fn a_host_without_ipv4_serves() {
    the_core_journeys(Only::V6);
}

#[test]
fn without_ipv6_no_network_gets_a_range_of_it() {
    let Some(rig) = Only::V4.rig() else { return };
    rig.up("shop", "containers: { web: { image: linkspan-demo/web:1 } }\n")
        .ok();
    let addresses = rig.container("shop-web-1")["networks"]["shop_default"].clone();
    assert_eq!(addresses.as_array().unwrap().len(), 1, "{addresses}");
    let said = rig.linkspan(&["exec", "shop-web-1", "/web", "check", "/health"]);
    assert_eq!(said.code, 0, "{}", said.said());
}
