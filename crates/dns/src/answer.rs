//! What a container that asks for a name is told. Pure: zone and question in, answer out.
//!
//! A container sees the names of the networks that it is on, and no others. A name of one label is never forwarded:
//! it is a container's or nobody's, so that a typo is answered at once and the world does not learn what containers
//! are called.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, PTR, SOA};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use crate::wire::{self, UDP_MAX};
use crate::{Asker, Zone};

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
/// Several addresses of one name are rotated by the query's id.
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
    if query.len() > QUERY_MAX || wire::question(query).is_none() {
        return bare(wire::FORMERR);
    }
    let Ok(message) = Message::from_vec(query) else {
        return bare(wire::FORMERR);
    };
    let [question] = &message.queries[..] else {
        return bare(wire::FORMERR);
    };
    let limit = match transport {
        Transport::Udp => wire::udp_limit(query).min(UDP_MAX),
        Transport::Tcp => usize::from(u16::MAX),
    };
    let finding = if message.edns.as_ref().is_some_and(|edns| edns.version() != 0) {
        Finding::Code(ResponseCode::BADVERS)
    } else {
        find(zone, asker, question)
    };
    let reply = Reply {
        message: &message,
        question,
        limit,
    };
    match finding {
        Finding::Elsewhere if asker.forward => {
            return Outcome::Forward {
                servers: asker.servers.clone(),
            };
        }
        Finding::Elsewhere | Finding::Nothing => reply.write(ResponseCode::NXDomain, Vec::new()),
        Finding::Code(code) => reply.write(code, Vec::new()),
        Finding::Records(records) => reply.write(ResponseCode::NoError, records),
    }
    .map_or_else(|| bare(wire::SERVFAIL), Outcome::Reply)
}

/// What is known about a question.
enum Finding {
    /// The name is one of ours; perhaps without records of the type that was asked for.
    Records(Vec<RData>),
    /// There is no such name.
    Nothing,
    /// The name isn't ours.
    Elsewhere,
    /// Can't be asked.
    Code(ResponseCode),
}

fn find(zone: &Zone, asker: &Asker, question: &Query) -> Finding {
    let kind = question.query_type();
    if question.query_class() != DNSClass::IN {
        return Finding::Code(ResponseCode::NotImp);
    }
    match kind {
        RecordType::OPT => return Finding::Code(ResponseCode::FormErr),
        // Transfers: the zone isn't anybody's as a whole.
        RecordType::AXFR | RecordType::IXFR => return Finding::Code(ResponseCode::Refused),
        _ => {}
    }
    let name = question.name();
    if name.is_localhost() {
        let addresses = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
        return Finding::Records(of_kind(addresses, kind));
    }
    if let Ok(network) = name.parse_arpa_name()
        && network.prefix_len() == network.max_prefix_len()
    {
        return reverse(zone, asker, network.addr(), kind);
    }
    if let Some(addresses) = key(name).and_then(|key| addresses(zone, asker, &key)) {
        return Finding::Records(of_kind(addresses, kind));
    }
    if name.num_labels() == 1 {
        Finding::Nothing
    } else {
        Finding::Elsewhere
    }
}

/// The name as the zone spells it. `None` for one that no container can have.
fn key(name: &Name) -> Option<String> {
    let mut key = String::with_capacity(name.len());
    for label in name.iter() {
        let label = std::str::from_utf8(label).ok()?;
        // A dot inside a label is not one between labels.
        if label.contains('.') {
            return None;
        }
        if !key.is_empty() {
            key.push('.');
        }
        key.push_str(&label.to_ascii_lowercase());
    }
    Some(key)
}

/// Addresses behind a name on all networks of the asker; `None` when none of them has the name.
fn addresses(zone: &Zone, asker: &Asker, key: &str) -> Option<Vec<IpAddr>> {
    let mut found: Option<Vec<IpAddr>> = None;
    for network in asker.networks.iter().filter_map(|id| zone.networks.get(id)) {
        if let Some(addresses) = network.names.get(key) {
            let all = found.get_or_insert_default();
            for address in addresses {
                if !all.contains(address) {
                    all.push(*address);
                }
            }
        }
    }
    found
}

fn of_kind(addresses: impl IntoIterator<Item = IpAddr>, kind: RecordType) -> Vec<RData> {
    let mut v4 = Vec::new();
    let mut v6 = Vec::new();
    for address in addresses {
        match address {
            IpAddr::V4(address) => v4.push(RData::A(A(address))),
            IpAddr::V6(address) => v6.push(RData::AAAA(AAAA(address))),
        }
    }
    match kind {
        RecordType::A => v4,
        RecordType::AAAA => v6,
        // RFC 8482: one set of records is enough.
        RecordType::ANY if !v4.is_empty() => v4,
        RecordType::ANY => v6,
        _ => Vec::new(),
    }
}

/// The name of an address, if the asker shares a network with it.
fn reverse(zone: &Zone, asker: &Asker, address: IpAddr, kind: RecordType) -> Finding {
    let names = if address.is_loopback() {
        vec!["localhost".to_owned()]
    } else {
        // The instance's own name is on fewest addresses; of its aliases the shortest is the one people use.
        let candidates: BTreeSet<_> = asker
            .networks
            .iter()
            .filter_map(|id| zone.networks.get(id))
            .flat_map(|network| &network.names)
            .filter(|(_, addresses)| addresses.contains(&address))
            .map(|(name, addresses)| (addresses.len(), name.len(), name))
            .collect();
        candidates
            .first()
            .map(|(_, _, name)| (*name).clone())
            .into_iter()
            .collect()
    };
    if names.is_empty() {
        // A container's address is no business of name servers outside, also when its name isn't told.
        return if zone.askers.contains_key(&address) {
            Finding::Nothing
        } else {
            Finding::Elsewhere
        };
    }
    let wanted = matches!(kind, RecordType::PTR | RecordType::ANY);
    let records = names
        .iter()
        .filter_map(|name| Name::from_labels(name.split('.').map(str::as_bytes)).ok());
    Finding::Records(
        records
            .filter(|_| wanted)
            .map(|name| RData::PTR(PTR(name)))
            .collect(),
    )
}

struct Reply<'a> {
    message: &'a Message,
    question: &'a Query,
    limit: usize,
}

impl Reply<'_> {
    /// `None` when it can't be encoded, which nothing in the zone should bring about.
    fn write(&self, code: ResponseCode, records: Vec<RData>) -> Option<Vec<u8>> {
        let mut reply = Message::response(self.message.id, OpCode::Query);
        reply.metadata.recursion_desired = self.message.recursion_desired;
        reply.metadata.checking_disabled = self.message.checking_disabled;
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        reply.metadata.response_code = code;
        reply.add_query(self.question.clone());
        if self.message.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX as u16);
            reply.set_edns(edns);
        }
        if records.is_empty() && reply.metadata.authoritative {
            reply.add_authority(negative());
        }
        let name = self.question.name();
        let records = records
            .into_iter()
            .map(|data| Record::from_rdata(name.clone(), TTL, data));
        let mut records: Vec<_> = records.collect();
        if !records.is_empty() {
            let count = records.len();
            records.rotate_left(usize::from(self.message.id) % count);
        }
        reply.add_answers(records);

        let mut bytes = reply.to_vec().ok()?;
        while bytes.len() > self.limit && !reply.answers.is_empty() {
            // As many as fit stay: some resolvers never ask again over TCP.
            let fit = reply.answers.len() * self.limit / bytes.len();
            reply.answers.truncate(fit.min(reply.answers.len() - 1));
            reply.metadata.truncation = true;
            bytes = reply.to_vec().ok()?;
        }
        Some(bytes)
    }
}

/// Bounds how long "there is no such thing" may be kept (RFC 2308).
fn negative() -> Record {
    let soa = SOA::new(Name::root(), Name::root(), 1, 60, 60, 60, TTL);
    Record::from_rdata(Name::root(), TTL, RData::SOA(soa))
}

#[cfg(test)]
mod tests;
