//! What comes in over a wire: heads, and the bodies behind them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::{Frame, SizeHint};
use tokio_util::io::poll_read_buf;

use super::buffers::{self, Size};
use super::codec::chunked::{ChunkError, Chunked, Piece};
use super::codec::framing::Length;
use super::codec::head::HeadError;
use super::codec::lines::{Scan, is_token};
use crate::transport::Transport;

/// A read with less room than this isn't worth its system call.
const LEAST: usize = 2 << 10;
/// Bytes of a body that are worth another way than through a buffer.
const BULK: u64 = 32 << 10;
/// Empty lines that may stand before a request (RFC 9112 §2.2).
const EMPTY_LINES: u8 = 2;

/// Why there is no next head.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoHead {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Malformed(#[from] HeadError),
}

/// Why a body ends before its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the connection broke within a body")]
    Io(#[from] io::Error),
    #[error("the connection ended within a body")]
    Truncated,
    #[error("a chunked body is malformed")]
    Chunk(#[from] ChunkError),
    #[error("the message that this body belongs to is over")]
    Over,
}

/// What is being read.
#[derive(Debug)]
enum Message {
    /// Between messages, or within a head.
    Head {
        scan: Scan,
        empty_lines: u8,
    },
    /// A body with so many bytes still to come.
    Exactly(u64),
    Chunked(Chunked),
    UntilClose,
    /// The body was read to its end.
    Ended,
    /// Where the next message begins, nobody knows.
    Broken,
}

impl Message {
    fn head() -> Self {
        Self::Head {
            scan: Scan::default(),
            empty_lines: EMPTY_LINES,
        }
    }
}

/// The receiving side of a wire.
#[derive(Debug)]
pub(super) struct Input {
    buffer: BytesMut,
    /// What kind of buffer it is; `None` while there is none.
    size: Option<Size>,
    message: Message,
    /// The peer said that it has nothing more to say.
    closed: bool,
    /// Bytes came in since somebody asked.
    fresh: bool,
    /// The last read was filled: there is more where that came from.
    filled: bool,
    /// Messages here are large, as far as we know.
    large: bool,
}

impl Input {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            size: None,
            message: Message::head(),
            closed: false,
            fresh: false,
            filled: false,
            large: false,
        }
    }

    /// Nothing is in the buffer.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.is_empty()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// The body was read to its end, by a rule that we understand.
    pub(super) fn is_ended(&self) -> bool {
        matches!(self.message, Message::Ended)
    }

    pub(super) fn into_buffer(self) -> BytesMut {
        self.buffer
    }

    /// Gives the buffer's memory back where it holds nothing.
    pub(super) fn release(&mut self) {
        if let Some(size) = self.size.take_if(|_| self.buffer.is_empty()) {
            buffers::give_back(std::mem::take(&mut self.buffer), size);
            self.filled = false;
        }
    }

    /// Did bytes come in since the last time?
    pub(super) fn take_fresh(&mut self) -> bool {
        std::mem::take(&mut self.fresh)
    }

    /// One read. 0 is the end.
    pub(super) fn poll_fill(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        if self.closed {
            return Poll::Ready(Ok(0));
        }
        self.make_room();
        let room = self.buffer.capacity() - self.buffer.len();
        let read = ready!(poll_read_buf(Pin::new(transport), cx, &mut self.buffer))?;
        self.filled = read == room;
        self.closed = read == 0;
        if read <= Size::Small.bytes() && matches!(self.message, Message::Head { .. }) {
            self.large = false;
        }
        self.fresh = true;
        Poll::Ready(Ok(read))
    }

    fn make_room(&mut self) {
        let fits = match self.size {
            Some(Size::Small) => !(self.filled && self.buffer.is_empty()),
            Some(Size::Large) => true,
            None => false,
        };
        if !fits {
            let size = if self.filled || self.large {
                Size::Large
            } else {
                Size::Small
            };
            self.release();
            self.buffer = buffers::take(size);
            self.size = Some(size);
            return;
        }
        let size = self.size.unwrap_or(Size::Small);
        let room = self.buffer.capacity() - self.buffer.len();
        if room < LEAST || (self.buffer.is_empty() && room < size.bytes() / 2) {
            self.buffer.reserve(size.bytes());
        }
    }

    // === Heads ===

    /// The bytes of the next head, at most so many; `None` at the end of the connection. `lenient` skips empty lines
    /// before it, as a server does.
    pub(super) fn poll_head(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
        most: usize,
        lenient: bool,
    ) -> Poll<Result<Option<Bytes>, NoHead>> {
        loop {
            if let Some(end) = self.head_end(most, lenient)? {
                // Another head may come right behind this one: an informational response has no body.
                self.message = Message::head();
                return Poll::Ready(Ok(Some(self.buffer.split_to(end).freeze())));
            }
            if ready!(self.poll_fill(transport, cx))? == 0 {
                return Poll::Ready(if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(NoHead::Io(io::ErrorKind::UnexpectedEof.into()))
                });
            }
        }
    }

    fn head_end(&mut self, most: usize, lenient: bool) -> Result<Option<usize>, HeadError> {
        if !matches!(self.message, Message::Head { .. }) {
            self.message = Message::head();
        }
        let Message::Head { scan, empty_lines } = &mut self.message else {
            return Ok(None);
        };
        while lenient && *empty_lines > 0 && self.buffer.starts_with(b"\r\n") {
            self.buffer.advance(2);
            *empty_lines -= 1;
        }
        let Some(first) = self.buffer.first() else {
            return Ok(None);
        };
        // Another protocol is told apart by its first byte, rather than when its first line is over, if ever.
        let half_line = lenient && *empty_lines > 0 && self.buffer[..] == *b"\r";
        if !is_token(*first) && !half_line {
            return Err(match first {
                b'\n' => super::codec::lines::LineError::BareLf.into(),
                _ => HeadError::FirstLine,
            });
        }
        match scan.end(&self.buffer)? {
            Some(end) if end <= most => Ok(Some(end)),
            None if self.buffer.len() < most => Ok(None),
            _ => Err(HeadError::TooLong),
        }
    }

    // === Bodies ===

    /// A message's head was read, and its body comes now.
    pub(super) fn begin(&mut self, length: Length) {
        self.message = match length {
            Length::None | Length::Exactly(0) => Message::Ended,
            Length::Exactly(length) => Message::Exactly(length),
            Length::Chunked => Message::Chunked(Chunked::new()),
            Length::UntilClose => Message::UntilClose,
        };
    }

    /// The next piece of the body.
    pub(super) fn poll_frame(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        loop {
            match self.take_frame() {
                Ok(Taken::Frame(frame)) => return Poll::Ready(Some(Ok(frame))),
                Ok(Taken::End) => return Poll::Ready(None),
                Ok(Taken::Nothing) => {}
                Err(error) => return self.broken(error),
            }
            match ready!(self.poll_fill(transport, cx)) {
                Ok(0) if matches!(self.message, Message::UntilClose) => self.message = Message::Ended,
                Ok(0) => return self.broken(BodyError::Truncated),
                Ok(_) => {}
                Err(error) => return self.broken(error.into()),
            }
        }
    }

    fn broken(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.message = Message::Broken;
        Poll::Ready(Some(Err(error)))
    }

    /// A piece of what is in the buffer.
    fn take_frame(&mut self) -> Result<Taken, BodyError> {
        match &mut self.message {
            Message::Ended => Ok(Taken::End),
            Message::Head { .. } | Message::Broken => Err(BodyError::Over),
            _ if self.buffer.is_empty() => Ok(Taken::Nothing),
            Message::UntilClose => Ok(Taken::Frame(Frame::data(self.buffer.split().freeze()))),
            Message::Exactly(left) => {
                let n = usize::try_from(*left)
                    .unwrap_or(usize::MAX)
                    .min(self.buffer.len());
                *left -= n as u64;
                if *left == 0 {
                    self.message = Message::Ended;
                }
                Ok(Taken::Frame(Frame::data(self.buffer.split_to(n).freeze())))
            }
            Message::Chunked(chunked) => {
                let piece = chunked.next(&mut self.buffer)?;
                if chunked.is_ended() {
                    self.message = Message::Ended;
                }
                Ok(match piece {
                    None => Taken::Nothing,
                    Some(Piece::Data(data)) => Taken::Frame(Frame::data(data)),
                    Some(Piece::Trailers(trailers)) => Taken::Frame(Frame::trailers(trailers)),
                    Some(Piece::End) => Taken::End,
                })
            }
        }
    }

    /// Is much of a body with a length still in the socket, and nothing of it here?
    pub(super) fn is_bulk(&self) -> bool {
        self.filled
            && self.buffer.is_empty()
            && matches!(self.message, Message::Exactly(left) if left >= BULK)
    }

    /// The next message is read with a large buffer if this one filled a small one.
    pub(super) fn expect_large(&mut self) {
        self.large |= self.filled;
    }

    /// Not much was under way after all.
    pub(super) fn calm(&mut self) {
        self.filled = false;
    }

    /// So many bytes of the body went another way.
    pub(super) fn passed(&mut self, count: u64) {
        if let Message::Exactly(left) = &mut self.message {
            *left = left.saturating_sub(count);
            if *left == 0 {
                self.message = Message::Ended;
            }
        }
    }

    /// Reads away what of the body is in the buffer already. True if that was all of it.
    pub(super) fn discard(&mut self) -> bool {
        while let Ok(Taken::Frame(_)) = self.take_frame() {}
        self.is_ended()
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        match self.message {
            Message::Exactly(left) => SizeHint::with_exact(left),
            Message::Ended => SizeHint::with_exact(0),
            _ => SizeHint::default(),
        }
    }
}

enum Taken {
    Frame(Frame<Bytes>),
    End,
    /// More has to come in first.
    Nothing,
}
