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

mod change;
mod firewalld;
mod legacy;
mod nftables;

use crate::Backend;
use crate::foreign;
use crate::nft::number;

pub(crate) use firewalld::{in_firewalld, look as firewalld};
pub(crate) use legacy::in_legacy;
pub(crate) use nftables::in_nftables;

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
