//! Asks name servers outside on behalf of containers.
//!
//! What is asked is a query of our own: question, the few flags that matter and whether EDNS is spoken, no options. So
//! whoever asks the same shares one answer, and that answer is then fitted to each: id, spelling of the name, size. It
//! is believed when it comes from the server's address, to a port picked by the kernel for this one query, with its
//! random id and its question. Answers are kept by question *and* servers: what the servers of one container say is
//! told to those who ask the same servers only. When no server knows, an answer that has run out is better than none
//! (RFC 8767). Sockets come from a factory, since they belong to the host's network namespace and the caller's thread
//! lives in another.

mod ask;
mod cache;
mod exchange;

use std::collections::HashMap;
use std::fmt;
use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::Transport;
use crate::answer::limit;
use crate::wire::{self, NXDOMAIN, SERVFAIL};
use cache::{Cache, Kept};

/// How long a question may take. Less than the five seconds after which askers give up or ask again.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long when there is an answer that has run out (RFC 8767, section 5).
const PATIENCE_STALE: Duration = Duration::from_millis(1800);
/// Questions in flight at once for all askers, each with a few sockets of its own.
const IN_FLIGHT: usize = 1024;
/// Questions in flight at once for one asker, so that one container can't take the resolver from the others.
const IN_FLIGHT_EACH: usize = 128;
/// A loop is told in the log once in so long.
const LOOP_TOLD: Duration = Duration::from_secs(60);

/// The socket that is needed: not connected, not bound, non-blocking, close-on-exec.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketNeed {
    /// A datagram socket for servers of this family.
    Udp {
        /// `AF_INET6` instead of `AF_INET`.
        v6: bool,
    },
    /// A stream socket for servers of this family.
    Tcp {
        /// `AF_INET6` instead of `AF_INET`.
        v6: bool,
    },
}

/// A socket to come.
pub type SocketFuture = Pin<Box<dyn Future<Output = io::Result<OwnedFd>> + Send>>;
/// Makes sockets in the namespace that name servers are reached from.
pub type SocketFactory = Arc<dyn Fn(SocketNeed) -> SocketFuture + Send + Sync>;

/// Forwards queries. One for all threads; a thread may wait for a question that another has under way.
pub struct Forwarder {
    sockets: SocketFactory,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    cache: Cache,
    under_way: HashMap<Key, Question>,
    by_asker: HashMap<IpAddr, usize>,
    waiting: usize,
    /// Servers that kept silent, and when.
    silent: HashMap<SocketAddr, Instant>,
    loop_told: Option<Instant>,
}

/// A question that somebody is asking.
type Question = Arc<OnceCell<Arc<[u8]>>>;

/// Two queries with the same key get the same answer, fitted to each.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Key {
    /// Name in lower case, type and class.
    question: Arc<[u8]>,
    /// "Recursion desired"; "authentic data" and "checking disabled".
    flags: [u8; 2],
    /// Does the asker speak EDNS, and want signatures? Not asked for those who don't: old servers choke on it, and
    /// whoever asks with it knows how to go on without.
    edns: Option<bool>,
    servers: Arc<[SocketAddr]>,
}

// === impl Key ===

impl Key {
    /// `None` for what can't be asked.
    fn new(query: &[u8], servers: &[SocketAddr]) -> Option<Self> {
        let (name, kind) = wire::question(query)?.split_last_chunk::<4>()?;
        let flags = [query.get(2)? & 0x01, query.get(3)? & 0x30];
        Some(Self {
            question: [&name.to_ascii_lowercase(), &kind[..]].concat().into(),
            flags,
            edns: wire::edns(query).ok()?.map(|opt| opt.dnssec),
            servers: servers.into(),
        })
    }

    /// The query that servers are sent, its id still 0.
    fn query(&self) -> Vec<u8> {
        wire::query(self.flags, &self.question, self.edns)
    }
}

// === impl Forwarder ===

impl Forwarder {
    /// A forwarder with an empty cache.
    pub fn new(sockets: SocketFactory) -> Self {
        Self {
            sockets,
            state: Mutex::default(),
        }
    }

    /// The answer to `query`, if it is known without asking anybody.
    pub fn recall(&self, query: &[u8], servers: &[SocketAddr], transport: Transport) -> Option<Vec<u8>> {
        let key = Key::new(query, servers)?;
        match self.state().cache.lookup(&key, Instant::now())? {
            Kept::Good(reply) => Some(reply),
            Kept::Old(_) => None,
        }
        .map(|reply| fit(reply.renewed(), query, transport))
    }

    /// The answer to `query`, which must be one that [`answer`](crate::answer()) said to forward.
    ///
    /// Always answers within four seconds: SERVFAIL when no server did, when too many questions are in flight, or when
    /// the asker is one of the servers and asks what it was just asked. The answer fits the asker's UDP size, or has
    /// the truncation bit set.
    pub async fn forward(
        &self,
        asker: IpAddr,
        query: &[u8],
        servers: &[SocketAddr],
        transport: Transport,
    ) -> Vec<u8> {
        let failed = || wire::bare(query, SERVFAIL, false);
        let Some(key) = Key::new(query, servers).filter(|_| !servers.is_empty()) else {
            return failed();
        };
        let Some(_seat) = Seat::take(self, asker) else {
            return failed();
        };
        let (cell, old) = {
            let mut state = self.state();
            let old = match state.cache.lookup(&key, Instant::now()) {
                Some(Kept::Good(reply)) => {
                    drop(state);
                    return fit(reply.renewed(), query, transport);
                }
                Some(Kept::Old(reply)) => Some(reply),
                None => None,
            };
            if state.under_way.contains_key(&key) && servers.iter().any(|server| server.ip() == asker) {
                state.tell_loop(asker);
                return failed();
            }
            (Arc::clone(state.under_way.entry(key.clone()).or_default()), old)
        };
        let patience = if old.is_some() { PATIENCE_STALE } else { PATIENCE };
        // If this asker goes away, another that waits for the same takes the question over.
        let reply = Arc::clone(cell.get_or_init(|| self.ask(&key, patience)).await);
        let knows = matches!(wire::rcode(&reply), 0 | NXDOMAIN);
        {
            let mut state = self.state();
            if state
                .under_way
                .get(&key)
                .is_some_and(|current| Arc::ptr_eq(current, &cell))
            {
                state.under_way.remove(&key);
                state.cache.insert(&key, &reply, Instant::now());
            }
        }
        match old {
            Some(old) if !knows => fit(old.renewed(), query, transport),
            _ => fit(reply.to_vec(), query, transport),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements, so a panic elsewhere is no reason to stop resolving.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tell_loop(&mut self, asker: IpAddr) {
        let now = Instant::now();
        if self
            .loop_told
            .is_none_or(|told| now.duration_since(told) >= LOOP_TOLD)
        {
            self.loop_told = Some(now);
            tracing::warn!(
                server = %asker,
                "a name server asks back what it is asked: it forwards to the containers' resolver, which forwards to it"
            );
        }
    }
}

/// Makes a server's answer, or a kept one, the answer to this query.
fn fit(mut reply: Vec<u8>, query: &[u8], transport: Transport) -> Vec<u8> {
    if reply.len() > limit(query, transport) {
        return wire::bare(query, wire::rcode(&reply), true);
    }
    wire::readdress(&mut reply, query);
    reply
}

impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Forwarder")
            .field("waiting", &state.waiting)
            .field("silent", &state.silent)
            .finish_non_exhaustive()
    }
}

// === impl Seat ===

/// One question in flight; given back on drop, also when the asker has gone.
struct Seat<'a> {
    forwarder: &'a Forwarder,
    asker: IpAddr,
}

impl<'a> Seat<'a> {
    fn take(forwarder: &'a Forwarder, asker: IpAddr) -> Option<Self> {
        let mut state = forwarder.state();
        if state.waiting >= IN_FLIGHT
            || state
                .by_asker
                .get(&asker)
                .is_some_and(|count| *count >= IN_FLIGHT_EACH)
        {
            return None;
        }
        state.waiting += 1;
        *state.by_asker.entry(asker).or_default() += 1;
        Some(Self { forwarder, asker })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut state = self.forwarder.state();
        state.waiting = state.waiting.saturating_sub(1);
        if let Some(count) = state.by_asker.get_mut(&self.asker) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                state.by_asker.remove(&self.asker);
            }
        }
        if state.waiting == 0 {
            // Questions whose last asker left before the answer have nobody who removes them.
            state.under_way.clear();
        }
    }
}

#[cfg(test)]
mod tests;
