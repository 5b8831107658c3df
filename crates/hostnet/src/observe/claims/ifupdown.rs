//! ifupdown: interfaces(5). What `up` commands do is a matter of a shell; the kernel tells once they ran.

use super::lines::lines;
use super::page::Page;
use super::range::masked;

pub(super) fn read(page: &mut Page<'_>) {
    let mut stanza = Stanza::default();
    for (line, text) in lines(page.text) {
        let mut words = text.split_whitespace();
        match (words.next(), words.next()) {
            (Some("iface"), name) => {
                std::mem::take(&mut stanza).tell(page);
                stanza.link = name.unwrap_or_default().to_owned();
            }
            (Some("auto" | "mapping" | "source" | "source-directory"), _) => {
                std::mem::take(&mut stanza).tell(page);
            }
            (Some("address"), Some(address)) => stanza.address = Some((line, address.to_owned())),
            (Some("netmask"), Some(mask)) => stanza.mask = Some(mask.to_owned()),
            (Some("pointopoint"), Some(peer)) => stanza.peer = Some((line, peer.to_owned())),
            (Some("dns-nameservers" | "dns-nameserver"), Some(first)) => {
                std::iter::once(first)
                    .chain(words)
                    .for_each(|server| page.name_server(line, server));
            }
            _ => {}
        }
    }
    stanza.tell(page);
}

/// What belongs to one `iface` line.
#[derive(Debug, Default)]
struct Stanza {
    link: String,
    address: Option<(usize, String)>,
    mask: Option<String>,
    peer: Option<(usize, String)>,
}

impl Stanza {
    fn tell(self, page: &mut Page<'_>) {
        let who = format!("address of `{}`", self.link);
        if let Some((line, address)) = self.address {
            match self.mask {
                Some(mask) if !address.contains('/') => match masked(&address, &mask) {
                    Some(range) => page.add(line, who, range),
                    None => page.note(line, format_args!("`{address}/{mask}` is no address range")),
                },
                _ => page.claim(line, who, &address),
            }
        }
        if let Some((line, peer)) = self.peer {
            page.claim(line, format_args!("other end of `{}`", self.link), &peer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn addresses_are_claims_with_prefix_or_netmask() {
        let text = "\
auto lo
iface lo inet loopback
iface lo inet static
    address 127.0.0.1/8
auto eth0
iface eth0 inet static
    address 10.40.0.5
    netmask 255.255.255.0
    gateway 10.40.0.1
    dns-nameservers 10.40.0.53 10.40.0.54
iface eth0 inet6 static
    netmask 64
    address fd40::5
iface eth1 inet static
    address 10.41.0.5/20
    # address 10.99.0.5/24
    up ip route add 10.98.0.0/16 via 10.41.0.1
iface ppp0 inet static
    address 10.42.0.1
    pointopoint 10.42.0.2
iface eth2 inet dhcp
iface eth3 inet static
    address 10.43.0.1
    netmask 255.0.255.0
";
        assert_eq!(
            told("/etc/network/interfaces", text, read),
            [
                "10.40.0.53/32 name server in /etc/network/interfaces:10",
                "10.40.0.54/32 name server in /etc/network/interfaces:10",
                "10.40.0.0/24 address of `eth0` in /etc/network/interfaces:7",
                "fd40::/64 address of `eth0` in /etc/network/interfaces:13",
                "10.41.0.0/20 address of `eth1` in /etc/network/interfaces:15",
                "10.42.0.1/32 address of `ppp0` in /etc/network/interfaces:19",
                "10.42.0.2/32 other end of `ppp0` in /etc/network/interfaces:20",
                "not 127.0.0.0/8 address of `lo` in /etc/network/interfaces:4: loopback",
                "! /etc/network/interfaces:23: `10.43.0.1/255.0.255.0` is no address range",
            ]
        );
    }
}
