//! Carries bytes between two TCP connections until both have said all.
//!
//! Each direction starts with plain reads and writes through a buffer that all connections of a thread share, which is
//! best for small messages: one read and one write each. A read that fills the buffer shows that much is under way, and
//! then bytes are moved by `splice(2)` through a pipe, uncopied, until a burst was small again. Between bursts an open
//! connection holds neither buffer nor pipe. A direction reads only when everything before has been written, so a slow
//! receiver slows the sender down.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::task::yield_now;

use super::pipes::{self, Pipes};

/// Bytes of a thread's buffer. What doesn't fill it is cheaper to copy than to splice.
const BUFFER: usize = 32 << 10;
/// Bytes that one direction moves before others on the thread have their turn, some 3 ms. Shorter turns cost bulk
/// connections more CPU time for each byte.
const TURN: usize = 4 << 20;

thread_local! {
    static SHARED: RefCell<Box<[u8]>> = RefCell::new(vec![0; BUFFER].into_boxed_slice());
}

/// Relays both ways. One side's end is passed on, the other way stays open until it ends too.
///
/// # Errors
/// When either connection breaks; then neither is of any more use.
pub(super) async fn relay(a: &mut TcpStream, b: &mut TcpStream, pipes: &Arc<Pipes>) -> io::Result<()> {
    let (from_a, to_a) = a.split();
    let (from_b, to_b) = b.split();
    tokio::try_join!(one_way(from_a, to_b, pipes), one_way(from_b, to_a, pipes)).map(|_| ())
}

async fn one_way(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, pipes: &Arc<Pipes>) -> io::Result<()> {
    let mut next = Next::Copy;
    loop {
        next = match next {
            Next::Copy => copy(&mut from, &mut to).await?,
            Next::Splice => splice(from.as_ref(), to.as_ref(), pipes).await?,
            Next::End => break,
        };
    }
    match to.shutdown().await {
        // It was closed in the meantime: nobody is left to be told.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        told => told,
    }
}

/// How a direction goes on.
enum Next {
    /// With small messages, or without a pipe.
    Copy,
    /// Much is under way.
    Splice,
    /// The sender has said all.
    End,
}

async fn copy(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<Next> {
    let (read, unsent) = poll_fn(|cx| poll_copy(from, to, cx)).await?;
    if read == 0 {
        return Ok(Next::End);
    }
    if !unsent.is_empty() {
        to.write_all(&unsent).await?;
    }
    Ok(if read == BUFFER { Next::Splice } else { Next::Copy })
}

/// One read and one write. Returns how much was read, and what of it the receiver has no room for as yet.
fn poll_copy(
    from: &mut ReadHalf<'_>,
    to: &mut WriteHalf<'_>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<(usize, Vec<u8>)>> {
    SHARED.with_borrow_mut(|shared| {
        let mut buffer = ReadBuf::new(shared);
        ready!(Pin::new(from).poll_read(cx, &mut buffer))?;
        let read = buffer.filled();
        if read.is_empty() {
            return Poll::Ready(Ok((0, Vec::new())));
        }
        let sent = match Pin::new(to).poll_write(cx, read) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        Poll::Ready(Ok((read.len(), read[sent..].to_vec())))
    })
}

/// Moves one burst: all that the sender has at once, and what comes while that is passed on.
async fn splice(from: &TcpStream, to: &TcpStream, pipes: &Arc<Pipes>) -> io::Result<Next> {
    from.readable().await?;
    let Some(mut pipe) = pipes.lend() else {
        return Ok(Next::Copy);
    };
    let (mut moved, mut turn) = (0, 0);
    loop {
        // The pipe is empty here, so EAGAIN can only mean that the sender has nothing more for now.
        match from.try_io(Interest::READABLE, || pipe.fill(from)) {
            Ok(0) => return Ok(Next::End),
            Ok(read) => (moved, turn) = (moved + read, turn + read),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if pipes::is_impossible(&error) => {
                pipes.give_up(&error);
                return Ok(Next::Copy);
            }
            Err(error) => return Err(error),
        }
        while !pipe.is_empty() {
            // And here it isn't, so EAGAIN can only mean that the receiver is full.
            to.async_io(Interest::WRITABLE, || pipe.drain(to)).await?;
        }
        if turn >= TURN {
            turn = 0;
            yield_now().await;
        }
    }
    Ok(if moved < BUFFER { Next::Copy } else { Next::Splice })
}
