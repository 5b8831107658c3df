//! Programs beside the first: netd's end of their streams.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWrite};
use tokio::net::unix::pipe;
use tokio::sync::{mpsc, watch};

use crate::LogStream;
use crate::console;
use crate::link::{AskError, Link};
use crate::protocol::{Answer, ExecOrder, Verb};

/// How many pieces of output wait for a slow reader before the program does.
const BACKLOG: usize = 64;
const PIECE_MAX: usize = 16 << 10;

/// A program to run inside a running container.
#[derive(Debug, Clone, Default)]
pub struct ExecSpec {
    /// Program and arguments; never empty.
    pub args: Vec<String>,
    /// `KEY=value`, added to the container's own.
    pub env: Vec<String>,
    /// Absolute; the container's own when absent.
    pub cwd: Option<String>,
    /// `name|uid[:group|gid]`; the container's own when absent.
    pub user: Option<String>,
    /// A pseudo terminal instead of three pipes.
    pub terminal: bool,
    /// Rows and columns of the terminal.
    pub size: Option<(u16, u16)>,
    /// Keep stdin open for [`ExecSession::stdin`].
    pub stdin: bool,
}

/// Why a program could not be run inside.
#[derive(Debug, thiserror::Error)]
pub enum ExecError {
    /// No such container.
    #[error("container `{0}` is not known")]
    Unknown(String),
    /// The shim could not.
    #[error("cannot run a program in container `{name}`")]
    Failed {
        /// As shown.
        name: String,
        /// Why.
        #[source]
        source: AskError,
    },
    /// No pipes could be made, or a terminal could not be changed.
    #[error("cannot connect the program's streams")]
    Streams(#[source] io::Error),
}

/// A piece of output.
pub type Output = (LogStream, Vec<u8>);

/// A program running inside; dropping it leaves the program alone, but closes its stdin.
#[derive(Debug)]
pub struct ExecSession {
    /// Present when asked for; take and drop it to send end of file (a terminal has none: send `^D`).
    pub stdin: Option<ExecInput>,
    /// Ends when every holder of the streams is gone.
    pub output: mpsc::Receiver<Output>,
    terminal: Option<Arc<AsyncFd<OwnedFd>>>,
    pid: i32,
    exit: watch::Receiver<Option<i32>>,
    link: Arc<Link>,
    name: String,
}

impl ExecSession {
    /// The program's pid, as the host counts.
    pub fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }

    /// Sets the size of the terminal; without one, nothing.
    pub async fn resize(&self, rows: u16, columns: u16) -> Result<(), ExecError> {
        match &self.terminal {
            Some(terminal) => {
                console::resize(terminal.get_ref().as_fd(), rows, columns).map_err(ExecError::Streams)
            }
            None => Ok(()),
        }
    }

    /// Sends a signal to the program.
    pub async fn signal(&self, signal: i32) -> Result<(), ExecError> {
        let verb = Verb::SignalExec {
            exec: self.pid,
            signal,
        };
        let failed = |source| ExecError::Failed {
            name: self.name.clone(),
            source,
        };
        self.link.ask(verb).await.map(drop).map_err(failed)
    }

    /// Where the exit status will be.
    pub(crate) fn exit(&self) -> watch::Receiver<Option<i32>> {
        self.exit.clone()
    }

    /// Waits for the program's exit status, 128 + n for a signal; absent when the shim died or the container did first.
    pub async fn wait(&mut self) -> Option<i32> {
        match self.exit.wait_for(Option::is_some).await {
            Ok(code) => *code,
            Err(_) => None,
        }
    }
}

/// Runs it by the container's shim.
pub(crate) async fn exec(link: Arc<Link>, name: &str, spec: &ExecSpec) -> Result<ExecSession, ExecError> {
    let order = ExecOrder {
        args: spec.args.clone(),
        env: spec.env.clone(),
        cwd: spec.cwd.clone(),
        user: spec.user.clone(),
        terminal: spec.terminal,
        size: spec.size,
    };
    let failed = |source| ExecError::Failed {
        name: name.to_owned(),
        source,
    };
    let (sender, output) = mpsc::channel(BACKLOG);
    if spec.terminal {
        let (answer, fds, exit) = link.ask_with(Verb::Exec(order), &[]).await.map_err(failed)?;
        let (Answer::Exec { exec: pid }, Some(master), Some(exit)) = (answer, fds.into_iter().next(), exit)
        else {
            return Err(failed(AskError::Gone));
        };
        set_nonblocking(&master).map_err(ExecError::Streams)?;
        let terminal = Arc::new(crate::readiness::register(master).map_err(ExecError::Streams)?);
        tokio::spawn(copy_terminal(Arc::clone(&terminal), sender));
        let stdin = spec
            .stdin
            .then(|| ExecInput(Input::Terminal(Arc::clone(&terminal))));
        let name = name.to_owned();
        return Ok(ExecSession {
            stdin,
            output,
            terminal: Some(terminal),
            pid,
            exit,
            link,
            name,
        });
    }

    let pipes = || Ok((io::pipe()?, io::pipe()?, io::pipe()?));
    let ((stdin, our_stdin), (our_stdout, stdout), (our_stderr, stderr)) =
        pipes().map_err(ExecError::Streams)?;
    let fds = [stdin.as_raw_fd(), stdout.as_raw_fd(), stderr.as_raw_fd()];
    let (answer, _, exit) = link.ask_with(Verb::Exec(order), &fds).await.map_err(failed)?;
    // The program has them now; were they open here too, their end would never come.
    drop((stdin, stdout, stderr));
    let (Answer::Exec { exec: pid }, Some(exit)) = (answer, exit) else {
        return Err(failed(AskError::Gone));
    };
    for (stream, ours) in [(LogStream::Stdout, our_stdout), (LogStream::Stderr, our_stderr)] {
        let pipe = pipe::Receiver::from_owned_fd(ours.into()).map_err(ExecError::Streams)?;
        tokio::spawn(copy_pipe(stream, pipe, sender.clone()));
    }
    let stdin = if spec.stdin {
        Some(pipe::Sender::from_owned_fd(our_stdin.into()).map_err(ExecError::Streams)?)
    } else {
        None
    };
    let stdin = stdin.map(|pipe| ExecInput(Input::Pipe(pipe)));
    Ok(ExecSession {
        stdin,
        output,
        terminal: None,
        pid,
        exit,
        link,
        name: name.to_owned(),
    })
}

async fn copy_pipe(stream: LogStream, mut pipe: pipe::Receiver, to: mpsc::Sender<Output>) {
    let mut buffer = vec![0; PIECE_MAX];
    // A reader that went away closes the channel, then the pipe, and the program learns it as by SIGPIPE.
    while let Ok(length @ 1..) = pipe.read(&mut buffer).await {
        if to.send((stream, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

async fn copy_terminal(terminal: Arc<AsyncFd<OwnedFd>>, to: mpsc::Sender<Output>) {
    let mut buffer = vec![0; PIECE_MAX];
    loop {
        let read = terminal
            .async_io(tokio::io::Interest::READABLE, |fd| {
                Ok(nix::unistd::read(fd, &mut buffer)?)
            })
            .await;
        // At its end a terminal says EIO.
        let Ok(length @ 1..) = read else { return };
        if to
            .send((LogStream::Stdout, buffer[..length].to_vec()))
            .await
            .is_err()
        {
            return;
        }
    }
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_truncate(fcntl(fd, FcntlArg::F_GETFL)?);
    fcntl(fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

/// A program's stdin.
#[derive(Debug)]
pub struct ExecInput(Input);

#[derive(Debug)]
enum Input {
    Pipe(pipe::Sender),
    Terminal(Arc<AsyncFd<OwnedFd>>),
}

impl AsyncWrite for ExecInput {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.0 {
            Input::Pipe(pipe) => Pin::new(pipe).poll_write(cx, bytes),
            Input::Terminal(terminal) => loop {
                let mut guard = ready!(terminal.poll_write_ready(cx))?;
                if let Ok(written) = guard.try_io(|fd| Ok(nix::unistd::write(fd, bytes)?)) {
                    return Poll::Ready(written);
                }
            },
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.0 {
            Input::Pipe(pipe) => Pin::new(pipe).poll_shutdown(cx),
            Input::Terminal(_) => Poll::Ready(Ok(())),
        }
    }
}
