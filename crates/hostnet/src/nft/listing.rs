//! Reads the table back: is it as we write it, and what does it hold?

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use linkspan_plan::TABLE;
use nix::errno::Errno;

use super::batch::{comment, skeleton_comment};
use super::elements::{Edge, Elements, Key};
use super::number::{self, chain, element, message, rule, set, table};
use super::skeleton;
use crate::netlink::{ACK, Attributes, DUMP, Message, NetfilterSocket, Writer};

/// What is there.
#[derive(Debug)]
pub(super) enum Listing {
    Absent,
    Present {
        /// Does it outlive its owner?
        persistent: bool,
        /// The socket that it belongs to.
        owner: Option<u32>,
        /// What its sets hold; absent when the table is not as we write it.
        elements: Option<Elements>,
    },
}

/// Is this a message of the kernel about our table, rather than about another one?
pub(crate) fn concerns_our_table(message: Message<'_>) -> bool {
    // Tables, chains, rules, sets and elements all have the table's name as their attribute 1.
    message.kind >> 8 == number::SUBSYSTEM
        && message.kind != message::NEW_GENERATION
        && message.attributes().text(table::NAME) == Some(TABLE)
}

/// Is this a message of the kernel about a chain or rule of somebody else? Elements of sets are left out: others change
/// them all the time, and they are seldom about us.
pub(crate) fn concerns_rules_of_others(message: Message<'_>) -> bool {
    let last = message::DELETE_RULE;
    (message::NEW_TABLE..=last).contains(&message.kind)
        && message.attributes().text(table::NAME) != Some(TABLE)
}

/// Looks at everything.
pub(super) fn list(socket: &mut NetfilterSocket) -> io::Result<Listing> {
    let Some(found) = table(socket)? else {
        return Ok(Listing::Absent);
    };
    let intact = found.comment == comment(&skeleton_comment())
        && chains(socket)? == expected_chains()
        && sets(socket)? == expected_sets()
        && rules(socket)? == expected_rules();
    let elements = if intact { Some(elements(socket)?) } else { None };
    Ok(Listing::Present {
        persistent: found.persistent,
        owner: found.owner,
        elements,
    })
}

#[derive(Debug)]
struct Found {
    persistent: bool,
    owner: Option<u32>,
    comment: Vec<u8>,
}

fn table(socket: &mut NetfilterSocket) -> io::Result<Option<Found>> {
    let request = request(socket, message::GET_TABLE, ACK, |out| {
        out.text(table::NAME, TABLE);
    });
    let answer = socket.request(
        &request,
        || None,
        |found, message| {
            let attributes = message.attributes();
            *found = Some(Found {
                persistent: attributes.number(table::FLAGS).unwrap_or(0) & table::FLAG_PERSIST != 0,
                owner: attributes.number(table::OWNER),
                comment: attributes.find(table::USERDATA).unwrap_or_default().to_vec(),
            });
        },
    );
    match answer {
        Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => Ok(None),
        answer => answer,
    }
}

/// Name, kind, hook, priority.
type ChainRow = (String, String, u32, i32);

fn chains(socket: &mut NetfilterSocket) -> io::Result<BTreeSet<ChainRow>> {
    let request = request(socket, message::GET_CHAIN, DUMP, |_| {});
    socket.request(&request, BTreeSet::new, |rows, message| {
        let attributes = message.attributes();
        if attributes.text(chain::TABLE) == Some(TABLE) {
            let hook = attributes.nested(chain::HOOK);
            rows.insert((
                attributes.text(chain::NAME).unwrap_or_default().to_owned(),
                attributes.text(chain::TYPE).unwrap_or_default().to_owned(),
                hook.number(chain::HOOK_NUMBER).unwrap_or(u32::MAX),
                hook.number(chain::HOOK_PRIORITY).unwrap_or(0) as i32,
            ));
        }
    })
}

fn expected_chains() -> BTreeSet<ChainRow> {
    skeleton::chains()
        .iter()
        .map(|chain| {
            (
                chain.name.to_owned(),
                chain.kind.to_owned(),
                chain.hook,
                chain.priority,
            )
        })
        .collect()
}

/// Name → flags, length of keys, length of data.
type SetRows = BTreeMap<String, (u32, u32, u32)>;

fn sets(socket: &mut NetfilterSocket) -> io::Result<SetRows> {
    let request = request(socket, message::GET_SET, DUMP, |out| out.text(set::TABLE, TABLE));
    socket.request(&request, BTreeMap::new, |rows, message| {
        let attributes = message.attributes();
        let number = |kind| attributes.number(kind).unwrap_or(0);
        if attributes.text(set::TABLE) == Some(TABLE) {
            let name = attributes.text(set::NAME).unwrap_or_default().to_owned();
            rows.insert(
                name,
                (
                    number(set::FLAGS),
                    number(set::KEY_LENGTH),
                    number(set::DATA_LENGTH),
                ),
            );
        }
    })
}

fn expected_sets() -> SetRows {
    let row = |set: &skeleton::Set| {
        (
            set.flags,
            skeleton::length_of(set.key),
            skeleton::length_of(set.data),
        )
    };
    skeleton::SETS
        .iter()
        .map(|set| (set.name.to_owned(), row(set)))
        .collect()
}

/// Chain → comments of its rules, in order.
type RuleRows = BTreeMap<String, Vec<Vec<u8>>>;

fn rules(socket: &mut NetfilterSocket) -> io::Result<RuleRows> {
    let request = request(socket, message::GET_RULE, DUMP, |out| {
        out.text(rule::TABLE, TABLE);
    });
    socket.request(&request, RuleRows::new, |rows, message| {
        let attributes = message.attributes();
        if attributes.text(rule::TABLE) == Some(TABLE) {
            let chain = attributes.text(rule::CHAIN).unwrap_or_default().to_owned();
            rows.entry(chain)
                .or_default()
                .push(attributes.find(rule::USERDATA).unwrap_or_default().to_vec());
        }
    })
}

/// Chain → packets and bytes that its rules have counted, in order; absent for rules that don't count.
pub(super) type Counters = BTreeMap<String, Vec<Option<(u64, u64)>>>;

pub(super) fn counters(socket: &mut NetfilterSocket) -> io::Result<Counters> {
    let request = request(socket, message::GET_RULE, DUMP, |out| {
        out.text(rule::TABLE, TABLE);
    });
    socket.request(&request, Counters::new, |rows, message| {
        let attributes = message.attributes();
        if attributes.text(rule::TABLE) == Some(TABLE) {
            let chain = attributes.text(rule::CHAIN).unwrap_or_default().to_owned();
            rows.entry(chain)
                .or_default()
                .push(counted(attributes.nested(rule::EXPRESSIONS)));
        }
    })
}

fn counted(mut expressions: Attributes<'_>) -> Option<(u64, u64)> {
    let is_counter = |expr: &Attributes<'_>| expr.text(rule::EXPR_NAME) == Some("counter");
    let counter = expressions
        .by_ref()
        .map(|(_, expr)| Attributes(expr))
        .find(is_counter)?
        .nested(rule::EXPR_DATA);
    let number = |kind| Some(u64::from_be_bytes(counter.find(kind)?.try_into().ok()?));
    Some((number(rule::COUNTER_PACKETS)?, number(rule::COUNTER_BYTES)?))
}

fn expected_rules() -> RuleRows {
    skeleton::chains()
        .iter()
        .map(|chain| {
            (
                chain.name.to_owned(),
                chain.rules.iter().map(|rule| comment(rule.comment)).collect(),
            )
        })
        .collect()
}

fn elements(socket: &mut NetfilterSocket) -> io::Result<Elements> {
    let mut all = Elements::new();
    for set in &skeleton::SETS {
        let request = request(socket, message::GET_ELEMENT, DUMP, |out| {
            out.text(element::LIST_TABLE, TABLE);
            out.text(element::LIST_SET, set.name);
        });
        let rows = socket.request(&request, BTreeMap::new, |rows, message| {
            let list = message.attributes().nested(element::LIST_ELEMENTS);
            rows.extend(list.map(|(_, row)| read_element(Attributes(row))));
        })?;
        if !rows.is_empty() {
            all.insert(set.name.to_owned(), rows);
        }
    }
    Ok(all)
}

fn read_element(attributes: Attributes<'_>) -> (Key, Vec<u8>) {
    let bytes = |kind| {
        attributes
            .nested(kind)
            .find(element::VALUE)
            .unwrap_or_default()
            .to_vec()
    };
    let flags = attributes.number(element::FLAGS).unwrap_or(0);
    let edge = if flags & element::FLAG_INTERVAL_END != 0 {
        Edge::End
    } else if attributes.find(element::KEY_END).is_some() {
        Edge::Through(bytes(element::KEY_END))
    } else {
        Edge::Begin
    };
    (
        Key {
            bytes: bytes(element::KEY),
            edge,
        },
        bytes(element::DATA),
    )
}

fn request(socket: &mut NetfilterSocket, kind: u16, flags: u16, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    let sequence = socket.next_sequence();
    out.message(kind, flags, sequence, number::INET, 0, body);
    out.into_bytes()
}
