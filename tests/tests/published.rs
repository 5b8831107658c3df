//! Published ports: the client's own address, hairpin, and clients that outlive a container's address.

#![allow(clippy::unwrap_used)]

use std::net::IpAddr;
use std::time::Duration;

use linkspan_tests::Rig;

const LIMIT: Duration = Duration::from_secs(30);

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers:
  web:
    image: linkspan-demo/web:1
    ports: ['5000:8080', '0.0.0.0:5001:8080', '[::]:5001:8080']
  sibling: { image: busybox:test, command: [sleep, '1000'] }
  shell:
    image: busybox:test
    command: [sh, -c, 'httpd -f -p 80 -h /www']
    ports: ['0.0.0.0:5002:80', '[::]:5002:80', '5003:80']
networks: { default: { ipam: { config: [{ subnet: 10.77.0.0/24 }, { subnet: 'fd00:77::/64' }] } } }
";

fn shop() -> Option<Rig> {
    let rig = Rig::start()?;
    rig.load_image("demo-web");
    rig.load_image("busybox");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

#[test]
fn a_container_sees_the_clients_own_address_through_a_published_port() {
    let Some(rig) = shop() else { return };
    for (url, client) in [
        ("http://192.0.2.1:5001/peer", "192.0.2.2"),
        ("http://[2001:db8::1]:5001/peer", "2001:db8::2"),
    ] {
        let said = rig
            .host()
            .run_in_lan(&["curl", "-sS", "--max-time", "5", url])
            .ok();
        // `[::ffff:192.0.2.2]:PORT -> …`, since the program listens on both families at once.
        let peer = said.split(" -> ").next().unwrap();
        let peer: std::net::SocketAddr = peer.parse().unwrap();
        assert_eq!(
            peer.ip().to_canonical(),
            client.parse::<IpAddr>().unwrap(),
            "{said}"
        );
    }
}

#[test]
fn a_published_port_is_reached_from_its_container_a_sibling_and_the_host() {
    let Some(rig) = shop() else { return };
    rig.wait_until_ok("the shell's port answers this host", LIMIT, || {
        rig.curl_raw(&["http://127.0.0.1:5003/"]).map(drop)
    });
    let hello = |ran: linkspan_tests::Ran, what: &str| {
        assert!(
            ran.code == 0 && ran.out.contains("busybox says hello"),
            "{what}: exit status {}, after {:.1?}: {}",
            ran.code,
            ran.took,
            ran.said()
        );
    };
    for url in [
        "http://192.0.2.1:5002/",
        "http://[2001:db8::1]:5002/",
        "http://10.77.0.1:5002/",
    ] {
        for container in ["shop-shell-1", "shop-sibling-1"] {
            let ran = rig.linkspan(&["exec", container, "timeout", "5", "wget", "-q", "-O", "-", url]);
            hello(ran, &format!("{container} asks {url}"));
        }
        hello(
            rig.host().run(&["curl", "-sS", "--max-time", "5", url]),
            &format!("the host asks {url}"),
        );
    }
    for url in [
        "http://127.0.0.1:5002/",
        "http://[::1]:5002/",
        "http://127.0.0.1:5003/",
    ] {
        hello(
            rig.host().run(&["curl", "-sS", "--max-time", "5", url]),
            &format!("the host asks {url}"),
        );
    }
    // A localhost port is the host's, not its containers'.
    for url in ["http://192.0.2.1:5003/", "http://10.77.0.1:5003/"] {
        let ran = rig.linkspan(&[
            "exec",
            "shop-sibling-1",
            "timeout",
            "2",
            "wget",
            "-q",
            "-O",
            "-",
            url,
        ]);
        assert_ne!(ran.code, 0, "{url} answers a container: {}", ran.said());
    }
}

/// A client that keeps its socket, as a game or a VPN does: one line each second, with what came back.
const UDP_CLIENT: &str = "
import socket, sys, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(0.3)
s.connect((sys.argv[1], int(sys.argv[2])))
while True:
    try:
        s.send(b'hello')
        print(s.recv(2000).decode(), flush=True)
    except OSError as error:
        print('nothing:', error, flush=True)
    time.sleep(0.1)
";

#[test]
fn a_udp_client_keeps_being_answered_after_the_container_got_another_address() {
    let Some(rig) = Rig::start_with(&["python3", "cc", "musl-gcc", "conntrack"]) else {
        return;
    };
    rig.load_image("busybox");
    let clients = rig.clients();
    let site = |address: &str| {
        format!(
            "
containers:
  echo:
    image: busybox:test
    hostname: echo-{address}
    command: [/clients/glibc, udp, '5353']
    ports: ['5300:5353/udp', '0.0.0.0:5301:5353/udp']
    volumes: ['{}:/clients:ro']
    networks: {{ default: {{ ipv4_address: 10.77.0.{address} }} }}
    stop_signal: KILL
networks: {{ default: {{ subnet: 10.77.0.0/24 }} }}
",
            clients.display()
        )
    };
    rig.up("game", &site("50")).ok();
    let lan = rig.spawn_on(
        "lan",
        "udp-lan",
        &["python3", "-c", UDP_CLIENT, "192.0.2.1", "5301"],
    );
    let host = rig.spawn("udp-host", &["python3", "-c", UDP_CLIENT, "127.0.0.1", "5300"]);
    let here = rig.spawn("udp-here", &["python3", "-c", UDP_CLIENT, "192.0.2.1", "5301"]);
    let all = [
        ("the LAN's", &lan),
        ("the localhost port's", &host),
        ("the host's", &here),
    ];
    for (_, client) in all {
        client.wait_for("echo-50 heard");
    }
    assert!(
        lan.said().contains("heard 192.0.2.2"),
        "the LAN client's own address: {}",
        lan.said()
    );
    for address in ["51", "52", "50"] {
        let before: Vec<usize> = all.map(|(_, client)| client.said().len()).to_vec();
        rig.up("game", &site(address)).ok();
        for ((whose, client), before) in all.iter().zip(before) {
            rig.wait_until_ok(
                &format!("{whose} client is answered by the new one"),
                LIMIT,
                || {
                    let said = client.said();
                    if said[before..].contains(&format!("echo-{address} heard")) {
                        Ok(())
                    } else {
                        Err(said[before..].to_owned())
                    }
                },
            );
        }
    }
}
