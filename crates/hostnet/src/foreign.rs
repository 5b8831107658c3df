//! What other firewalls on this host do to our traffic, and what to change about it.
//!
//! In the kernel a packet passes the chains of all tables at a hook. A drop in any of them is final; an accept is only that
//! table's opinion. So Docker's policy for forwarded packets, or ufw's, decides about our containers too, whatever our
//! own table says. Here we read everybody's chains (`foreign/decode.rs` those in nf_tables, whoever made them;
//! `foreign/legacy.rs` those of the older filter), walk them with the few kinds of packets that matter to us
//! (`foreign/fate.rs`), and tell a person the outcome (`foreign/words.rs`). Nothing is changed here; for the one accept
//! that we make ourselves, see `coexist.rs`.

mod decode;
mod fate;
mod legacy;
mod report;
mod rules;
mod words;

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::timeout;

use crate::netlink::NetfilterSocket;
use crate::sysctl;

pub(crate) use decode::{chains, rules_of};
pub(crate) use legacy::tables as legacy_tables;
pub use report::{Backend, Flow, ForeignChain, ForeignEffect, Outcome, Owner};
pub(crate) use rules::{Action, Rule};
pub(crate) use words::accept_command;

use decode::Tables;
use fate::fate;
use rules::{Base, Chains, ESTABLISHED, IPV4, IPV6, Link, NEW, Packet};

/// A program that prints a table or answers a question is done within this, or broken.
const PATIENCE: Duration = Duration::from_secs(3);

/// `NF_INET_*`.
const PREROUTING: u32 = 0;
const INPUT: u32 = 1;
const FORWARD: u32 = 2;

/// Everybody's chains, as they are now.
#[derive(Debug, Default)]
pub(crate) struct Rulesets {
    nftables: Tables,
    /// IPv4's, then IPv6's.
    legacy: Vec<(u8, String, Chains)>,
}

impl Rulesets {
    /// Reads those in nf_tables.
    pub(crate) fn read(socket: &mut NetfilterSocket) -> io::Result<Self> {
        Ok(Self {
            nftables: decode::tables(socket)?,
            legacy: Vec::new(),
        })
    }

    /// Adds those of the older filter, if it is in use and its program is installed.
    pub(crate) async fn read_legacy(&mut self) {
        for (family, command) in [(IPV4, "iptables-legacy-save"), (IPV6, "ip6tables-legacy-save")] {
            if let Some(text) = legacy_rules(family, command).await {
                let tables = legacy::tables(&text).into_iter();
                self.legacy
                    .extend(tables.map(|(table, chains)| (family, table, chains)));
            }
        }
    }

    /// What each of their chains does to us. `uplink` is the link that leads to the outside.
    pub(crate) fn judge(&self, uplink: &str) -> Vec<ForeignChain> {
        let nftables = self
            .nftables
            .iter()
            .map(|((family, table), chains)| (*family, table, Backend::Nftables, chains));
        let legacy = self
            .legacy
            .iter()
            .map(|(family, table, chains)| (*family, table, Backend::Legacy, chains));
        nftables
            .chain(legacy)
            .flat_map(|(family, table, backend, chains)| {
                chains.iter().filter_map(move |(name, chain)| {
                    let place = words::Place {
                        family: family_name(family)?,
                        table,
                        name,
                        backend,
                    };
                    judge(&place, family, chains, chain.base.as_ref()?, uplink)
                })
            })
            .collect()
    }
}

/// What `iptables-legacy-save` says, if the older filter has any table. In legacy tables nobody can look but its program.
pub(crate) async fn legacy_rules(family: u8, command: &str) -> Option<String> {
    let names = match family {
        IPV4 => "/proc/thread-self/net/ip_tables_names",
        _ => "/proc/thread-self/net/ip6_tables_names",
    };
    let in_use = std::fs::read_to_string(names).is_ok_and(|names| !names.trim().is_empty());
    if !in_use {
        return None;
    }
    match run(command, &[]).await {
        Ok(text) => Some(text),
        Err(error) => {
            tracing::debug!(%error, command, "legacy tables can't be read");
            None
        }
    }
}

/// Runs a program to its end; what it prints. Fails if the program does.
pub(crate) async fn run(program: &str, words: &[&str]) -> io::Result<String> {
    let output = Command::new(program).args(words).kill_on_drop(true).output();
    let output = timeout(PATIENCE, output)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(io::Error::other(said.trim().to_owned()))
}

fn family_name(family: u8) -> Option<&'static str> {
    match family {
        crate::nft::number::INET => Some("inet"),
        IPV4 => Some("ip"),
        IPV6 => Some("ip6"),
        _ => None,
    }
}

fn judge(
    place: &words::Place<'_>,
    family: u8,
    chains: &Chains,
    base: &Base,
    uplink: &str,
) -> Option<ForeignChain> {
    let hook = match base.hook {
        PREROUTING => "prerouting",
        INPUT => "input",
        FORWARD => "forward",
        3 => "output",
        4 => "postrouting",
        _ => return None,
    };
    let reached = reached(chains, place.name);
    let effects = effects(family, chains, place.name, base, uplink);
    let owners = words::owners(place.table, &reached);
    let accepts_ours = reached
        .iter()
        .filter_map(|name| chains.get(*name))
        .any(|chain| chain.rules.iter().any(Rule::is_for_us));
    Some(ForeignChain {
        family: place.family,
        table: place.table.to_owned(),
        name: place.name.to_owned(),
        backend: place.backend,
        hook,
        priority: base.priority,
        accepts_by_policy: base.accepts,
        words: words::effect(base, &effects, accepts_ours),
        remedy: words::remedy(place, base, &owners, &reached, &effects),
        owners,
        effects,
        accepts_ours,
    })
}

/// The chain and all that it can lead to.
fn reached<'a>(chains: &'a Chains, from: &'a str) -> BTreeSet<&'a str> {
    let mut reached = BTreeSet::from([from]);
    let mut rest = vec![from];
    while let Some(chain) = rest.pop().and_then(|name| chains.get(name)) {
        for rule in &chain.rules {
            let targets: Vec<&String> = match &rule.action {
                Action::Jump(to) | Action::Goto(to) => vec![to],
                Action::Map(_, map) => map
                    .values()
                    .filter_map(|action| match action {
                        Action::Jump(to) | Action::Goto(to) => Some(to),
                        _ => None,
                    })
                    .collect(),
                _ => Vec::new(),
            };
            for to in targets.into_iter().filter(|to| chains.contains_key(*to)) {
                if reached.insert(to) {
                    rest.push(to);
                }
            }
        }
    }
    reached
}

/// What becomes of our traffic in a chain.
fn effects(family: u8, chains: &Chains, name: &str, base: &Base, uplink: &str) -> Vec<ForeignEffect> {
    if base.kind == "nat" {
        return Vec::new();
    }
    let (ours, outside) = (Some(Link::Ours), Some(Link::Named(uplink)));
    let packet = |iif, oif, state, published| Packet {
        family: IPV4,
        iif,
        oif,
        state,
        published,
    };
    let mut flows = Vec::new();
    match base.hook {
        FORWARD => {
            flows.extend([
                (Flow::Outward, packet(ours, outside, NEW, false)),
                (Flow::Published, packet(outside, ours, NEW, true)),
                (Flow::Answers, packet(outside, ours, ESTABLISHED, false)),
                (Flow::Answers, packet(ours, outside, ESTABLISHED, true)),
            ]);
            if sysctl::frames_are_shown() {
                flows.push((Flow::Within, packet(ours, ours, NEW, false)));
            }
        }
        INPUT => flows.push((Flow::ToHost, packet(ours, None, NEW, false))),
        PREROUTING => flows.extend([
            (Flow::Outward, packet(ours, None, NEW, false)),
            (Flow::Published, packet(outside, None, NEW, false)),
        ]),
        _ => {}
    }
    let mut effects: Vec<ForeignEffect> = Vec::new();
    for (flow, packet) in flows {
        let families = if family == crate::nft::number::INET {
            vec![IPV4, IPV6]
        } else {
            vec![family]
        };
        let fates = families
            .into_iter()
            .map(|family| fate(chains, name, &Packet { family, ..packet }));
        let Some(worst) = fates.max() else { continue };
        let (outcome, by) = match worst {
            fate::Fate::Passes => (Outcome::Passes, None),
            fate::Fate::Perhaps(by) => (Outcome::Depends, Some(by)),
            fate::Fate::Dropped(by) => (Outcome::Dropped, Some(by)),
        };
        match effects.iter_mut().find(|effect| effect.flow == flow) {
            Some(known) if known.outcome >= outcome => {}
            Some(known) => *known = ForeignEffect { flow, outcome, by },
            None => effects.push(ForeignEffect { flow, outcome, by }),
        }
    }
    effects
}
