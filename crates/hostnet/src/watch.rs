//! Listens for changes that others make, and says no more than where to look.
//!
//! Changes come in bursts: one container's link is a dozen messages. So after the first message the rest of a moment
//! is collected, and each kind told once. When messages were lost, everything counts as changed.

mod files;
mod sandboxes;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv, setsockopt, sockopt};
use rtnetlink::MulticastGroup;
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::{NETLINK_NETFILTER, NETLINK_ROUTE};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc::{self, Receiver, Sender, error::TrySendError};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use crate::Hint;
use crate::mirror::Mirror;
use crate::netlink::messages;
use crate::nft::{concerns_our_table, concerns_rules_of_others};
use files::FilesWatch;

pub use sandboxes::SandboxHints;
pub(crate) use sandboxes::SandboxWatch;

/// `NFNLGRP_NFTABLES` of `linux/netfilter/nfnetlink.h`.
const GROUP_NFTABLES: u32 = 7;
const GROUPS_ROUTE: [MulticastGroup; 9] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
    MulticastGroup::Ipv4Rule,
    MulticastGroup::Ipv6Rule,
    MulticastGroup::Ipv4Netconf,
    MulticastGroup::Ipv6Netconf,
];
/// Bursts are shorter than this, and people don't notice it.
const BURST: Duration = Duration::from_millis(20);
/// Hints that a slow receiver may have waiting.
const WAITING: usize = 16;
/// Asked for; what the kernel grants must do.
const RECEIVE_BUFFER: usize = 1024 * 1024;
const READ: usize = 64 * 1024;

/// The task that listens, as long as this lives.
#[derive(Debug)]
pub(crate) struct Watch {
    subscribers: Arc<Mutex<Vec<Subscriber>>>,
    task: JoinHandle<()>,
}

#[derive(Debug)]
struct Subscriber {
    sender: Sender<Hint>,
    /// To tell as soon as there is room.
    pending: BTreeSet<Hint>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Watch {
    /// Begins to listen, here and in the resolver's namespace. Changes of our table that come from another socket than `own_port` set `stale`. Files are those below `root`.
    pub(crate) fn start(
        mirrors: [Arc<Mirror>; 2],
        own_port: u32,
        stale: Arc<AtomicBool>,
        root: &Path,
    ) -> io::Result<Self> {
        let sockets = Sockets {
            mirrors,
            table: register(listen(NETLINK_NETFILTER, &[GROUP_NFTABLES])?)?,
            files: watch_files(root),
            own_port,
            stale,
        };
        let subscribers = Arc::default();
        let task = tokio::spawn(run(sockets, Arc::clone(&subscribers)));
        Ok(Self { subscribers, task })
    }

    /// From now on, changes are told here too.
    pub(crate) fn subscribe(&self) -> Receiver<Hint> {
        let (sender, receiver) = mpsc::channel(WAITING);
        lock(&self.subscribers).push(Subscriber {
            sender,
            pending: BTreeSet::new(),
        });
        receiver
    }
}

struct Sockets {
    mirrors: [Arc<Mirror>; 2],
    table: AsyncFd<Socket>,
    files: Option<FilesWatch>,
    own_port: u32,
    stale: Arc<AtomicBool>,
}

async fn run(mut sockets: Sockets, subscribers: Arc<Mutex<Vec<Subscriber>>>) {
    let mut collected = BTreeSet::new();
    let mut tell_at: Option<Instant> = None;
    loop {
        let moment = tell_at.unwrap_or_else(Instant::now);
        let hints = tokio::select! {
            hints = sockets.next() => hints,
            () = sleep_until(moment), if tell_at.is_some() => {
                let told = tell(&mut lock(&subscribers), &std::mem::take(&mut collected));
                tell_at = (!told).then(|| Instant::now() + BURST);
                continue;
            }
        };
        collected.extend(hints);
        if !collected.is_empty() {
            tell_at.get_or_insert_with(|| Instant::now() + BURST);
        }
    }
}

/// Tells everybody; false if somebody had no room for all.
fn tell(subscribers: &mut Vec<Subscriber>, hints: &BTreeSet<Hint>) -> bool {
    subscribers.retain_mut(|subscriber| {
        subscriber.pending.extend(hints);
        let sender = subscriber.sender.clone();
        subscriber
            .pending
            .retain(|hint| matches!(sender.try_send(*hint), Err(TrySendError::Full(_))));
        !sender.is_closed()
    });
    subscribers.iter().all(|subscriber| subscriber.pending.is_empty())
}

impl Sockets {
    /// Waits for messages and reads all that are there.
    async fn next(&mut self) -> BTreeSet<Hint> {
        let [host, resolver] = &self.mirrors;
        let socket = tokio::select! {
            () = changed(&mut self.files) => return [Hint::Files].into(),
            () = host.changed() => return host.read(),
            () = resolver.changed() => return resolver.read(),
            () = readable(&self.table) => &self.table,
        };
        let mut hints = BTreeSet::new();
        let mut buffer = vec![0; READ];
        loop {
            match recv(socket.get_ref().as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => self.read_table(&buffer[..length], &mut hints),
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    tracing::debug!("messages about changes were lost");
                    self.stale.store(true, Ordering::Release);
                    hints.extend([Hint::Table, Hint::Foreign]);
                }
                Err(_) => return hints,
            }
        }
    }

    fn read_table(&self, bytes: &[u8], hints: &mut BTreeSet<Hint>) {
        if messages(bytes).any(|message| message.port != self.own_port && concerns_our_table(message)) {
            self.stale.store(true, Ordering::Release);
            hints.insert(Hint::Table);
        }
        if messages(bytes).any(concerns_rules_of_others) {
            hints.insert(Hint::Foreign);
        }
    }
}

async fn changed(files: &mut Option<FilesWatch>) {
    match files {
        Some(files) => files.changed().await,
        None => std::future::pending().await,
    }
}

/// Without it, files are looked at with the next observation that something else gives rise to.
fn watch_files(root: &Path) -> Option<FilesWatch> {
    FilesWatch::start(root)
        .inspect_err(|error| tracing::warn!(%error, "changes of other programs' files are noticed late"))
        .ok()
}

/// Ready once more data is there; what is read afterwards empties the socket.
async fn readable(socket: &AsyncFd<Socket>) {
    if let Ok(mut guard) = socket.readable().await {
        guard.clear_ready();
    }
}

/// A socket that hears of links, addresses, routes and parameters in the namespace of the calling thread.
pub(crate) fn routes() -> io::Result<Socket> {
    let groups: Vec<u32> = GROUPS_ROUTE.iter().map(|group| *group as u32).collect();
    listen(NETLINK_ROUTE, &groups)
}

fn listen(protocol: isize, groups: &[u32]) -> io::Result<Socket> {
    let mut socket = Socket::new(protocol)?;
    socket.set_non_blocking(true)?;
    socket.bind_auto()?;
    for group in groups {
        socket.add_membership(*group)?;
    }
    let _ = setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER);
    Ok(socket)
}

#[allow(unsafe_code)]
pub(crate) fn register(socket: Socket) -> io::Result<AsyncFd<Socket>> {
    // SAFETY: the socket owns its descriptor, which stays open and the same until the socket is dropped, inside the
    // `AsyncFd`; nothing here replaces or closes it.
    Ok(unsafe { AsyncFd::register(socket) }?)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
