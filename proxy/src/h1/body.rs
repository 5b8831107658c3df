//! The body of a message that is coming in, read from its wire as it is wanted.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};

use super::input::BodyError;
use super::wire::Wire;

/// A reader of one body. There is never another one, and none of it is kept here.
#[derive(Debug)]
pub(crate) struct Body {
    wire: Rc<Wire>,
    turn: u32,
    ended: bool,
}

impl Body {
    pub(super) fn new(wire: Rc<Wire>, turn: u32) -> Self {
        let ended = wire.is_read();
        Self { wire, turn, ended }
    }

    pub(super) fn wire(&self) -> &Wire {
        &self.wire
    }

    pub(super) fn is_bulk(&self) -> bool {
        !self.ended && self.wire.is_bulk(self.turn)
    }

    /// It is going to be encrypted: where it is large, the next one is best read in few pieces.
    pub(super) fn expect_large(&self) {
        self.wire.expect_large();
    }

    /// Not much was under way after all.
    pub(super) fn calm(&self) {
        self.wire.calm();
    }

    /// So many bytes of it were moved past.
    pub(crate) fn passed(&mut self, count: u64) {
        self.wire.passed(count);
        self.ended = self.wire.is_read();
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = self.wire.poll_frame(self.turn, cx);
        if frame.is_ready() {
            self.ended = self.wire.is_read() || !matches!(frame, Poll::Ready(Some(Ok(_))));
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        if self.ended {
            SizeHint::with_exact(0)
        } else {
            self.wire.size_hint(self.turn)
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        self.wire.abandon(self.turn);
    }
}
