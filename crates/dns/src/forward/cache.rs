//! A small cache of answers from outside, no longer than their TTL says; longer when nobody answers any more.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::Key;
use crate::wire::{self, NXDOMAIN};

/// Most bytes kept.
const ROOM: usize = 16 << 20;
/// Longest answer worth keeping, in bytes.
const LONGEST: usize = 16 << 10;
/// Bytes that an entry takes besides its answer, its question and its list of servers.
const OVERHEAD: usize = 400;
/// Longest time that an answer is given without asking again, whatever its TTL. The host's servers are near and keep
/// answers themselves. There is no shortest: 0 means that an answer is for those who asked for it and nobody else.
const LONG: Duration = Duration::from_secs(300);
/// The same for "there is no such thing", which people are about to change more often than not.
const LONG_NEGATIVE: Duration = Duration::from_secs(60);
/// How long a failure is given without asking again (RFC 9520, section 3.2).
const FAILED: Duration = Duration::from_secs(1);
/// How long an answer that has run out is still good when no server knows (RFC 8767, section 4).
const STALE: Duration = Duration::from_secs(86_400);
/// TTL of such an answer, and how long it is given before servers are asked again (RFC 8767, section 5).
const STALE_TTL: u32 = 30;

#[derive(Default)]
pub(super) struct Cache {
    entries: HashMap<Key, Entry>,
    /// Keys in the order they came, each once.
    order: VecDeque<Key>,
    bytes: usize,
}

struct Entry {
    reply: Arc<[u8]>,
    places: Arc<[usize]>,
    since: Instant,
    keep: Duration,
    /// No server knew lately: not asked again until then.
    rest: Option<Instant>,
    /// Since it was last about to be thrown out.
    used: bool,
}

/// What is kept on a question.
pub(super) enum Kept {
    /// To be given as it is.
    Good(Answer),
    /// It has run out.
    Old(Answer),
}

/// A kept answer. Cheap to take, so that the others don't wait for it to be written.
pub(super) struct Answer {
    reply: Arc<[u8]>,
    places: Arc<[usize]>,
    /// Seconds that it lay here; `None` when it has run out.
    age: Option<u32>,
}

impl Answer {
    /// The answer with its TTLs run down by the time it lay here, still with another's id.
    pub(super) fn renewed(&self) -> Vec<u8> {
        let mut reply = self.reply.to_vec();
        wire::each_ttl(&mut reply, &self.places, |ttl| match self.age {
            Some(age) => ttl.saturating_sub(age),
            None => STALE_TTL,
        });
        reply
    }
}

impl Cache {
    pub(super) fn lookup(&mut self, key: &Key, now: Instant) -> Option<Kept> {
        let entry = self.entries.get_mut(key)?;
        let age = now.duration_since(entry.since);
        let answer = |age| Answer {
            reply: Arc::clone(&entry.reply),
            places: Arc::clone(&entry.places),
            age,
        };
        let kept = if age < entry.keep {
            Kept::Good(answer(Some(age.as_secs() as u32)))
        } else if age >= entry.keep + STALE || !is_good(&entry.reply) {
            return None;
        } else if entry.rest.is_some_and(|until| now < until) {
            Kept::Good(answer(None))
        } else {
            Kept::Old(answer(None))
        };
        entry.used = true;
        Some(kept)
    }

    /// Keeps an answer, if it may be kept. One that is good is not replaced by a failure.
    pub(super) fn insert(&mut self, key: &Key, reply: &Arc<[u8]>, now: Instant) {
        let good = is_good(reply);
        if let Some(entry) = self.entries.get_mut(key)
            && !good
            && is_good(&entry.reply)
            && now.duration_since(entry.since) < entry.keep + STALE
        {
            entry.rest = Some(now + Duration::from_secs(STALE_TTL.into()));
            return;
        }
        if reply.len() > LONGEST || wire::is_truncated(reply) {
            return;
        }
        let Some(times) = wire::times(reply) else { return };
        let lowest = Duration::from_secs(times.lowest.into());
        let nothing = wire::rcode(reply) == NXDOMAIN || wire::answers(reply) == 0;
        let keep = match (good, times.has_soa) {
            (false, _) => FAILED,
            (true, true) => lowest.min(LONG_NEGATIVE),
            // Without an SOA nobody says how long there is nothing.
            (true, false) if nothing => return,
            (true, false) => lowest.min(LONG),
        };
        if keep.is_zero() {
            return;
        }
        let entry = Entry {
            reply: Arc::clone(reply),
            places: times.places.into(),
            since: now,
            keep,
            rest: None,
            used: false,
        };
        self.bytes += size(key, &entry);
        match self.entries.insert(key.clone(), entry) {
            Some(former) => self.bytes -= size(key, &former),
            None => self.order.push_back(key.clone()),
        }
        self.make_room();
    }

    /// The oldest go first; one that was asked for since gets another turn.
    fn make_room(&mut self) {
        while self.bytes > ROOM {
            let Some(key) = self.order.pop_front() else { return };
            match self.entries.get_mut(&key) {
                Some(entry) if entry.used => {
                    entry.used = false;
                    self.order.push_back(key);
                }
                _ => {
                    if let Some(entry) = self.entries.remove(&key) {
                        self.bytes -= size(&key, &entry);
                    }
                }
            }
        }
    }
}

/// Is it an answer, and not the excuse of a server that can't give one?
fn is_good(reply: &[u8]) -> bool {
    matches!(wire::rcode(reply), 0 | NXDOMAIN)
}

fn size(key: &Key, entry: &Entry) -> usize {
    // The key is there twice, but what it points to once.
    OVERHEAD
        + key.question.len()
        + size_of_val(&*key.servers)
        + entry.reply.len()
        + size_of_val(&*entry.places)
}

#[cfg(test)]
mod tests;
