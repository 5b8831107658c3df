//! How often a client may ask: GCRA, the generic cell rate algorithm (ITU-T I.371), on a table that all workers share.
//!
//! For each client there is one number: the time at which it would be even, had its requests come evenly spread. A request
//! moves it by one interval; one that would move it too far into the future is turned away. The table has a fixed size and
//! no locks. A slot holds that time and a few bits of the client's keyed hash; where all slots of a hash are taken, the one
//! that is nearest to being even is given away, and who had it begins anew.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderName};
use linkspan_site::{RateKey, RateLimit};

/// Slots that one hash may use.
const WAYS: usize = 8;
/// Times as many slots for the clients of one route: 256 KiB.
const SETS: usize = 4096;
/// Bits of a slot that hold the time; those above it hold a part of the hash.
const TIME_BITS: u32 = 44;
const TIME: u64 = (1 << TIME_BITS) - 1;
/// Units of time in a second; with 44 bits that is five years.
const SECOND: u64 = 100_000;
/// Tries against others who change the same slot at the same moment.
const TRIES: usize = 64;

/// The limit of a route, and where its clients stand.
#[derive(Debug)]
pub(crate) struct Limiter {
    rule: RateLimit,
    interval: u64,
    tolerance: u64,
    header: Option<HeaderName>,
    begun: Instant,
    hasher: RandomState,
    slots: Box<[AtomicU64]>,
}

impl Limiter {
    pub(crate) fn new(rule: &RateLimit, now: Instant) -> Self {
        let interval = (u64::from(rule.period) * SECOND / u64::from(rule.count.max(1))).max(1);
        let sets = if rule.by == RateKey::Route { 1 } else { SETS };
        let header = match &rule.by {
            RateKey::Header(name) => HeaderName::try_from(name).ok(),
            RateKey::Address | RateKey::Route => None,
        };
        Self {
            rule: rule.clone(),
            interval,
            tolerance: interval * u64::from(rule.burst.saturating_sub(1)),
            header,
            begun: now,
            hasher: RandomState::new(),
            slots: (0..sets * WAYS).map(|_| AtomicU64::new(0)).collect(),
        }
    }

    /// Is it this limit? Then its clients stand where they stood.
    pub(crate) fn is(&self, rule: &RateLimit) -> bool {
        self.rule == *rule
    }

    /// Takes one request in, or says after what time the next one has a chance.
    pub(crate) fn take(&self, client: IpAddr, headers: &HeaderMap, now: Instant) -> Result<(), Duration> {
        let given = self.header.as_ref().and_then(|name| headers.get(name));
        let hash = match (&self.rule.by, given) {
            (RateKey::Route, _) => 0,
            (_, Some(value)) => self.hasher.hash_one(value.as_bytes()),
            (_, None) => self.hasher.hash_one(network(client)),
        };
        let elapsed = now.saturating_duration_since(self.begun);
        // Begins at 1: an empty slot is 0.
        let now =
            (u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX) / (1_000_000 / SECOND)).saturating_add(1);
        self.move_on(hash, now.min(TIME / 2))
            .map_err(|units| Duration::from_micros(units * (1_000_000 / SECOND)))
    }

    fn move_on(&self, hash: u64, now: u64) -> Result<(), u64> {
        let sets = self.slots.len() / WAYS;
        let set = (hash % sets as u64) as usize * WAYS;
        // Never 0, so that no client has an empty slot's.
        let tag = (hash >> TIME_BITS).max(1) << TIME_BITS;
        let slots = &self.slots[set..set + WAYS];
        for _ in 0..TRIES {
            let mut place = 0;
            let mut held = u64::MAX;
            for (index, slot) in slots.iter().enumerate() {
                let value = slot.load(Ordering::Relaxed);
                if value & !TIME == tag {
                    (place, held) = (index, value);
                    break;
                }
                if value & TIME < held & TIME || held == u64::MAX {
                    (place, held) = (index, value);
                }
            }
            let even = if held & !TIME == tag { held & TIME } else { 0 };
            let even = even.max(now);
            if even - now > self.tolerance {
                return Err(even - now - self.tolerance);
            }
            let next = tag | (even + self.interval).min(TIME);
            if slots[place]
                .compare_exchange_weak(held, next, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
            {
                return Ok(());
            }
        }
        // So many at the same moment are more than any limit lets in.
        Err(self.interval)
    }
}

/// What one subscriber has: an address of IPv4, a network of 64 bits of IPv6.
fn network(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u64::from(u32::from(address)),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64 | 1 << 63,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limiter(count: u32, burst: u32, by: RateKey) -> (Limiter, Instant) {
        let now = Instant::now();
        let rule = RateLimit {
            count,
            period: 1,
            burst,
            by,
        };
        (Limiter::new(&rule, now), now)
    }

    fn client(n: u32) -> IpAddr {
        IpAddr::V4(n.into())
    }

    #[test]
    fn a_burst_and_then_evenly_spread() {
        let (limiter, begun) = limiter(10, 3, RateKey::Address);
        let ask = |client, millis| {
            let now = begun + Duration::from_millis(millis);
            limiter.take(client, &HeaderMap::new(), now)
        };
        for _ in 0..3 {
            assert_eq!(ask(client(1), 0), Ok(()));
        }
        assert_eq!(ask(client(1), 0), Err(Duration::from_millis(100)));
        assert_eq!(
            ask(client(1), 60),
            Err(Duration::from_millis(40)),
            "being refused costs nothing"
        );
        assert_eq!(ask(client(2), 60), Ok(()), "others have their own");
        assert_eq!(ask(client(1), 100), Ok(()));
        assert!(ask(client(1), 150).is_err());
        for _ in 0..3 {
            assert_eq!(ask(client(1), 10_000), Ok(()), "no more than the burst is earned");
        }
        assert!(ask(client(1), 10_000).is_err());
    }

    #[test]
    fn who_shares_an_allowance() {
        let ask = |limiter: &Limiter, now, client: &str, key: Option<&str>| {
            let mut headers = HeaderMap::new();
            if let Some(key) = key {
                headers.insert("x-key", key.parse().unwrap());
            }
            limiter.take(client.parse().unwrap(), &headers, now).is_ok()
        };
        let (one, now) = limiter(1, 1, RateKey::Address);
        assert!(ask(&one, now, "2001:db8::1", None) && !ask(&one, now, "2001:db8::2", None));
        assert!(ask(&one, now, "2001:db8:0:1::1", None));
        assert!(ask(&one, now, "192.0.2.1", None) && !ask(&one, now, "::ffff:192.0.2.1", None));
        let (one, now) = limiter(1, 1, RateKey::Header("x-key".into()));
        assert!(ask(&one, now, "192.0.2.1", Some("a")) && !ask(&one, now, "192.0.2.2", Some("a")));
        assert!(ask(&one, now, "192.0.2.1", Some("b")) && ask(&one, now, "192.0.2.1", None));
        assert!(!ask(&one, now, "192.0.2.1", None));
        let (one, now) = limiter(1, 1, RateKey::Route);
        assert!(ask(&one, now, "192.0.2.1", None) && !ask(&one, now, "192.0.2.2", None));
    }

    #[test]
    fn the_table_is_bounded_and_a_crowd_does_not_free_who_asks_too_often() {
        let (limiter, now) = limiter(1, 100, RateKey::Address);
        let slots = limiter.slots.len();
        // Far more in debt than anybody else.
        let noisy = client(7);
        while limiter.take(noisy, &HeaderMap::new(), now).is_ok() {}
        for n in 0..100_000 {
            limiter.take(client(1000 + n), &HeaderMap::new(), now).ok();
        }
        assert_eq!(limiter.slots.len(), slots);
        assert!(limiter.take(noisy, &HeaderMap::new(), now).is_err());
    }

    #[test]
    fn threads_together_let_no_more_in_than_one_would() {
        let (limiter, now) = limiter(1, 500, RateKey::Route);
        let admitted: usize = std::thread::scope(|scope| {
            let ask = || {
                (0..400)
                    .filter(|_| limiter.take(client(1), &HeaderMap::new(), now).is_ok())
                    .count()
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(ask)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert!((1..=500).contains(&admitted), "{admitted}");
    }
}
