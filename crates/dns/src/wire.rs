//! The few fields of a DNS message that are read and patched in place (RFC 1035, section 4). Never panics.

use std::ops::Range;

/// Bytes of the header.
pub(crate) const HEADER: usize = 12;
/// Largest UDP payload that passes every path unfragmented (DNS flag day 2020).
pub(crate) const UDP_MAX: usize = 1232;
/// Largest UDP payload towards somebody who didn't say that they take more.
pub(crate) const UDP_PLAIN: usize = 512;

const OPT: u16 = 41;

pub(crate) const FORMERR: u8 = 1;
pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const NXDOMAIN: u8 = 3;
pub(crate) const NOTIMP: u8 = 4;
pub(crate) const REFUSED: u8 = 5;

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

/// The id, if the message is long enough to have one.
pub(crate) fn id(message: &[u8]) -> Option<u16> {
    u16_at(message, 0)
}

/// Writes another id.
pub(crate) fn set_id(message: &mut [u8], id: u16) {
    if let Some(place) = message.first_chunk_mut::<2>() {
        *place = id.to_be_bytes();
    }
}

/// Is it an answer (QR set)?
pub(crate) fn is_response(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0x80 != 0)
}

/// The operation code; 0 is a standard query.
pub(crate) fn opcode(message: &[u8]) -> u8 {
    message.get(2).map_or(0, |flags| (flags >> 3) & 0xf)
}

/// Is the truncation bit set?
pub(crate) fn is_truncated(message: &[u8]) -> bool {
    message.get(2).is_some_and(|flags| flags & 0x02 != 0)
}

/// The lower four bits of the response code.
pub(crate) fn rcode(message: &[u8]) -> u8 {
    message.get(3).map_or(SERVFAIL, |flags| flags & 0xf)
}

/// How many records the answer section announces.
pub(crate) fn answers(message: &[u8]) -> u16 {
    u16_at(message, 6).unwrap_or(0)
}

/// The bytes of the one question: name, type and class. A compressed name makes no sense there and is refused.
pub(crate) fn question(message: &[u8]) -> Option<&[u8]> {
    if u16_at(message, 4)? != 1 {
        return None;
    }
    let mut at = HEADER;
    loop {
        match *message.get(at)? {
            0 => break,
            length @ 1..=63 => at += 1 + usize::from(length),
            _ => return None,
        }
        if at - HEADER >= 255 {
            return None;
        }
    }
    message.get(HEADER..at + 5)
}

/// Do both ask the same? Names are compared without regard to case.
pub(crate) fn same_question(a: &[u8], b: &[u8]) -> bool {
    // Folding case over type and class as well would mix up types 65 and 97, so the last four bytes are apart.
    let Some((a, b)) = question(a).zip(question(b)) else {
        return false;
    };
    let (Some((a_name, a_kind)), Some((b_name, b_kind))) =
        (a.split_last_chunk::<4>(), b.split_last_chunk::<4>())
    else {
        return false;
    };
    a_kind == b_kind && a_name.eq_ignore_ascii_case(b_name)
}

/// An answer without records: the header and question of `query`, with a response code and perhaps the truncation bit.
pub(crate) fn bare(query: &[u8], rcode: u8, truncated: bool) -> Vec<u8> {
    let mut header = [0; HEADER];
    let have = query.len().min(4);
    header[..have].copy_from_slice(&query[..have]);
    // Of the flags, the operation code and "recursion desired" are the asker's.
    header[2] = 0x80 | (header[2] & 0x79) | if truncated { 0x02 } else { 0 };
    header[3] = 0x80 | (header[3] & 0x10) | (rcode & 0xf);
    let question = question(query).unwrap_or_default();
    header[5] = u8::from(!question.is_empty());
    [&header, question].concat()
}

/// How many bytes of answer the asker of `query` takes over UDP.
pub(crate) fn udp_limit(query: &[u8]) -> usize {
    let announced = records(query)
        .and_then(|records| records.into_iter().find(|record| record.kind == OPT))
        .and_then(|opt| u16_at(query, opt.class));
    announced.map_or(UDP_PLAIN, |size| usize::from(size).max(UDP_PLAIN))
}

/// The lowest TTL of a message, in seconds, and where all its TTLs are. `None` if it can't be read.
pub(crate) fn ttls(message: &[u8]) -> Option<(u32, Vec<Range<usize>>)> {
    let mut lowest = u32::MAX;
    let mut places = Vec::new();
    for record in records(message)? {
        // The field means something else in OPT.
        if record.kind == OPT {
            continue;
        }
        let place = record.class + 2..record.class + 6;
        let ttl = u32::from_be_bytes(*message.get(place.clone())?.first_chunk()?);
        // RFC 2181, section 8: a value with the top bit set counts as 0.
        lowest = lowest.min(if ttl >> 31 == 1 { 0 } else { ttl });
        places.push(place);
    }
    Some((lowest, places))
}

/// Takes seconds that have passed off every TTL.
pub(crate) fn age(message: &mut [u8], places: &[Range<usize>], seconds: u32) {
    for place in places {
        if let Some(field) = message
            .get_mut(place.clone())
            .and_then(|bytes| bytes.first_chunk_mut::<4>())
        {
            *field = u32::from_be_bytes(*field).saturating_sub(seconds).to_be_bytes();
        }
    }
}

struct Record {
    kind: u16,
    /// Where its class is; the TTL follows.
    class: usize,
}

/// The records of all three sections.
fn records(message: &[u8]) -> Option<Vec<Record>> {
    let mut at = HEADER + question(message)?.len();
    let count: usize = [6, 8, 10]
        .into_iter()
        .map(|at| u16_at(message, at).map(usize::from))
        .sum::<Option<_>>()?;
    let mut records = Vec::with_capacity(count.min(64));
    for _ in 0..count {
        at = skip_name(message, at)?;
        records.push(Record {
            kind: u16_at(message, at)?,
            class: at + 2,
        });
        at = at + 10 + usize::from(u16_at(message, at + 8)?);
        if at > message.len() {
            return None;
        }
    }
    Some(records)
}

fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            length @ 1..=63 => at += 1 + usize::from(length),
            // A pointer ends the name; where it points is not followed.
            0xc0.. => return Some(at + 2),
            _ => return None,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Asks for `ab`, type A, class IN.
    const QUERY: &[u8] = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x02ab\0\0\x01\0\x01";

    #[test]
    fn names_match_in_any_case_but_types_do_not_fold() {
        let upper = [&QUERY[..13], b"AB\0\0\x01\0\x01"].concat();
        assert!(same_question(QUERY, &upper));
        let with_type = |kind: u8| [&QUERY[..13], b"ab\0\0", &[kind], b"\0\x01"].concat();
        assert!(!same_question(&with_type(65), &with_type(97)));
    }

    #[test]
    fn the_bare_answer_keeps_id_and_question() {
        let reply = bare(QUERY, SERVFAIL, false);
        assert_eq!(
            (id(&reply), is_response(&reply), rcode(&reply)),
            (Some(0x1234), true, SERVFAIL)
        );
        assert_eq!(question(&reply), question(QUERY));
    }

    #[test]
    fn ttls_age_and_stop_at_nothing() {
        let mut reply = [QUERY, b"\xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04\x01\x02\x03\x04"].concat();
        reply[7] = 1;
        let (lowest, places) = ttls(&reply).unwrap();
        assert_eq!(lowest, 10);
        age(&mut reply, &places, 4);
        assert_eq!(ttls(&reply).unwrap().0, 6);
        age(&mut reply, &places, 400);
        assert_eq!(ttls(&reply).unwrap().0, 0);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (id(&bytes), question(&bytes), udp_limit(&bytes), same_question(&bytes, QUERY));
            let _ = bare(&bytes, NXDOMAIN, true);
            if let Some((_, places)) = ttls(&bytes) {
                age(&mut bytes.clone(), &places, 1);
            }
        }

        #[test]
        fn no_damage_to_a_good_message_makes_it_panic(at in 0usize..60, value: u8, cut in 0usize..80) {
            let mut reply = [QUERY, b"\xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04\x01\x02\x03\x04"].concat();
            reply[7] = 1;
            let length = reply.len();
            reply[at % length] = value;
            reply.truncate(cut);
            let _ = (ttls(&reply), udp_limit(&reply), bare(&reply, REFUSED, false), same_question(&reply, QUERY));
        }
    }
}
