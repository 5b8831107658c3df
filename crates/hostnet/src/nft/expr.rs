//! The expressions that rules are made of: a packet runs through them until one says no.
//!
//! Registers: 1 to 4 are 16 bytes wide, 8 to 23 are the same room in steps of 4 bytes (`NFT_REG32_00` is 8). A key of
//! several parts is loaded side by side, each part padded to 4 bytes.

use super::number::{element, rule};
use crate::netlink::Writer;

/// `NFT_META_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Meta {
    IifName = 6,
    OifName = 7,
    Family = 15,
    L4Protocol = 16,
}

/// What is asked of the routing table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fib {
    /// `fib daddr type`.
    DestinationType,
    /// `fib daddr . iif type`: only addresses of the link that it came by are local.
    DestinationTypeHere,
    /// `fib saddr . iif oif exists`: would an answer leave by the link that it came by?
    SourceIsHere,
}

/// `NF_*`, `NFT_RETURN`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Drop = 0,
    Accept = 1,
    Return = -5,
}

/// One step of a rule. A register stands last, or first where a value follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expr {
    Meta(Meta, u32),
    /// Bytes of the IP header: offset, length.
    Network(u32, u32, u32),
    /// Bytes of the TCP or UDP header: offset, length.
    Transport(u32, u32, u32),
    Fib(Fib, u32),
    /// `ct state`, a bit set.
    ConntrackState(u32),
    /// `ct status`, a bit set.
    ConntrackStatus(u32),
    /// Keeps only the bits of a mask.
    And(u32, u32),
    Equal(u32, Vec<u8>),
    NotEqual(u32, Vec<u8>),
    In(&'static str, u32),
    NotIn(&'static str, u32),
    /// Looks up in a map; no entry means no.
    Map {
        map: &'static str,
        register: u32,
        into: u32,
    },
    Counter,
    /// To the address and port in these registers; without one, the port is kept.
    Dnat {
        family: u8,
        address: u32,
        port: Option<u32>,
    },
    Masquerade,
    Verdict(Verdict),
}

impl Expr {
    /// Writes it as one element of a rule's list.
    pub(super) fn write(&self, out: &mut Writer) {
        out.nest(rule::LIST_ELEMENT, |out| {
            out.text(rule::EXPR_NAME, self.name());
            out.nest(rule::EXPR_DATA, |out| self.write_data(out));
        });
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Meta(..) => "meta",
            Self::Network(..) | Self::Transport(..) => "payload",
            Self::Fib(..) => "fib",
            Self::ConntrackState(_) | Self::ConntrackStatus(_) => "ct",
            Self::And(..) => "bitwise",
            Self::Equal(..) | Self::NotEqual(..) => "cmp",
            Self::In(..) | Self::NotIn(..) | Self::Map { .. } => "lookup",
            Self::Counter => "counter",
            Self::Dnat { .. } => "nat",
            Self::Masquerade => "masq",
            Self::Verdict(_) => "immediate",
        }
    }

    fn write_data(&self, out: &mut Writer) {
        match self {
            Self::Meta(key, register) => numbers(out, [*register, *key as u32]),
            Self::Network(offset, length, register) => numbers(out, [*register, 1, *offset, *length]),
            Self::Transport(offset, length, register) => numbers(out, [*register, 2, *offset, *length]),
            Self::Fib(fib, register) => {
                let (result, flags) = fib.question();
                numbers(out, [*register, result, flags]);
            }
            Self::ConntrackState(register) => numbers(out, [*register, 0]),
            Self::ConntrackStatus(register) => numbers(out, [*register, 2]),
            Self::And(register, mask) => {
                numbers(out, [*register, *register, 4]);
                value(out, 4, &mask.to_ne_bytes());
                value(out, 5, &[0; 4]);
            }
            Self::Equal(register, bytes) => {
                numbers(out, [*register, 0]);
                value(out, 3, bytes);
            }
            Self::NotEqual(register, bytes) => {
                numbers(out, [*register, 1]);
                value(out, 3, bytes);
            }
            Self::In(set, register) => lookup(out, set, *register),
            Self::NotIn(set, register) => {
                lookup(out, set, *register);
                out.number(5, 1);
            }
            Self::Map { map, register, into } => {
                lookup(out, map, *register);
                out.number(3, *into);
            }
            Self::Counter | Self::Masquerade => {}
            Self::Dnat {
                family,
                address,
                port,
            } => {
                numbers(out, [1, u32::from(*family), *address]);
                if let Some(port) = port {
                    out.number(5, *port);
                }
            }
            Self::Verdict(verdict) => {
                out.number(1, 0);
                out.nest(2, |out| {
                    let code = *verdict as i32 as u32;
                    out.nest(element::VERDICT, |out| out.number(element::VERDICT_CODE, code));
                });
            }
        }
    }
}

impl Fib {
    /// Kind of result, and flags.
    fn question(self) -> (u32, u32) {
        const SOURCE: u32 = 1;
        const DESTINATION: u32 = 2;
        const IIF: u32 = 8;
        const PRESENT: u32 = 32;
        const RESULT_OIF: u32 = 1;
        const RESULT_TYPE: u32 = 3;
        match self {
            Self::DestinationType => (RESULT_TYPE, DESTINATION),
            Self::DestinationTypeHere => (RESULT_TYPE, DESTINATION | IIF),
            Self::SourceIsHere => (RESULT_OIF, SOURCE | IIF | PRESENT),
        }
    }
}

/// Attributes 1, 2, 3, … in this order, as most expressions have them.
fn numbers<const N: usize>(out: &mut Writer, values: [u32; N]) {
    for (kind, value) in (1..).zip(values) {
        out.number(kind, value);
    }
}

fn lookup(out: &mut Writer, set: &str, register: u32) {
    out.text(1, set);
    out.number(2, register);
}

/// Bytes as `NFTA_DATA_VALUE`.
pub(super) fn value(out: &mut Writer, kind: u16, bytes: &[u8]) {
    out.nest(kind, |out| out.attr(element::VALUE, bytes));
}
