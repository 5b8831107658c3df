//! TCP ports: accept, wait for the endpoint if one is coming, connect, relay.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::relay::relay;
use super::{Backend, Pick, Port};

/// Between attempts to connect to an endpoint that is ready but refuses.
const RETRY: Duration = Duration::from_millis(100);
/// Rest after accepting failed, for want of descriptors as a rule, so that the loop doesn't spin.
const REST: Duration = Duration::from_millis(50);
/// Seconds of silence after which the kernel asks whether the peer still lives, and between further questions. A
/// container that was killed together with its network says no goodbye.
const KEEPALIVE: u32 = 30;
/// Unanswered questions after which the peer is dead.
const KEEPALIVE_COUNT: u32 = 4;

impl Port {
    /// Accepts until `stop`, then closes the listener and lets open connections end by themselves.
    pub(crate) async fn serve_tcp(self, listener: TcpListener, stop: CancellationToken) {
        // What it accepts inherits these.
        tune(&listener);
        let turn = std::sync::Arc::new(AtomicUsize::new(0));
        let mut open = JoinSet::new();
        loop {
            // Beyond the limit clients wait in the listener's backlog.
            let most = usize::try_from(self.world.load().limits().connections).unwrap_or(usize::MAX);
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                Some(_) = open.join_next() => continue,
                accepted = listener.accept(), if open.len() < most => accepted,
            };
            match accepted {
                Ok((client, _)) => {
                    let (port, turn) = (self.clone(), turn.clone());
                    open.spawn(async move { port.connection(client, &turn).await });
                }
                Err(error) => {
                    let address = self.socket.address;
                    tracing::warn!(%address, %error, "accepting a connection failed");
                    sleep(REST).await;
                }
            }
        }
        drop(listener);
        while open.join_next().await.is_some() {}
    }

    async fn connection(&self, mut client: TcpStream, turn: &AtomicUsize) {
        let Some(mut backend) = self.backend(&client, turn).await else {
            // A clean end would look like an empty answer.
            let _ = client.set_zero_linger();
            return;
        };
        tune(&backend);
        if let Err(error) = relay(&mut client, &mut backend, &self.pipes).await {
            tracing::debug!(address = %self.socket.address, %error, "a forwarded connection broke");
            // What is cut short must not be taken for whole on the other side. Failing to say so is no worse.
            let _ = client.set_zero_linger();
            let _ = backend.set_zero_linger();
        }
    }

    /// A connection to an endpoint; waits for one that is coming, or that is ready but refuses as yet.
    async fn backend(&self, client: &TcpStream, turn: &AtomicUsize) -> Option<TcpStream> {
        let address = self.socket.address;
        let mut changed = self.changed.clone();
        let limits = *self.world.load().limits();
        let deadline = Instant::now() + Duration::from_millis(limits.hold_ms);
        let patience = Duration::from_millis(limits.connect_ms);
        loop {
            // Marked as seen before the world is read: a swap in between wakes the wait below.
            changed.borrow_and_update();
            let refused = match self.pick() {
                Pick::Ready(backends) => {
                    let first = turn.fetch_add(1, Ordering::Relaxed);
                    let connecting = self.connect_any(&backends, first, patience);
                    tokio::select! {
                        // Who is connected stays so, even if the choice would be another one by now.
                        biased;
                        connected = connecting => match connected {
                            Ok(stream) => return Some(stream),
                            Err(error) => tracing::debug!(%address, %error, "no endpoint takes a connection"),
                        },
                        // Where the endpoint was there may be silence now: the choice is made anew.
                        () = self.lead_elsewhere(&mut changed, &backends) => continue,
                        () = sleep_until(deadline) => return None,
                    }
                    true
                }
                Pick::Coming => false,
                Pick::Down(why) => {
                    tracing::debug!(%address, %why, "a connection was turned away");
                    return None;
                }
            };
            tokio::select! {
                () = next_world(&mut changed) => {}
                () = sleep(RETRY), if refused => {}
                () = sleep_until(deadline) => return None,
                _ = client.ready(Interest::ERROR) => return None,
            }
        }
    }

    async fn connect_any(
        &self,
        backends: &[Backend],
        first: usize,
        patience: Duration,
    ) -> io::Result<TcpStream> {
        let mut last = io::ErrorKind::NotFound.into();
        for n in 0..backends.len() {
            for address in &backends[(first.wrapping_add(n)) % backends.len()].addresses {
                match timeout(patience, self.connect(*address)).await {
                    Ok(Ok(stream)) => return Ok(stream),
                    Ok(Err(error)) => last = error,
                    Err(_) => last = io::ErrorKind::TimedOut.into(),
                }
            }
        }
        Err(last)
    }

    async fn connect(&self, address: SocketAddr) -> io::Result<TcpStream> {
        let socket = self.egress.tcp_towards(address.ip()).await?;
        socket.connect(address).await
    }

    /// Returns once the port leads to others than these.
    async fn lead_elsewhere(&self, changed: &mut watch::Receiver<u64>, backends: &[Backend]) {
        loop {
            next_world(changed).await;
            // While there is no better place, this attempt may yet succeed.
            if matches!(self.pick(), Pick::Ready(now) if now != backends) {
                return;
            }
        }
    }
}

/// The feed's end is the program's end: then there is no next world.
async fn next_world(changed: &mut watch::Receiver<u64>) {
    if changed.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn tune(socket: &impl AsFd) {
    // None of these can fail on a live TCP socket, and none is needed for correctness.
    let _ = setsockopt(socket, sockopt::TcpNoDelay, &true);
    let _ = setsockopt(socket, sockopt::KeepAlive, &true);
    let _ = setsockopt(socket, sockopt::TcpKeepIdle, &KEEPALIVE);
    let _ = setsockopt(socket, sockopt::TcpKeepInterval, &KEEPALIVE);
    let _ = setsockopt(socket, sockopt::TcpKeepCount, &KEEPALIVE_COUNT);
}

#[cfg(test)]
mod tests;
