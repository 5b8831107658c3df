//! Writes a transaction: begin, messages, end, in one datagram.

use std::fmt;

use linkspan_plan::TABLE;

use super::elements::{Difference, Edge, Elements, Key};
use super::expr::value;
use super::number::{self, chain, element, message, rule, set, table};
use super::skeleton::{self, Chain, Part, Rule, Set};
use crate::netlink::{ACK, APPEND, CREATE, EXCL, NetfilterSocket, Writer};

/// An attribute holds at most 64 KiB; a message's elements stay below this.
const ELEMENTS_LIMIT: usize = 48 * 1024;
const POLICY_ACCEPT: u32 = 1;

/// A transaction in the making.
pub(super) struct Batch<'a> {
    socket: &'a mut NetfilterSocket,
    out: Writer,
    parts: Vec<(u32, What)>,
}

/// A transaction to send.
pub(super) struct Finished {
    pub(super) bytes: Vec<u8>,
    parts: Vec<(u32, What)>,
}

/// What a message of a transaction is about, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Batch,
    NewTable,
    OldTable,
    Set(&'static str),
    Chain(&'static str),
    Rule(&'static str),
    Elements(String),
}

impl What {
    pub(super) fn is_new_table(&self) -> bool {
        *self == Self::NewTable
    }

    pub(super) fn is_rule(&self) -> bool {
        matches!(self, Self::Rule(_) | Self::Chain(_))
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Batch => f.write_str("the transaction"),
            Self::NewTable => f.write_str("the table"),
            Self::OldTable => f.write_str("the table that was there before"),
            Self::Set(name) => write!(f, "set `{name}`"),
            Self::Chain(name) => write!(f, "chain `{name}`"),
            Self::Rule(comment) => write!(f, "rule `{comment}`"),
            Self::Elements(set) => write!(f, "elements of `{set}`"),
        }
    }
}

impl Finished {
    /// What the message with this number was about.
    pub(super) fn what(&self, sequence: u32) -> What {
        let found = self.parts.iter().find(|(number, _)| *number == sequence);
        found.map_or(What::Batch, |(_, what)| what.clone())
    }
}

impl<'a> Batch<'a> {
    pub(super) fn new(socket: &'a mut NetfilterSocket) -> Self {
        let mut out = Writer::default();
        out.message(
            number::BATCH_BEGIN,
            0,
            socket.next_sequence(),
            0,
            number::SUBSYSTEM,
            |_| {},
        );
        Self {
            socket,
            out,
            parts: Vec::new(),
        }
    }

    pub(super) fn finish(mut self) -> Finished {
        let sequence = self.socket.next_sequence();
        self.out
            .message(number::BATCH_END, 0, sequence, 0, number::SUBSYSTEM, |_| {});
        Finished {
            bytes: self.out.into_bytes(),
            parts: self.parts,
        }
    }

    /// Deletes the table with all that is in it. It must be there.
    pub(super) fn delete_table(&mut self) {
        self.add(message::DELETE_TABLE, ACK, What::OldTable, |out| {
            out.text(table::NAME, TABLE);
        });
    }

    /// Takes over a table that its owner left behind.
    pub(super) fn claim_table(&mut self) {
        self.add(message::NEW_TABLE, CREATE, What::NewTable, |out| {
            out.text(table::NAME, TABLE);
            out.number(table::FLAGS, table::FLAG_OWNER | table::FLAG_PERSIST);
        });
    }

    /// Makes the table with everything but elements. It must not be there.
    pub(super) fn skeleton(&mut self, owned: bool) {
        self.add(message::NEW_TABLE, CREATE | EXCL, What::NewTable, |out| {
            out.text(table::NAME, TABLE);
            out.number(
                table::FLAGS,
                if owned {
                    table::FLAG_OWNER | table::FLAG_PERSIST
                } else {
                    0
                },
            );
            out.attr(table::USERDATA, &comment(&skeleton_comment()));
        });
        for (id, set) in (1..).zip(&skeleton::SETS) {
            self.set(id, set);
        }
        for chain in &skeleton::chains() {
            self.chain(chain);
            for rule in &chain.rules {
                self.rule(chain.name, rule);
            }
        }
    }

    /// Takes out, then puts in.
    pub(super) fn elements(&mut self, difference: &Difference) {
        self.element_lists(message::DELETE_ELEMENT, 0, &difference.remove);
        self.element_lists(message::NEW_ELEMENT, CREATE | EXCL, &difference.add);
    }

    fn set(&mut self, id: u32, set: &Set) {
        self.add(message::NEW_SET, CREATE | EXCL, What::Set(set.name), |out| {
            out.text(set::TABLE, TABLE);
            out.text(set::NAME, set.name);
            out.number(set::FLAGS, set.flags);
            out.number(set::KEY_TYPE, skeleton::type_of(set.key));
            out.number(set::KEY_LENGTH, skeleton::length_of(set.key));
            if !set.data.is_empty() {
                out.number(set::DATA_TYPE, skeleton::type_of(set.data));
                out.number(set::DATA_LENGTH, skeleton::length_of(set.data));
            }
            if set.flags & set::FLAG_CONCAT != 0 {
                describe_fields(out, set.key);
            }
            out.number(set::ID, id);
            out.attr(set::USERDATA, &byte_order(set.key));
        });
    }

    fn chain(&mut self, chain: &Chain) {
        self.add(
            message::NEW_CHAIN,
            CREATE | EXCL,
            What::Chain(chain.name),
            |out| {
                out.text(chain::TABLE, TABLE);
                out.text(chain::NAME, chain.name);
                out.nest(chain::HOOK, |out| {
                    out.number(chain::HOOK_NUMBER, chain.hook);
                    out.number(chain::HOOK_PRIORITY, chain.priority as u32);
                });
                out.number(chain::POLICY, POLICY_ACCEPT);
                out.text(chain::TYPE, chain.kind);
            },
        );
    }

    fn rule(&mut self, chain: &str, rule: &Rule) {
        self.add(
            message::NEW_RULE,
            CREATE | APPEND,
            What::Rule(rule.comment),
            |out| {
                out.text(rule::TABLE, TABLE);
                out.text(rule::CHAIN, chain);
                out.nest(rule::EXPRESSIONS, |out| {
                    for step in &rule.steps {
                        step.write(out);
                    }
                });
                out.attr(rule::USERDATA, &comment(rule.comment));
            },
        );
    }

    fn element_lists(&mut self, kind: u16, flags: u16, elements: &Elements) {
        for (set, elements) in elements {
            let size = elements
                .iter()
                .next()
                .map_or(1, |(key, data)| 2 * key.bytes.len() + data.len() + 40);
            let rows: Vec<_> = elements.iter().collect();
            for rows in rows.chunks((ELEMENTS_LIMIT / size).max(1)) {
                self.add(kind, flags, What::Elements(set.clone()), |out| {
                    out.text(element::LIST_TABLE, TABLE);
                    out.text(element::LIST_SET, set);
                    out.nest(element::LIST_ELEMENTS, |out| {
                        for (key, data) in rows {
                            write_element(out, key, data);
                        }
                    });
                });
            }
        }
    }

    fn add(&mut self, kind: u16, flags: u16, what: What, body: impl FnOnce(&mut Writer)) {
        let sequence = self.socket.next_sequence();
        self.parts.push((sequence, what));
        self.out.message(kind, flags, sequence, number::INET, 0, body);
    }
}

fn write_element(out: &mut Writer, key: &Key, data: &[u8]) {
    out.nest(rule::LIST_ELEMENT, |out| {
        if key.edge == Edge::End {
            out.number(element::FLAGS, element::FLAG_INTERVAL_END);
        }
        value(out, element::KEY, &key.bytes);
        if let Edge::Through(last) = &key.edge {
            value(out, element::KEY_END, last);
        }
        if !data.is_empty() {
            value(out, element::DATA, data);
        }
    });
}

/// The parts of a key, each of which may be a range of its own.
fn describe_fields(out: &mut Writer, key: &[Part]) {
    out.nest(set::DESCRIPTION, |out| {
        out.nest(set::DESCRIPTION_CONCAT, |out| {
            for part in key {
                out.nest(rule::LIST_ELEMENT, |out| {
                    out.number(set::FIELD_LENGTH, part.bytes());
                });
            }
        });
    });
}

/// The comment of the table: which skeleton it has.
pub(super) fn skeleton_comment() -> String {
    // FNV-1a over the skeleton as data; any change of it changes the hash.
    let text = format!("{:?}{:?}", skeleton::SETS, skeleton::chains());
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("linkspan skeleton {hash:016x}")
}

/// A comment as `nft` stores it in user data: type 0, length, text with NUL.
pub(super) fn comment(text: &str) -> Vec<u8> {
    let mut data = vec![0, (text.len() + 1) as u8];
    data.extend_from_slice(text.as_bytes());
    data.push(0);
    data
}

/// Tells `nft` how to print keys: type 0, a number; 1 the host's order, 2 the network's, 0 a row of parts.
fn byte_order(key: &[Part]) -> Vec<u8> {
    let order: u32 = match key {
        [Part::InterfaceName] => 1,
        [_] => 2,
        _ => 0,
    };
    [&[0, 4][..], &order.to_ne_bytes()].concat()
}
