//! What is kept, and for how long.

use super::*;

fn key(name: u32) -> Key {
    Key {
        question: name.to_be_bytes().as_slice().into(),
        flags: [1, 0],
        edns: None,
        servers: [].into(),
    }
}

fn reply(ttl: u16) -> Arc<[u8]> {
    let head =
        b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x04test\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0".as_slice();
    [head, &ttl.to_be_bytes(), b"\0\x04\x01\x02\x03\x04"]
        .concat()
        .into()
}

/// "No such name"; with an SOA that has this TTL and this minimum, or without one.
fn nothing(rcode: u8, soa: Option<(u8, u8)>) -> Arc<[u8]> {
    let mut reply = b"\0\0\x81\x80\0\x01\0\0\0\0\0\0\x01a\x04test\0\0\x01\0\x01".to_vec();
    reply[3] |= rcode;
    if let Some((ttl, minimum)) = soa {
        reply[9] = 1;
        reply.extend(b"\0\0\x06\0\x01\0\0\0");
        reply.push(ttl);
        reply.extend(b"\0\x16\0\0\0\0\0\x01\0\0\x10\0\0\0\x10\0\0\0\x10\0\0\0\0");
        reply.push(minimum);
    }
    reply.into()
}

fn after(now: Instant, seconds: u64) -> Instant {
    now + Duration::from_secs(seconds)
}

/// The TTL that is told, and whether servers should be asked.
fn look(cache: &mut Cache, name: u32, now: Instant) -> Option<(u32, bool)> {
    let (kept, ask) = match cache.lookup(&key(name), now)? {
        Kept::Good(kept) => (kept, false),
        Kept::Old(kept) => (kept, true),
    };
    Some((wire::times(&kept.renewed()).unwrap().lowest, ask))
}

#[test]
fn an_answer_runs_down_and_is_old_at_its_ttl() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    cache.insert(&key(1), &reply(30), now);
    assert_eq!(look(&mut cache, 1, after(now, 10)), Some((20, false)));
    assert_eq!(look(&mut cache, 1, after(now, 30)), Some((30, true)));
    assert_eq!(look(&mut cache, 2, now), None);
}

#[test]
fn a_long_ttl_is_kept_for_five_minutes() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    cache.insert(&key(1), &reply(7200), now);
    assert_eq!(look(&mut cache, 1, after(now, 299)), Some((6901, false)));
    assert!(look(&mut cache, 1, after(now, 300)).unwrap().1);
}

#[test]
fn an_old_answer_is_given_without_asking_for_half_a_minute_after_servers_failed_and_for_a_day_in_all() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    cache.insert(&key(1), &reply(10), now);
    let servfail = nothing(wire::SERVFAIL, None);
    cache.insert(&key(1), &servfail, after(now, 20));
    assert_eq!(look(&mut cache, 1, after(now, 49)), Some((30, false)));
    assert_eq!(look(&mut cache, 1, after(now, 50)), Some((30, true)));
    assert!(look(&mut cache, 1, after(now, 86_409)).is_some());
    assert_eq!(look(&mut cache, 1, after(now, 86_410)), None);
    cache.insert(&key(1), &reply(5), after(now, 60));
    assert_eq!(
        look(&mut cache, 1, after(now, 61)),
        Some((4, false)),
        "a new one replaces it"
    );
}

#[test]
fn that_there_is_nothing_is_kept_as_the_soa_says_and_a_minute_at_most() {
    for rcode in [0, NXDOMAIN] {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.insert(&key(1), &nothing(rcode, Some((20, 9))), now);
        assert!(!look(&mut cache, 1, after(now, 8)).unwrap().1);
        assert!(look(&mut cache, 1, after(now, 9)).unwrap().1);
        cache.insert(&key(2), &nothing(rcode, Some((200, 100))), now);
        assert!(!look(&mut cache, 2, after(now, 59)).unwrap().1);
        assert!(look(&mut cache, 2, after(now, 60)).unwrap().1);
        cache.insert(&key(3), &nothing(rcode, None), now);
        assert_eq!(look(&mut cache, 3, now), None, "nobody said how long");
    }
}

#[test]
fn a_failure_is_kept_for_a_second() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    cache.insert(&key(1), &nothing(wire::SERVFAIL, None), now);
    assert!(cache.lookup(&key(1), now + Duration::from_millis(999)).is_some());
    assert!(cache.lookup(&key(1), after(now, 1)).is_none());
    cache.insert(&key(1), &reply(30), now);
    assert_eq!(look(&mut cache, 1, now), Some((30, false)));
}

#[test]
fn a_zero_ttl_a_cut_answer_and_a_giant_are_not_kept() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    cache.insert(&key(1), &reply(0), now);
    let mut cut = reply(30).to_vec();
    cut[2] |= 0x02;
    cache.insert(&key(1), &cut.into(), now);
    let mut giant = reply(30).to_vec();
    giant.resize(LONGEST + 1, 0);
    cache.insert(&key(1), &giant.into(), now);
    assert!(cache.lookup(&key(1), now).is_none());
    assert_eq!((cache.bytes, cache.order.len()), (0, 0));
}

#[test]
fn it_never_outgrows_its_room_and_those_that_are_asked_for_stay() {
    let (mut cache, now) = (Cache::default(), Instant::now());
    let mut long = reply(30).to_vec();
    long.resize(8 << 10, 0);
    let long: Arc<[u8]> = long.into();
    let count = 3 * ROOM as u32 / long.len() as u32;
    for name in 0..count {
        cache.insert(&key(name), &long, now);
        cache.insert(&key(name), &long, now);
        assert!(cache.bytes <= ROOM);
        assert!(look(&mut cache, 0, now).is_some(), "asked for all the time");
    }
    assert!(look(&mut cache, 1, now).is_none() && look(&mut cache, count - 1, now).is_some());
    assert_eq!(cache.entries.len(), cache.order.len());
    let sum: usize = cache.entries.iter().map(|(key, entry)| size(key, entry)).sum();
    assert_eq!(sum, cache.bytes);
}
