//! The one thing that we do to other firewalls' rules: two accepts for our bridges, where those firewalls want them.
//!
//! A drop is final whoever makes it, so where Docker has set its policy for forwarded packets to *drop*, or ufw has, no
//! container of ours reaches anything. Both have a chain for rules of others: `DOCKER-USER`, and `ufw-user-forward`
//! where `ufw route` puts what its user wrote. firewalld has zones. There we say that what comes from our bridges or goes
//! to them passes.
//!
//! That opens nothing: the accept only ends *their* judgement of the packet. Ours comes at the same hook in our own table,
//! which drops everything from or to a bridge of ours that isn't an answer, published, or on its way out; and links whose
//! name begins with `ls-b` are made by nobody else. What the user himself wrote into that chain goes first, for we come
//! last in it, before its closing return.
//!
//! A rule of ours is known by its comment, `linkspan`. It is written in the form in which `iptables` itself writes it, so
//! that `iptables -S`, `-D` and `iptables-save` know it as one of theirs.

use std::collections::BTreeSet;
use std::io;

use linkspan_plan::LINK_PREFIX;

use crate::foreign::{self, Action, Rule};
use crate::netlink::{APPEND, CREATE, NetfilterSocket, Writer};
use crate::nft::number::{self, element, message, rule};
use crate::{Backend, CoexistError};

/// How our rules are known.
const MARK: &str = "linkspan";
const TABLE: &str = "filter";
/// Chains of `iptables` for rules of others, by family.
const CHAINS: [(u8, &str); 4] = [
    (number::IPV4, "DOCKER-USER"),
    (number::IPV6, "DOCKER-USER"),
    (number::IPV4, "ufw-user-forward"),
    (number::IPV6, "ufw6-user-forward"),
];
/// Looks at a chain that somebody else keeps changing.
const ATTEMPTS: usize = 3;
const FIREWALLD: &str = "firewalld";
const ZONE: &str = "trusted";

/// Where another firewall has been told of our bridges, or was found not to have been.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Accept {
    /// `ip filter DOCKER-USER`, `firewalld zone trusted`.
    pub place: String,
    /// Which packet filter it is in.
    pub backend: Backend,
    /// What was done now.
    pub done: AcceptChange,
}

/// What was done about an accept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum AcceptChange {
    /// It was as it should be.
    Kept,
    /// It was missing, and is there now.
    Made,
    /// It was there, and is no longer.
    Removed,
}

/// The two rules in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    From,
    To,
}

const SIDES: [Side; 2] = [Side::From, Side::To];

// === nf_tables ===

/// Makes the accepts in the chains that there are in nf_tables, or removes them.
pub(crate) fn in_nftables(socket: &mut NetfilterSocket, wanted: bool) -> Result<Vec<Accept>, CoexistError> {
    let read = |source| CoexistError::Read { source };
    let tables = foreign::chains(socket).map_err(read)?;
    let mut accepts = Vec::new();
    for (family, chain) in CHAINS {
        let there = tables
            .get(&(family, TABLE.to_owned()))
            .is_some_and(|chains| chains.contains_key(chain));
        if !there {
            continue;
        }
        let name = if family == number::IPV4 { "ip" } else { "ip6" };
        let place = format!("{name} {TABLE} {chain}");
        let change = in_chain(socket, family, chain, wanted).map_err(|source| CoexistError::Refused {
            command: command(family, Backend::Nftables, chain, wanted),
            place: place.clone(),
            source,
        })?;
        accepts.extend(change.told(place, Backend::Nftables, wanted));
    }
    Ok(accepts)
}

/// Looks and changes, again if somebody else changed the chain between the two: its owner is at work then.
fn in_chain(socket: &mut NetfilterSocket, family: u8, chain: &str, wanted: bool) -> io::Result<Change> {
    let mut result = Ok(());
    for _ in 0..ATTEMPTS {
        let rules = match foreign::rules_of(socket, family, TABLE, chain) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            rules => rules?,
        };
        let change = Change::of(&rules, wanted);
        if change.is_empty() {
            return Ok(change);
        }
        result = change.make(socket, family, chain);
        match &result {
            Ok(()) => return Ok(change),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(_) => break,
        }
    }
    result.map(|()| Change::default())
}

/// What makes a chain as it should be.
#[derive(Debug, Default, PartialEq, Eq)]
struct Change {
    /// Handles, in legacy tables numbers.
    delete: Vec<u64>,
    add: Vec<Side>,
    /// Behind the rules of the user: before the chain's closing return, if it has one.
    before: Option<u64>,
}

impl Change {
    fn of(rules: &[Rule], wanted: bool) -> Self {
        let closing = rules.iter().position(ends_all).unwrap_or(rules.len());
        let mut change = Self {
            before: rules.get(closing).map(|rule| rule.handle),
            ..Self::default()
        };
        let mut missing: BTreeSet<bool> = [true, false].into();
        for (number, rule) in rules.iter().enumerate() {
            let Some(side) = side(rule) else { continue };
            // One that is never reached, or there twice, is as good as none.
            let keep = wanted && number < closing && missing.remove(&(side == Side::From));
            if !keep {
                change.delete.push(rule.handle);
            }
        }
        if wanted {
            change.add = SIDES
                .into_iter()
                .filter(|side| missing.contains(&(*side == Side::From)))
                .collect();
        }
        change
    }

    fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty()
    }

    fn told(&self, place: String, backend: Backend, wanted: bool) -> Option<Accept> {
        let done = match (wanted, self.is_empty()) {
            (true, true) => AcceptChange::Kept,
            (true, false) => AcceptChange::Made,
            (false, false) => AcceptChange::Removed,
            (false, true) => return None,
        };
        Some(Accept { place, backend, done })
    }

    /// In one transaction.
    fn make(&self, socket: &mut NetfilterSocket, family: u8, chain: &str) -> io::Result<()> {
        let mut out = Writer::default();
        let resource = number::SUBSYSTEM;
        out.message(
            number::BATCH_BEGIN,
            0,
            socket.next_sequence(),
            0,
            resource,
            |_| {},
        );
        for side in &self.add {
            // Without a place it goes behind all others.
            let flags = if self.before.is_some() {
                CREATE
            } else {
                CREATE | APPEND
            };
            let sequence = socket.next_sequence();
            out.message(message::NEW_RULE, flags, sequence, family, 0, |out| {
                out.text(rule::TABLE, TABLE);
                out.text(rule::CHAIN, chain);
                if let Some(handle) = self.before {
                    out.attr(rule::POSITION, &handle.to_be_bytes());
                }
                out.nest(rule::EXPRESSIONS, |out| side.write(out));
            });
        }
        for handle in &self.delete {
            let sequence = socket.next_sequence();
            out.message(message::DELETE_RULE, 0, sequence, family, 0, |out| {
                out.text(rule::TABLE, TABLE);
                out.text(rule::CHAIN, chain);
                out.attr(rule::HANDLE, &handle.to_be_bytes());
            });
        }
        out.message(number::BATCH_END, 0, socket.next_sequence(), 0, resource, |_| {});
        match socket.send_batch(out.bytes())?.first() {
            Some((_, errno)) => Err((*errno).into()),
            None => Ok(()),
        }
    }
}

/// Does nothing come behind this rule?
fn ends_all(rule: &Rule) -> bool {
    let ends = matches!(
        rule.action,
        Action::Accept | Action::Drop | Action::Return | Action::Goto(_)
    );
    ends && rule.conditions.is_empty()
}

/// Is it a rule of ours, and which?
fn side(rule: &Rule) -> Option<Side> {
    let ours = rule.comment.as_deref() == Some(MARK) && rule.is_for_us();
    ours.then(|| {
        if rule.is_for_incoming() {
            Side::From
        } else {
            Side::To
        }
    })
}

impl Side {
    /// As `iptables -A … -i ls-b+ -m comment --comment linkspan -j ACCEPT` writes it.
    fn write(self, out: &mut Writer) {
        let expr = |out: &mut Writer, name: &str, data: &dyn Fn(&mut Writer)| {
            out.nest(rule::LIST_ELEMENT, |out| {
                out.text(rule::EXPR_NAME, name);
                out.nest(rule::EXPR_DATA, |out| data(out));
            });
        };
        let value = |out: &mut Writer, bytes: &[u8]| out.nest(3, |out| out.attr(element::VALUE, bytes));
        // `NFT_META_IIFNAME`, `NFT_META_OIFNAME`.
        let key = if self == Self::From { 6 } else { 7 };
        expr(out, "meta", &|out| {
            out.number(2, key);
            out.number(1, 1);
        });
        expr(out, "cmp", &|out| {
            out.number(1, 1);
            out.number(2, 0);
            value(out, format!("{LINK_PREFIX}b").as_bytes());
        });
        expr(out, "match", &|out| {
            // `struct xt_comment_info`: 256 bytes of text.
            let mut comment = [0; 256];
            comment[..MARK.len()].copy_from_slice(MARK.as_bytes());
            out.text(1, "comment");
            out.number(2, 0);
            out.attr(3, &comment);
        });
        expr(out, "counter", &|out| {
            out.attr(1, &[0; 8]);
            out.attr(2, &[0; 8]);
        });
        expr(out, "immediate", &|out| {
            out.number(1, 0);
            out.nest(2, |out| {
                out.nest(element::VERDICT, |out| out.number(element::VERDICT_CODE, 1));
            });
        });
    }

    fn option(self) -> &'static str {
        match self {
            Self::From => "-i",
            Self::To => "-o",
        }
    }
}

// === iptables-legacy ===

/// The same in tables of the older filter, by its program; nothing if they are not in use.
pub(crate) async fn in_legacy(wanted: bool) -> Result<Vec<Accept>, CoexistError> {
    let mut accepts = Vec::new();
    for (family, chain) in CHAINS {
        let (program, save) = if family == number::IPV4 {
            ("iptables-legacy", "iptables-legacy-save")
        } else {
            ("ip6tables-legacy", "ip6tables-legacy-save")
        };
        let Some(text) = foreign::legacy_rules(family, save).await else {
            continue;
        };
        let mut tables = foreign::legacy_tables(&text);
        let Some(chain_found) = tables.get_mut(TABLE).and_then(|chains| chains.get_mut(chain)) else {
            continue;
        };
        // Its rules have no handles but their numbers.
        for (number, rule) in (1..).zip(&mut chain_found.rules) {
            rule.handle = number;
        }
        let change = Change::of(&chain_found.rules, wanted);
        let place = format!("{program} {chain}");
        for words in change.commands(chain, chain_found.rules.len()) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            foreign::run(program, &words)
                .await
                .map_err(|source| CoexistError::Refused {
                    command: command(family, Backend::Legacy, chain, wanted),
                    place: place.clone(),
                    source,
                })?;
        }
        accepts.extend(change.told(place, Backend::Legacy, wanted));
    }
    Ok(accepts)
}

impl Change {
    /// Arguments for the program, in an order in which the numbers stay right: from the last rule to the first.
    fn commands(&self, chain: &str, rules: usize) -> Vec<Vec<String>> {
        let line = |text: String| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let place = self.before.unwrap_or(rules as u64 + 1);
        let mut deletions: Vec<u64> = self.delete.clone();
        deletions.sort_unstable_by(|a, b| b.cmp(a));
        let delete = |number: &u64| line(format!("-w 2 -D {chain} {number}"));
        let behind = deletions.iter().filter(|number| **number >= place).map(delete);
        let before = deletions.iter().filter(|number| **number < place).map(delete);
        let add = self.add.iter().rev().map(|side| {
            line(format!(
                "-w 2 -I {chain} {place} {} {LINK_PREFIX}b+ -m comment --comment {MARK} -j ACCEPT",
                side.option()
            ))
        });
        behind.chain(add).chain(before).collect()
    }
}

// === firewalld ===

/// Puts our bridges into firewalld's trusted zone, or takes them out; nothing if it doesn't run. Until it is reloaded, as
/// everything that it isn't told to keep.
pub(crate) async fn in_firewalld(
    runs: bool,
    there: bool,
    wanted: bool,
) -> Result<Option<Accept>, CoexistError> {
    if !runs || (!there && !wanted) {
        return Ok(None);
    }
    let accept = |done| {
        Some(Accept {
            place: format!("{FIREWALLD} zone {ZONE}"),
            backend: Backend::Nftables,
            done,
        })
    };
    if there && wanted {
        return Ok(accept(AcceptChange::Kept));
    }
    let verb = if wanted { "add" } else { "remove" };
    let zone = format!("--zone={ZONE}");
    let interface = format!("--{verb}-interface={LINK_PREFIX}b+");
    foreign::run("firewall-cmd", &[&zone, &interface])
        .await
        .map_err(|source| CoexistError::Refused {
            command: format!("firewall-cmd {zone} {interface}"),
            place: format!("{FIREWALLD} zone {ZONE}"),
            source,
        })?;
    Ok(accept(if wanted {
        AcceptChange::Made
    } else {
        AcceptChange::Removed
    }))
}

/// Does firewalld filter here, and does it know of our bridges?
pub(crate) fn firewalld(socket: &mut NetfilterSocket) -> Result<(bool, bool), CoexistError> {
    let read = |source| CoexistError::Read { source };
    let tables = foreign::chains(socket).map_err(read)?;
    let place = (number::INET, FIREWALLD.to_owned());
    let Some(chains) = tables.get(&place) else {
        return Ok((false, false));
    };
    for chain in chains.keys() {
        let rules = foreign::rules_of(socket, number::INET, FIREWALLD, chain).map_err(read)?;
        if rules.iter().any(Rule::names_our_bridges) {
            return Ok((true, true));
        }
    }
    Ok((true, false))
}

/// What a person can do when we can't.
fn command(family: u8, backend: Backend, chain: &str, wanted: bool) -> String {
    let program = match (family, backend) {
        (number::IPV4, Backend::Nftables) => "iptables",
        (number::IPV4, Backend::Legacy) => "iptables-legacy",
        (_, Backend::Nftables) => "ip6tables",
        (_, Backend::Legacy) => "ip6tables-legacy",
    };
    let add = foreign::accept_command(program, chain);
    if wanted { add } else { add.replace(" -I ", " -D ") }
}

#[cfg(test)]
mod tests;
