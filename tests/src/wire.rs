//! Raw packets from the LAN, and witnesses of what came of them.

use std::fs;
use std::net::IpAddr;
use std::time::Duration;

use crate::{Rig, Running};

const SCRIPT: &str = include_str!("wire.py");
/// How long a packet may be under way.
const UNDER_WAY: Duration = Duration::from_millis(400);

/// One packet that the neighbour in the LAN sends in a frame to this host's hardware address.
#[derive(Debug, Clone, Copy)]
pub struct Packet<'a> {
    /// Claimed sender.
    pub from: &'a str,
    /// Where to.
    pub to: &'a str,
    /// `tcp` or `udp`.
    pub protocol: &'a str,
    /// Destination port.
    pub port: u16,
}

/// What was seen of a packet.
#[derive(Debug)]
pub struct Seen {
    /// In the container's network namespace.
    pub inside: String,
    /// On the host, all links.
    pub host: String,
}

impl Seen {
    /// Did the packet come through to the container, or did a socket of the host answer it?
    pub fn is_through(&self) -> bool {
        self.inside.contains("request") || self.host.contains("answer")
    }
}

impl Rig {
    /// Throws packets at this host, one after the other, and tells what came of each: inside a container and on the host.
    pub fn throw(&self, container: &str, packets: &[Packet<'_>]) -> Vec<Seen> {
        let script = self.folder().join("wire.py");
        fs::write(&script, SCRIPT).unwrap();
        let script = script.to_str().unwrap();
        let link = self.host().run(&["cat", "/sys/class/net/wan0/address"]).ok();
        let mac = link.trim();
        let mut all = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            // What is said after a SYN counts up from it: the next marker must be out of its reach.
            let marker = (0x4c53_0000 + 4096 * index).to_string();
            let watch = ["python3", script, "witness", "30", &marker];
            let inside = self.spawn_beside(container, "inside", &watch);
            let host = self.spawn("host", &watch);
            inside.wait_for("ready");
            host.wait_for("ready");
            let port = packet.port.to_string();
            let words = [
                "python3",
                script,
                "throw",
                "eth0",
                mac,
                packet.from,
                packet.to,
                packet.protocol,
                &port,
                &marker,
            ];
            self.host().run_in_lan(&words).ok();
            // The packet has arrived when the host's witness has it; what it leads to takes microseconds.
            host.wait_for("request");
            std::thread::sleep(UNDER_WAY);
            all.push(Seen {
                inside: said(inside),
                host: said(host),
            });
        }
        all
    }

    /// UDP: sends a word from the LAN (with `from` as its own address if given) and answers what came back within a second.
    pub fn ask_udp_from_lan(&self, to: IpAddr, port: u16) -> Option<String> {
        self.ask_udp("lan", to, port)
    }

    /// The same from another machine; the host itself is none.
    pub fn ask_udp(&self, machine: &str, to: IpAddr, port: u16) -> Option<String> {
        let family = if to.is_ipv4() { "AF_INET" } else { "AF_INET6" };
        let script = format!(
            "import socket; s = socket.socket(socket.{family}, socket.SOCK_DGRAM); s.settimeout(1); \
             s.sendto(b'hello', ('{to}', {port})); print(s.recv(2000).decode())"
        );
        let ran = if machine.is_empty() {
            self.host().run(&["python3", "-c", &script])
        } else {
            self.host().run_on(machine, &["python3", "-c", &script])
        };
        (ran.code == 0).then(|| ran.out.trim().to_owned())
    }
}

fn said(witness: Running) -> String {
    let said = witness.said();
    drop(witness);
    said
}
