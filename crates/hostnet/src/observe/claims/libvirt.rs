//! libvirt's networks: its "Network XML format", elements `ip` and `route`.
//!
//! The files are written by libvirt itself, so that of XML only what it writes is understood: comments, tags, quoted
//! attributes. What is no such thing is passed over.

use std::net::IpAddr;

use super::page::Page;
use super::range::{address, masked, network};

pub(super) fn read(page: &mut Page<'_>) {
    let text = page.text;
    let name = between(text, "<name>", "</name>").unwrap_or_default().trim();
    for (at, tag) in tags(text) {
        let who = match tag.split_whitespace().next() {
            Some("ip") => format!("libvirt network `{name}`"),
            Some("route") => format!("route of libvirt network `{name}`"),
            _ => continue,
        };
        if let Some(ip) = attribute(tag, "address") {
            let mask = attribute(tag, "prefix").or_else(|| attribute(tag, "netmask"));
            let range = match mask {
                Some(mask) => masked(ip, mask),
                None => address(ip).and_then(|ip| network(ip, Some(customary(ip)))),
            };
            match range {
                Some(range) => page.add(None, who, range),
                None => {
                    let line = text[..at].lines().count();
                    page.note(
                        line,
                        format_args!("`<{}>` has no address range", tag.trim_end_matches('/')),
                    );
                }
            }
        }
    }
}

/// The prefix that libvirt takes when none is written: by the class of the address.
fn customary(ip: IpAddr) -> u8 {
    match ip {
        IpAddr::V4(ip) => match ip.octets()[0] {
            0..=127 => 8,
            128..=191 => 16,
            192..=223 => 24,
            _ => 32,
        },
        IpAddr::V6(_) => 64,
    }
}

/// What stands between `<` and `>`, and where it begins; comments left out.
fn tags(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at + text.get(at..)?.find('<')? + 1;
            let rest = &text[start..];
            if let Some(comment) = rest.strip_prefix("!--") {
                at = start + 3 + comment.find("-->")? + 3;
                continue;
            }
            let end = tag_end(rest)?;
            at = start + end + 1;
            return Some((start, &rest[..end]));
        }
    })
}

/// A `>` in quotes doesn't end a tag.
fn tag_end(text: &str) -> Option<usize> {
    let mut quote = None;
    text.char_indices().find_map(|(index, c)| {
        match (quote, c) {
            (None, '>') => return Some(index),
            (None, '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            _ => {}
        }
        None
    })
}

/// The value of `name='…'` in a tag.
fn attribute<'a>(tag: &'a str, name: &str) -> Option<&'a str> {
    let mut rest = tag;
    loop {
        let (before, after) = rest.split_once('=')?;
        let key = before.split_whitespace().next_back()?;
        let after = after.trim_start();
        let quote = after.chars().next().filter(|c| matches!(c, '"' | '\''))?;
        let (value, next) = after[1..].split_once(quote)?;
        if key == name {
            return Some(value);
        }
        rest = next;
    }
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?
        .1
        .split_once(end)
        .map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::claims::page::told;

    #[test]
    fn addresses_and_routes_are_claims() {
        let text = "\
<!--
WARNING: THIS IS AN AUTO-GENERATED FILE. <ip address='10.99.0.1' prefix='24'/>
-->
<network>
  <name>default</name>
  <uuid>8c9e0a9e-0000-4000-8000-000000000000</uuid>
  <forward mode='nat'><nat><address start='192.0.2.8' end='192.0.2.9'/></nat></forward>
  <bridge name='virbr0' stp='on' delay='0'/>
  <mac address='52:54:00:00:00:01'/>
  <dns><host ip='10.98.0.1'><hostname>a</hostname></host></dns>
  <ip address='192.168.122.1' netmask='255.255.255.0'>
    <dhcp>
      <range start='192.168.122.2' end='192.168.122.254'/>
      <host mac='52:54:00:00:00:02' name='a>b' ip='192.168.122.9'/>
    </dhcp>
  </ip>
  <ip family=\"ipv6\" address = \"fd95::1\" prefix=\"64\"/>
  <ip address='172.20.0.1'/>
  <route family='ipv4' address='10.95.0.0' prefix='16' gateway='192.168.122.9'/>
  <ip address='10.96.0.1' prefix='64'/>
</network>
";
        assert_eq!(
            told("/etc/libvirt/qemu/networks/default.xml", text, read),
            [
                "192.168.122.0/24 libvirt network `default` in /etc/libvirt/qemu/networks/default.xml",
                "fd95::/64 libvirt network `default` in /etc/libvirt/qemu/networks/default.xml",
                "172.20.0.0/16 libvirt network `default` in /etc/libvirt/qemu/networks/default.xml",
                "10.95.0.0/16 route of libvirt network `default` in /etc/libvirt/qemu/networks/default.xml",
                "! /etc/libvirt/qemu/networks/default.xml:20: `<ip address='10.96.0.1' prefix='64'>` has no address range",
            ]
        );
    }

    #[test]
    fn broken_markup_ends_the_reading_and_nothing_else() {
        for text in [
            "",
            "<",
            "<ip",
            "<!-- ",
            "<ip address='10.0.0.1",
            "<ip address=10.0.0.1/>",
            "<ip =''/>",
            "é<é a='é'>",
        ] {
            assert_eq!(told("/x", text, read), [""; 0], "{text}");
        }
        assert_eq!(
            told("/x", "<ip address='10.0.0.1' prefix='24'/><ip address='", read),
            ["10.0.0.0/24 libvirt network `` in /x"]
        );
    }
}
