//! The control daemon: keeps what people want, looks at what is, and makes the one like the other.

mod certs;
mod events;
mod execute;
mod http;
mod inside;
mod lans;
mod learn;
mod observe;
mod publish;
mod ready;
mod reconcile;
mod requests;
mod resolv;
mod settings;
mod sockets;
mod start;
mod steps;
mod store;
mod supervise;
mod view;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

pub use start::{Netd, StartError};

/// Where a daemon lives and listens. Everything else is in its settings file.
#[derive(Debug, Clone)]
pub struct Config {
    /// Sockets and namespaces: `/run/linkspan`.
    pub run_dir: PathBuf,
    /// What must survive: `/var/lib/linkspan`.
    pub state_dir: PathBuf,
    /// A settings file instead of `/etc/linkspan/config.yaml`.
    pub settings: Option<PathBuf>,
    /// Instead of the settings' `http:`; may be empty.
    pub http: Vec<SocketAddr>,
    /// Instead of the settings' `https:`; may be empty.
    pub https: Vec<SocketAddr>,
    /// Our own executable, which has the other roles.
    pub binary: PathBuf,
}

/// Runs the daemon until SIGTERM or SIGINT.
///
/// Containers and the proxy go on, so that a daemon can be replaced; when nothing is up, everything is removed.
pub fn main(config: Config) -> ExitCode {
    if let Err(error) = linkspan_telemetry::init("netd", linkspan_telemetry::Format::Auto) {
        eprintln!("error: {}", linkspan_telemetry::chain(&error));
        return ExitCode::from(2);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: the daemon's threads can't be started: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(run(config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", linkspan_telemetry::chain(&error));
            if error.is_refusal() {
                ExitCode::from(2)
            } else {
                ExitCode::FAILURE
            }
        }
    }
}

async fn run(config: Config) -> Result<(), StartError> {
    let mut terminate = signal(SignalKind::terminate()).map_err(StartError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(StartError::Signals)?;
    let netd = Netd::start(config).await?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    netd.stop().await;
    Ok(())
}
