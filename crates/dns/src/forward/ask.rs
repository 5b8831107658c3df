//! Which server is asked when.
//!
//! Servers are asked in order, those that were silent lately last. One that has not answered in a moment isn't given
//! up, but the next is asked as well; whoever knows first is right. So a dead server costs the first askers that moment
//! and the others nothing, and a lost datagram is no more than one sent again.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio::time::{Instant, sleep_until};

use super::{Forwarder, Key, exchange};
use crate::wire::{self, NXDOMAIN, SERVFAIL};

/// How long a server is waited for before the next is asked as well.
const MOMENT: Duration = Duration::from_millis(800);
/// How often a question is asked in all.
const ATTEMPTS: usize = 4;
/// How long a server that didn't answer is asked after the others.
const SULK: Duration = Duration::from_secs(30);

impl Forwarder {
    /// The best answer that can be had within `patience`; one of our own that says SERVFAIL when there is none.
    pub(super) async fn ask(&self, key: &Key, patience: Duration) -> Arc<[u8]> {
        let query: Arc<[u8]> = key.query().into();
        let start = Instant::now();
        let order = self.order(&key.servers);
        let mut attempts = order
            .iter()
            .cycle()
            .take(ATTEMPTS)
            .copied()
            .enumerate()
            .peekable();
        let mut next_at = start;
        // Dropped with this future, and with it whatever is still waited for.
        let mut asking: JoinSet<io::Result<Vec<u8>>> = JoinSet::new();
        let mut asked: Vec<(Id, SocketAddr)> = Vec::new();
        let mut knew_nothing: Vec<SocketAddr> = Vec::new();
        let mut poor: Option<Arc<[u8]>> = None;
        loop {
            // Whoever says that it doesn't know is not asked again.
            while attempts
                .next_if(|(_, server)| knew_nothing.contains(server))
                .is_some()
            {}
            if asking.is_empty() && attempts.peek().is_none() {
                break;
            }
            tokio::select! {
                Some(ended) = asking.join_next_with_id() => {
                    let (id, outcome) = match ended {
                        Ok((id, outcome)) => (id, outcome),
                        Err(error) => (error.id(), Err(io::Error::other("the task failed"))),
                    };
                    let Some(server) = asked.iter().find(|(known, _)| *known == id).map(|(_, server)| *server) else {
                        continue;
                    };
                    match outcome {
                        Ok(reply) => {
                            self.state().silent.remove(&server);
                            if matches!(wire::rcode(&reply), 0 | NXDOMAIN) {
                                return reply.into();
                            }
                            poor.get_or_insert_with(|| reply.into());
                            knew_nothing.push(server);
                        }
                        Err(error) => {
                            tracing::debug!(%server, %error, "a name server could not be asked");
                            self.sulk(server);
                        }
                    }
                    // In the first round the next comes at once; one that was asked before is given time to recover.
                    if attempts.peek().is_some_and(|(round, _)| *round < order.len()) {
                        next_at = Instant::now();
                    }
                }
                () = sleep_until(next_at), if attempts.peek().is_some() => {
                    for (_, silent) in &asked {
                        if !knew_nothing.contains(silent) {
                            self.sulk(*silent);
                        }
                    }
                    if let Some((_, server)) = attempts.next() {
                        let task = asking.spawn(exchange::ask(Arc::clone(&self.sockets), server, Arc::clone(&query)));
                        asked.push((task.id(), server));
                    }
                    next_at = Instant::now() + MOMENT;
                }
                () = sleep_until(start + patience) => {
                    tracing::debug!(servers = ?key.servers, "no name server answered");
                    break;
                }
            }
        }
        poor.unwrap_or_else(|| wire::bare(&query, SERVFAIL, false).into())
    }

    /// The servers in the order to ask them.
    pub(super) fn order(&self, servers: &[SocketAddr]) -> Vec<SocketAddr> {
        let now = Instant::now();
        let mut order = servers.to_vec();
        let mut state = self.state();
        state.silent.retain(|_, since| now.duration_since(*since) < SULK);
        order.sort_by_key(|server| state.silent.contains_key(server));
        order
    }

    fn sulk(&self, server: SocketAddr) {
        self.state().silent.insert(server, Instant::now());
    }
}
