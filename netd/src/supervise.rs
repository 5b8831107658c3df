//! The proxy's keeper: finds one that outlived the daemon before, starts one when there is none, and speaks the feed.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use linkspan_api::feed::{self, FeedError, FeedReader, FeedWriter, Snapshot, SocketId, ToNetd, ToProxy};
use linkspan_telemetry::chain;
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// A proxy that was just started must answer within this time.
const START: Duration = Duration::from_secs(10);
/// Between looks at a socket that isn't there yet; there is nothing else to wait on before it exists.
const LOOK: Duration = Duration::from_millis(3);
/// A proxy that lived so long is replaced at once, however it ended.
const STEADY: Duration = Duration::from_secs(5);
/// Wait before another attempt after one that ended at once.
const BACKOFF: Duration = Duration::from_millis(500);

/// How a proxy is started.
#[derive(Debug, Clone)]
pub(crate) struct Launch {
    pub(crate) binary: PathBuf,
    pub(crate) run_dir: PathBuf,
    pub(crate) namespace: PathBuf,
    pub(crate) user: u32,
    pub(crate) group: u32,
    pub(crate) workers: usize,
}

impl Launch {
    fn socket(&self) -> PathBuf {
        self.run_dir.join("proxy/feed.sock")
    }
}

/// To the proxy.
#[derive(Debug)]
pub(crate) enum Order {
    /// The sockets are bound: start a proxy where none was found. A daemon that can't listen leaves none behind.
    Begin,
    /// Sockets that it doesn't hold yet, and the world as it is now.
    Serve {
        sockets: Vec<(SocketId, OwnedFd)>,
        snapshot: Box<Snapshot>,
    },
    /// End what is under way, then exit; nobody is started in its place.
    Stop,
}

/// From the proxy.
#[derive(Debug)]
pub(crate) enum Note {
    /// One is there, and holds these sockets.
    Up {
        pid: u32,
        generation: u64,
        sockets: Vec<(SocketId, OwnedFd)>,
    },
    /// It serves this generation.
    Serving(u64),
    /// A snapshot of so many bytes is too long to be sent; it serves the one before.
    TooLong(usize),
    /// Nothing is under way to this endpoint any more.
    Drained { endpoint: String, run: u64 },
    /// A hint.
    Unhealthy { endpoint: String, reason: String },
    /// It is gone; another is being started.
    Down(String),
    /// It ended as it was told to.
    Stopped,
}

/// Starts the keeper. Its first note says whether a proxy was found (`Up`) or must be started (`Down`).
pub(crate) fn keep(launch: Launch, notes: mpsc::UnboundedSender<Note>) -> mpsc::UnboundedSender<Order> {
    let (orders, inbox) = mpsc::unbounded_channel();
    tokio::spawn(run(launch, notes, inbox));
    orders
}

async fn run(launch: Launch, notes: mpsc::UnboundedSender<Note>, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut last = None;
    let mut found = UnixStream::connect(launch.socket()).await.ok();
    if found.is_none() {
        let _ = notes.send(Note::Down("none was running".to_owned()));
        if !matches!(orders.recv().await, Some(Order::Begin)) {
            return;
        }
    }
    loop {
        let begun = Instant::now();
        let stream = match found.take() {
            Some(stream) => Ok(stream),
            None => {
                // Two proxies on the same sockets would each take a share of the connections, one with old routes.
                if let Some(pid) = last.take() {
                    end(&launch, pid).await;
                }
                start(&launch).await
            }
        };
        let why = match stream {
            Ok(stream) => match attend(stream, &notes, &mut orders, &mut last).await {
                Ok(End::Stopped) => {
                    let _ = notes.send(Note::Stopped);
                    return;
                }
                Ok(End::Abandoned) => return,
                Ok(End::Lost) => "it ended".to_owned(),
                Err(error) => chain(&error),
            },
            Err(error) => error.to_string(),
        };
        if notes.send(Note::Down(why)).is_err() {
            return;
        }
        if begun.elapsed() < STEADY {
            sleep(BACKOFF).await;
        }
    }
}

enum End {
    /// It closed the connection.
    Lost,
    /// It was told to stop.
    Stopped,
    /// Nobody orders any more: the daemon ends, the proxy goes on.
    Abandoned,
}

/// Ends a proxy that no longer speaks to us, if it is still there.
async fn end(launch: &Launch, pid: u32) {
    let socket = launch.socket();
    let is_it = || {
        let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        arguments
            .split(|byte| *byte == 0)
            .any(|argument| argument == socket.as_os_str().as_encoded_bytes())
    };
    let Some(process) = i32::try_from(pid).ok().map(nix::unistd::Pid::from_raw) else {
        return;
    };
    let deadline = Instant::now() + START;
    while is_it() && Instant::now() < deadline {
        if nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).is_err() {
            return;
        }
        sleep(LOOK).await;
    }
}

async fn start(launch: &Launch) -> std::io::Result<UnixStream> {
    let socket = launch.socket();
    if let Some(folder) = socket.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let _ = std::fs::remove_file(&socket);
    let mut child = command(launch, &socket).spawn()?;
    let deadline = Instant::now() + START;
    loop {
        if let Ok(stream) = UnixStream::connect(&socket).await {
            // Waits for its end, so that it doesn't stay a zombie.
            tokio::spawn(async move { child.wait().await });
            return Ok(stream);
        }
        if let Some(status) = child.try_wait()? {
            return Err(std::io::Error::other(format!(
                "it ended at once with {status}; its log says why"
            )));
        }
        if Instant::now() > deadline {
            child.start_kill()?;
            return Err(std::io::Error::other("it doesn't answer on its socket"));
        }
        sleep(LOOK).await;
    }
}

fn command(launch: &Launch, socket: &Path) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(&launch.binary);
    command
        .arg("proxy")
        .arg("--feed")
        .arg(socket)
        .arg("--netns")
        .arg(&launch.namespace)
        .args([
            "--uid",
            &launch.user.to_string(),
            "--gid",
            &launch.group.to_string(),
        ])
        .args(["--workers", &launch.workers.to_string()])
        .arg("--access-log")
        .arg(launch.run_dir.join("proxy/access.log"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        // A terminal's Ctrl-C is for the daemon; the proxy outlives it.
        .process_group(0);
    command
}

async fn attend(
    stream: UnixStream,
    notes: &mpsc::UnboundedSender<Note>,
    orders: &mut mpsc::UnboundedReceiver<Order>,
    last: &mut Option<u32>,
) -> Result<End, FeedError> {
    *last = stream
        .peer_cred()
        .ok()
        .and_then(|peer| u32::try_from(peer.pid()?).ok());
    let (mut reader, mut writer) = feed::split::<ToNetd>(stream);
    writer
        .send(
            &ToProxy::Hello {
                version: feed::VERSION,
            },
            &[],
        )
        .await?;
    // What was ordered of a proxy that is gone isn't meant for this one; the note below brings new orders.
    while orders.try_recv().is_ok() {}
    let Ok(greeting) = timeout(START, greet(&mut reader)).await else {
        return Ok(End::Lost);
    };
    let Some(up) = greeting? else {
        return Ok(End::Lost);
    };
    if notes.send(up).is_err() {
        return Ok(End::Abandoned);
    }
    let mut stopping = false;
    loop {
        tokio::select! {
            order = orders.recv() => match order {
                None => return Ok(End::Abandoned),
                Some(Order::Begin) => {}
                Some(Order::Stop) => {
                    stopping = true;
                    writer.send(&ToProxy::Drain { grace_ms: 2_000 }, &[]).await?;
                }
                Some(Order::Serve { sockets, snapshot }) => match serve(&mut writer, &sockets, snapshot).await {
                    // Nothing of it was sent, and what the proxy has is better than none.
                    Err(FeedError::TooLong { length }) => drop(notes.send(Note::TooLong(length))),
                    served => served?,
                },
            },
            message = reader.next() => match message {
                Ok(Some((message, _))) => pass_on(message, notes),
                Ok(None) | Err(_) if stopping => return Ok(End::Stopped),
                Ok(None) => return Ok(End::Lost),
                Err(error) => return Err(error),
            },
        }
    }
}

async fn greet(reader: &mut FeedReader<ToNetd>) -> Result<Option<Note>, FeedError> {
    let mut expected = Vec::new();
    let mut sockets = Vec::new();
    let mut hello = None;
    while let Some((message, descriptors)) = reader.next().await? {
        match message {
            ToNetd::Hello {
                pid,
                generation,
                sockets,
                ..
            } => {
                expected = sockets;
                hello = Some((pid, generation));
            }
            ToNetd::Sockets(ids) => sockets.extend(ids.into_iter().zip(descriptors)),
            _ => {}
        }
        if let Some((pid, generation)) = hello
            && sockets.len() >= expected.len()
        {
            return Ok(Some(Note::Up {
                pid,
                generation,
                sockets,
            }));
        }
    }
    Ok(None)
}

async fn serve(
    writer: &mut FeedWriter,
    sockets: &[(SocketId, OwnedFd)],
    snapshot: Box<Snapshot>,
) -> Result<(), FeedError> {
    let borrowed: Vec<_> = sockets
        .iter()
        .map(|(id, socket)| (id.clone(), socket.as_fd()))
        .collect();
    writer.send_sockets(ToProxy::Sockets, &borrowed).await?;
    writer.send(&ToProxy::Snapshot(snapshot), &[]).await
}

fn pass_on(message: ToNetd, notes: &mpsc::UnboundedSender<Note>) {
    let note = match message {
        ToNetd::Serving { generation } => Note::Serving(generation),
        ToNetd::Drained { endpoint, generation } => Note::Drained {
            endpoint,
            run: generation,
        },
        ToNetd::Unhealthy { endpoint, reason } => Note::Unhealthy { endpoint, reason },
        ToNetd::Hello { .. } | ToNetd::Sockets(_) => return,
    };
    // Without a listener the daemon is ending; the loop above ends too.
    let _ = notes.send(note);
}
