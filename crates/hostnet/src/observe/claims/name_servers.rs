//! The host's name servers: resolv.conf(5), as the resolver library reads it.

use super::page::Page;

/// Behind a name server on loopback are others, and these files name them: of systemd-resolved and of NetworkManager.
pub(super) const BEHIND_STUB: [&str; 2] = [
    "/run/systemd/resolve/resolv.conf",
    "/run/NetworkManager/no-stub-resolv.conf",
];

pub(super) fn read(page: &mut Page<'_>) {
    for (index, line) in page.text.lines().enumerate() {
        let mut words = line.split_whitespace();
        if words.next() == Some("nameserver")
            && let Some(server) = words.next()
        {
            // Without the line: people don't write this file, and its lines move.
            match super::range::address(server) {
                Some(ip) => page.add(None, "name server", ip.into()),
                None => page.note(index + 1, format_args!("`{server}` is no address")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn name_servers_are_read_as_the_resolver_reads_them() {
        let text = "# nameserver 1.1.1.1\nnameserver 10.0.0.53\nsearch example.com\nnameserver  fd00::53 # second\n\
                    nameserver fe80::1%eth0\nnameserver 127.0.0.53\nnameserver dns.example.com\n";
        assert_eq!(
            told("/etc/resolv.conf", text, read),
            [
                "10.0.0.53/32 name server in /etc/resolv.conf",
                "fd00::53/128 name server in /etc/resolv.conf",
                "not fe80::1/128 name server in /etc/resolv.conf: link-local",
                "not 127.0.0.53/32 name server in /etc/resolv.conf: loopback",
                "! /etc/resolv.conf:7: `dns.example.com` is no address",
            ]
        );
    }
}
