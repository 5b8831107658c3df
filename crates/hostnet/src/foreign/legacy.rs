//! Reads what `iptables-legacy-save` prints: the kernel's older packet filter, which hears of nothing over netlink.

use std::collections::BTreeMap;

use super::decode::in_state;
use super::rules::{
    Action, Base, Chain, Chains, Condition, Direction, ESTABLISHED, Field, INVALID, NEW, Name, RELATED, Rule,
};

/// Chains by table.
pub(crate) fn tables(text: &str) -> BTreeMap<String, Chains> {
    let mut tables = BTreeMap::<String, Chains>::new();
    let mut table = String::new();
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            table = name.trim().to_owned();
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split_whitespace();
            let (Some(name), policy) = (words.next(), words.next()) else {
                continue;
            };
            let chain = Chain {
                base: base(&table, name, policy != Some("DROP")),
                rules: Vec::new(),
            };
            tables
                .entry(table.clone())
                .or_default()
                .insert(name.to_owned(), chain);
        } else if let Some(rule) = line.strip_prefix("-A ") {
            let words = words(rule);
            let Some((chain, rest)) = words.split_first() else {
                continue;
            };
            if let Some(chain) = tables.get_mut(&table).and_then(|chains| chains.get_mut(chain)) {
                chain.rules.push(self::rule(rest));
            }
        }
    }
    tables
}

/// Hooks are fixed by the chain's name, priorities by the table's.
fn base(table: &str, chain: &str, accepts: bool) -> Option<Base> {
    let hooks = ["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"];
    let hook = (0..).zip(hooks).find(|(_, name)| *name == chain)?.0;
    let priority = match (table, chain) {
        ("raw", _) => -300,
        ("mangle", _) => -150,
        ("nat", "PREROUTING" | "OUTPUT") => -100,
        ("nat", _) => 100,
        ("security", _) => 50,
        _ => 0,
    };
    Some(Base {
        kind: if table == "nat" { "nat" } else { "filter" }.to_owned(),
        hook,
        priority,
        accepts,
    })
}

/// Words, of which some are in quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quoted = false;
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => {
                quoted = !quoted;
                word.get_or_insert_default();
            }
            '\\' if quoted => word.get_or_insert_default().extend(letters.next()),
            ' ' if !quoted => words.extend(word.take()),
            letter => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

fn rule(words: &[String]) -> Rule {
    let mut rule = Rule {
        handle: 0,
        conditions: Vec::new(),
        action: Action::Continue,
        comment: None,
    };
    let mut words = words.iter().map(String::as_str);
    let mut negated = false;
    while let Some(option) = words.next() {
        let mut value = || words.next().unwrap_or_default();
        let condition = match option {
            "!" => {
                negated = true;
                continue;
            }
            "-i" => Some(link(Direction::In, value(), negated)),
            "-o" => Some(link(Direction::Out, value(), negated)),
            "-p" => Some(protocol(value(), negated)),
            "--ctstate" | "--state" => Some(in_state(states(value()), negated)),
            "--comment" => {
                rule.comment = Some(value().to_owned());
                None
            }
            "-m" => {
                let known = matches!(value(), "comment" | "conntrack" | "state" | "tcp" | "udp");
                (!known).then_some(Condition::Unknown)
            }
            "-j" => {
                rule.action = match value() {
                    "ACCEPT" | "SNAT" | "DNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" => Action::Accept,
                    "DROP" | "REJECT" => Action::Drop,
                    "RETURN" => Action::Return,
                    "NFQUEUE" | "TPROXY" | "SYNPROXY" => Action::Unknown,
                    // Only chains of the same table are found; `LOG` and the like are none.
                    chain => Action::Jump(chain.to_owned()),
                };
                // What follows are the target's own options.
                break;
            }
            "-g" => {
                rule.action = Action::Goto(value().to_owned());
                break;
            }
            option if option.starts_with('-') => Some(Condition::Unknown),
            // A value of an option that is not understood.
            _ => None,
        };
        negated = false;
        rule.conditions.extend(condition);
    }
    rule
}

fn link(direction: Direction, name: &str, negated: bool) -> Condition {
    let name = match name.strip_suffix('+') {
        Some(begin) => Name {
            text: begin.to_owned(),
            prefix: true,
        },
        None => Name {
            text: name.to_owned(),
            prefix: false,
        },
    };
    Condition::Link(direction, name, negated)
}

fn protocol(name: &str, negated: bool) -> Condition {
    let number = match name {
        "all" => return Condition::Equals(Field::State(0), vec![0; 4], negated),
        "tcp" => 6,
        // Any but TCP: which of them does not matter.
        _ => 0,
    };
    Condition::Equals(Field::Protocol, vec![number], negated)
}

fn states(list: &str) -> u32 {
    list.split(',')
        .map(|state| match state {
            "INVALID" => INVALID,
            "ESTABLISHED" => ESTABLISHED,
            "RELATED" => RELATED,
            "NEW" => NEW,
            _ => 0,
        })
        .sum()
}

#[cfg(test)]
mod tests;
