//! Listens for changes inside sandboxes, and says no more than inside which.
//!
//! One socket on the host hears all of them: the kernel delivers what happens in every namespace that has a number on
//! the host, and says the number beside each message (`NETLINK_LISTEN_ALL_NSID`). So a sandbox costs an entry in a map,
//! and one in which nothing happens costs nothing at all. What the host itself does comes over the same socket without a
//! number, and is for the socket of [`Watch`](super::Watch) to tell.

#![allow(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::mem::size_of;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use rtnetlink::MulticastGroup;
use rtnetlink::sys::Socket;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::{BURST, READ, listen, lock, readable, register};

const GROUPS: [MulticastGroup; 5] = [
    MulticastGroup::Link,
    MulticastGroup::Ipv4Ifaddr,
    MulticastGroup::Ipv6Ifaddr,
    MulticastGroup::Ipv4Route,
    MulticastGroup::Ipv6Route,
];
/// After messages were lost every sandbox is looked at. Whoever can make that happen can't make it happen more often.
const AFTER_LOSS: Duration = Duration::from_millis(500);

/// The task that listens, as long as this lives.
#[derive(Debug)]
pub(crate) struct SandboxWatch {
    known: Arc<Known>,
    task: JoinHandle<()>,
}

/// Tells in which sandboxes something has changed.
#[derive(Debug)]
pub struct SandboxHints(Arc<Known>);

#[derive(Debug, Default)]
struct Known {
    names: Mutex<BTreeMap<i32, String>>,
    changed: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Known {
    /// Something has changed in the namespaces with these numbers, or in any.
    fn tell(&self, numbers: &BTreeSet<i32>, any: bool) {
        let names = lock(&self.names);
        let concerned = names.iter().filter(|(number, _)| any || numbers.contains(number));
        let mut changed = lock(&self.changed);
        changed.extend(concerned.map(|(_, name)| name.clone()));
        if !changed.is_empty() {
            self.news.notify_one();
        }
    }
}

impl Drop for SandboxWatch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl SandboxHints {
    /// Waits until something has changed inside sandboxes, also by our own hand; their names.
    pub async fn changed(&mut self) -> BTreeSet<String> {
        loop {
            let changed = std::mem::take(&mut *lock(&self.0.changed));
            if !changed.is_empty() {
                return changed;
            }
            // One that came since the look above is remembered for whoever waits next.
            self.0.news.notified().await;
        }
    }
}

impl SandboxWatch {
    /// Begins to listen.
    pub(crate) fn start() -> io::Result<Self> {
        let groups = GROUPS.map(|group| group as u32);
        let socket = listen(NETLINK_ROUTE, &groups)?;
        if let Err(error) = socket.set_listen_all_namespaces(true) {
            // It takes CAP_NET_BROADCAST, and nothing else here does.
            tracing::warn!(%error, "changes inside containers are noticed late");
        }
        let socket = register(socket)?;
        let known = Arc::<Known>::default();
        let task = tokio::spawn(run(socket, Arc::clone(&known)));
        Ok(Self { known, task })
    }

    /// The namespace with this number is that of a sandbox.
    pub(crate) fn follow(&self, number: i32, name: &str) {
        lock(&self.known.names).insert(number, name.to_owned());
    }

    /// A sandbox is gone. The kernel will give its number to another namespace.
    pub(crate) fn forget(&self, name: &str) {
        lock(&self.known.names).retain(|_, known| known != name);
        lock(&self.known.changed).remove(name);
    }

    /// What is told by this is told to nobody else.
    pub(crate) fn subscribe(&self) -> SandboxHints {
        SandboxHints(Arc::clone(&self.known))
    }
}

async fn run(socket: AsyncFd<Socket>, known: Arc<Known>) {
    let mut buffer = vec![0; READ];
    loop {
        readable(&socket).await;
        // Changes come in bursts; the rest of this one is read with it.
        sleep(BURST).await;
        let (numbers, lost) = read_all(socket.get_ref().as_raw_fd(), &mut buffer);
        known.tell(&numbers, lost);
        if lost {
            tracing::debug!("messages about changes inside sandboxes were lost");
            sleep(AFTER_LOSS).await;
        }
    }
}

/// The numbers of the namespaces that all waiting messages come from, and whether some were lost.
fn read_all(socket: RawFd, buffer: &mut [u8]) -> (BTreeSet<i32>, bool) {
    let (mut numbers, mut lost) = (BTreeSet::new(), false);
    loop {
        match receive(socket, buffer) {
            Ok(number) => numbers.extend(number),
            Err(Errno::EINTR) => {}
            Err(Errno::ENOBUFS) => lost = true,
            Err(_) => return (numbers, lost),
        }
    }
}

/// Reads one datagram and tells the number of the namespace that it comes from; absent for the host's own.
fn receive(socket: RawFd, buffer: &mut [u8]) -> Result<Option<i32>, Errno> {
    /// Aligned as control messages must be, and large enough for the only one that comes.
    #[repr(C, align(8))]
    struct Control([u8; 64]);
    let mut control = Control([0; 64]);
    let mut part = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast(),
        iov_len: buffer.len(),
    };
    // SAFETY: all-zero bytes are a valid `msghdr`, a struct of integers and pointers that may be null.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>();
    // SAFETY: every pointer in the header leads to a live buffer of the length beside it, which nothing else uses.
    let length = unsafe { libc::recvmsg(socket, &raw mut header, libc::MSG_DONTWAIT) };
    Errno::result(length)?;
    // SAFETY: the kernel has filled the header, and its control buffer still lives.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: the macros give null or a pointer to a whole header inside of the control buffer.
    while let Some(message) = unsafe { next.as_ref() } {
        if message.cmsg_level == libc::SOL_NETLINK && message.cmsg_type == libc::NETLINK_LISTEN_ALL_NSID {
            // SAFETY: a message of this kind carries an `int`; it may lie anywhere.
            return Ok(Some(unsafe {
                libc::CMSG_DATA(next).cast::<i32>().read_unaligned()
            }));
        }
        // SAFETY: as above.
        next = unsafe { libc::CMSG_NXTHDR(&raw const header, next) };
    }
    Ok(None)
}
