//! A rule's expressions: what they ask of a packet, and what they do with it. Numbers after `linux/netfilter/nf_tables.h`.

use std::collections::HashMap;

use crate::foreign::rules::{Action, Condition, Direction, Field, Name, Rule};
use crate::netlink::Attributes;
use crate::nft::number::{element, rule};

/// `NF_DROP`, `NF_ACCEPT`, `NFT_JUMP`, `NFT_GOTO`, `NFT_RETURN`.
pub(super) const DROP: i32 = 0;
const ACCEPT: i32 = 1;
const JUMP: i32 = -3;
const GOTO: i32 = -4;
const RETURN: i32 = -5;

/// A rule whose conditions may still name sets.
pub(super) struct Raw {
    pub(super) rule: Rule,
    pub(super) sets: Vec<String>,
}

/// What a register holds.
#[derive(Clone, Copy)]
enum Loaded {
    Known(Field),
    Other,
}

pub(super) fn decode(attributes: Attributes<'_>) -> Raw {
    let mut reader = Reader {
        registers: HashMap::new(),
        conditions: Vec::new(),
        action: Action::Continue,
        comment: user_comment(attributes.find(rule::USERDATA).unwrap_or_default()),
        sets: Vec::new(),
    };
    for (_, expr) in attributes.nested(rule::EXPRESSIONS) {
        let expr = Attributes(expr);
        let name = expr.text(rule::EXPR_NAME).unwrap_or_default();
        reader.expression(name, expr.nested(rule::EXPR_DATA));
    }
    let handle = attributes
        .find(rule::HANDLE)
        .and_then(|bytes| bytes.try_into().ok());
    Raw {
        rule: Rule {
            handle: handle.map_or(0, u64::from_be_bytes),
            conditions: reader.conditions,
            action: reader.action,
            comment: reader.comment,
        },
        sets: reader.sets,
    }
}

/// `nft`'s comment: type 0, length, text with NUL.
fn user_comment(data: &[u8]) -> Option<String> {
    let [0, length, rest @ ..] = data else { return None };
    let text = rest.get(..usize::from(*length).checked_sub(1)?)?;
    Some(String::from_utf8_lossy(text).into_owned())
}

struct Reader {
    registers: HashMap<u32, Loaded>,
    conditions: Vec<Condition>,
    action: Action,
    comment: Option<String>,
    sets: Vec<String>,
}

impl Reader {
    fn expression(&mut self, name: &str, data: Attributes<'_>) {
        let number = |kind| data.number(kind).unwrap_or(0);
        match name {
            // Without a register to load into, it sets something.
            "meta" if data.find(1).is_some() => self.load(number(1), meta(number(2))),
            "ct" if data.find(1).is_some() => self.load(
                number(1),
                match number(2) {
                    0 => Loaded::Known(Field::State(u32::MAX)),
                    2 => Loaded::Known(Field::Status(u32::MAX)),
                    _ => Loaded::Other,
                },
            ),
            "bitwise" => self.mask(number(1), number(2), data.nested(4).find(element::VALUE)),
            "payload" if data.find(1).is_some() => self.load(number(1), Loaded::Other),
            "fib" | "rt" | "socket" | "osf" | "exthdr" | "numgen" | "hash" | "xfrm" | "tunnel" => {
                self.load(number(1), Loaded::Other);
            }
            "byteorder" => self.load(number(2), Loaded::Other),
            "cmp" => {
                let value = data.nested(3).find(element::VALUE).unwrap_or_default();
                self.compare(number(1), number(2), value);
            }
            "lookup" => self.lookup(data),
            "range" | "limit" | "quota" | "connlimit" => self.conditions.push(Condition::Unknown),
            "immediate" => {
                let verdict = data.nested(2).nested(element::VERDICT);
                if verdict.find(element::VERDICT_CODE).is_some() {
                    self.action = self::verdict(verdict);
                } else {
                    self.load(number(1), Loaded::Other);
                }
            }
            "reject" => self.action = Action::Drop,
            "nat" | "masq" | "redir" => self.action = Action::Accept,
            "queue" | "tproxy" | "fwd" => self.action = Action::Unknown,
            "match" => self.extension(data),
            "target" => {
                self.action = match data.text(1).unwrap_or_default() {
                    "REJECT" | "DROP" => Action::Drop,
                    "SNAT" | "DNAT" | "MASQUERADE" | "REDIRECT" | "NETMAP" => Action::Accept,
                    "NFQUEUE" | "TPROXY" | "SYNPROXY" => Action::Unknown,
                    _ => Action::Continue,
                };
            }
            // Counters, logs, marks and the like ask nothing.
            _ => {}
        }
    }

    fn load(&mut self, register: u32, what: Loaded) {
        self.registers.insert(register, what);
    }

    fn loaded(&self, register: u32) -> Loaded {
        self.registers.get(&register).copied().unwrap_or(Loaded::Other)
    }

    fn mask(&mut self, from: u32, into: u32, mask: Option<&[u8]>) {
        let mask = mask
            .and_then(|bytes| bytes.try_into().ok())
            .map(u32::from_ne_bytes);
        let masked = match (self.loaded(from), mask) {
            (Loaded::Known(Field::State(bits)), Some(mask)) => Loaded::Known(Field::State(bits & mask)),
            (Loaded::Known(Field::Status(bits)), Some(mask)) => Loaded::Known(Field::Status(bits & mask)),
            _ => Loaded::Other,
        };
        self.load(into, masked);
    }

    /// Operators 0 and 1 are *equal* and *not equal*.
    fn compare(&mut self, register: u32, operator: u32, value: &[u8]) {
        let negated = operator == 1;
        let condition = match self.loaded(register) {
            Loaded::Known(_) if operator > 1 => Condition::Unknown,
            Loaded::Known(Field::In) => Condition::Link(Direction::In, Name::read(value), negated),
            Loaded::Known(Field::Out) => Condition::Link(Direction::Out, Name::read(value), negated),
            Loaded::Known(field) => Condition::Equals(field, value.to_vec(), negated),
            Loaded::Other => Condition::Unknown,
        };
        self.conditions.push(condition);
    }

    fn lookup(&mut self, data: Attributes<'_>) {
        let set = data.text(1).unwrap_or_default().to_owned();
        let is_verdict = data.number(3) == Some(0);
        let negated = data.number(5).unwrap_or(0) & 1 != 0;
        let field = match self.loaded(data.number(2).unwrap_or(0)) {
            Loaded::Known(field) => field,
            Loaded::Other if is_verdict => {
                self.action = Action::Unknown;
                return;
            }
            Loaded::Other => {
                self.conditions.push(Condition::Unknown);
                return;
            }
        };
        // What the set holds is put in by `resolve`; until then its name stands for it.
        let name = set.clone().into_bytes();
        if is_verdict {
            self.action = Action::Map(field, [(name, Action::Continue)].into());
        } else {
            self.conditions
                .push(Condition::Listed(field, vec![name], negated));
        }
        self.sets.push(set);
    }

    /// A match of `iptables`, in its own bytes.
    fn extension(&mut self, data: Attributes<'_>) {
        let info = data.find(3).unwrap_or_default();
        let condition = match data.text(1).unwrap_or_default() {
            "comment" => {
                let end = info.iter().position(|byte| *byte == 0).unwrap_or(info.len());
                self.comment = Some(String::from_utf8_lossy(&info[..end]).into_owned());
                return;
            }
            "conntrack" if data.number(2).unwrap_or(0) > 1 => tracked(info),
            // A plain TCP packet has no routing header.
            "rt" => Some(Condition::Listed(Field::Protocol, Vec::new(), false)),
            // `struct xt_state_info`.
            "state" => info
                .get(..4)
                .and_then(|bytes| bytes.try_into().ok())
                .map(|bits| in_state(u32::from_ne_bytes(bits), false)),
            _ => None,
        };
        self.conditions.push(condition.unwrap_or(Condition::Unknown));
    }
}

/// `struct xt_conntrack_mtinfo2` and those after it, when it asks for nothing but the state.
fn tracked(info: &[u8]) -> Option<Condition> {
    const STATE: u16 = 1;
    const STATE_ALIAS: u16 = 1 << 13;
    let half = |offset: usize| Some(u16::from_ne_bytes(info.get(offset..offset + 2)?.try_into().ok()?));
    // Behind eight addresses of 16 bytes, two numbers of 4 and five ports.
    let (asked, inverted, states) = (half(146)?, half(148)?, half(150)?);
    (asked & !STATE_ALIAS == STATE).then(|| in_state(u32::from(states), inverted & STATE != 0))
}

/// The packet's state is, or is not, one of these.
pub(crate) fn in_state(states: u32, negated: bool) -> Condition {
    Condition::Equals(Field::State(states), vec![0; 4], !negated)
}

fn meta(key: u32) -> Loaded {
    match key {
        6 => Loaded::Known(Field::In),
        7 => Loaded::Known(Field::Out),
        15 => Loaded::Known(Field::Family),
        16 => Loaded::Known(Field::Protocol),
        _ => Loaded::Other,
    }
}

pub(super) fn verdict(attributes: Attributes<'_>) -> Action {
    let chain = || {
        let name = attributes.text(element::VERDICT_CHAIN);
        name.unwrap_or_default().to_owned()
    };
    match attributes.number(element::VERDICT_CODE).map(|code| code as i32) {
        Some(DROP) => Action::Drop,
        Some(ACCEPT) => Action::Accept,
        Some(RETURN) => Action::Return,
        Some(JUMP) => Action::Jump(chain()),
        Some(GOTO) => Action::Goto(chain()),
        _ => Action::Continue,
    }
}
