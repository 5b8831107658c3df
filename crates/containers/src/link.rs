//! netd's side of the socket to one shim.

use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd, RawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use linkspan_plan::ContainerId;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::{oneshot, watch};

use crate::Exit;
use crate::layout::Layout;
use crate::orders::VERSION;
use crate::pidfd::{self, Noted};
use crate::protocol::{self, Answer, Request, Told, Verb};

/// Why a shim did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// It says why.
    #[error("{0}")]
    Refused(String),
    /// It is not there any more.
    #[error("the container's shim is gone")]
    Gone,
    /// It is there, but did not answer; it is killed then, and the container with it.
    #[error("the container's shim did not answer within {} s and was killed, and the container with it", .0.as_secs())]
    Hung(Duration),
    /// The shim answers, but this one question takes it too long.
    #[error(
        "it was not done within {} s; does its working folder lie on a file system that hangs?", .0.as_secs()
    )]
    Slow(Duration),
}

/// How long a shim may take for what it does at once: a signal, the size of a terminal.
const AT_ONCE: Duration = Duration::from_secs(10);
/// How long the OCI runtime may take to start a program. That is a matter of milliseconds on a machine that isn't starved.
const RUNTIME: Duration = Duration::from_secs(60);
/// How long it may take to make a container: a new volume is filled with what the image has there, which may be much.
const CREATION: Duration = Duration::from_secs(600);
/// How long a process may take to end that was killed.
const LAST_BREATH_MS: u16 = 2_000;

/// How long a shim may take to do this.
fn limit(verb: &Verb) -> Duration {
    match verb {
        Verb::Hello { .. } | Verb::Signal { .. } | Verb::Resize { .. } | Verb::SignalExec { .. } => AT_ONCE,
        Verb::Start | Verb::Exec(_) => RUNTIME,
    }
}

/// An answer with what came beside it.
struct Reply {
    result: Result<Answer, String>,
    fds: Vec<OwnedFd>,
    /// For a program: its exit status, once known.
    exit: Option<watch::Receiver<Option<i32>>>,
}

/// An answer, the descriptors beside it and, for a program, where its exit status will be.
pub(crate) type Answered = (Answer, Vec<OwnedFd>, Option<watch::Receiver<Option<i32>>>);

/// What a shim's last words were.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Farewell {
    /// It told how the container ended.
    Exited(Exit),
    /// It ended without a word.
    Silent,
}

#[derive(Debug)]
pub(crate) struct Link {
    socket: AsyncFd<OwnedFd>,
    next: AtomicU64,
    /// Absent when nobody answers any more.
    waiting: Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>,
    closed: watch::Sender<bool>,
    /// Where it is noted which process the shim is.
    shim: PathBuf,
}

impl std::fmt::Debug for Reply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reply")
            .field("result", &self.result)
            .finish_non_exhaustive()
    }
}

fn unix_socket() -> nix::Result<OwnedFd> {
    socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
}

/// A path that fits into a socket address, whose 108 bytes a long state folder would not.
fn with_short_path<T>(path: &Path, call: impl FnOnce(&UnixAddr) -> nix::Result<T>) -> io::Result<T> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    let folder = std::fs::File::open(folder)?;
    let short = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name);
    Ok(call(&UnixAddr::new(&short)?)?)
}

/// The socket that a shim gets as its stdin. Made by us and before the shim, so that we can connect at once.
pub(crate) fn listener(path: &Path) -> io::Result<OwnedFd> {
    let _ = std::fs::remove_file(path);
    let socket = unix_socket()?;
    // Closed to others from its first moment: the mode of a socket's file is that of the descriptor.
    nix::sys::stat::fchmod(&socket, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    with_short_path(path, |address| bind(socket.as_raw_fd(), address))?;
    listen(&socket, Backlog::new(16)?)?;
    Ok(socket)
}

impl Link {
    /// Connects. Nobody reads answers until [`Link::read`] is driven.
    pub(crate) fn connect(layout: &Layout, id: &ContainerId) -> io::Result<Arc<Self>> {
        let socket = unix_socket()?;
        with_short_path(&layout.socket(id), |address| connect(socket.as_raw_fd(), address))?;
        Ok(Arc::new(Self {
            socket: crate::readiness::register(socket)?,
            next: AtomicU64::new(1),
            waiting: Mutex::new(Some(HashMap::new())),
            closed: watch::Sender::new(false),
            shim: layout.shim(id),
        }))
    }

    /// Hands out answers until the shim is gone, and gives its last words.
    pub(crate) async fn read(&self) -> Farewell {
        let mut farewell = Farewell::Silent;
        let mut execs: HashMap<i32, watch::Sender<Option<i32>>> = HashMap::new();
        loop {
            let told = self
                .socket
                .async_io(tokio::io::Interest::READABLE, |fd| protocol::receive(fd.as_fd()))
                .await;
            match told {
                Ok(Some((Told::Exited(exit), _))) => farewell = Farewell::Exited(exit),
                Ok(Some((Told::ExecExited { exec, code }, _))) => {
                    if let Some(exit) = execs.remove(&exec) {
                        exit.send_replace(Some(code));
                    }
                }
                Ok(Some((Told::Answer { number, result }, fds))) => {
                    // Here and not by who asked: the exit may be the very next packet.
                    let exit = match &result {
                        Ok(Answer::Exec { exec }) => {
                            let (sender, receiver) = watch::channel(None);
                            execs.insert(*exec, sender);
                            Some(receiver)
                        }
                        _ => None,
                    };
                    let waiting = self
                        .waiting
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .as_mut()
                        .and_then(|waiting| waiting.remove(&number));
                    if let Some(waiting) = waiting {
                        let _ = waiting.send(Reply { result, fds, exit });
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        self.closed.send_replace(true);
        farewell
    }

    /// Returns when [`Link::read`] has come to its end.
    pub(crate) async fn closed(&self) {
        let _ = self.closed.subscribe().wait_for(|closed| *closed).await;
    }

    /// Asks for something and waits for the answer.
    pub(crate) async fn ask(&self, verb: Verb) -> Result<Answer, AskError> {
        Ok(self.ask_with(verb, &[]).await?.0)
    }

    /// Waits until the container is made.
    pub(crate) async fn made(&self) -> Result<Answer, AskError> {
        let hello = Verb::Hello { version: VERSION };
        match self.ask_within(CREATION, hello, &[]).await {
            Err(AskError::Slow(limit)) => {
                self.kill().await;
                Err(AskError::Hung(limit))
            }
            answer => Ok(answer?.0),
        }
    }

    /// Ends a shim that does not answer; [`Link::read`] comes to its end then, as when it died by itself.
    pub(crate) async fn kill(&self) {
        let note = self.shim.clone();
        let killed = tokio::task::spawn_blocking(move || {
            let noted: Noted = serde_json::from_slice(&std::fs::read(note)?)?;
            let gone = noted
                .open()
                .is_none_or(|shim| pidfd::kill(shim.as_fd(), LAST_BREATH_MS));
            if gone {
                Ok(())
            } else {
                Err(io::Error::other("it hangs in the kernel (`ps` shows state D)"))
            }
        });
        if let Err(error) = killed.await.map_err(io::Error::other).and_then(|killed| killed) {
            tracing::warn!(shim = %self.shim.display(), %error, "a shim that does not answer could not be killed");
        }
        // A process that it had begun may hold the other end open, or it can't end itself.
        let _ = nix::sys::socket::shutdown(self.socket.as_raw_fd(), Shutdown::Both);
    }

    /// The same with descriptors, both ways; and, for a program, where its exit status will be.
    ///
    /// A shim that does not answer in time is killed, and so its container is: nobody reads its output any more. It is told
    /// like any other shim's end. One that is only slow with a program in the container, whose files may lie anywhere,
    /// lives on.
    pub(crate) async fn ask_with(&self, verb: Verb, fds: &[RawFd]) -> Result<Answered, AskError> {
        let limit = limit(&verb);
        let may_be_slow = matches!(verb, Verb::Exec(_));
        let slow = match self.ask_within(limit, verb, fds).await {
            Err(slow @ AskError::Slow(_)) => slow,
            answer => return answer,
        };
        let hello = Verb::Hello { version: VERSION };
        if may_be_slow && !matches!(self.ask_within(AT_ONCE, hello, &[]).await, Err(AskError::Slow(_))) {
            return Err(slow);
        }
        self.kill().await;
        Err(AskError::Hung(limit))
    }

    async fn ask_within(&self, limit: Duration, verb: Verb, fds: &[RawFd]) -> Result<Answered, AskError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        match tokio::time::timeout(limit, self.ask_as(number, verb, fds)).await {
            Ok(answer) => answer,
            Err(_) => {
                self.forget(number);
                Err(AskError::Slow(limit))
            }
        }
    }

    fn forget(&self, number: u64) {
        if let Some(waiting) = self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            waiting.remove(&number);
        }
    }

    async fn ask_as(&self, number: u64, verb: Verb, fds: &[RawFd]) -> Result<Answered, AskError> {
        let (sender, receiver) = oneshot::channel();
        match self
            .waiting
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .as_mut()
        {
            Some(waiting) => waiting.insert(number, sender),
            None => return Err(AskError::Gone),
        };
        let request = Request { number, verb };
        let send = self
            .socket
            .async_io(tokio::io::Interest::WRITABLE, |fd| {
                protocol::send(fd.as_fd(), &request, fds)
            })
            .await;
        if let Err(error) = send {
            self.forget(number);
            return Err(match error.raw_os_error().map(Errno::from_raw) {
                Some(Errno::EMSGSIZE) => AskError::Refused("the command line is too long".to_owned()),
                _ => AskError::Gone,
            });
        }
        let reply = receiver.await.map_err(|_| AskError::Gone)?;
        Ok((reply.result.map_err(AskError::Refused)?, reply.fds, reply.exit))
    }
}
