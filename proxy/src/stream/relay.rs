//! Carries bytes between two TCP connections until both have said all.
//!
//! Each direction starts with plain reads and writes, which is best for a few small messages, and changes to
//! `splice(2)` through a pipe once a read fills its buffer: from then on no byte is copied. A direction reads only
//! when everything before has been written, so a slow receiver slows the sender down.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::{OFlag, SpliceFFlags, splice};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::net::tcp::{ReadHalf, WriteHalf};

/// Bytes of a direction's buffer before it changes to splicing.
const BUFFER: usize = 16 << 10;
/// Bytes asked for by one splice; the pipe holds 64 KiB by default.
const SPLICE: usize = 1 << 20;

/// Relays both ways. One side's end is passed on, the other way stays open until it ends too.
///
/// # Errors
/// When either connection breaks; then neither is of any more use.
pub(super) async fn relay(a: &mut TcpStream, b: &mut TcpStream) -> io::Result<()> {
    let (from_a, to_a) = a.split();
    let (from_b, to_b) = b.split();
    tokio::try_join!(one_way(from_a, to_b), one_way(from_b, to_a)).map(|_| ())
}

async fn one_way(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>) -> io::Result<()> {
    if copy(&mut from, &mut to).await? == Copied::Bulk {
        match nix::unistd::pipe2(OFlag::O_NONBLOCK | OFlag::O_CLOEXEC) {
            Ok((tail, head)) => splice_all(from.as_ref(), to.as_ref(), &Pipe { head, tail }).await?,
            // Without descriptors to spare it goes on as it began.
            Err(_) => while copy(&mut from, &mut to).await? == Copied::Bulk {},
        }
    }
    match to.shutdown().await {
        // It was closed in the meantime: nobody is left to be told.
        Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
        told => told,
    }
}

#[derive(PartialEq, Eq)]
enum Copied {
    /// The sender has said all.
    End,
    /// There is much more to come.
    Bulk,
}

async fn copy(from: &mut ReadHalf<'_>, to: &mut WriteHalf<'_>) -> io::Result<Copied> {
    loop {
        from.readable().await?;
        // Made when there is something to put in: an idle connection holds no buffer.
        let mut buffer = Vec::with_capacity(BUFFER);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(Copied::End);
        }
        to.write_all(&buffer).await?;
        if buffer.len() >= BUFFER {
            return Ok(Copied::Bulk);
        }
    }
}

struct Pipe {
    head: OwnedFd,
    tail: OwnedFd,
}

async fn splice_all(from: &TcpStream, to: &TcpStream, pipe: &Pipe) -> io::Result<()> {
    loop {
        // The pipe is empty here, so EAGAIN can only mean that the sender has nothing yet.
        let mut held = from
            .async_io(Interest::READABLE, || shift(from, &pipe.head, SPLICE))
            .await?;
        if held == 0 {
            return Ok(());
        }
        while held > 0 {
            // And here it isn't, so EAGAIN can only mean that the receiver is full.
            held -= to
                .async_io(Interest::WRITABLE, || shift(&pipe.tail, to, held))
                .await?;
        }
    }
}

fn shift(from: impl AsFd, to: impl AsFd, most: usize) -> io::Result<usize> {
    let flags = SpliceFFlags::SPLICE_F_MOVE | SpliceFFlags::SPLICE_F_NONBLOCK;
    Ok(splice(from, None, to, None, most, flags)?)
}
