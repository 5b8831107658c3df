//! The process of the data plane: arguments, the way from root to an unprivileged user, and the end.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};

use crate::confine::{self, ConfineError};
use crate::feed::{self, Ended};
use crate::{Egress, LogFile, Proxy, ProxyError};

/// How long requests may take to end after a signal; netd names its own time.
const GRACE: Duration = Duration::from_secs(30);

/// Where access lines go.
#[derive(Debug)]
pub enum AccessLog {
    /// Standard output.
    Stdout,
    /// A file, opened for appending while we are still root; older lines are in the one beside it that ends in `.1`.
    File(PathBuf),
    /// Nowhere.
    Off,
}

/// How the process is started.
#[derive(Debug)]
pub struct Config {
    /// Where the feed's socket is bound.
    pub feed_socket: PathBuf,
    /// The network namespace that the workers live in; the host's when absent.
    pub resolver_netns: Option<PathBuf>,
    /// User and group to become; without them nothing is given up, as for a person who tries things out.
    pub user: Option<(u32, u32)>,
    /// Worker threads; one for each core as a rule.
    pub workers: usize,
    /// Access lines.
    pub access_log: AccessLog,
}

/// Why the process can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Wrong arguments.
    #[error(
        "{0}; usage: linkspan proxy --feed PATH [--netns PATH] [--uid N --gid N] [--workers N] [--access-log PATH|-]"
    )]
    Usage(String),
    /// The feed.
    #[error("the feed's socket `{path}` can't be bound")]
    Feed {
        /// Where.
        path: PathBuf,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// The access log.
    #[error("the access log `{path}` can't be opened")]
    AccessLog {
        /// Where.
        path: PathBuf,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// The namespace.
    #[error("the network namespace `{path}` can't be entered")]
    Namespace {
        /// Where.
        path: PathBuf,
        /// From the kernel.
        #[source]
        source: io::Error,
    },
    /// A thread.
    #[error("a thread can't be started")]
    Thread(#[source] io::Error),
    /// The confinement.
    #[error("the proxy can't be confined and does not start")]
    Confine(#[from] ConfineError),
    /// The engine.
    #[error("the proxy can't be started")]
    Proxy(#[from] ProxyError),
}

/// `linkspan proxy`: `args` are those after the role's name.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let ended = Config::parse(args).and_then(run);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{}", linkspan_telemetry::chain(&error));
            match error {
                StartError::Usage(_) => ExitCode::from(2),
                _ => ExitCode::FAILURE,
            }
        }
    }
}

impl Config {
    fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Self, StartError> {
        let usage = |text: String| StartError::Usage(text);
        let mut config = Self {
            feed_socket: PathBuf::new(),
            resolver_netns: None,
            user: None,
            workers: std::thread::available_parallelism().map_or(1, usize::from),
            access_log: AccessLog::Off,
        };
        let (mut uid, mut gid) = (None, None);
        let mut args = args.into_iter();
        while let Some(flag) = args.next() {
            let flag = flag.to_string_lossy().into_owned();
            let value = args
                .next()
                .ok_or_else(|| usage(format!("`{flag}` needs a value")))?;
            let number = || {
                let number = value.to_str().and_then(|value| value.parse::<u32>().ok());
                number.ok_or_else(|| usage(format!("`{flag}` needs a number")))
            };
            match flag.as_str() {
                "--feed" => config.feed_socket = value.into(),
                "--netns" => config.resolver_netns = Some(value.into()),
                "--uid" => uid = Some(number()?),
                "--gid" => gid = Some(number()?),
                "--workers" => config.workers = number()?.max(1) as usize,
                "--access-log" if value == "-" => config.access_log = AccessLog::Stdout,
                "--access-log" => config.access_log = AccessLog::File(value.into()),
                _ => return Err(usage(format!("`{flag}` is not an option"))),
            }
        }
        config.user = match (uid, gid) {
            (Some(uid), Some(gid)) => Some((uid, gid)),
            (None, None) => None,
            _ => return Err(usage("`--uid` and `--gid` belong together".to_owned())),
        };
        if config.feed_socket.as_os_str().is_empty() {
            return Err(usage("`--feed` is missing".to_owned()));
        }
        Ok(config)
    }
}

/// Runs the data plane until netd or a signal ends it. Called while the process has one thread only.
///
/// # Errors
/// When any step of the start fails; a half-confined proxy never serves.
pub fn run(config: Config) -> Result<(), StartError> {
    let Config {
        feed_socket,
        resolver_netns,
        user,
        workers,
        access_log,
    } = config;
    let feed = feed::bind(&feed_socket).map_err(|source| StartError::Feed {
        path: feed_socket,
        source,
    })?;
    let log = open_log(access_log)?;
    confine::raise_descriptors();

    // The egress thread begins in the host's namespace, before this thread leaves it.
    let (egress, confined, go) = start_egress(user.is_some())?;
    if let Some(path) = resolver_netns {
        enter(&path).map_err(|source| StartError::Namespace { path, source })?;
    }
    if let Some((uid, gid)) = user {
        confine::drop_bounding()?;
        // That thread has dropped its bounding set too when it says so: afterwards nobody may any more.
        confined.recv().map_err(|_| ConfineError::Abandoned)?;
        confine::become_user(uid, gid)?;
        go.send(()).map_err(|_| ConfineError::Abandoned)?;
        confined.recv().map_err(|_| ConfineError::Abandoned)?;
        confine::seal()?;
    }
    serve(feed, workers, egress, log, user.is_some())
}

fn open_log(log: AccessLog) -> Result<Option<LogFile>, StartError> {
    match log {
        AccessLog::Off => Ok(None),
        AccessLog::Stdout => {
            let stdout = io::stdout().as_fd().try_clone_to_owned();
            stdout
                .map(|fd| Some(File::from(fd).into()))
                .map_err(|source| StartError::AccessLog {
                    path: PathBuf::from("-"),
                    source,
                })
        }
        AccessLog::File(path) => LogFile::open(&path)
            .map(Some)
            .map_err(|source| StartError::AccessLog { path, source }),
    }
}

/// Starts the egress thread, which confines itself in step with this one: it reports after each half, and waits for
/// the word that the user has changed in between.
fn start_egress(confined: bool) -> Result<(Egress, Receiver<()>, Sender<()>), StartError> {
    let (report, reports) = channel();
    let (go, wait) = channel();
    let prepare = move || {
        if confined {
            confine::drop_bounding()?;
            report.send(()).map_err(|_| ConfineError::Abandoned)?;
            wait.recv().map_err(|_| ConfineError::Abandoned)?;
            confine::seal()?;
            report.send(()).map_err(|_| ConfineError::Abandoned)?;
        }
        Ok(())
    };
    // The thread ends with the last way to it; the process ends before.
    let (egress, _thread) = Egress::start(prepare).map_err(StartError::Thread)?;
    Ok((egress, reports, go))
}

fn enter(path: &std::path::Path) -> io::Result<()> {
    let namespace = File::open(path)?;
    Ok(setns(namespace, CloneFlags::CLONE_NEWNET)?)
}

fn serve(
    feed: std::os::unix::net::UnixListener,
    workers: usize,
    egress: Egress,
    log: Option<LogFile>,
    confined: bool,
) -> Result<(), StartError> {
    let (proxy, hints) = Proxy::start(workers, egress, log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(StartError::Thread)?;
    let ended = runtime.block_on(async {
        let feed = UnixListener::from_std(feed)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // Without confinement whoever started us is the one to listen to.
        let allowed = if confined {
            0
        } else {
            nix::unistd::geteuid().as_raw()
        };
        tracing::info!(workers, confined, "waiting for netd");
        let ended = tokio::select! {
            ended = feed::serve(feed, Arc::clone(&proxy.shared), hints, allowed) => ended,
            _ = terminate.recv() => Ended::Drain(GRACE),
            _ = interrupt.recv() => Ended::Drain(GRACE),
        };
        Ok(ended)
    });
    let Ended::Drain(grace) = ended.map_err(StartError::Thread)?;
    tracing::info!(?grace, "draining");
    if !proxy.drain(grace) {
        tracing::warn!("what did not end in time was cut");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Config, String> {
        Config::parse(line.split_whitespace().map(OsString::from)).map_err(|error| error.to_string())
    }

    #[test]
    fn the_command_line_is_understood_and_mistakes_are_named() {
        let config = parse("--feed /f --netns /n --uid 5 --gid 6 --workers 0 --access-log -").unwrap();
        assert_eq!((config.user, config.workers), (Some((5, 6)), 1));
        assert!(matches!(config.access_log, AccessLog::Stdout));
        for (line, part) in [
            ("", "`--feed` is missing"),
            ("--feed /f --uid 5", "belong together"),
            ("--feed /f --workers x", "`--workers` needs a number"),
            ("--feed", "`--feed` needs a value"),
            ("--feed /f --what 1", "`--what` is not an option"),
        ] {
            assert!(parse(line).unwrap_err().contains(part), "{line}");
        }
    }
}
