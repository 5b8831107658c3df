//! Somebody else's chains, as far as they can be understood: which rules may concern a packet of ours, and what they do.
//!
//! A condition says yes, no, or that it can't be told without knowing more of the packet (addresses, ports, marks). That is
//! enough: whether a firewall lets containers through is decided by links, states and policies.

use std::collections::BTreeMap;

use linkspan_plan::LINK_PREFIX;

/// `NFPROTO_IPV4`, `NFPROTO_IPV6`.
pub(super) const IPV4: u8 = 2;
pub(super) const IPV6: u8 = 10;
/// All packets that we judge are of this protocol.
const TCP: u8 = 6;

/// `ct state` bits: `1 << (IP_CT_* % IP_CT_IS_REPLY + 1)`.
pub(super) const ESTABLISHED: u32 = 2;
pub(super) const RELATED: u32 = 4;
pub(super) const NEW: u32 = 8;
pub(super) const INVALID: u32 = 1;

/// Chains of a table, by name.
pub(crate) type Chains = BTreeMap<String, Chain>;

/// A chain; one with a base is called by the kernel itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// Where the kernel calls a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Base {
    /// `filter`, `nat`, `route`.
    pub(crate) kind: String,
    /// `NF_INET_*`.
    pub(crate) hook: u32,
    pub(crate) priority: i32,
    /// What happens at the end of the chain.
    pub(crate) accepts: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The kernel's name for it; 0 in legacy tables.
    pub(crate) handle: u64,
    /// All must hold.
    pub(crate) conditions: Vec<Condition>,
    pub(crate) action: Action,
    pub(crate) comment: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Action {
    Continue,
    Accept,
    /// Without or with an answer.
    Drop,
    Return,
    Jump(String),
    Goto(String),
    /// Decided by a map from what the field says.
    Map(Field, BTreeMap<Vec<u8>, Action>),
    /// Something that may end the packet's way, or not.
    Unknown,
}

/// What a rule can ask that we know of our packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Field {
    In,
    Out,
    Family,
    Protocol,
    /// Reduced to these bits.
    State(u32),
    Status(u32),
}

impl Field {
    /// Bytes that it has alone in a set's key.
    pub(crate) fn length(self) -> u32 {
        match self {
            Self::In | Self::Out => 16,
            Self::State(_) | Self::Status(_) => 4,
            Self::Family | Self::Protocol => 1,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    Link(Direction, Name, Negated),
    /// The field's bytes are, or are not, these.
    Equals(Field, Vec<u8>, Negated),
    Listed(Field, Vec<Vec<u8>>, Negated),
    Unknown,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Direction {
    In,
    Out,
}

/// Is the condition turned round?
pub(crate) type Negated = bool;

/// A link's name, or how names begin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) text: String,
    pub(crate) prefix: bool,
}

/// A packet as far as it is known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Packet<'a> {
    pub(super) family: u8,
    pub(super) iif: Option<Link<'a>>,
    pub(super) oif: Option<Link<'a>>,
    /// One of the `ct state` bits.
    pub(super) state: u32,
    /// Sent to a published port.
    pub(super) published: bool,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Link<'a> {
    /// Any of our bridges.
    Ours,
    Named(&'a str),
}

impl Rule {
    /// Does it let packets of our bridges through, because they are ours?
    pub(crate) fn is_for_us(&self) -> bool {
        self.action == Action::Accept && self.names_our_bridges()
    }

    /// Does it speak of what comes from our bridges?
    pub(crate) fn is_for_incoming(&self) -> bool {
        self.conditions.iter().any(|condition| {
            matches!(condition, Condition::Link(Direction::In, name, false) if name.text.starts_with(LINK_PREFIX))
        })
    }

    /// Does it speak of links of ours at all?
    pub(crate) fn names_our_bridges(&self) -> bool {
        self.conditions.iter().any(
            |condition| matches!(condition, Condition::Link(_, name, false) if name.text.starts_with(LINK_PREFIX)),
        )
    }

    /// Does it apply? Absent: it depends on what we don't know.
    pub(super) fn applies(&self, packet: &Packet<'_>) -> Option<bool> {
        let mut sure = true;
        for condition in &self.conditions {
            match condition.holds(packet) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => sure = false,
            }
        }
        sure.then_some(true)
    }
}

impl Condition {
    fn holds(&self, packet: &Packet<'_>) -> Option<bool> {
        let (holds, negated) = match self {
            Self::Link(direction, name, negated) => (name.fits(packet.link(*direction)), *negated),
            Self::Equals(field, bytes, negated) => (packet.says(*field, bytes), *negated),
            Self::Listed(field, list, negated) => {
                let answers: Vec<_> = list.iter().map(|bytes| packet.says(*field, bytes)).collect();
                let holds = if answers.contains(&Some(true)) {
                    Some(true)
                } else if answers.contains(&None) {
                    None
                } else {
                    Some(false)
                };
                (holds, *negated)
            }
            Self::Unknown => return None,
        };
        holds.map(|holds| holds != negated)
    }
}

impl Packet<'_> {
    fn link(&self, direction: Direction) -> Option<Link<'_>> {
        match direction {
            Direction::In => self.iif,
            Direction::Out => self.oif,
        }
    }

    /// Is a field equal to these bytes, as nf_tables has them in a register?
    pub(super) fn says(&self, field: Field, bytes: &[u8]) -> Option<bool> {
        let bits = |value: u32| Some(bytes.starts_with(&value.to_ne_bytes()));
        match field {
            Field::In => Name::read(bytes).fits(self.iif),
            Field::Out => Name::read(bytes).fits(self.oif),
            Field::Family => Some(bytes.first() == Some(&self.family)),
            Field::Protocol => Some(bytes.first() == Some(&TCP)),
            Field::State(mask) => bits(self.state & mask),
            Field::Status(mask) => {
                const DESTINATION_NAT: u32 = 0x20;
                let status = if self.published { DESTINATION_NAT } else { 0 };
                // Other bits of the status are not known.
                if mask == DESTINATION_NAT {
                    bits(status)
                } else {
                    None
                }
            }
        }
    }
}

impl Name {
    /// As rules have it: padded with zeros, or without any for names that begin so.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let end = bytes.iter().position(|byte| *byte == 0);
        Self {
            text: String::from_utf8_lossy(&bytes[..end.unwrap_or(bytes.len())]).into_owned(),
            prefix: end.is_none(),
        }
    }

    fn fits(&self, link: Option<Link<'_>>) -> Option<bool> {
        let Some(link) = link else {
            return Some(self.prefix && self.text.is_empty());
        };
        match link {
            Link::Named(name) if self.prefix => Some(name.starts_with(&self.text)),
            Link::Named(name) => Some(name == self.text),
            Link::Ours => {
                let bridges = format!("{LINK_PREFIX}b");
                if self.prefix && bridges.starts_with(&self.text) {
                    Some(true)
                } else if self.text.starts_with(&bridges) {
                    // Some of them.
                    None
                } else {
                    Some(false)
                }
            }
        }
    }
}
