//! Our rules, explained to a person: what each does, for which packets, why, and what stands behind it now.

mod words;

use super::elements::{Elements, count_in};
use super::expr::{Expr, Fib, Meta, Verdict};
use super::listing::Counters;
use super::number::{IPV4, IPV6};
use super::skeleton::{self, Chain, Rule};
use words::words;

/// A rule of our table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleView {
    /// Its chain.
    pub chain: &'static str,
    /// Where the kernel calls the chain: `prerouting`, `input`, `forward`, `output`, `postrouting`.
    pub hook: &'static str,
    /// Chains of one hook run in this order.
    pub priority: i32,
    /// Its comment in `nft list table inet linkspan`.
    pub comment: &'static str,
    /// What it does and why.
    pub words: &'static str,
    /// Its conditions in `nft`'s words; all must hold.
    pub matches: Vec<String>,
    /// What is done with the packet: `accept`, `drop`, `masquerade`, …
    pub action: String,
    /// The sets and maps that it asks.
    pub sets: Vec<SetView>,
    /// The one family whose packets it is for: `IPv4` or `IPv6`; absent when it is for both.
    pub family: Option<&'static str>,
    /// How many packets it was for, if it counts: those do that drop.
    pub packets: Option<u64>,
    /// How many bytes these had.
    pub bytes: Option<u64>,
}

/// A set or map that a rule asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetView {
    /// Its name in `nft list table inet linkspan`.
    pub name: &'static str,
    /// How many elements it has; a range is one.
    pub elements: usize,
}

/// All rules, in the order in which a packet meets them.
pub(super) fn views(elements: &Elements, counters: &Counters) -> Vec<RuleView> {
    let chains = skeleton::chains();
    let rules = chains.iter().flat_map(|chain| {
        (0..)
            .zip(&chain.rules)
            .map(move |(number, rule)| (chain, number, rule))
    });
    rules
        .map(|(chain, number, rule): (&Chain, usize, &Rule)| {
            let (matches, action, sets, family) = read(&rule.steps);
            let counted = counters
                .get(chain.name)
                .and_then(|counted| counted.get(number).copied().flatten());
            RuleView {
                chain: chain.name,
                hook: HOOKS.get(chain.hook as usize).copied().unwrap_or_default(),
                priority: chain.priority,
                comment: rule.comment,
                words: words(rule.comment),
                matches,
                action,
                family: match family {
                    IPV4 => Some("IPv4"),
                    IPV6 => Some("IPv6"),
                    _ => None,
                },
                sets: sets
                    .into_iter()
                    .map(|name| SetView {
                        name,
                        elements: count_in(elements, name),
                    })
                    .collect(),
                packets: counted.map(|(packets, _)| packets),
                bytes: counted.map(|(_, bytes)| bytes),
            }
        })
        .collect()
}

const HOOKS: [&str; 5] = ["prerouting", "input", "forward", "output", "postrouting"];

/// Conditions, action, sets and family of a rule.
fn read(steps: &[Expr]) -> (Vec<String>, String, Vec<&'static str>, u8) {
    let mut reader = Reader {
        family: 0,
        loaded: Vec::new(),
        mask: 0,
        matches: Vec::new(),
        action: String::new(),
        sets: Vec::new(),
    };
    for step in steps {
        reader.step(step);
    }
    (reader.matches, reader.action, reader.sets, reader.family)
}

struct Reader {
    family: u8,
    /// What is in the registers, side by side.
    loaded: Vec<&'static str>,
    mask: u32,
    matches: Vec<String>,
    action: String,
    sets: Vec<&'static str>,
}

impl Reader {
    fn step(&mut self, step: &Expr) {
        match step {
            Expr::Meta(key, _) => self.loaded.push(match key {
                Meta::IifName => "iifname",
                Meta::OifName => "oifname",
                Meta::Family => "meta nfproto",
                Meta::L4Protocol => "meta l4proto",
            }),
            Expr::Network(offset, length, _) => self.loaded.push(field(self.family, *offset, *length)),
            Expr::Transport(..) => self.loaded.push("th dport"),
            Expr::Fib(fib, _) => self.loaded.push(match fib {
                Fib::DestinationType => "fib daddr type",
                Fib::DestinationTypeHere => "fib daddr . iif type",
                Fib::SourceIsHere => "fib saddr . iif oif",
            }),
            Expr::ConntrackState(_) => self.loaded.push("ct state"),
            Expr::ConntrackStatus(_) => self.loaded.push("ct status"),
            Expr::And(_, mask) => self.mask = *mask,
            Expr::Equal(_, bytes) => self.compare("", bytes),
            Expr::NotEqual(_, bytes) => self.compare("!= ", bytes),
            Expr::In(set, _) => self.ask("", set),
            Expr::NotIn(set, _) => self.ask("!= ", set),
            Expr::Map { map, .. } => {
                let key = self.key();
                self.action = format!("to {key} map @{map}");
                self.sets.push(map);
            }
            Expr::Counter => {}
            Expr::Dnat { family, .. } => {
                let family = if *family == IPV4 { "ip" } else { "ip6" };
                self.action = format!("dnat {family} {}", self.action);
            }
            Expr::Masquerade => self.action = "masquerade".to_owned(),
            Expr::Verdict(verdict) => {
                self.action = match verdict {
                    Verdict::Drop => "drop",
                    Verdict::Accept => "accept",
                    Verdict::Return => "return",
                }
                .to_owned();
            }
        }
    }

    fn key(&mut self) -> String {
        std::mem::take(&mut self.loaded).join(" . ")
    }

    fn ask(&mut self, not: &str, set: &'static str) {
        let key = self.key();
        self.matches.push(format!("{key} {not}@{set}"));
        self.sets.push(set);
    }

    fn compare(&mut self, not: &str, bytes: &[u8]) {
        let key = self.key();
        let text = match key.as_str() {
            "meta nfproto" => {
                self.family = bytes.first().copied().unwrap_or(0);
                let family = if self.family == IPV6 { "ipv6" } else { "ipv4" };
                format!("meta nfproto {not}{family}")
            }
            // Some of these bits are set.
            "ct state" => "ct state established,related".to_owned(),
            "ct status" => format!("ct status {}", if self.mask == 0x20 { "dnat" } else { "?" }),
            "fib saddr . iif oif" => format!("{key} {not}missing"),
            _ => format!("{key} {not}{}", value(&key, bytes)),
        };
        self.matches.push(text);
    }
}

fn field(family: u8, offset: u32, length: u32) -> &'static str {
    match (family, offset, length) {
        (IPV4, 12, _) => "ip saddr",
        (IPV4, 16, 4) => "ip daddr",
        (IPV4, 16, _) => "@nh,128,8",
        (IPV4, 8, _) => "ip ttl",
        (IPV6, 8, _) => "ip6 saddr",
        (IPV6, 24, _) => "ip6 daddr",
        (IPV6, 7, _) => "ip6 hoplimit",
        _ => "?",
    }
}

fn value(key: &str, bytes: &[u8]) -> String {
    if key.ends_with("name") {
        let name = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        return format!("\"{}\"", String::from_utf8_lossy(name));
    }
    if key.ends_with("type") {
        return match bytes.first() {
            Some(2) => "local",
            Some(3) => "broadcast",
            Some(5) => "multicast",
            _ => "?",
        }
        .to_owned();
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).map(|octets| std::net::Ipv4Addr::from(octets).to_string()),
        16 => <[u8; 16]>::try_from(bytes).map(|octets| std::net::Ipv6Addr::from(octets).to_string()),
        _ => Ok(bytes.first().copied().unwrap_or(0).to_string()),
    }
    .unwrap_or_default()
}

#[cfg(test)]
mod tests;
