//! The few fields of a DNS message that are read and patched in place (RFC 1035, section 4). Never panics.

/// Bytes of the header.
pub(crate) const HEADER: usize = 12;
/// Largest UDP payload that passes every path unfragmented (DNS flag day 2020).
pub(crate) const UDP_MAX: usize = 1232;
/// Largest UDP payload towards somebody who didn't say that they take more.
pub(crate) const UDP_PLAIN: usize = 512;

const SOA: u16 = 6;
const OPT: u16 = 41;

pub(crate) const FORMERR: u8 = 1;
pub(crate) const SERVFAIL: u8 = 2;
pub(crate) const NXDOMAIN: u8 = 3;
pub(crate) const NOTIMP: u8 = 4;
pub(crate) const REFUSED: u8 = 5;

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*message.get(at..)?.first_chunk()?))
}

fn u32_at(message: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(*message.get(at..)?.first_chunk()?))
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

/// An answer without records: the header and question of `query`, with a response code and perhaps the truncation bit,
/// and EDNS if the asker speaks it.
pub(crate) fn bare(query: &[u8], rcode: u8, truncated: bool) -> Vec<u8> {
    let mut header = [0; HEADER];
    let have = query.len().min(4);
    header[..have].copy_from_slice(&query[..have]);
    // Of the flags, the operation code and "recursion desired" are the asker's.
    header[2] = 0x80 | (header[2] & 0x79) | if truncated { 0x02 } else { 0 };
    header[3] = 0x80 | (header[3] & 0x10) | (rcode & 0xf);
    let question = question(query).unwrap_or_default();
    header[5] = u8::from(!question.is_empty());
    let opt = edns(query).ok().flatten();
    header[11] = u8::from(opt.is_some());
    let mut reply = [&header, question].concat();
    reply.extend(opt.iter().flat_map(|opt| opt_record(opt.dnssec)));
    reply
}

/// A query of our own: `question` is name, type and class; `flags` are the third and fourth byte.
pub(crate) fn query(flags: [u8; 2], question: &[u8], edns: Option<bool>) -> Vec<u8> {
    let header = [
        0,
        0,
        flags[0],
        flags[1],
        0,
        1,
        0,
        0,
        0,
        0,
        0,
        u8::from(edns.is_some()),
    ];
    let mut query = [&header, question].concat();
    query.extend(edns.iter().flat_map(|dnssec| opt_record(*dnssec)));
    query
}

/// The record by which we speak EDNS (RFC 6891, section 6.1.2), without options.
fn opt_record(dnssec: bool) -> [u8; 11] {
    let [high, low] = (UDP_MAX as u16).to_be_bytes();
    let flags = if dnssec { 0x80 } else { 0 };
    [0, 0, OPT as u8, high, low, 0, 0, flags, 0, 0, 0]
}

/// What somebody says by EDNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Opt {
    /// Bytes of an answer that they take over UDP.
    pub(crate) size: u16,
    /// They want signatures (DO, RFC 3225).
    pub(crate) dnssec: bool,
    /// Where the size is.
    place: usize,
}

/// The EDNS part of a message.
///
/// # Errors
/// When the message can't be read, or has more than one such part, or one that isn't the root's.
pub(crate) fn edns(message: &[u8]) -> Result<Option<Opt>, ()> {
    let records = records(message).ok_or(())?;
    let mut found = records.iter().filter(|record| record.kind == OPT);
    let (opt, other) = (found.next(), found.next());
    let Some(opt) = opt else { return Ok(None) };
    if other.is_some() || opt.start + 3 != opt.class {
        return Err(());
    }
    Ok(Some(Opt {
        size: u16_at(message, opt.class).ok_or(())?,
        dnssec: message.get(opt.class + 4).is_some_and(|flags| flags & 0x80 != 0),
        place: opt.class,
    }))
}

/// How many bytes of answer the asker of `query` takes over UDP.
pub(crate) fn udp_limit(query: &[u8]) -> usize {
    let announced = edns(query).ok().flatten();
    announced.map_or(UDP_PLAIN, |opt| usize::from(opt.size).max(UDP_PLAIN))
}

/// Makes a server's answer one to `query`, which asks the same: its id, its question as it was written, our own size.
pub(crate) fn readdress(reply: &mut [u8], query: &[u8]) {
    set_id(reply, id(query).unwrap_or_default());
    if let Some(theirs) = question(query)
        && let Some(place) = reply.get_mut(HEADER..HEADER + theirs.len())
    {
        place.copy_from_slice(theirs);
    }
    if let Ok(Some(opt)) = edns(reply)
        && let Some(size) = reply[opt.place..].first_chunk_mut()
    {
        *size = (UDP_MAX as u16).to_be_bytes();
    }
}

/// How long an answer holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Times {
    /// Its lowest TTL, in seconds; of an answer that says "no such thing", what its SOA says (RFC 2308, section 5).
    pub(crate) lowest: u32,
    /// Where its TTLs are.
    pub(crate) places: Vec<usize>,
    /// Is there an SOA in the authority section?
    pub(crate) has_soa: bool,
}

/// The times of a message. `None` if it can't be read.
pub(crate) fn times(message: &[u8]) -> Option<Times> {
    let first = usize::from(answers(message));
    let authority = first..first + usize::from(u16_at(message, 8)?);
    let mut times = Times {
        lowest: u32::MAX,
        places: Vec::new(),
        has_soa: false,
    };
    for (index, record) in records(message)?.into_iter().enumerate() {
        // The field means something else in OPT.
        if record.kind == OPT {
            continue;
        }
        let place = record.class + 2;
        let ttl = u32_at(message, place)?;
        // RFC 2181, section 8: a value with the top bit set counts as 0.
        times.lowest = times.lowest.min(if ttl >> 31 == 1 { 0 } else { ttl });
        times.places.push(place);
        if record.kind == SOA && authority.contains(&index) {
            times.has_soa = true;
            // Its last field.
            times.lowest = times.lowest.min(u32_at(message, record.end.checked_sub(4)?)?);
        }
    }
    Some(times)
}

/// Changes every TTL.
pub(crate) fn each_ttl(message: &mut [u8], places: &[usize], change: impl Fn(u32) -> u32) {
    for place in places {
        if let Some(field) = message
            .get_mut(*place..)
            .and_then(|bytes| bytes.first_chunk_mut::<4>())
        {
            *field = change(u32::from_be_bytes(*field)).to_be_bytes();
        }
    }
}

struct Record {
    start: usize,
    kind: u16,
    /// Where its class is; the TTL follows.
    class: usize,
    end: usize,
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
        let (start, name_end) = (at, skip_name(message, at)?);
        at = name_end + 10 + usize::from(u16_at(message, name_end + 8)?);
        if at > message.len() {
            return None;
        }
        records.push(Record {
            start,
            kind: u16_at(message, name_end)?,
            class: name_end + 2,
            end: at,
        });
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

    const ANSWERED: &[u8] = b"\xc0\x0c\0\x01\0\x01\0\0\0\x0a\0\x04\x01\x02\x03\x04";
    const SPEAKS_EDNS: &[u8] = b"\0\0\x29\x10\0\0\0\x80\0\0\0";

    fn with(section: usize, record: &[u8]) -> Vec<u8> {
        let mut message = [QUERY, record].concat();
        message[section] = 1;
        message
    }

    #[test]
    fn ttls_age_and_stop_at_nothing() {
        let mut reply = with(7, ANSWERED);
        let before = times(&reply).unwrap();
        assert_eq!((before.lowest, before.has_soa), (10, false));
        each_ttl(&mut reply, &before.places, |ttl| ttl.saturating_sub(4));
        assert_eq!(times(&reply).unwrap().lowest, 6);
        each_ttl(&mut reply, &before.places, |ttl| ttl.saturating_sub(400));
        assert_eq!(times(&reply).unwrap().lowest, 0);
    }

    #[test]
    fn what_is_not_there_holds_as_long_as_its_soa_says() {
        // TTL 10; the last of five numbers, the minimum, is 7.
        let soa = b"\0\0\x06\0\x01\0\0\0\x0a\0\x16\0\0\0\0\0\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x07";
        let found = times(&with(9, soa)).unwrap();
        assert_eq!((found.lowest, found.has_soa), (7, true));
        let elsewhere = times(&with(7, soa)).unwrap();
        assert_eq!((elsewhere.lowest, elsewhere.has_soa), (10, false));
    }

    #[test]
    fn edns_is_read_once_and_of_the_root() {
        let query = with(11, SPEAKS_EDNS);
        let opt = edns(&query).unwrap().unwrap();
        assert_eq!((opt.size, opt.dnssec, udp_limit(&query)), (4096, true, 4096));
        assert_eq!(
            edns(&bare(&query, SERVFAIL, true))
                .unwrap()
                .map(|opt| (opt.size, opt.dnssec)),
            Some((1232, true))
        );
        assert_eq!(edns(QUERY), Ok(None));
        let mut twice = [&query, SPEAKS_EDNS].concat();
        twice[11] = 2;
        assert_eq!(edns(&twice), Err(()));
        assert_eq!(edns(&with(11, &[b"\x01a", SPEAKS_EDNS].concat())), Err(()));
    }

    #[test]
    fn an_answer_becomes_that_of_another_who_asks_the_same() {
        let mut reply = [&with(7, ANSWERED), SPEAKS_EDNS].concat();
        reply[11] = 1;
        let other = [
            b"\x56\x78\x01\0\0\x01\0\0\0\0\0\0".as_slice(),
            b"\x02aB\0\0\x01\0\x01",
        ]
        .concat();
        readdress(&mut reply, &other);
        assert_eq!(id(&reply), Some(0x5678));
        assert_eq!(question(&reply), question(&other));
        assert_eq!(edns(&reply).unwrap().unwrap().size, 1232);
        assert_eq!(times(&reply).unwrap().lowest, 10);
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = (id(&bytes), question(&bytes), udp_limit(&bytes), same_question(&bytes, QUERY));
            let _ = bare(&bytes, NXDOMAIN, true);
            if let Some(times) = times(&bytes) {
                each_ttl(&mut bytes.clone(), &times.places, |ttl| ttl);
            }
            let mut bytes = bytes;
            readdress(&mut bytes, QUERY);
        }

        #[test]
        fn no_damage_to_a_good_message_makes_it_panic(at in 0usize..60, value: u8, cut in 0usize..80) {
            let mut reply = with(7, ANSWERED);
            let length = reply.len();
            reply[at % length] = value;
            reply.truncate(cut);
            let _ = (times(&reply), udp_limit(&reply), bare(&reply, REFUSED, false), same_question(&reply, QUERY));
            readdress(&mut reply, QUERY);
        }
    }
}
