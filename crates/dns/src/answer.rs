//! What a container that asks for a name is told. Pure: zone and question in, answer out.
//!
//! A container sees the names of the networks that it is on, and no others. A name of one label is never forwarded:
//! it is a container's or nobody's, so that a typo is answered at once and the world does not learn what containers
//! are called. The same holds for what is asked about addresses of our own networks.

mod lookup;
mod reply;

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};

use crate::wire::{self, UDP_MAX};
use crate::{Asker, Zone};
use lookup::{Finding, Found, find};
use reply::Reply;

/// Seconds that an answer from the zone may be kept: containers come and go.
const TTL: u32 = 5;
/// Longest query that is looked at, in bytes. Honest ones stay below 512.
const QUERY_MAX: usize = 4096;

/// How the question came, which bounds the answer's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// What the asker announces by EDNS, between 512 and 1,232 bytes; 512 without.
    Udp,
    /// 65,535 bytes.
    Tcp,
}

/// What to do with a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Send this.
    Reply(Vec<u8>),
    /// Not a name of ours: ask these name servers, or the host's if there are none.
    Forward {
        /// The asker's own (`dns:`).
        servers: Vec<IpAddr>,
    },
    /// Send this: the asker is nobody we know.
    Refuse(Vec<u8>),
    /// Not a query at all; an answer might start a loop.
    Drop,
}

/// Answers one query (a whole DNS message, without the length that TCP puts in front).
///
/// Several records for one name are rotated by the query's id. That spreads askers without a counter that all threads
/// would share, and a counter would go wrong: askers want IPv4 and IPv6 addresses in pairs of questions, so that with
/// two replicas each kind would always begin with the same one.
pub fn answer(zone: &Zone, asker: IpAddr, query: &[u8], transport: Transport) -> Outcome {
    if query.len() < wire::HEADER || wire::is_response(query) {
        return Outcome::Drop;
    }
    let bare = |rcode| Outcome::Reply(wire::bare(query, rcode, false));
    let Some(asker) = zone.askers.get(&asker.to_canonical()) else {
        return Outcome::Refuse(wire::bare(query, wire::REFUSED, false));
    };
    if wire::opcode(query) != 0 {
        return bare(wire::NOTIMP);
    }
    if query.len() > QUERY_MAX || wire::question(query).is_none() || wire::edns(query).is_err() {
        return bare(wire::FORMERR);
    }
    let Ok(message) = Message::from_vec(query) else {
        return bare(wire::FORMERR);
    };
    let [question] = &message.queries[..] else {
        return bare(wire::FORMERR);
    };
    let finding = if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        Finding::Code(ResponseCode::BADVERS)
    } else {
        find(zone, asker, question)
    };
    let reply = Reply {
        message: &message,
        question,
        limit: limit(query, transport),
    };
    match finding {
        Finding::Elsewhere if asker.forward => {
            return Outcome::Forward {
                servers: asker.servers.clone(),
            };
        }
        // The root always exists.
        Finding::Elsewhere if question.name().is_root() => {
            reply.write(ResponseCode::NoError, Found::default())
        }
        Finding::Elsewhere | Finding::Nothing => reply.write(ResponseCode::NXDomain, Found::default()),
        Finding::Code(code) => reply.write(code, Found::default()),
        Finding::Records(found) => reply.write(ResponseCode::NoError, found),
    }
    .map_or_else(|| bare(wire::SERVFAIL), Outcome::Reply)
}

/// How many bytes the answer may have.
pub(crate) fn limit(query: &[u8], transport: Transport) -> usize {
    match transport {
        Transport::Udp => wire::udp_limit(query).min(UDP_MAX),
        Transport::Tcp => usize::from(u16::MAX),
    }
}

#[cfg(test)]
mod tests;
