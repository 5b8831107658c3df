//! One HTTP/1.1 connection as both of its users see it: who reads a body from it, and who writes to it.

use std::cell::{Cell, Ref, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::{Frame, SizeHint};
use tokio::io::AsyncWrite;

use super::body::Body;
use super::codec::encode;
use super::codec::framing::Length;
use super::input::{BodyError, Input, NoHead};
use super::output::Output;
use crate::client::Clock;
use crate::stream::{Loan, Pipes};
use crate::transport::Transport;

/// A connection to a client or to an endpoint. Its two directions may be used from two tasks of one thread; each of them
/// from one at a time.
#[derive(Debug)]
pub(crate) struct Wire {
    transport: RefCell<Transport>,
    input: RefCell<Input>,
    output: RefCell<Output>,
    /// Counts messages that came in, so that a body that outlives its message reads nothing of the next.
    turn: Cell<u32>,
    /// Nobody reads the body any more.
    abandoned: Cell<bool>,
    /// A 100 was passed on for the present request.
    continued: Cell<bool>,
    /// Of a client's connection.
    clock: Option<Rc<Clock>>,
    /// For large bodies that go out.
    pipes: Arc<Pipes>,
}

impl Wire {
    pub(crate) fn new(transport: Transport, clock: Option<Rc<Clock>>, pipes: &Arc<Pipes>) -> Rc<Self> {
        Rc::new(Self {
            transport: RefCell::new(transport),
            input: RefCell::new(Input::new()),
            output: RefCell::new(Output::new()),
            turn: Cell::new(0),
            abandoned: Cell::new(false),
            continued: Cell::new(false),
            clock,
            pipes: Arc::clone(pipes),
        })
    }

    /// The connection itself, and what came in over it that nobody has read.
    pub(crate) fn into_raw(self) -> (Transport, BytesMut) {
        (self.transport.into_inner(), self.input.into_inner().into_buffer())
    }

    // === In ===

    pub(super) fn poll_head(
        &self,
        cx: &mut Context<'_>,
        most: usize,
        lenient: bool,
    ) -> Poll<Result<Option<Bytes>, NoHead>> {
        let mut input = self.input.borrow_mut();
        let head = input.poll_head(&mut self.transport.borrow_mut(), cx, most, lenient);
        self.heard(&mut input);
        head
    }

    fn heard(&self, input: &mut Input) {
        if input.take_fresh()
            && let Some(clock) = &self.clock
        {
            clock.read();
        }
    }

    /// A head was read; this is the body behind it.
    pub(super) fn begin(self: &Rc<Self>, length: Length) -> Body {
        self.turn.set(self.turn.get().wrapping_add(1));
        self.abandoned.set(false);
        self.continued.set(false);
        self.input.borrow_mut().begin(length);
        Body::new(Rc::clone(self), self.turn.get())
    }

    pub(super) fn poll_frame(
        &self,
        turn: u32,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if turn != self.turn.get() {
            return Poll::Ready(Some(Err(BodyError::Over)));
        }
        let mut input = self.input.borrow_mut();
        let frame = input.poll_frame(&mut self.transport.borrow_mut(), cx);
        self.heard(&mut input);
        frame
    }

    pub(super) fn size_hint(&self, turn: u32) -> SizeHint {
        if turn == self.turn.get() {
            self.input.borrow().size_hint()
        } else {
            SizeHint::default()
        }
    }

    pub(super) fn abandon(&self, turn: u32) {
        if turn == self.turn.get() {
            self.abandoned.set(true);
        }
    }

    /// Much of the present body is under way, all of it still in the socket, and nothing stands in the way of moving it
    /// from there.
    pub(super) fn is_bulk(&self, turn: u32) -> bool {
        turn == self.turn.get() && self.transport.borrow().is_plain() && self.input.borrow().is_bulk()
    }

    pub(super) fn expect_large(&self) {
        self.input.borrow_mut().expect_large();
    }

    pub(super) fn calm(&self) {
        self.input.borrow_mut().calm();
    }

    /// Bytes of the present body were moved past.
    pub(super) fn passed(&self, count: u64) {
        self.input.borrow_mut().passed(count);
    }

    /// Nobody will read the rest of the body.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.get()
    }

    /// The body of the last message was read to its end.
    pub(super) fn is_read(&self) -> bool {
        self.input.borrow().is_ended()
    }

    /// The peer has said all, and all of it was read.
    pub(super) fn is_drained(&self) -> bool {
        let input = self.input.borrow();
        input.is_closed() && input.is_empty()
    }

    /// Nothing came in that was not read.
    pub(super) fn is_quiet(&self) -> bool {
        self.input.borrow().is_empty()
    }

    /// Reads away what of the body has come in already; true if that was all of it.
    pub(super) fn discard(&self) -> bool {
        self.input.borrow_mut().discard()
    }

    /// Looks whether the peer is still there, while nobody reads. Ready when it is not; an end of what it has to say is
    /// no reason to go, for it may want to hear the answer.
    pub(super) fn poll_lost(&self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut input = self.input.borrow_mut();
        if !input.is_ended() || !input.is_empty() || input.is_closed() {
            return Poll::Pending;
        }
        match ready!(input.poll_fill(&mut self.transport.borrow_mut(), cx)) {
            Ok(_) => Poll::Pending,
            Err(error) => Poll::Ready(error),
        }
    }

    /// One read, thrown away. 0 is the end.
    pub(super) fn poll_ignore(&self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut scratch = [0; 4 << 10];
        let mut scratch = tokio::io::ReadBuf::new(&mut scratch);
        let transport = &mut *self.transport.borrow_mut();
        ready!(tokio::io::AsyncRead::poll_read(
            Pin::new(transport),
            cx,
            &mut scratch
        ))?;
        Poll::Ready(Ok(scratch.filled().len()))
    }

    /// Gives back memory that an idle connection doesn't need.
    pub(super) fn release(&self) {
        self.input.borrow_mut().release();
    }

    // === Out ===

    pub(super) fn output(&self) -> std::cell::RefMut<'_, Output> {
        self.output.borrow_mut()
    }

    pub(super) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self
            .output
            .borrow_mut()
            .poll_flush(&mut self.transport.borrow_mut(), cx);
        self.tell_written(flushed.is_pending());
        flushed
    }

    /// The peer took bytes, or it has no room for them.
    pub(super) fn tell_written(&self, blocked: bool) {
        if let Some(clock) = &self.clock {
            clock.wrote(blocked);
        }
    }

    pub(super) fn transport(&self) -> Ref<'_, Transport> {
        self.transport.borrow()
    }

    pub(super) fn is_secure(&self) -> bool {
        !self.transport.borrow().is_plain()
    }

    /// A pipe to move bytes through; `None` where that can't be.
    pub(super) fn lend(&self) -> Option<Loan> {
        self.transport
            .borrow()
            .is_plain()
            .then(|| self.pipes.lend())
            .flatten()
    }

    pub(super) fn give_up(&self, why: &io::Error) {
        self.pipes.give_up(why);
    }

    /// Says that nothing more will come from here.
    pub(super) fn poll_shutdown(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.transport.borrow_mut()).poll_shutdown(cx)
    }

    /// Ends the connection so that what was sent can't be taken for all of it.
    pub(super) fn reset(&self) {
        // Failing to say so leaves an end that is only less clear.
        self.transport.borrow().socket().set_zero_linger().ok();
    }

    /// Tells a client something before the response itself. One 100 is enough, however often it is sent on the way.
    pub(crate) fn inform(&self, status: StatusCode, headers: &HeaderMap) {
        if status == StatusCode::CONTINUE && self.continued.replace(true) {
            return;
        }
        let mut output = self.output.borrow_mut();
        // A client that takes none of these gets no more of them.
        if output.has_room() {
            encode::informational(output.gathered(), status, headers);
        }
    }

    pub(super) fn is_continued(&self) -> bool {
        self.continued.get()
    }
}
