//! What is to go out over a wire: small things gathered for one write, a large piece of a body uncopied behind them.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncWrite;

use super::buffers::{self, Size};
use super::codec::encode::{CHUNK_END_AND_LAST, LAST_CHUNK};
use crate::transport::Transport;

/// Pieces of a body up to so many bytes are copied behind what is there already: one slice less to write, and in TLS
/// one record less.
const SMALL: usize = 8 << 10;
/// With so many bytes gathered it is time to write.
const ENOUGH: usize = 16 << 10;

/// The sending side of a wire. In this order: what was gathered, a piece of a body, what follows the piece.
#[derive(Debug)]
pub(super) struct Output {
    gathered: BytesMut,
    /// There is a buffer to gather in.
    held: bool,
    piece: Bytes,
    behind: &'static [u8],
    /// Something of the present message has left.
    begun: bool,
}

impl Output {
    pub(super) fn new() -> Self {
        Self {
            gathered: BytesMut::new(),
            held: false,
            piece: Bytes::new(),
            behind: &[],
            begun: false,
        }
    }

    /// For heads and sizes of chunks. Only while [`has_room`](Self::has_room).
    pub(super) fn gathered(&mut self) -> &mut BytesMut {
        if !self.held {
            self.gathered = buffers::take(Size::Small);
            self.held = true;
        }
        &mut self.gathered
    }

    /// A piece of a body, and the line that ends it. Only while [`has_room`](Self::has_room).
    pub(super) fn push(&mut self, piece: Bytes, behind: &'static [u8]) {
        if piece.len() <= SMALL {
            let gathered = self.gathered();
            gathered.extend_from_slice(&piece);
            gathered.extend_from_slice(behind);
        } else {
            self.piece = piece;
            self.behind = behind;
        }
    }

    /// What ends a chunked body without trailers. Unlike the rest, right behind a piece that has no room left behind it.
    pub(super) fn last_chunk(&mut self) {
        if self.piece.is_empty() && self.behind.is_empty() {
            self.gathered().extend_from_slice(LAST_CHUNK);
        } else {
            self.behind = CHUNK_END_AND_LAST;
        }
    }

    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.behind.is_empty() && self.gathered.len() < ENOUGH
    }

    pub(super) fn is_empty(&self) -> bool {
        self.gathered.is_empty() && self.piece.is_empty() && self.behind.is_empty()
    }

    /// A new message begins.
    pub(super) fn begin(&mut self) {
        self.begun = false;
    }

    /// A byte of the present message has left.
    pub(super) fn is_begun(&self) -> bool {
        self.begun
    }

    pub(super) fn poll_flush(
        &mut self,
        transport: &mut Transport,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.is_empty() {
            let written = if self.piece.is_empty() && self.behind.is_empty() {
                Pin::new(&mut *transport).poll_write(cx, &self.gathered)
            } else {
                let slices = [&self.gathered[..], &self.piece[..], self.behind].map(IoSlice::new);
                Pin::new(&mut *transport).poll_write_vectored(cx, &slices)
            };
            match ready!(written)? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written(written),
            }
        }
        if std::mem::take(&mut self.held) {
            buffers::give_back(std::mem::take(&mut self.gathered), Size::Small);
        }
        // TLS may have taken bytes that the socket has not.
        Pin::new(transport).poll_flush(cx)
    }

    fn written(&mut self, mut count: usize) {
        self.begun = true;
        let n = count.min(self.gathered.len());
        self.gathered.advance(n);
        count -= n;
        let n = count.min(self.piece.len());
        self.piece.advance(n);
        count -= n;
        self.behind = self.behind.get(count..).unwrap_or_default();
        if self.piece.is_empty() {
            // Lets go of the memory: whoever reads into it may want it back.
            self.piece = Bytes::new();
        }
    }
}
