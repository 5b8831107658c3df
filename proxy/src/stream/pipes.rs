//! Pipes for `splice(2)`: lent out only while bytes are moving, and given back empty.
//!
//! The kernel counts the size of pipes against their user, 64 MiB by default (pipe(7), `pipe-user-pages-soft`), and
//! each takes two descriptors. So there are few, shared by all connections, and who gets none copies instead.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::unistd::pipe2;

/// Bytes that a pipe should hold: 5 % less CPU time for each byte than with the default; more than this gains nothing.
const SIZE: usize = 128 << 10;
/// Bytes of a pipe that is still worth the detour: what a new one holds by default.
const SIZE_MIN: usize = 64 << 10;
/// Pipes at once: as many of that size as one user may have.
const MOST: usize = 512;
/// Idle pipes that are kept.
const SPARE: usize = 16;

/// The pipes of all connections.
#[derive(Debug)]
pub(crate) struct Pipes {
    most: usize,
    /// Not on this kernel, or not in this sandbox.
    impossible: AtomicBool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    lent: usize,
    spare: Vec<Pipe>,
}

#[derive(Debug)]
struct Pipe {
    head: OwnedFd,
    tail: OwnedFd,
}

/// A pipe on loan. What is in it is lost with it, so it ends empty or with its connection.
#[derive(Debug)]
pub(crate) struct Loan {
    pipes: Arc<Pipes>,
    /// Absent only while it is being given back.
    pipe: Option<Pipe>,
    /// Bytes inside.
    held: usize,
}

impl Default for Pipes {
    fn default() -> Self {
        Self::at_most(MOST)
    }
}

impl Pipes {
    /// No more than so many at once.
    pub(super) fn at_most(most: usize) -> Self {
        Self {
            most,
            impossible: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// An empty pipe; `None` when there is none to spare, now or ever.
    pub(crate) fn lend(self: &Arc<Self>) -> Option<Loan> {
        if self.impossible.load(Ordering::Relaxed) {
            return None;
        }
        let mut state = self.lock();
        if state.lent >= self.most {
            return None;
        }
        let pipe = match state.spare.pop() {
            Some(pipe) => pipe,
            None => Pipe::new().ok()?,
        };
        state.lent += 1;
        Some(Loan {
            pipes: Arc::clone(self),
            pipe: Some(pipe),
            held: 0,
        })
    }

    /// Nobody tries again: this system can't splice.
    pub(crate) fn give_up(&self, why: &io::Error) {
        if !self.impossible.swap(true, Ordering::Relaxed) {
            tracing::info!(error = %why, "this system can't splice: bytes are copied");
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are lent out, and how many are kept for the next.
    #[cfg(test)]
    pub(super) fn count(&self) -> (usize, usize) {
        let state = self.lock();
        (state.lent, state.spare.len())
    }
}

impl Pipe {
    fn new() -> nix::Result<Self> {
        let (tail, head) = pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)?;
        // Refused when the user has too many pages in pipes already; then a new one may be as small as two pages.
        let size = match fcntl(&head, FcntlArg::F_SETPIPE_SZ(SIZE as i32)) {
            Ok(size) => size,
            Err(_) => fcntl(&head, FcntlArg::F_GETPIPE_SZ)?,
        };
        if usize::try_from(size).is_ok_and(|size| size >= SIZE_MIN) {
            Ok(Self { head, tail })
        } else {
            Err(Errno::EPERM)
        }
    }
}

impl Loan {
    /// Moves what `from` has and the pipe has room for. 0 is the end of `from`, provided that the pipe was empty.
    pub(crate) fn fill(&mut self, from: impl AsFd) -> io::Result<usize> {
        self.fill_up_to(from, u64::MAX)
    }

    /// The same, but no more than so many bytes, which are not none.
    pub(crate) fn fill_up_to(&mut self, from: impl AsFd, most: u64) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let most = usize::try_from(most).unwrap_or(usize::MAX).min(SIZE);
        let moved = shift(from, &pipe.head, most)?;
        self.held += moved;
        Ok(moved)
    }

    /// Moves what is in the pipe and `to` has room for.
    pub(crate) fn drain(&mut self, to: impl AsFd) -> io::Result<usize> {
        let Some(pipe) = &self.pipe else { return Ok(0) };
        let moved = shift(&pipe.tail, to, self.held)?;
        self.held -= moved;
        Ok(moved)
    }

    /// Is nothing inside?
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let mut state = self.pipes.lock();
        state.lent -= 1;
        // Somebody else's bytes must never come out of a pipe that is lent again.
        let reusable = self.held == 0 && state.spare.len() < SPARE;
        if let Some(pipe) = self.pipe.take().filter(|_| reusable) {
            state.spare.push(pipe);
        }
    }
}

fn shift(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}

/// Does this error of the first splice say that there is no splicing at all, rather than that the connection broke?
pub(crate) fn is_impossible(error: &io::Error) -> bool {
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EINVAL | Errno::ENOSYS | Errno::EPERM))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn no_more_than_the_limit_are_lent_and_empty_ones_come_back() {
        let pipes = Arc::new(Pipes::at_most(2));
        let (first, second) = (pipes.lend().unwrap(), pipes.lend());
        assert!(second.is_some() && pipes.lend().is_none());
        drop(first);
        assert_eq!(pipes.count(), (1, 1));
        let again = pipes.lend();
        assert!(again.is_some());
        assert_eq!(pipes.count(), (2, 0));
    }

    #[test]
    fn a_pipe_with_bytes_inside_is_never_lent_again() {
        let pipes = Arc::new(Pipes::default());
        let (mut sender, receiver) = UnixStream::pair().unwrap();
        sender.write_all(b"secret").unwrap();
        let mut loan = pipes.lend().unwrap();
        assert_eq!(loan.fill(&receiver).unwrap(), 6);
        drop(loan);
        assert_eq!(pipes.count(), (0, 0));
    }

    #[test]
    fn bytes_come_out_as_they_went_in() {
        let pipes = Arc::new(Pipes::default());
        let (mut sender, from) = UnixStream::pair().unwrap();
        let (to, mut receiver) = UnixStream::pair().unwrap();
        sender.write_all(b"hello").unwrap();
        let mut loan = pipes.lend().unwrap();
        assert_eq!((loan.fill(&from).unwrap(), loan.is_empty()), (5, false));
        assert_eq!((loan.drain(&to).unwrap(), loan.is_empty()), (5, true));
        drop(sender);
        assert_eq!(loan.fill(&from).unwrap(), 0, "the end");
        let mut text = [0; 5];
        receiver.read_exact(&mut text).unwrap();
        assert_eq!(&text, b"hello");
    }

    #[test]
    fn a_system_that_cannot_splice_is_not_asked_again() {
        let pipes = Arc::new(Pipes::default());
        let error = shift(std::fs::File::open("/dev/null").unwrap(), std::io::stderr(), 1).unwrap_err();
        assert!(is_impossible(&error), "{error}");
        pipes.give_up(&error);
        assert!(pipes.lend().is_none());
    }
}
