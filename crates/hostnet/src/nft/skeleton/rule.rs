//! Rules, put together from conditions in the order in which the kernel asks them.
//!
//! Every condition loads what it needs into register 1 (and those behind it) and asks at once, so conditions don't
//! depend on one another.

use crate::nft::expr::{Expr, Fib, Meta, Verdict};
use crate::nft::number::{IPV4, IPV6};

use super::{BRIDGES, OUTWARD};

/// A rule; its comment is also how it is recognised in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::nft) struct Rule {
    pub(in crate::nft) comment: &'static str,
    pub(in crate::nft) steps: Vec<Expr>,
}

/// IPv4 or IPv6.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

/// Where a family's header has its addresses (RFC 791 §3.1, RFC 8200 §3).
#[derive(Debug, Clone, Copy)]
pub(super) struct Addresses {
    family: Family,
    source: u32,
    destination: u32,
    length: u32,
    time_to_live: u32,
}

pub(super) const ADDRESSES4: Addresses = Addresses {
    family: Family::V4,
    source: 12,
    destination: 16,
    length: 4,
    time_to_live: 8,
};
pub(super) const ADDRESSES6: Addresses = Addresses {
    family: Family::V6,
    source: 8,
    destination: 24,
    length: 16,
    time_to_live: 7,
};

/// Bytes of an IP header.
#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    family: Family,
    offset: u32,
    length: u32,
}

impl Addresses {
    pub(super) fn source(self) -> Field {
        Field {
            family: self.family,
            offset: self.source,
            length: self.length,
        }
    }

    pub(super) fn destination(self) -> Field {
        Field {
            family: self.family,
            offset: self.destination,
            length: self.length,
        }
    }

    /// IPv6 calls it hop limit.
    pub(super) fn time_to_live(self) -> Field {
        Field {
            family: self.family,
            offset: self.time_to_live,
            length: 1,
        }
    }

    pub(super) fn first_byte_of_source(self) -> Field {
        Field {
            length: 1,
            ..self.source()
        }
    }

    pub(super) fn first_byte_of_destination(self) -> Field {
        Field {
            length: 1,
            ..self.destination()
        }
    }
}

impl Family {
    fn addresses(self) -> Addresses {
        match self {
            Self::V4 => ADDRESSES4,
            Self::V6 => ADDRESSES6,
        }
    }

    /// `NFPROTO_*`.
    fn number(self) -> u8 {
        match self {
            Self::V4 => IPV4,
            Self::V6 => IPV6,
        }
    }

    /// The register behind `register` and an address in it.
    fn behind(self, register: u32) -> u32 {
        // Register 1 begins where the small register 8 does; addresses fill small ones of 4 bytes.
        let small = if register == 1 { 8 } else { register };
        small + self.addresses().length / 4
    }
}

/// Conditions.
impl Rule {
    pub(super) fn new(comment: &'static str) -> Self {
        Self {
            comment,
            steps: Vec::new(),
        }
    }

    pub(super) fn iif_is(self, name: &str) -> Self {
        self.meta(Meta::IifName).equals(&link_name(name))
    }

    pub(super) fn oif_is_not(self, name: &str) -> Self {
        self.meta(Meta::OifName).differs(&link_name(name))
    }

    pub(super) fn iif_in(self, set: &'static str) -> Self {
        self.meta(Meta::IifName).listed_in(set)
    }

    pub(super) fn iif_not_in(self, set: &'static str) -> Self {
        self.meta(Meta::IifName).with(Expr::NotIn(set, 1))
    }

    pub(super) fn oif_in(self, set: &'static str) -> Self {
        self.meta(Meta::OifName).listed_in(set)
    }

    pub(super) fn oif_not_in(self, set: &'static str) -> Self {
        self.meta(Meta::OifName).with(Expr::NotIn(set, 1))
    }

    /// It came by an internal network's bridge.
    pub(super) fn internal(self) -> Self {
        self.iif_in(BRIDGES).iif_not_in(OUTWARD)
    }

    /// It leaves by the bridge that it came by; `pairs` has every bridge with itself.
    pub(super) fn on_one_network(self, pairs: &'static str) -> Self {
        self.meta(Meta::IifName)
            .with(Expr::Meta(Meta::OifName, 2))
            .listed_in(pairs)
    }

    /// It belongs to a connection that was let through before, or is about one.
    pub(super) fn answers(self) -> Self {
        const ESTABLISHED_OR_RELATED: u32 = 2 | 4;
        self.with(Expr::ConntrackState(1)).has(ESTABLISHED_OR_RELATED)
    }

    /// It belongs to a connection that was sent elsewhere than where it was addressed.
    pub(super) fn published(self) -> Self {
        const DESTINATION_NAT: u32 = 0x20;
        self.with(Expr::ConntrackStatus(1)).has(DESTINATION_NAT)
    }

    /// An answer to its source would leave by another link than it came by.
    pub(super) fn source_is_elsewhere(self) -> Self {
        self.with(Expr::Fib(Fib::SourceIsHere, 1)).equals(&[0; 4])
    }

    /// Its destination is of this kind, for the host.
    pub(super) fn destination_is(self, kind: u32) -> Self {
        self.with(Expr::Fib(Fib::DestinationType, 1))
            .equals(&kind.to_ne_bytes())
    }

    /// Its destination is of this kind, for the link that it came by.
    pub(super) fn destination_here_is(self, kind: u32) -> Self {
        self.with(Expr::Fib(Fib::DestinationTypeHere, 1))
            .equals(&kind.to_ne_bytes())
    }

    /// Its source and destination are in `pairs`.
    pub(super) fn pair_listed_in(self, family: Family, pairs: &'static str) -> Self {
        let Field { offset, length, .. } = family.addresses().destination();
        self.load(family.addresses().source())
            .with(Expr::Network(offset, length, family.behind(1)))
            .listed_in(pairs)
    }

    /// It is of the field's family; the field is then in register 1, for the condition that follows.
    pub(super) fn load(self, field: Field) -> Self {
        self.family(field.family)
            .with(Expr::Network(field.offset, field.length, 1))
    }

    /// Its protocol, destination address and port are in register 1 and those behind it.
    pub(super) fn load_address_and_port(self, family: Family) -> Self {
        let Field { offset, length, .. } = family.addresses().destination();
        // The protocol fills small register 8, the address begins in the next.
        self.family(family)
            .with(Expr::Meta(Meta::L4Protocol, 1))
            .with(Expr::Network(offset, length, 9))
            .with(destination_port(family.behind(9)))
    }

    /// Its protocol and destination port are in register 1 and the one behind it.
    pub(super) fn load_port(self) -> Self {
        self.with(Expr::Meta(Meta::L4Protocol, 1))
            .with(destination_port(9))
    }

    pub(super) fn equals(self, value: &[u8]) -> Self {
        self.with(Expr::Equal(1, value.to_vec()))
    }

    pub(super) fn differs(self, value: &[u8]) -> Self {
        self.with(Expr::NotEqual(1, value.to_vec()))
    }

    pub(super) fn listed_in(self, set: &'static str) -> Self {
        self.with(Expr::In(set, 1))
    }

    fn family(self, family: Family) -> Self {
        self.meta(Meta::Family).equals(&[family.number()])
    }

    fn has(self, bits: u32) -> Self {
        self.with(Expr::And(1, bits)).differs(&[0; 4])
    }

    fn meta(self, key: Meta) -> Self {
        self.with(Expr::Meta(key, 1))
    }

    fn with(mut self, step: Expr) -> Self {
        self.steps.push(step);
        self
    }
}

/// What is done with the packet.
impl Rule {
    pub(super) fn accept(self) -> Self {
        self.with(Expr::Verdict(Verdict::Accept))
    }

    /// Counted, so that a person can see which rule it was.
    pub(super) fn drop(self) -> Self {
        self.with(Expr::Counter).with(Expr::Verdict(Verdict::Drop))
    }

    /// The rest of the chain is not asked.
    pub(super) fn give_back(self) -> Self {
        self.with(Expr::Verdict(Verdict::Return))
    }

    pub(super) fn masquerade(self) -> Self {
        self.with(Expr::Masquerade)
    }

    /// Sent to the address and port that `map` says for what was loaded, if it says.
    pub(super) fn dnat(self, family: Family, map: &'static str) -> Self {
        // The map gives the address in register 1, and the port right behind it.
        self.dnat_to(family, map, Some(family.behind(1)))
    }

    /// Sent to the address that `map` says for what was loaded, if it says; the port stays as it is.
    pub(super) fn dnat_keeping_port(self, family: Family, map: &'static str) -> Self {
        self.dnat_to(family, map, None)
    }

    fn dnat_to(self, family: Family, map: &'static str, port: Option<u32>) -> Self {
        self.with(Expr::Map {
            map,
            register: 1,
            into: 1,
        })
        .with(Expr::Dnat {
            family: family.number(),
            address: 1,
            port,
        })
    }
}

/// TCP, UDP and SCTP have it in the same place (RFC 9293 §3.1, RFC 768, RFC 9260 §3.1).
fn destination_port(register: u32) -> Expr {
    Expr::Transport(2, 2, register)
}

/// A link's name as the kernel compares it: 16 bytes, the rest zero.
pub(in crate::nft) fn link_name(name: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    // The last byte stays zero, as the kernel's own names have it.
    for (to, from) in bytes.iter_mut().take(15).zip(name.bytes()) {
        *to = from;
    }
    bytes
}
