//! What upstreams read: the client's body, kept for a second try where that is allowed.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tokio::time::Sleep;

use super::Incoming;
use crate::error::BoxError;
use crate::h1::{self, splice::Source};
use crate::middleware::forwarded;

/// What the proxy knows about a request's body while it streams.
#[derive(Debug)]
pub(crate) struct Progress {
    pub(crate) bytes: Cell<u64>,
    /// All of it was handed to the upstream connection, so that the connection may be used again.
    pub(crate) complete: Cell<bool>,
    /// The client broke off.
    pub(crate) client_failed: Cell<bool>,
    /// Most bytes that are taken.
    pub(crate) most: Cell<u64>,
    /// More came.
    pub(crate) too_large: Cell<bool>,
}

impl Default for Progress {
    fn default() -> Self {
        Self {
            bytes: Cell::default(),
            complete: Cell::default(),
            client_failed: Cell::default(),
            most: Cell::new(u64::MAX),
            too_large: Cell::default(),
        }
    }
}

/// A request body as the upstream connection reads it.
pub(crate) struct RequestBody {
    source: Origin,
    progress: Rc<Progress>,
    /// How long the client may be silent within its body; `None` for conversations (gRPC), where silence is normal.
    patience: Option<Duration>,
    /// Runs while the client is silent.
    silence: Option<Pin<Box<Sleep>>>,
    /// Taken before and not sent; comes first, in reverse.
    unread: Vec<Bytes>,
}

enum Origin {
    Empty,
    Stream(Incoming),
    /// Recorded while it streams; `at` is the next recorded frame to give.
    Tape {
        tape: Rc<RefCell<Tape>>,
        take: u32,
        at: usize,
    },
}

/// The body of a request that may be sent twice.
pub(crate) struct Tape {
    recorded: Vec<Bytes>,
    room: u64,
    trailers: Option<HeaderMap>,
    rest: Option<Incoming>,
    /// More came than may be kept: there is no second try.
    overflowed: bool,
    /// Number of the try that may read; an older reader is told that it is too late.
    take: u32,
}

impl Tape {
    pub(crate) fn new(body: Incoming, room: u64) -> Rc<RefCell<Self>> {
        let tape = Self {
            recorded: vec![],
            room,
            trailers: None,
            rest: Some(body),
            overflowed: false,
            take: 0,
        };
        Rc::new(RefCell::new(tape))
    }

    pub(crate) fn can_replay(&self) -> bool {
        !self.overflowed
    }

    fn poll(&mut self, at: &mut usize, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if !self.overflowed
            && let Some(bytes) = self.recorded.get(*at)
        {
            *at += 1;
            return Poll::Ready(Some(Ok(Frame::data(bytes.clone()))));
        }
        let Some(rest) = self.rest.as_mut().filter(|rest| !rest.is_end_stream()) else {
            return Poll::Ready(
                self.trailers
                    .clone()
                    .filter(|_| at_once(at))
                    .map(|t| Ok(Frame::trailers(t))),
            );
        };
        match ready!(Pin::new(rest).poll_frame(cx)) {
            None => {
                self.rest = None;
                Poll::Ready(None)
            }
            Some(Err(error)) => Poll::Ready(Some(Err(error))),
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    self.record(data);
                    *at = self.recorded.len();
                } else if let Some(trailers) = frame.trailers_ref() {
                    self.trailers = Some(trailers.clone());
                    *at = usize::MAX;
                }
                Poll::Ready(Some(Ok(frame)))
            }
        }
    }

    fn record(&mut self, data: &Bytes) {
        match self.room.checked_sub(data.len() as u64) {
            Some(left) if !self.overflowed => {
                self.room = left;
                self.recorded.push(data.clone());
            }
            _ => {
                self.overflowed = true;
                self.recorded = Vec::new();
            }
        }
    }
}

/// True the first time: trailers come once.
fn at_once(at: &mut usize) -> bool {
    std::mem::replace(at, usize::MAX) != usize::MAX
}

impl RequestBody {
    pub(crate) fn empty(progress: &Rc<Progress>) -> Self {
        progress.complete.set(true);
        Self::new(Origin::Empty, progress, None)
    }

    pub(crate) fn stream(body: Incoming, progress: &Rc<Progress>, patience: Option<Duration>) -> Self {
        Self::new(Origin::Stream(body), progress, patience)
    }

    /// A new reader from the start of the tape; those before it get an error.
    pub(crate) fn replay(
        tape: &Rc<RefCell<Tape>>,
        progress: &Rc<Progress>,
        patience: Option<Duration>,
    ) -> Self {
        let take = {
            let mut tape = tape.borrow_mut();
            tape.take += 1;
            tape.take
        };
        progress.complete.set(false);
        progress.bytes.set(0);
        Self::new(
            Origin::Tape {
                tape: Rc::clone(tape),
                take,
                at: 0,
            },
            progress,
            patience,
        )
    }

    fn new(source: Origin, progress: &Rc<Progress>, patience: Option<Duration>) -> Self {
        Self {
            source,
            progress: Rc::clone(progress),
            patience,
            silence: None,
            unread: Vec::new(),
        }
    }

    /// Puts back what was taken from the start of the body.
    fn put_back(&mut self, mut taken: Vec<Bytes>) {
        let bytes: u64 = taken.iter().map(|bytes| bytes.len() as u64).sum();
        self.progress
            .bytes
            .set(self.progress.bytes.get().saturating_sub(bytes));
        taken.reverse();
        self.unread = taken;
    }

    fn poll_source(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.source {
            Origin::Empty => Poll::Ready(None),
            Origin::Stream(body) => Pin::new(body).poll_frame(cx),
            Origin::Tape { tape, take, at } => {
                let mut tape = tape.borrow_mut();
                if tape.take != *take {
                    return Poll::Ready(Some(Err("the request is being sent elsewhere".into())));
                }
                tape.poll(at, cx)
            }
        }
    }

    /// Ready when the client has been silent for too long.
    fn poll_silence(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(patience) = self.patience else {
            return Poll::Pending;
        };
        let silence = self
            .silence
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(patience)));
        silence.as_mut().poll(cx)
    }

    /// This body once more, if it is one that can be sent only once and was not. `taken` is what was read of it.
    pub(crate) fn into_unsent(mut self, taken: Vec<Bytes>) -> Option<Self> {
        if !matches!(self.source, Origin::Stream(_)) {
            return None;
        }
        self.put_back(taken);
        Some(self)
    }
}

impl Source for RequestBody {
    fn on_wire(&self) -> Option<&h1::body::Body> {
        match &self.source {
            Origin::Stream(body) if self.unread.is_empty() => body.on_wire(),
            _ => None,
        }
    }

    fn passed(&mut self, count: u64) {
        if let Origin::Stream(body) = &mut self.source {
            body.passed(count);
        }
        self.silence = None;
        self.progress.bytes.set(self.progress.bytes.get() + count);
        if self.is_end_stream() {
            self.progress.complete.set(true);
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let source = match this.unread.pop() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => this.poll_source(cx),
        };
        let mut frame = match source {
            Poll::Ready(frame) => frame.map(|frame| frame.map(forwarded::honest_trailers)),
            Poll::Pending => {
                ready!(this.poll_silence(cx));
                Some(Err("the client stopped in the middle of its request".into()))
            }
        };
        this.silence = None;
        if let Some(Ok(passed)) = &frame {
            let length = passed.data_ref().map_or(0, Bytes::len);
            let bytes = this.progress.bytes.get() + length as u64;
            this.progress.bytes.set(bytes);
            if bytes > this.progress.most.get() {
                this.progress.too_large.set(true);
                frame = Some(Err("the request is larger than its route takes".into()));
            }
        }
        if matches!(frame, Some(Err(_))) {
            this.progress.client_failed.set(true);
        }
        if frame.is_none() || this.is_end_stream() {
            this.progress.complete.set(true);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        if !self.unread.is_empty() {
            return false;
        }
        match &self.source {
            Origin::Empty => true,
            Origin::Stream(body) => body.is_end_stream(),
            Origin::Tape { tape, at, .. } => {
                let tape = tape.borrow();
                let read = tape.overflowed || *at >= tape.recorded.len();
                let trailers = tape.trailers.is_some() && *at != usize::MAX;
                read && !trailers && tape.rest.as_ref().is_none_or(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Origin::Empty => SizeHint::with_exact(0),
            Origin::Stream(body) => {
                let unread: u64 = self.unread.iter().map(|bytes| bytes.len() as u64).sum();
                let exact = body.size_hint().exact().map(|left| left + unread);
                exact.map_or_else(SizeHint::default, SizeHint::with_exact)
            }
            Origin::Tape { tape, at, .. } => {
                let tape = tape.borrow();
                if tape.trailers.is_some() {
                    // They go with chunks only.
                    return SizeHint::default();
                }
                let rest = tape
                    .rest
                    .as_ref()
                    .map_or(Some(0), |rest| rest.size_hint().exact());
                let recorded: u64 = tape
                    .recorded
                    .iter()
                    .skip(*at)
                    .map(|bytes| bytes.len() as u64)
                    .sum();
                rest.map_or_else(SizeHint::default, |rest| SizeHint::with_exact(rest + recorded))
            }
        }
    }
}
