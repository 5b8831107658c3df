//! Moves the bytes of a large body from one socket to another through a pipe, uncopied, where there is TLS on neither side.
//!
//! A body begins with plain reads and writes, which is best for small ones. A read that fills its buffer shows that much is
//! under way; then bursts are spliced until one was small again, and the next read is a plain one. Only bodies with a
//! length move like this: nobody has to look at their bytes.

use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::Interest;

use super::body::Body;
use super::pump::PumpError;
use super::wire::Wire;
use crate::stream::{Loan, is_impossible};

/// Bytes after which others on the thread have their turn.
const TURN: u64 = 4 << 20;
/// A burst smaller than this would have been cheaper to copy.
const SMALL: u64 = 32 << 10;

/// A body that may be moved without being looked at.
pub(crate) trait Source {
    /// The body on its wire, where it is one and nobody needs to see its bytes.
    fn on_wire(&self) -> Option<&Body>;

    /// So many bytes of it went past.
    fn passed(&mut self, count: u64);
}

/// The pipe between two wires, lent out while bytes move.
#[derive(Debug, Default)]
pub(super) struct Splice {
    pipe: Option<Loan>,
    /// Bytes moved since the pipe was lent.
    burst: u64,
    /// Bytes moved since others had their turn.
    turn: u64,
}

impl Splice {
    /// Moves what there is of a body of which `left` bytes are still to come. Ready when it has to go on by copying,
    /// which may be at once.
    pub(super) fn poll(
        &mut self,
        body: &mut impl Source,
        to: &Wire,
        left: &mut u64,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        loop {
            if let Some(pipe) = &mut self.pipe {
                while !pipe.is_empty() {
                    // It is not empty, so EAGAIN can only mean that the receiver is full.
                    ready!(to.poll_writable(cx, |socket| pipe.drain(socket))).map_err(PumpError::Write)?;
                }
                if self.turn >= TURN {
                    self.turn = 0;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            match self.fill(body, to, *left) {
                Ok(moved @ 1..) => {
                    *left -= moved;
                    self.burst += moved;
                    self.turn += moved;
                    body.passed(moved);
                }
                // An end too: the next read finds it, and knows what it means.
                Ok(0) | Err(_) => {
                    if let Some(body) = body.on_wire().filter(|body| self.burst < SMALL && body.is_bulk()) {
                        body.calm();
                    }
                    *self = Self {
                        turn: self.turn,
                        ..Self::default()
                    };
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }

    /// Fills the pipe, which is empty, so that EAGAIN can only mean that the sender has nothing for now.
    fn fill(&mut self, body: &impl Source, to: &Wire, left: u64) -> io::Result<u64> {
        let Some(body) = body.on_wire().filter(|body| left > 0 && body.is_bulk()) else {
            return Ok(0);
        };
        let pipe = match &mut self.pipe {
            Some(pipe) => pipe,
            none => match to.lend() {
                Some(pipe) => none.insert(pipe),
                None => return Ok(0),
            },
        };
        let filled = body.try_read(|socket| pipe.fill_up_to(socket, left));
        if let Err(error) = filled.as_ref()
            && is_impossible(error)
        {
            to.give_up(error);
        }
        filled.map(|filled| filled as u64)
    }

    /// Nothing is in the pipe.
    pub(super) fn is_empty(&self) -> bool {
        self.pipe.as_ref().is_none_or(Loan::is_empty)
    }
}

impl Wire {
    /// Does something with the socket once it takes bytes.
    fn poll_writable(
        &self,
        cx: &mut Context<'_>,
        mut with: impl FnMut(&tokio::net::TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let transport = self.transport();
        let socket = transport.socket();
        let wrote = loop {
            match socket.poll_write_ready(cx) {
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => break Poll::Ready(Err(error)),
                Poll::Pending => break Poll::Pending,
            }
            match socket.try_io(Interest::WRITABLE, || with(socket)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => break Poll::Ready(done),
            }
        };
        drop(transport);
        self.tell_written(wrote.is_pending());
        wrote
    }
}

impl Body {
    /// Does something with the socket if it has bytes.
    fn try_read(&self, with: impl FnOnce(&tokio::net::TcpStream) -> io::Result<usize>) -> io::Result<usize> {
        let transport = self.wire().transport();
        let socket = transport.socket();
        socket.try_io(Interest::READABLE, || with(socket))
    }
}
