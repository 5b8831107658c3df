//! What other programs put on a host: a VPN, a second engine's bridge and rules, files that tell of networks to come.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;

use crate::{Host, Rig, Running};

/// As `dockerd` writes them: everything is dropped that its own bridge has no part in.
const DOCKER: &str = "
set -e
for tool in iptables-nft ip6tables-nft; do
  $tool -N DOCKER
  $tool -N DOCKER-ISOLATION-STAGE-1
  $tool -N DOCKER-ISOLATION-STAGE-2
  $tool -N DOCKER-USER
  $tool -P FORWARD DROP
  $tool -A DOCKER-USER -j RETURN
  $tool -A DOCKER-ISOLATION-STAGE-1 -i docker0 ! -o docker0 -j DOCKER-ISOLATION-STAGE-2
  $tool -A DOCKER-ISOLATION-STAGE-1 -j RETURN
  $tool -A DOCKER-ISOLATION-STAGE-2 -o docker0 -j DROP
  $tool -A DOCKER-ISOLATION-STAGE-2 -j RETURN
  $tool -A FORWARD -j DOCKER-USER
  $tool -A FORWARD -j DOCKER-ISOLATION-STAGE-1
  $tool -A FORWARD -o docker0 -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
  $tool -A FORWARD -o docker0 -j DOCKER
  $tool -A FORWARD -i docker0 ! -o docker0 -j ACCEPT
  $tool -A FORWARD -i docker0 -o docker0 -j ACCEPT
done
iptables-nft -t nat -N DOCKER
iptables-nft -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -t nat -A OUTPUT ! -d 127.0.0.0/8 -m addrtype --dst-type LOCAL -j DOCKER
iptables-nft -t nat -A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
iptables-nft -t nat -A DOCKER -i docker0 -j RETURN
";

/// The end of a VPN: routes lead to it, and it answers on any address that it is given.
pub struct Office {
    server: Option<Running>,
}

impl Host {
    /// Writes a file of this host's own, `/etc/…`.
    pub fn write(&self, path: &str, text: &str) {
        let path = format!("/proc/{}/root{path}", self.init());
        fs::create_dir_all(Path::new(&path).parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Writes a file in one go: readers see the old or the new.
    pub fn replace(&self, path: &str, text: &str) {
        self.write(&format!("{path}.new"), text);
        self.run(&["mv", &format!("{path}.new"), path]).ok();
    }

    /// A kernel parameter.
    pub fn sysctl(&self, name: &str, value: &str) {
        self.run(&["sysctl", "-q", "-w", &format!("{name}={value}")]).ok();
    }

    /// From now on this host has no IPv4 but on its loopback.
    pub fn without_ipv4(&self) {
        self.run(&["ip", "-4", "address", "flush", "dev", "wan0"]).ok();
    }

    /// From now on this host has no IPv6, as some people set it.
    pub fn without_ipv6(&self) {
        self.sysctl("net.ipv6.conf.all.disable_ipv6", "1");
        self.sysctl("net.ipv6.conf.default.disable_ipv6", "1");
    }

    /// Another engine's bridge, with an address and nothing on it.
    pub fn docker_bridge(&self, address: &str) {
        self.run(&["ip", "link", "add", "docker0", "type", "bridge"]).ok();
        self.run(&["ip", "address", "add", address, "dev", "docker0"])
            .ok();
        self.run(&["ip", "link", "set", "docker0", "up"]).ok();
    }

    /// Another engine's bridge and firewall rules.
    pub fn docker(&self) {
        self.docker_bridge("172.17.0.1/16");
        self.run(&["sh", "-c", DOCKER]).ok();
    }

    /// A link to an office, as a VPN makes it. Nothing is routed over it yet.
    pub fn vpn(&self) {
        for line in [
            "ip netns add office",
            "ip link add vpn0 type veth peer name tun0 netns office",
            "ip address add 198.18.0.1/30 dev vpn0",
            "ip address add fd55::1/64 dev vpn0 nodad",
            "ip -n office address add 198.18.0.2/30 dev tun0",
            "ip -n office address add fd55::2/64 dev tun0 nodad",
            "ip link set vpn0 up",
            "ip -n office link set tun0 up",
            "ip -n office link set lo up",
            "ip -n office route add default via 198.18.0.1",
            "ip -n office route add default via fd55::1",
        ] {
            self.run(&line.split(' ').collect::<Vec<_>>()).ok();
        }
    }

    /// Routes a range over the VPN.
    pub fn vpn_route(&self, range: &str) {
        let via = if range.contains(':') {
            "fd55::2"
        } else {
            "198.18.0.2"
        };
        self.run(&["ip", "route", "add", range, "via", via, "dev", "vpn0"])
            .ok();
    }
}

impl Office {
    /// A web server of the office at this address, that says `the office`.
    pub fn serve(rig: &Rig, address: Ipv4Addr) -> Office {
        let at = format!("{address}/32");
        rig.host()
            .run(&["ip", "-n", "office", "address", "add", &at, "dev", "lo"])
            .ok();
        let folder = rig.folder().join("office");
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("index.html"), "the office\n").unwrap();
        let server = rig.spawn_on(
            "office",
            "office",
            &[
                "busybox",
                "httpd",
                "-f",
                "-p",
                &format!("{address}:80"),
                "-h",
                folder.to_str().unwrap(),
            ],
        );
        rig.wait_until("the office serves", std::time::Duration::from_secs(10), || {
            rig.host()
                .run_on("office", &["curl", "-s", &format!("http://{address}/")])
                .out
                == "the office\n"
        });
        Office { server: Some(server) }
    }

    /// Shuts it.
    pub fn close(mut self) {
        self.server = None;
    }
}
