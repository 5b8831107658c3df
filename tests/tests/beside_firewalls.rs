//! ufw and firewalld themselves, on the same host: what is published is reached whichever came first, and everything else
//! stays as closed as they keep it.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::{Rig, Running};

const LIMIT: Duration = Duration::from_secs(30);

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['5000:8080', '0.0.0.0:5001:8080', '[::]:5001:8080']
  shell: { image: busybox:test, command: [sleep, '1000'] }
networks: { default: { ipam: { config: [{ subnet: 10.77.0.0/24 }, { subnet: 'fd00:77::/64' }] } } }
";

/// A program that keeps a firewall.
#[derive(Debug, Clone, Copy)]
enum Firewall {
    Ufw,
    Firewalld,
}

impl Firewall {
    fn tools(self) -> &'static [&'static str] {
        match self {
            Self::Ufw => &["ufw", "iptables"],
            Self::Firewalld => &["firewalld", "firewall-cmd", "dbus-daemon"],
        }
    }

    /// Begins to filter. What is returned runs as long as it is held.
    fn start(self, rig: &Rig) -> Vec<Running> {
        match self {
            Self::Ufw => {
                rig.host().run(&["ufw", "--force", "enable"]).ok();
                Vec::new()
            }
            Self::Firewalld => {
                rig.host().run(&["mkdir", "-p", "/run/dbus"]).ok();
                let bus = rig.spawn("bus", &["dbus-daemon", "--system", "--nofork", "--nopidfile"]);
                rig.wait_until("the bus is there", LIMIT, || {
                    rig.host()
                        .run(&["test", "-S", "/run/dbus/system_bus_socket"])
                        .code
                        == 0
                });
                let firewalld = rig.spawn("firewalld", &["firewalld", "--nofork", "--nopid"]);
                rig.wait_until_ok("firewalld runs", LIMIT, || {
                    let ran = rig.host().run(&["firewall-cmd", "--state"]);
                    (ran.code == 0)
                        .then_some(())
                        .ok_or_else(|| format!("{}{}", ran.said(), firewalld.said()))
                });
                vec![bus, firewalld]
            }
        }
    }

    /// Makes all its rules anew.
    fn reload(self, rig: &Rig) {
        let command: &[&str] = match self {
            Self::Ufw => &["ufw", "reload"],
            Self::Firewalld => &["firewall-cmd", "--reload"],
        };
        rig.host().run(command).ok();
    }
}

/// What is published and what containers begin flows.
fn flows(rig: &Rig) -> Result<(), String> {
    let lan = |url: &str| {
        let ran = rig.host().run_in_lan(&["curl", "-sS", "--max-time", "2", url]);
        (ran.out == "fine\n")
            .then_some(())
            .ok_or_else(|| format!("from the LAN: {url}: {}", ran.said()))
    };
    lan("http://192.0.2.1:5001/health")?;
    lan("http://[2001:db8::1]:5001/health")?;
    for command in [
        &["wget", "-q", "-O", "-", "http://web:8080/health"][..],
        &["wget", "-q", "-O", "-", "http://192.0.2.1:5001/health"],
        &["ping", "-c1", "-W1", "192.0.2.2"],
        &["ping", "-c1", "-W1", "2001:db8::2"],
    ] {
        let ran = rig.linkspan(&[&["exec", "shop-shell-1", "timeout", "2"], command].concat());
        if ran.code != 0 {
            return Err(format!("inside: {command:?}: {}", ran.said()));
        }
    }
    let own = rig.curl_raw(&["--max-time", "2", "http://127.0.0.1:5000/health"])?;
    let site = rig.curl("https://shop.test/health", &[])?;
    (own.body == "fine\n" && site.body == "fine\n")
        .then_some(())
        .ok_or_else(|| format!("the host itself: {own:?} {site:?}"))
}

/// Whether the LAN reaches a program of the host's own, which nobody published.
fn is_open(rig: &Rig) -> bool {
    let url = "http://192.0.2.1:9000/";
    let ran = rig.host().run_in_lan(&["curl", "-s", "--max-time", "1", url]);
    ran.code == 0
}

fn beside(firewall: Firewall, is_first: bool) {
    let Some(mut rig) = Rig::without_daemon(firewall.tools()) else {
        return;
    };
    let _other = rig.spawn(
        "other",
        &["busybox", "httpd", "-f", "-p", "9000", "-h", "/usr/share/doc"],
    );
    rig.wait_until("the host's own program serves", LIMIT, || is_open(&rig));
    let mut running = Vec::new();
    if is_first {
        running = firewall.start(&rig);
    }
    rig.start_daemon();
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    if !is_first {
        rig.wait_until_ok("traffic flows", LIMIT, || flows(&rig));
        running = firewall.start(&rig);
    }
    rig.wait_until_ok(
        &format!("traffic flows beside {firewall:?} (it was first: {is_first})"),
        LIMIT,
        || flows(&rig),
    );
    assert!(!is_open(&rig), "the host's own program is open");
    firewall.reload(&rig);
    rig.wait_until_ok(
        &format!("traffic flows after {firewall:?} was reloaded"),
        LIMIT,
        || flows(&rig),
    );
    assert!(!is_open(&rig), "the host's own program is open after the reload");
    drop(running);
}

#[test]
fn beside_ufw_that_was_first() {
    beside(Firewall::Ufw, true);
}

#[test]
fn beside_ufw_that_came_later() {
    beside(Firewall::Ufw, false);
}

#[test]
fn beside_firewalld_that_was_first() {
    beside(Firewall::Firewalld, true);
}

#[test]
fn beside_firewalld_that_came_later() {
    beside(Firewall::Firewalld, false);
}
