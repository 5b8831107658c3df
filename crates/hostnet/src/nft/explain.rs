//! Our rules, explained to a person: what each does, for which packets, why, and what stands behind it now.

use super::elements::{Elements, count_in};
use super::expr::{Expr, Fib, Meta, Verdict};
use super::listing::Counters;
use super::number::{IPV4, IPV6};
use super::skeleton::{self, Chain, Rule};

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
            let (matches, action, sets) = read(&rule.steps);
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

/// Conditions, action and sets of a rule.
fn read(steps: &[Expr]) -> (Vec<String>, String, Vec<&'static str>) {
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
    (reader.matches, reader.action, reader.sets)
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

/// What a rule does and why, by its comment.
fn words(comment: &str) -> &'static str {
    match comment {
        "traffic of the host with itself" => {
            "What the host sends to itself over loopback is no business of ours, so no later rule here need ask for it."
        }
        "127.0.0.0/8 from a wire" | "::1 from a wire" => {
            "Drops packets for loopback addresses that came in by any other link. Ports that are published on localhost \
             are sockets there: this keeps them from a neighbour that routes 127.0.0.0/8 to this host."
        }
        "a container's false source, IPv4" | "a container's false source, IPv6" => {
            "Drops what comes from a bridge with a source address that isn't on it, so that no container speaks as \
             somebody else."
        }
        "from outside, not published, IPv4" | "from outside, not published, IPv6" => {
            "Drops packets from outside that are addressed to a container directly. Published ports are reached by the \
             host's address only; this keeps out a neighbour that has a route to our subnets."
        }
        "internal networks reach no published port" => {
            "For packets of internal networks the rest of this chain is skipped, so that they are led to no published \
             port: internal means no way out."
        }
        "published on an address, IPv4" | "published on an address, IPv6" => {
            "Leads connections to a port that is published on one address of the host to its container. The client's \
             address is kept."
        }
        "published in a run on an address, IPv4" | "published in a run on an address, IPv6" => {
            "The same for many ports in a row: one element for all of them, and each keeps its number."
        }
        "published on all addresses, IPv4" | "published on all addresses, IPv6" => {
            "Leads connections to a port that is published on every address of the host (but loopback, where it is a \
             socket) to its container. The client's address is kept."
        }
        "published in a run on all addresses, IPv4" | "published in a run on all addresses, IPv6" => {
            "The same for many ports in a row on every address of the host but loopback."
        }
        "from internal networks, answers" => {
            "Answers of internal networks to the host, which may ask them: the proxy's requests and health checks."
        }
        "from internal networks, to their bridge" => {
            "Containers of an internal network may ask the host at their own bridge's address."
        }
        "from internal networks, broadcast" | "from internal networks, multicast" => {
            "What finds neighbours on an internal network's own link is let through."
        }
        "from internal networks, the rest" => {
            "Drops everything else that an internal network sends to the host: its other addresses are a way out."
        }
        "none of our business" => {
            "Packets that neither come from nor go to a bridge of ours are not judged here."
        }
        "on one network" => "Containers of one network reach each other, unless the network is isolated.",
        "on an isolated network, answers" => {
            "On an isolated network, answers to what was let through before: of published ports, and of the resolver."
        }
        "on an isolated network, to the resolver" => "Members of an isolated network may ask for names.",
        "on an isolated network, from the resolver, IPv4"
        | "on an isolated network, from the resolver, IPv6" => {
            "The resolver's namespace, where the proxy's sockets are, reaches members of an isolated network. It sends \
             with a time to live of 255, which nothing has that one member sends another by way of the host."
        }
        "out of an internal network" => "Drops what an internal network sends elsewhere: it has no way out.",
        "into an internal network" => "Drops what others send to an internal network.",
        "answers" => "Answers to connections that were let through.",
        "published" => {
            "Connections that were led to a container because its port is published, from wherever."
        }
        "to the outside" => "Containers reach the outside.",
        "between networks or isolated members, or not published" => {
            "Drops the rest: from one network to another, from one member of an isolated network to another, and from \
             outside to what isn't published."
        }
        "published, from its own network" => {
            "A container that asks a published port of its own network gets the host's address as source, so that the \
             answer comes back through the host and not past it."
        }
        "published, from itself, IPv4" | "published, from itself, IPv6" => {
            "A container that asks its own published port gets the host's address as source: it would not answer itself."
        }
        "to the outside, IPv4" | "to the outside, IPv6" => {
            "What containers send outside gets the host's address as source, for nobody there has a route to theirs."
        }
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    //! Every rule has words.

    use super::*;

    #[test]
    fn every_rule_is_explained_and_ends_in_something() {
        for view in views(&Elements::new(), &Counters::new()) {
            assert!(!view.words.is_empty(), "no words for `{}`", view.comment);
            assert!(!view.action.is_empty(), "{view:?}");
            let text = view.matches.join(" ");
            assert!(!text.contains('?'), "{view:?}");
        }
    }

    #[test]
    fn conditions_are_told_as_nft_would() {
        let views = views(&Elements::new(), &Counters::new());
        let of = |comment: &str| {
            let view = views.iter().find(|view| view.comment == comment).unwrap();
            format!("{} {}", view.matches.join(" "), view.action)
        };
        assert_eq!(
            of("published on an address, IPv4"),
            "meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @publish4"
        );
        assert_eq!(
            of("on an isolated network, to the resolver"),
            "iifname @isolated iifname . oifname @same meta nfproto ipv4 ip daddr 169.254.53.53 accept"
        );
        assert_eq!(
            of("a container's false source, IPv6"),
            "iifname @bridges meta nfproto ipv6 ip6 saddr != :: fib saddr . iif oif missing drop"
        );
    }
}
