//! The stream under an HTTP/2 connection, watched: whether the client takes what it is sent, and what it sends.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::flood::Flood;
use crate::client::Clock;

pub(super) struct Watched<S> {
    stream: S,
    clock: Rc<Clock>,
    flood: Flood,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, clock: Rc<Clock>) -> Self {
        let flood = Flood::new(Instant::now());
        Self { stream, clock, flood }
    }

    /// Tells the clock when no bytes go out. Bytes that come in say nothing, for they may be pings and windows.
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.clock.wrote(written.is_pending());
        written
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        if this.flood.came(&buf.filled()[before..], Instant::now()) {
            return Poll::Ready(Ok(()));
        }
        // The library can't be told to say this, so it is said behind its back; where there is no room, it isn't.
        if let Some(goodbye) = this.flood.goodbye()
            && let Poll::Ready(Ok(_)) = Pin::new(&mut this.stream).poll_write(cx, &goodbye)
        {
            let _ = Pin::new(&mut this.stream).poll_flush(cx);
        }
        Poll::Ready(Err(io::Error::other("too many frames that ask for nothing")))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        if let Poll::Ready(Ok(count)) = written {
            self.flood.went(&buf[..count]);
        }
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        if let Poll::Ready(Ok(mut left)) = written {
            for buf in bufs {
                let count = left.min(buf.len());
                self.flood.went(&buf[..count]);
                left -= count;
            }
        }
        self.wrote(written)
    }
}
