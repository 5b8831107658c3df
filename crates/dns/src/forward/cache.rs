//! A small cache of answers from outside, no longer than their TTL says.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::time::Duration;

use tokio::time::Instant;

use super::Key;
use crate::wire;

/// Most answers kept; the oldest go first.
const ENTRIES: usize = 10_000;
/// Longest answer worth keeping, in bytes.
const LONGEST: usize = 1500;
/// Longest time an answer is kept, whatever its TTL.
const LONG: Duration = Duration::from_secs(60);

#[derive(Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys in the order they came, each once.
    order: VecDeque<Key>,
}

struct Entry {
    reply: Box<[u8]>,
    since: Instant,
    keep: Duration,
    ttls: Vec<Range<usize>>,
}

impl Cache {
    /// The answer with its TTLs run down by the time it lay here. Its id is whatever the server was sent.
    pub(super) fn lookup(&self, key: &Key, now: Instant) -> Option<Vec<u8>> {
        let entry = self.entries.get(key)?;
        let age = now.duration_since(entry.since);
        if age >= entry.keep {
            return None;
        }
        let mut reply = entry.reply.to_vec();
        wire::age(&mut reply, &entry.ttls, age.as_secs() as u32);
        Some(reply)
    }

    /// Keeps an answer that has records; failures and absences are asked for again.
    pub(super) fn insert(&mut self, key: Key, reply: &[u8], now: Instant) {
        let worth = wire::rcode(reply) == 0 && wire::answers(reply) > 0 && !wire::is_truncated(reply);
        if !worth || reply.len() > LONGEST {
            return;
        }
        let Some((lowest, ttls)) = wire::ttls(reply) else {
            return;
        };
        let keep = Duration::from_secs(lowest.into()).min(LONG);
        if keep.is_zero() {
            return;
        }
        let entry = Entry {
            reply: reply.into(),
            since: now,
            keep,
            ttls,
        };
        if self.entries.insert(key.clone(), entry).is_none() {
            self.order.push_back(key);
        }
        while self.order.len() > ENTRIES {
            if let Some(oldest) = self.order.pop_front() {
                self.entries.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Transport;

    fn key(name: u16) -> Key {
        Key {
            query: name.to_be_bytes().as_slice().into(),
            servers: [].into(),
            transport: Transport::Udp,
        }
    }

    fn reply(ttl: u8) -> Vec<u8> {
        let head = b"\0\0\x81\x80\0\x01\0\x01\0\0\0\0\x01a\x04test\0\0\x01\0\x01\xc0\x0c\0\x01\0\x01\0\0\0"
            .as_slice();
        [head, &[ttl], b"\0\x04\x01\x02\x03\x04"].concat()
    }

    #[test]
    fn an_answer_runs_down_and_is_gone_at_its_ttl() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.insert(key(1), &reply(30), now);
        let at = |seconds| now + Duration::from_secs(seconds);
        assert_eq!(wire::ttls(&cache.lookup(&key(1), at(10)).unwrap()).unwrap().0, 20);
        assert!(cache.lookup(&key(1), at(30)).is_none());
        assert!(cache.lookup(&key(2), at(0)).is_none());
    }

    #[test]
    fn a_long_ttl_is_kept_for_a_minute() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.insert(key(1), &reply(200), now);
        assert!(cache.lookup(&key(1), now + Duration::from_secs(59)).is_some());
        assert!(cache.lookup(&key(1), now + Duration::from_secs(60)).is_none());
    }

    #[test]
    fn a_zero_ttl_a_failure_and_a_truncated_answer_are_not_kept() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        cache.insert(key(1), &reply(0), now);
        for (at, bits) in [(2, 0x02), (3, 0x02)] {
            let mut bad = reply(30);
            bad[at] |= bits;
            cache.insert(key(1), &bad, now);
        }
        assert!(cache.lookup(&key(1), now).is_none());
    }

    #[test]
    fn the_oldest_go_when_it_is_full() {
        let (mut cache, now) = (Cache::default(), Instant::now());
        for name in 0..=ENTRIES as u16 {
            cache.insert(key(name), &reply(30), now);
        }
        assert!(cache.lookup(&key(0), now).is_none());
        assert!(cache.lookup(&key(1), now).is_some());
        assert_eq!((cache.entries.len(), cache.order.len()), (ENTRIES, ENTRIES));
    }
}
