//! Networks that have no way out, and networks that don't reach each other.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use linkspan_tests::{Ran, Rig};

const LIMIT: Duration = Duration::from_secs(20);

const SHOP: &str = "
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['0.0.0.0:5001:8080']
    networks: [front]
  db:
    image: linkspan-demo/web:1
    networks: [back]
  inner: { image: busybox:test, command: [sleep, '1000'], networks: [back] }
  outer: { image: busybox:test, command: [sleep, '1000'], networks: [front] }
networks:
  front: { ipam: { config: [{ subnet: 10.77.0.0/24 }, { subnet: 'fd00:77::/64' }] } }
  back: { internal: true, ipam: { config: [{ subnet: 10.78.0.0/24 }, { subnet: 'fd00:78::/64' }] } }
";

fn shop() -> Option<Rig> {
    let rig = Rig::start_with(&["dig", "python3"])?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

fn fetch(rig: &Rig, container: &str, url: &str) -> Ran {
    rig.linkspan(&["exec", container, "timeout", "2", "wget", "-q", "-O", "-", url])
}

fn address(rig: &Rig, container: &str, network: &str, v6: bool) -> String {
    let found = rig.container(container)["networks"][network][usize::from(v6)].clone();
    let text = found.as_str().unwrap();
    if v6 { format!("[{text}]") } else { text.to_owned() }
}

#[test]
fn an_internal_network_has_no_way_out_by_address_by_name_or_by_a_route_of_its_own() {
    let Some(rig) = shop() else { return };
    // A server and a name server outside.
    rig.host().write("/etc/resolv.conf", "nameserver 192.0.2.2\n");
    let outside = rig.folder().join("outside");
    std::fs::create_dir_all(&outside).unwrap();
    std::fs::write(outside.join("health"), "outside\n").unwrap();
    let folder = outside.to_str().unwrap().to_owned();
    let _server = rig.spawn_on(
        "lan",
        "outside4",
        &["busybox", "httpd", "-f", "-p", "192.0.2.2:80", "-h", &folder],
    );
    let _server6 = rig.spawn_on(
        "lan",
        "outside6",
        &["busybox", "httpd", "-f", "-p", "[2001:db8::2]:80", "-h", &folder],
    );
    let reach = |container: &str, url: &str| fetch(&rig, container, url).out == "outside\n";
    for url in ["http://192.0.2.2/health", "http://[2001:db8::2]/health"] {
        rig.wait_until(
            &format!("{url} answers a container with a way out"),
            LIMIT,
            || reach("shop-outer-1", url),
        );
        assert!(!reach("shop-inner-1", url), "{url} answers one without");
    }
    // Inside all is well, by name.
    assert_eq!(
        fetch(&rig, "shop-inner-1", "http://db:8080/health").ok(),
        "fine\n"
    );
    // Nor do the host's other addresses answer, nor its published ports.
    let (web4, web6) = (
        address(&rig, "shop-web-1", "shop_front", false),
        address(&rig, "shop-web-1", "shop_front", true),
    );
    for url in [
        "http://192.0.2.1:5001/health".to_owned(),
        "http://10.77.0.1:5001/health".to_owned(),
        format!("http://{web4}:8080/health"),
        format!("http://{web6}:8080/health"),
    ] {
        let ran = fetch(&rig, "shop-inner-1", &url);
        assert_ne!(ran.code, 0, "{url} answers an internal network: {}", ran.said());
    }
    // Root inside may add routes by way of the bridge; they lead nowhere.
    let pid = rig.container("shop-inner-1")["pid"].to_string();
    let beside = |args: &[&str]| rig.host().run(&[&["nsenter", "-t", &pid, "-n"], args].concat());
    beside(&["ip", "route", "add", "default", "via", "10.78.0.1"]).ok();
    beside(&["ip", "route", "add", "default", "via", "fd00:78::1"]).ok();
    for url in ["http://192.0.2.2/health", "http://[2001:db8::2]/health"] {
        assert!(
            !reach("shop-inner-1", url),
            "{url} answers by way of a route of its own"
        );
    }
    assert_ne!(beside(&["ping", "-c1", "-W1", "192.0.2.2"]).code, 0);
    // Names of the outside are not even asked for: they may carry words out.
    let witness = rig.spawn_on(
        "lan",
        "asked",
        &["python3", "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.2', 53)); print('ready', flush=True)\nwhile True: print(s.recv(2000), flush=True)"],
    );
    witness.wait_for("ready");
    let look =
        |container: &str, name: &str| rig.linkspan(&["exec", container, "timeout", "3", "nslookup", name]);
    rig.wait_until("who has a way out is answered by asking outside", LIMIT, || {
        let _ = look("shop-outer-1", "words-of-the-outer.example.com");
        witness.said().contains("words-of-the-outer")
    });
    let ran = look("shop-inner-1", "words-of-the-inner.example.com");
    assert!(ran.said().contains("NXDOMAIN"), "{}", ran.said());
    assert!(
        !witness.said().contains("words-of-the-inner"),
        "{}",
        witness.said()
    );
}

#[test]
fn networks_do_not_reach_each_other_and_nobody_speaks_for_another_address() {
    let Some(rig) = shop() else { return };
    let (db4, db6) = (
        address(&rig, "shop-db-1", "shop_back", false),
        address(&rig, "shop-db-1", "shop_back", true),
    );
    for url in [
        format!("http://{db4}:8080/health"),
        format!("http://{db6}:8080/health"),
    ] {
        let ran = fetch(&rig, "shop-outer-1", &url);
        assert_ne!(ran.code, 0, "{url} answers another network: {}", ran.said());
    }
    // A member that takes an address of another network, or of the LAN, is not heard under it.
    let pid = rig.container("shop-outer-1")["pid"].to_string();
    let beside = |args: &[&str]| rig.host().run(&[&["nsenter", "-t", &pid, "-n"], args].concat());
    beside(&["ip", "address", "add", "192.0.2.77/32", "dev", "lo"]).ok();
    let heard = rig.spawn_on(
        "lan",
        "heard",
        &["python3", "-c", "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('192.0.2.2', 999)); print('ready', flush=True)\nwhile True: print(s.recvfrom(2000), flush=True)"],
    );
    heard.wait_for("ready");
    let send = |from: &str, word: &str| {
        let script = format!(
            "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(('{from}', 0)); s.sendto(b'{word}', ('192.0.2.2', 999))"
        );
        beside(&["python3", "-c", &script]).ok();
    };
    send("192.0.2.77", "forged");
    send("0.0.0.0", "honest");
    heard.wait_for("honest");
    assert!(!heard.said().contains("forged"), "{}", heard.said());
    assert!(
        heard.said().contains("'192.0.2.1'"),
        "what goes out has the host's address: {}",
        heard.said()
    );
}

#[test]
fn members_of_an_isolated_network_reach_the_outside_and_names_but_not_each_other() {
    let Some(rig) = Rig::start_with(&["ip"]) else {
        return;
    };
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up(
        "shop",
        "
routes: { shop.test: web:8080 }
containers:
  web: { image: linkspan-demo/web:1, ports: ['0.0.0.0:5001:8080'] }
  one: { image: busybox:test, command: [sleep, '1000'] }
  two: { image: busybox:test, command: [sleep, '1000'] }
networks: { default: { isolated: true, ipam: { config: [{ subnet: 10.77.0.0/24 }, { subnet: 'fd00:77::/64' }] } } }
",
    )
    .ok();
    let web = [false, true].map(|v6| address(&rig, "shop-web-1", "shop_default", v6));
    for address in &web {
        let url = format!("http://{address}:8080/health");
        let ran = fetch(&rig, "shop-one-1", &url);
        assert_ne!(ran.code, 0, "{url} answers its neighbour: {}", ran.said());
    }
    let two = address(&rig, "shop-two-1", "shop_default", false);
    let ping = |to: &str| rig.linkspan(&["exec", "shop-one-1", "ping", "-c1", "-W1", to]);
    assert_ne!(ping(&two).code, 0, "a neighbour answers a ping");
    // Not by way of the bridge's hardware address either.
    let pid = rig.container("shop-one-1")["pid"].to_string();
    let beside = |args: &[&str]| rig.host().run(&[&["nsenter", "-t", &pid, "-n"], args].concat());
    beside(&["ip", "route", "add", &format!("{two}/32"), "via", "10.77.0.1"]).ok();
    assert_ne!(ping(&two).code, 0, "a neighbour answers by way of the bridge");
    // The way out, names, routes and ports are as on any network.
    ping("192.0.2.2").ok();
    let said = rig.linkspan(&["exec", "shop-one-1", "nslookup", "web"]);
    assert!(said.out.contains("10.77.0."), "{}", said.said());
    assert_eq!(rig.curl("https://shop.test/health", &[]).unwrap().body, "fine\n");
    let lan = rig
        .host()
        .run_in_lan(&["curl", "-sS", "--max-time", "5", "http://192.0.2.1:5001/health"]);
    assert_eq!(lan.ok(), "fine\n");
}
