//! What a namespace has of links, addresses, routes and rules, kept true by the kernel's own messages.
//!
//! To list everything whenever anything changes costs each container what all others have. So it is listed once, and
//! then followed: each message carries the whole object that came, went or changed. Messages are read before every look,
//! and the kernel sends them before it answers whoever made the change, so what was done is seen. Where following can't
//! be exact, or messages were lost, the listing is made anew; and so it is from time to time, for listing is the truth.

mod kept;
mod message;

use std::collections::BTreeSet;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};
use rtnetlink::sys::Socket;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::link::Links;
use crate::{Hint, KernelError};

pub(crate) use kept::{Kept, Touched};
pub(crate) use message::RouteKey;

const READ: usize = 64 * 1024;

/// The followed state of one namespace.
#[derive(Debug)]
pub(crate) struct Mirror {
    socket: AsyncFd<Socket>,
    links: Links,
    state: Mutex<State>,
    /// One listing at a time.
    listing: tokio::sync::Mutex<()>,
    /// Whoever looked has read what nobody was told of yet.
    untold: Notify,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    /// It must be listed anew.
    is_stale: bool,
    /// What came while a listing was under way; the listing may have it or not.
    journal: Option<Vec<Vec<u8>>>,
    untold: BTreeSet<Hint>,
}

impl Mirror {
    /// Follows the namespace that both were opened in. The socket is one of [`open`].
    pub(crate) fn new(socket: Socket, links: Links) -> io::Result<Self> {
        let state = State {
            is_stale: true,
            ..State::default()
        };
        Ok(Self {
            socket: crate::watch::register(socket)?,
            links,
            state: Mutex::new(state),
            listing: tokio::sync::Mutex::default(),
            untold: Notify::new(),
        })
    }

    /// A handle on the namespace.
    pub(crate) fn links(&self) -> &Links {
        &self.links
    }

    /// Waits until there is something to tell.
    pub(crate) async fn changed(&self) {
        tokio::select! {
            readable = self.socket.readable() => {
                if let Ok(mut guard) = readable {
                    guard.clear_ready();
                }
            }
            () = self.untold.notified() => {}
        }
    }

    /// Reads what the kernel has to tell; answers what kinds of things changed.
    pub(crate) fn read(&self) -> BTreeSet<Hint> {
        let mut state = self.state();
        state.read(self.socket.get_ref());
        std::mem::take(&mut state.untold)
    }

    /// The next look lists everything.
    pub(crate) fn distrust(&self) {
        self.state().is_stale = true;
    }

    /// Looks at what is now.
    pub(crate) async fn look<T>(&self, look: impl FnOnce(&mut Kept) -> T) -> Result<T, KernelError> {
        {
            let mut state = self.state();
            state.read(self.socket.get_ref());
            self.tell(&state);
            if !state.is_stale && !state.kept.is_unsure() {
                return Ok(look(&mut state.kept));
            }
        }
        self.list().await?;
        Ok(look(&mut self.state().kept))
    }

    async fn list(&self) -> Result<(), KernelError> {
        let _one_at_a_time = self.listing.lock().await;
        {
            let mut state = self.state();
            state.read(self.socket.get_ref());
            state.is_stale = false;
            state.journal = Some(Vec::new());
        }
        let listed = Kept::list(&self.links).await;
        let mut state = self.state();
        state.read(self.socket.get_ref());
        let journal = state.journal.take().unwrap_or_default();
        let mut kept = match listed {
            Ok(kept) => kept,
            Err(error) => {
                state.is_stale = true;
                return Err(error);
            }
        };
        // Older than the listing or not: where it all leads to is the same.
        for datagram in &journal {
            kept.apply(datagram, &mut BTreeSet::new());
        }
        kept.touch_all();
        state.kept = kept;
        self.tell(&state);
        Ok(())
    }

    fn tell(&self, state: &State) {
        if !state.untold.is_empty() {
            self.untold.notify_one();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn read(&mut self, socket: &Socket) {
        let mut buffer = vec![0; READ];
        loop {
            match recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => {
                    let datagram = &buffer[..length];
                    if let Some(journal) = &mut self.journal {
                        journal.push(datagram.to_vec());
                    }
                    self.kept.apply(datagram, &mut self.untold);
                }
                Err(Errno::EINTR) => {}
                Err(Errno::ENOBUFS) => {
                    tracing::debug!("messages about changes were lost");
                    self.is_stale = true;
                    self.untold
                        .extend([Hint::Links, Hint::Addresses, Hint::Routes, Hint::Parameters]);
                }
                Err(_) => return,
            }
        }
    }
}

/// Opens the socket of a mirror in the namespace of the calling thread.
pub(crate) fn open() -> io::Result<Socket> {
    crate::watch::routes()
}
