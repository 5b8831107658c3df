//! Reads everybody's chains and rules over netlink: those of nftables, and those that `iptables-nft` keeps there.

mod expression;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;

use linkspan_plan::TABLE;

use super::rules::{Action, Base, Chain, Chains, Condition, Field, Rule};
use crate::netlink::{Attributes, DUMP, Message, NetfilterSocket, Writer};
use crate::nft::number::{self, chain, element, message, rule, set};
use expression::{DROP, Raw, decode, verdict};

pub(crate) use expression::in_state;

/// `NFPROTO_*` of the message, and the table's name.
pub(crate) type Place = (u8, String);

/// Chains by table.
pub(crate) type Tables = BTreeMap<Place, Chains>;

/// `NFPROTO_UNSPEC`: of all families.
const ALL: u8 = 0;

/// All tables but ours.
pub(crate) fn tables(socket: &mut NetfilterSocket) -> io::Result<Tables> {
    let mut tables = chains(socket)?;
    let mut wanted: BTreeMap<Place, BTreeSet<String>> = BTreeMap::new();
    for (place, chain, raw) in rules(socket)? {
        if !raw.sets.is_empty() {
            wanted.entry(place.clone()).or_default().extend(raw.sets);
        }
        let chain = tables.get_mut(&place).and_then(|chains| chains.get_mut(&chain));
        // One that was made after we looked for chains waits for the next look.
        if let Some(chain) = chain {
            chain.rules.push(raw.rule);
        }
    }
    for (place, chains) in &mut tables {
        let sets = match wanted.get(place) {
            Some(names) => sets(socket, place, names)?,
            None => Sets::new(),
        };
        let rules = chains.values_mut().flat_map(|chain| &mut chain.rules);
        rules.for_each(|rule| resolve(rule, &sets));
    }
    Ok(tables)
}

fn dump(socket: &mut NetfilterSocket, kind: u16, family: u8, body: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut out = Writer::default();
    let sequence = socket.next_sequence();
    out.message(kind, DUMP, sequence, family, 0, body);
    out.into_bytes()
}

/// Family and table of a message about a chain, rule or set.
fn place(message: &Message<'_>) -> Option<Place> {
    let family = *message.body.first()?;
    // All three have the table's name as attribute 1.
    let table = message.attributes().text(chain::TABLE)?;
    (family != number::INET || table != TABLE).then(|| (family, table.to_owned()))
}

/// All chains of all tables but ours, without their rules.
pub(crate) fn chains(socket: &mut NetfilterSocket) -> io::Result<Tables> {
    let request = dump(socket, message::GET_CHAIN, ALL, |_| {});
    socket.request(&request, Tables::new, |tables, message| {
        let attributes = message.attributes();
        if let (Some(place), Some(name)) = (place(&message), attributes.text(chain::NAME)) {
            let chain = Chain {
                base: base(attributes),
                rules: Vec::new(),
            };
            tables.entry(place).or_default().insert(name.to_owned(), chain);
        }
    })
}

fn base(attributes: Attributes<'_>) -> Option<Base> {
    let hook = attributes.nested(chain::HOOK);
    Some(Base {
        kind: attributes.text(chain::TYPE)?.to_owned(),
        hook: hook.number(chain::HOOK_NUMBER)?,
        priority: hook.number(chain::HOOK_PRIORITY)? as i32,
        accepts: attributes.number(chain::POLICY) != Some(DROP as u32),
    })
}

fn rules(socket: &mut NetfilterSocket) -> io::Result<Vec<(Place, String, Raw)>> {
    let request = dump(socket, message::GET_RULE, ALL, |_| {});
    socket.request(&request, Vec::new, |rules, message| {
        let attributes = message.attributes();
        if let (Some(place), Some(chain)) = (place(&message), attributes.text(rule::CHAIN)) {
            rules.push((place, chain.to_owned(), decode(attributes)));
        }
    })
}

/// The rules of one chain of somebody else, in order.
pub(crate) fn rules_of(
    socket: &mut NetfilterSocket,
    family: u8,
    table: &str,
    name: &str,
) -> io::Result<Vec<Rule>> {
    let request = dump(socket, message::GET_RULE, family, |out| {
        out.text(rule::TABLE, table);
        out.text(rule::CHAIN, name);
    });
    socket.request(&request, Vec::new, |rules, message| {
        let attributes = message.attributes();
        // Older kernels don't heed the chain in the request.
        if place(&message).is_some_and(|place| place == (family, table.to_owned()))
            && attributes.text(rule::CHAIN) == Some(name)
        {
            rules.push(decode(attributes).rule);
        }
    })
}

/// A set that is a plain list.
struct Set {
    /// Bytes of a key.
    key: u32,
    rows: BTreeMap<Vec<u8>, Action>,
}

type Sets = HashMap<String, Set>;

/// What these sets hold, those left out that are more than lists.
fn sets(socket: &mut NetfilterSocket, place: &Place, names: &BTreeSet<String>) -> io::Result<Sets> {
    let (family, table) = place;
    let request = dump(socket, message::GET_SET, *family, |out| {
        out.text(set::TABLE, table);
    });
    let shapes = socket.request(&request, Vec::new, |shapes, message| {
        let attributes = message.attributes();
        let number = |kind| attributes.number(kind).unwrap_or(0);
        let plain = number(set::FLAGS) & set::FLAG_INTERVAL == 0;
        if let Some(name) = attributes.text(set::NAME).filter(|_| plain) {
            shapes.push((name.to_owned(), number(set::KEY_LENGTH)));
        }
    })?;
    let mut sets = Sets::new();
    for (name, key) in shapes.into_iter().filter(|(name, _)| names.contains(name)) {
        if let Some(rows) = rows(socket, place, &name)? {
            sets.insert(name, Set { key, rows });
        }
    }
    Ok(sets)
}

fn rows(
    socket: &mut NetfilterSocket,
    (family, table): &Place,
    name: &str,
) -> io::Result<Option<BTreeMap<Vec<u8>, Action>>> {
    let request = dump(socket, message::GET_ELEMENT, *family, |out| {
        out.text(element::LIST_TABLE, table);
        out.text(element::LIST_SET, name);
    });
    let rows = socket.request(
        &request,
        || Some(BTreeMap::new()),
        |rows, message| {
            for (_, row) in message.attributes().nested(element::LIST_ELEMENTS) {
                let row = Attributes(row);
                let action = verdict(row.nested(element::DATA).nested(element::VERDICT));
                match (row.nested(element::KEY).find(element::VALUE), &mut *rows) {
                    (Some(key), Some(rows)) => drop(rows.insert(key.to_vec(), action)),
                    // One for everything that no other is for: more than a list.
                    _ => *rows = None,
                }
            }
        },
    );
    match rows {
        // It went while we looked.
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        rows => rows,
    }
}

/// Puts what sets hold in the place of their names.
fn resolve(rule: &mut Rule, sets: &Sets) {
    // A longer key has other fields beside the one that we know.
    let named = |bytes: &[u8], field: Field| {
        let set = sets.get(std::str::from_utf8(bytes).ok()?)?;
        (set.key == field.length()).then_some(&set.rows)
    };
    for condition in &mut rule.conditions {
        if let Condition::Listed(field, list, negated) = condition {
            // An empty list is no name, but *never*.
            let Some(name) = list.first() else { continue };
            *condition = named(name, *field).map_or(Condition::Unknown, |rows| {
                Condition::Listed(*field, rows.keys().cloned().collect(), *negated)
            });
        }
    }
    if let Action::Map(field, map) = &rule.action {
        let rows = map.keys().next().and_then(|name| named(name, *field));
        rule.action = rows.map_or(Action::Unknown, |rows| Action::Map(*field, rows.clone()));
    }
}
