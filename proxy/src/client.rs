//! One client connection: who, over what, and for how long it has been doing nothing.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{HeaderMap, HeaderValue, Version};

use crate::middleware::forwarded::Origin;
use crate::shared::Shared;
use crate::tls::resolver::Identity;
use crate::worker::Worker;

/// What all requests of a connection have in common.
pub(crate) struct Client {
    pub(crate) worker: Rc<Worker>,
    pub(crate) peer: SocketAddr,
    /// Absent on a plain connection.
    pub(crate) tls: Option<Tls>,
    pub(crate) clock: Rc<Clock>,
    /// The peer's address as text, which every line of the access log has.
    address: String,
    origin: RefCell<Option<Origin>>,
    /// Counted for as long as anything of the connection lives, tunnels included.
    _open: Open,
}

/// A connection among those counted.
pub(crate) struct Open {
    shared: Arc<Shared>,
    address: IpAddr,
}

impl Open {
    /// `None` when this address has `most` already.
    pub(crate) fn count(shared: &Arc<Shared>, address: IpAddr, most: u32) -> Option<Self> {
        shared.crowd.enter(address, most).then(|| {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            Self {
                shared: Arc::clone(shared),
                address,
            }
        })
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.shared.connections.fetch_sub(1, Ordering::Relaxed);
        self.shared.crowd.leave(self.address);
    }
}

/// What was agreed on in the handshake.
pub(crate) struct Tls {
    pub(crate) server_name: Option<String>,
    pub(crate) identity: Arc<Identity>,
}

impl Client {
    pub(crate) fn new(worker: Rc<Worker>, open: Open, peer: SocketAddr, tls: Option<Tls>) -> Self {
        Self {
            worker,
            peer,
            address: peer.ip().to_canonical().to_string(),
            tls,
            clock: Rc::new(Clock::new()),
            origin: RefCell::new(None),
            _open: open,
        }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    pub(crate) fn https(&self) -> bool {
        self.tls.is_some()
    }

    /// May a request for this host come over this connection? Browsers share one between all names of a certificate
    /// (RFC 9113 §9.1.1), so that is what counts, not the name in the handshake alone.
    pub(crate) fn may_ask_for(&self, host: &str) -> bool {
        self.tls
            .as_ref()
            .is_none_or(|tls| tls.server_name.as_deref() == Some(host) || tls.identity.covers(host))
    }

    /// Writes the origin fields for a host; the same as for the request before, as a rule.
    pub(crate) fn write_origin(&self, host: &HeaderValue, headers: &mut HeaderMap, version: Version) {
        let mut known = self.origin.borrow_mut();
        let origin = match known.take() {
            Some(origin) if origin.is_for(host) => origin,
            _ => Origin::new(host, self.peer.ip(), self.https()),
        };
        known.insert(origin).write(headers, version);
    }
}

/// Says whether a connection has a request under way, is sending a head, or idles.
#[derive(Debug)]
pub(crate) struct Clock {
    begun: Instant,
    under_way: Cell<u32>,
    /// Milliseconds after `begun` at which the head began or the last request ended.
    since: Cell<u64>,
    head: Cell<u32>,
    /// Milliseconds after `begun`, plus one, at which the client stopped taking bytes; 0 while it takes them.
    blocked: Cell<u64>,
}

/// What the clock says at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again then.
    Until(Instant),
    /// Nobody has asked for anything for too long.
    Idle,
    /// A request head takes too long.
    SlowHead,
    /// The client has not taken a byte for too long.
    Stalled,
}

impl Clock {
    fn new() -> Self {
        Self {
            begun: Instant::now(),
            under_way: Cell::new(0),
            since: Cell::new(0),
            // A connection begins with a head: who connects has something to ask.
            head: Cell::new(1),
            blocked: Cell::new(0),
        }
    }

    fn millis(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn mark(&self) {
        self.since.set(self.millis());
    }

    /// A write found the client's socket full, or went through.
    pub(crate) fn wrote(&self, blocked: bool) {
        if !blocked {
            self.blocked.set(0);
        } else if self.blocked.get() == 0 {
            self.blocked.set(self.millis() + 1);
        }
    }

    /// A request came in whole.
    pub(crate) fn begin(&self) {
        self.under_way.set(self.under_way.get() + 1);
        self.head.set(0);
    }

    /// A request and its answer are done.
    pub(crate) fn end(&self) {
        self.under_way.set(self.under_way.get().saturating_sub(1));
        if self.under_way.get() == 0 {
            self.mark();
        }
    }

    /// Bytes came in. Between requests of HTTP/1 they are the begin of a head.
    pub(crate) fn read(&self) {
        if self.under_way.get() == 0 && self.head.replace(1) == 0 {
            self.mark();
        }
    }

    /// How is it going?
    pub(crate) fn check(&self, now: Instant, head: Duration, idle: Duration) -> Verdict {
        let blocked = self.blocked.get();
        if blocked > 0 && now >= self.begun + Duration::from_millis(blocked) + idle {
            return Verdict::Stalled;
        }
        if self.under_way.get() > 0 {
            return Verdict::Until(now + head.min(idle));
        }
        let since = self.begun + Duration::from_millis(self.since.get());
        let (limit, verdict) = match self.head.get() {
            0 => (idle, Verdict::Idle),
            _ => (head, Verdict::SlowHead),
        };
        // The shorter limit may begin to run at any moment, so it sets how often to look.
        if now >= since + limit {
            verdict
        } else {
            Verdict::Until((since + limit).min(now + head.min(idle)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_head_and_an_idle_connection_are_told_apart() {
        let clock = Clock::new();
        let (head, idle) = (Duration::from_secs(1), Duration::from_secs(10));
        let after = |seconds| clock.begun + Duration::from_secs(seconds);
        assert!(matches!(clock.check(after(0), head, idle), Verdict::Until(_)));
        assert_eq!(clock.check(after(2), head, idle), Verdict::SlowHead);
        clock.begin();
        assert!(matches!(clock.check(after(100), head, idle), Verdict::Until(_)));
        clock.end();
        assert!(matches!(clock.check(after(5), head, idle), Verdict::Until(_)));
        assert_eq!(clock.check(after(11), head, idle), Verdict::Idle);
        clock.read();
        assert_eq!(clock.check(after(2), head, idle), Verdict::SlowHead);
    }
}
