//! The data plane: HTTP, TLS, raw ports and containers' DNS, served from snapshots that netd sends.
//!
//! [`Proxy`] is the engine: threads that serve whatever snapshot they were given last. [`main`] is the process around
//! it, which gives up every privilege first and then listens to netd.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use linkspan_api::feed::{Snapshot, SocketId, ToNetd};
use tokio::sync::mpsc;

mod body;
mod client;
mod confine;
mod connection;
mod egress;
mod error;
mod feed;
mod forward;
mod h1;
mod interim;
mod listen;
mod middleware;
mod names;
mod process;
mod router;
mod shared;
mod stream;
mod tls;
mod transport;
mod tunnel;
mod upstream;
mod worker;
mod world;

pub use confine::ConfineError;
pub use egress::Egress;
pub use middleware::access_log::LogFile;
pub use process::{AccessLog, Config, StartError, main, run};

use middleware::access_log::LogSink;
use middleware::basic_auth::verifier::Verifier;
use shared::Shared;

/// The running data plane.
pub struct Proxy {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
    log: Option<JoinHandle<()>>,
    verifiers: Vec<JoinHandle<()>>,
}

/// Why the threads can't be started.
#[derive(Debug, thiserror::Error)]
pub enum ProxyError {
    /// From the kernel.
    #[error("the proxy's threads can't be started")]
    Threads(#[from] io::Error),
    /// From the crypto library.
    #[error("TLS can't be set up")]
    Tls(#[from] rustls::Error),
}

impl Proxy {
    /// Starts so many workers, with nothing to serve yet. Lines of the access log go to `log`; hints come out of the
    /// receiver.
    ///
    /// # Errors
    /// When threads can't be made or the crypto library has no randomness.
    pub fn start(
        workers: usize,
        egress: Egress,
        log: Option<LogFile>,
    ) -> Result<(Self, mpsc::Receiver<ToNetd>), ProxyError> {
        let (sink, log) = match log {
            Some(file) => {
                let (sink, thread) = LogSink::start(file)?;
                (sink, Some(thread))
            }
            None => (LogSink::off(), None),
        };
        let (hints, hinted) = mpsc::channel(shared::HINTS);
        let workers = workers.max(1);
        let (verifier, verifiers) = Verifier::start()?;
        let shared = Arc::new(Shared::new(workers, egress, hints, sink, verifier)?);
        let mut threads = Vec::with_capacity(workers);
        for index in 0..workers {
            let own = Arc::clone(&shared);
            let run = move || {
                if let Err(error) = worker::run(index, own) {
                    tracing::error!(index, %error, "a worker can't start");
                }
            };
            threads.push(
                std::thread::Builder::new()
                    .name(format!("worker-{index}"))
                    .spawn(run)?,
            );
        }
        let proxy = Self {
            shared,
            threads,
            log,
            verifiers,
        };
        Ok((proxy, hinted))
    }

    /// Takes a listening socket in. A snapshot that lists it brings it into service.
    ///
    /// # Errors
    /// When it is no descriptor that can be made non-blocking.
    pub fn adopt(&self, id: SocketId, socket: OwnedFd) -> io::Result<()> {
        self.shared.adopt(id, socket)
    }

    /// Serves this snapshot from now on and returns its generation. Listening sockets that it doesn't list are closed.
    pub fn apply(&self, snapshot: Snapshot) -> u64 {
        self.shared.apply(snapshot)
    }

    /// Stops accepting, lets what is under way end for at most `grace`, cuts the rest, and ends the threads. True if
    /// nothing had to be cut.
    pub fn drain(self, grace: Duration) -> bool {
        let deadline = Instant::now() + grace;
        self.shared.drain();
        let busy = || self.threads.iter().any(|thread| !thread.is_finished());
        while busy() && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(10));
        }
        let ended = !busy();
        self.shared.cut.cancel();
        let joined = self.threads.into_iter().all(|thread| thread.join().is_ok());
        // The last sink goes with the workers' state, and then the writer has nothing more to come; nor have the
        // verifiers.
        drop(self.shared);
        let joined = self.verifiers.into_iter().all(|thread| thread.join().is_ok()) && joined;
        let written = self.log.is_none_or(|log| log.join().is_ok());
        ended && joined && written
    }
}
