//! UDP ports: a flow for every client, with a socket of its own towards the endpoint.
//!
//! A flow stays with its endpoint as long as the snapshot has it at the same address. When it has gone, the client's
//! next datagram opens a new flow to one that is there, and the client notices nothing. No error of one flow, ICMP's
//! included, ends it or touches another.

mod outside;

use std::collections::HashMap;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, send};
use tokio::net::UdpSocket;
use tokio::task::{AbortHandle, JoinSet, yield_now};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::{Backend, Pick, Port};
use outside::{Client, Outside};

/// Largest datagram there is.
const DATAGRAM: usize = 65_535;
/// How long answers under way are still passed on after `stop`. The socket stays bound so long, hence not longer.
const LINGER: Duration = Duration::from_millis(300);
/// Rest after the socket failed, so that the loop doesn't spin.
const REST: Duration = Duration::from_millis(50);

impl Port {
    /// Serves until `stop`; then only answers under way are passed on, for a moment.
    pub(crate) async fn serve_udp(self, socket: UdpSocket, stop: CancellationToken) {
        let address = self.socket.address;
        let outside = match Outside::new(socket) {
            Ok(outside) => outside,
            Err(error) => {
                tracing::error!(%address, %error, "this port can't be served");
                return;
            }
        };
        let mut flows = Flows::new(self, outside);
        let mut buffer = vec![0; DATAGRAM];
        loop {
            let sweep = flows.idle() / 4;
            tokio::select! {
                () = stop.cancelled() => break,
                received = flows.outside.receive(&mut buffer) => match received {
                    Ok((length, client)) => flows.forward(client, &buffer[..length]).await,
                    Err(error) => {
                        tracing::debug!(%address, %error, "reading a datagram failed");
                        sleep(REST).await;
                    }
                },
                () = flows.until_sweep(sweep) => flows.forget_idle(),
            }
        }
        if !flows.open.is_empty() {
            sleep(LINGER).await;
        }
    }
}

struct Flows {
    port: Port,
    outside: Arc<Outside>,
    open: HashMap<Client, Flow>,
    /// To endpoints that have left: nothing is sent any more, but until the next sweep answers under way still come.
    left: Vec<Flow>,
    /// One task a flow, which brings the answers back.
    answers: JoinSet<()>,
    clock: Clock,
    swept: Instant,
    turn: usize,
}

struct Flow {
    inside: Arc<UdpSocket>,
    backend: Backend,
    /// The snapshot in which the backend was last seen.
    checked: u64,
    used: Arc<AtomicU64>,
    task: AbortHandle,
}

/// Milliseconds since the port was opened, small enough for an atomic.
#[derive(Clone, Copy)]
struct Clock(Instant);

impl Clock {
    fn now(self) -> u64 {
        self.0.elapsed().as_millis() as u64
    }
}

// === impl Flows ===

impl Flows {
    fn new(port: Port, outside: Outside) -> Self {
        let now = Instant::now();
        Self {
            port,
            outside: Arc::new(outside),
            open: HashMap::new(),
            left: Vec::new(),
            answers: JoinSet::new(),
            clock: Clock(now),
            swept: now,
            turn: 0,
        }
    }

    fn idle(&self) -> Duration {
        Duration::from_millis(self.port.world.load().limits().udp_idle_ms.max(1))
    }

    /// A busy port must be swept as well, hence a deadline that arriving datagrams don't put off.
    async fn until_sweep(&self, every: Duration) {
        tokio::time::sleep_until(self.swept + every).await;
    }

    fn forget_idle(&mut self) {
        self.swept = Instant::now();
        self.left.clear();
        let (now, idle) = (self.clock.now(), self.idle().as_millis() as u64);
        self.open
            .retain(|_, flow| now.saturating_sub(flow.used.load(Ordering::Relaxed)) < idle);
        while self.answers.try_join_next().is_some() {}
    }

    async fn forward(&mut self, client: Client, datagram: &[u8]) {
        let generation = self.port.world.load().generation();
        if let Some(flow) = self.open.get_mut(&client) {
            if flow.checked == generation || still_there(&self.port.pick(), &flow.backend) {
                flow.checked = generation;
            } else {
                self.leave(client);
            }
        }
        if !self.open.contains_key(&client) {
            // Without an endpoint the datagram is lost, as it would be on the way to a host that is down.
            let Pick::Ready(mut backends) = self.port.pick() else {
                return;
            };
            self.turn = self.turn.wrapping_add(1);
            let backend = backends.swap_remove(self.turn % backends.len());
            match self.flow(client, backend, generation).await {
                Ok(flow) => {
                    self.make_room();
                    self.open.insert(client, flow);
                }
                Err(error) => {
                    tracing::debug!(address = %self.port.socket.address, %error, "a flow could not be opened");
                    return;
                }
            }
        }
        if let Some(flow) = self.open.get(&client) {
            flow.used.store(self.clock.now(), Ordering::Relaxed);
            flow.send(datagram);
        }
    }

    fn leave(&mut self, client: Client) {
        let flow = self.open.remove(&client);
        if self.left.len() < self.most() {
            self.left.extend(flow);
        }
    }

    fn most(&self) -> usize {
        let most = usize::try_from(self.port.world.load().limits().udp_flows);
        most.unwrap_or(usize::MAX).max(1)
    }

    /// The flow that was silent longest goes when there are too many.
    fn make_room(&mut self) {
        let most = self.most();
        while self.open.len() >= most {
            let oldest = self
                .open
                .iter()
                .min_by_key(|(_, flow)| flow.used.load(Ordering::Relaxed));
            let Some(client) = oldest.map(|(client, _)| *client) else {
                return;
            };
            self.open.remove(&client);
        }
    }

    async fn flow(&mut self, client: Client, backend: Backend, generation: u64) -> io::Result<Flow> {
        let Some(address) = backend.addresses.first() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        // Those of flows that made room have ended.
        while self.answers.try_join_next().is_some() {}
        let inside = UdpSocket::from_std(self.port.egress.udp_towards(address.ip()).await?)?;
        inside.connect(address).await?;
        let inside = Arc::new(inside);
        let used = Arc::new(AtomicU64::new(self.clock.now()));
        let answers = Answers {
            inside: Arc::clone(&inside),
            outside: Arc::clone(&self.outside),
            client,
            used: Arc::clone(&used),
            clock: self.clock,
        };
        let task = self.answers.spawn(answers.bring_back());
        Ok(Flow {
            inside,
            backend,
            checked: generation,
            used,
            task,
        })
    }
}

fn still_there(pick: &Pick, backend: &Backend) -> bool {
    match pick {
        Pick::Ready(backends) => backends.contains(backend),
        // Not ready isn't gone: there is no better place to send to.
        Pick::Coming | Pick::Down(_) => true,
    }
}

// === impl Flow ===

impl Flow {
    fn send(&self, datagram: &[u8]) {
        // Straight to the kernel: waiting for one flow's full buffer would hold up all others.
        let attempt = || send(self.inside.as_raw_fd(), datagram, MsgFlags::MSG_DONTWAIT);
        // The first error is about an earlier datagram, as ICMP told it; this one has not been sent.
        if attempt().is_err_and(|error| error != Errno::EAGAIN) {
            let _ = attempt();
        }
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Brings the answers of one flow back to its client.
struct Answers {
    inside: Arc<UdpSocket>,
    outside: Arc<Outside>,
    client: Client,
    used: Arc<AtomicU64>,
    clock: Clock,
}

impl Answers {
    async fn bring_back(self) {
        loop {
            if self.inside.readable().await.is_err() {
                return;
            }
            // Made when there is something to put in: thousands of idle flows hold no buffers.
            let mut datagram = Vec::with_capacity(DATAGRAM);
            match self.inside.try_recv_buf(&mut datagram) {
                Ok(_) => {
                    self.used.store(self.clock.now(), Ordering::Relaxed);
                    // Lost like any datagram.
                    let _ = self.outside.answer(&datagram, self.client).await;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // About a datagram that did not arrive, as ICMP told it, which says nothing about the next.
                Err(error) => {
                    tracing::debug!(client = %self.client.peer, %error, "a datagram did not arrive");
                    yield_now().await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
