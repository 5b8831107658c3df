//! Asks name servers outside on behalf of containers.
//!
//! Queries travel as they came, only the id is another, so that whatever EDNS says holds between the asker and the
//! server. An answer is believed when it comes from the server's address, to a port picked by the kernel for this one
//! query, with its random id and its question. Identical questions in flight are asked once. Sockets come from a
//! factory, since they belong to the host's network namespace and the caller's thread lives in another.

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
use crate::wire::{self, NXDOMAIN, SERVFAIL};
use cache::Cache;

/// How long one server is waited for.
const PATIENCE: Duration = Duration::from_secs(2);
/// Servers asked before giving up; a lone server is asked twice.
const ATTEMPTS: usize = 3;
/// How long a server that didn't answer is asked after the others.
const SULK: Duration = Duration::from_secs(30);
/// Questions in flight at once for all askers, each with a socket of its own.
const IN_FLIGHT: usize = 1024;
/// Questions in flight at once for one asker, so that one container can't take the resolver from the others.
const IN_FLIGHT_EACH: usize = 128;

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
    silent: HashMap<SocketAddr, Instant>,
}

/// A question that somebody is asking; `None` when nobody knew.
type Question = Arc<OnceCell<Option<Arc<[u8]>>>>;

/// Two queries with the same key get the same answer, but for the id.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    /// All of the query behind its id, EDNS included.
    query: Arc<[u8]>,
    servers: Arc<[SocketAddr]>,
    transport: Transport,
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

    /// The answer to `query`, which must be one that [`answer`](crate::answer()) said to forward.
    ///
    /// Servers are asked in order until one knows. Always answers within six seconds: SERVFAIL when none did, or when
    /// too many questions are in flight. The answer fits the asker's UDP size, or has the truncation bit set.
    pub async fn forward(
        &self,
        asker: IpAddr,
        query: &[u8],
        servers: &[SocketAddr],
        transport: Transport,
    ) -> Vec<u8> {
        let failed = || wire::bare(query, SERVFAIL, false);
        let (Some(id), Some(rest)) = (wire::id(query), query.get(2..)) else {
            return Vec::new();
        };
        if servers.is_empty() || wire::question(query).is_none() {
            return failed();
        }
        let key = Key {
            query: rest.into(),
            servers: servers.into(),
            transport,
        };
        let Some(seat) = Seat::take(self, asker) else {
            return failed();
        };
        let cell = {
            let mut state = self.state();
            if let Some(mut hit) = state.cache.lookup(&key, Instant::now()) {
                wire::set_id(&mut hit, id);
                return hit;
            }
            Arc::clone(state.under_way.entry(key.clone()).or_default())
        };
        // If this asker goes away, another that waits for the same takes the question over.
        let found = cell.get_or_init(|| self.ask(&key)).await.clone();
        {
            let mut state = self.state();
            if state
                .under_way
                .get(&key)
                .is_some_and(|current| Arc::ptr_eq(current, &cell))
            {
                state.under_way.remove(&key);
                if let Some(reply) = &found {
                    state.cache.insert(key, reply, Instant::now());
                }
            }
        }
        drop(seat);
        let Some(reply) = found else { return failed() };
        let mut reply = reply.to_vec();
        wire::set_id(&mut reply, id);
        reply
    }

    /// Asks one server after the other.
    async fn ask(&self, key: &Key) -> Option<Arc<[u8]>> {
        let query = [&[0, 0], &key.query[..]].concat();
        let mut poor = None;
        for server in self.order(&key.servers) {
            let asked = tokio::time::timeout(
                PATIENCE,
                exchange::ask(&self.sockets, server, &query, key.transport),
            );
            match asked.await {
                Ok(Ok(reply)) => {
                    self.state().silent.remove(&server);
                    if matches!(wire::rcode(&reply), 0 | NXDOMAIN) {
                        return Some(reply.into());
                    }
                    // It answers, but doesn't know; the next may.
                    poor.get_or_insert(reply);
                }
                Ok(Err(error)) => {
                    tracing::debug!(%server, %error, "a name server could not be asked");
                    self.sulk(server);
                }
                Err(_) => {
                    tracing::debug!(%server, "a name server did not answer");
                    self.sulk(server);
                }
            }
        }
        poor.map(Into::into)
    }

    /// The servers in the order to ask them: those that were silent lately last, and a lone one twice.
    fn order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut order = servers.to_vec();
        {
            let mut state = self.state();
            state.silent.retain(|_, since| now.duration_since(*since) < SULK);
            order.sort_by_key(|server| state.silent.contains_key(server));
        }
        if let [only] = order[..] {
            order.push(only);
        }
        order.truncate(ATTEMPTS);
        order
    }

    fn sulk(&self, server: SocketAddr) {
        self.state().silent.insert(server, Instant::now());
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The state is whole between any two statements, so a panic elsewhere is no reason to stop resolving.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
