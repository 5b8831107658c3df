//! Writes the answer.

use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, SOA};
use hickory_proto::rr::{Name, RData, Record};

use std::net::IpAddr;

use super::TTL;
use super::lookup::Found;
use crate::wire::UDP_MAX;

pub(super) struct Reply<'a> {
    pub(super) message: &'a Message,
    pub(super) question: &'a Query,
    pub(super) limit: usize,
}

impl Reply<'_> {
    /// `None` when it can't be encoded, which nothing in the zone should bring about.
    pub(super) fn write(&self, code: ResponseCode, found: Found) -> Option<Vec<u8>> {
        let mut reply = Message::response(self.message.id, OpCode::Query);
        reply.metadata.recursion_desired = self.message.recursion_desired;
        reply.metadata.checking_disabled = self.message.checking_disabled;
        reply.metadata.recursion_available = true;
        reply.metadata.authoritative = matches!(code, ResponseCode::NoError | ResponseCode::NXDomain);
        reply.metadata.response_code = code;
        reply.add_query(self.question.clone());
        if let Some(asked) = &self.message.edns {
            let mut edns = Edns::new();
            edns.set_max_payload(UDP_MAX as u16);
            // Options are the asker's wishes, none of which must be granted; only this bit is echoed (RFC 3225).
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            reply.set_edns(edns);
        }
        if found.records.is_empty() && reply.metadata.authoritative {
            reply.add_authority(negative());
        }
        let name = self.question.name();
        let records = found
            .records
            .into_iter()
            .map(|data| Record::from_rdata(name.clone(), TTL, data));
        let mut records: Vec<_> = records.collect();
        if !records.is_empty() {
            let count = records.len();
            records.rotate_left(usize::from(self.message.id) % count);
        }
        reply.add_answers(records);
        reply.add_additionals(found.additional.into_iter().map(|(name, address)| {
            let data = match address {
                IpAddr::V4(address) => RData::A(A(address)),
                IpAddr::V6(address) => RData::AAAA(AAAA(address)),
            };
            Record::from_rdata(name, TTL, data)
        }));

        let mut bytes = reply.to_vec().ok()?;
        if bytes.len() > self.limit && !reply.additionals.is_empty() {
            // They were a courtesy: nothing that was asked for is missing without them (RFC 2181, section 9).
            reply.additionals.clear();
            bytes = reply.to_vec().ok()?;
        }
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
