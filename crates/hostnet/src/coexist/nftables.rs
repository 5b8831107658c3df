//! The accepts in chains that `iptables-nft` keeps in nf_tables, by netlink: whether the program is installed or not.

use std::io;

use linkspan_plan::LINK_PREFIX;

use super::change::{Change, Side};
use super::{Accept, CHAINS, MARK, TABLE, command};
use crate::foreign;
use crate::netlink::{APPEND, CREATE, NetfilterSocket, Writer};
use crate::nft::number::{self, element, message, rule};
use crate::{Backend, CoexistError};

/// Looks at a chain that somebody else keeps changing.
const ATTEMPTS: usize = 3;

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

impl Change {
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
}
