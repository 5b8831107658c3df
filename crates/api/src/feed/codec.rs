//! Framing of the feed: length, JSON, and the descriptors that ride on a frame.
//!
//! `SCM_RIGHTS` has no place in a byte stream of its own: the kernel hands the descriptors out together with some
//! read that touches the bytes they were sent with, and ends that read there. So the last byte of such a read lies
//! inside the frame that owns them, and that is how they find their frame again, however the stream was cut.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;

use super::{FRAME_MAX, SOCKETS_MAX, SocketId, ToNetd, ToProxy};

/// Bytes of the length in front of a frame.
const HEADER: usize = 4;
/// Bytes asked of the kernel at once.
const CHUNK: usize = 64 << 10;
/// A receive buffer that grew beyond this is given back once it is empty.
const KEEP: usize = 1 << 20;
/// Most descriptors that the kernel passes in one message (`SCM_MAX_FD`); room for all of them, so that none is cut off.
const RIGHTS_MAX: usize = 253;

/// Why the feed can't go on. After any of these the connection is of no more use.
#[derive(Debug, thiserror::Error)]
pub enum FeedError {
    /// The socket failed.
    #[error("the feed's socket failed")]
    Io(#[from] io::Error),
    /// A length that no honest peer sends.
    #[error("a frame of {length} bytes on the feed is longer than the {FRAME_MAX} allowed")]
    TooLong {
        /// Bytes announced or about to be sent.
        length: usize,
    },
    /// Not JSON, or not a message that this version knows.
    #[error("a frame on the feed is not a message of feed version {version}", version = super::VERSION)]
    Malformed(#[source] serde_json::Error),
    /// The message could not be written as JSON.
    #[error("a message for the feed can't be written as JSON")]
    Unwritable(#[source] serde_json::Error),
    /// The stream ended inside a frame.
    #[error("the feed ended inside a frame")]
    Cut,
    /// The kernel dropped descriptors, most likely because this process has too many open.
    #[error("descriptors on the feed were lost: raise the limit of open files (`LimitNOFILE`)")]
    DescriptorsLost,
    /// A frame names more sockets than came with it.
    #[error("a frame on the feed lists {listed} sockets but carries {arrived} descriptors")]
    DescriptorsMissing {
        /// Sockets that the frame names.
        listed: usize,
        /// Descriptors that came.
        arrived: usize,
    },
    /// More descriptors on one frame than the protocol allows.
    #[error("{count} descriptors on one frame of the feed are more than the {SOCKETS_MAX} allowed")]
    TooManyDescriptors {
        /// How many.
        count: usize,
    },
    /// An earlier `send` was cancelled or failed half-way, so that the peer waits for the rest of that frame.
    #[error("an earlier frame on the feed was only half sent")]
    HalfSent,
}

/// A message of the feed.
pub trait Frame: DeserializeOwned {
    /// How many descriptors travel with this message.
    fn descriptors(&self) -> usize;
}

impl Frame for ToProxy {
    fn descriptors(&self) -> usize {
        match self {
            Self::Sockets(list) => list.len(),
            _ => 0,
        }
    }
}

impl Frame for ToNetd {
    fn descriptors(&self) -> usize {
        match self {
            Self::Sockets(list) => list.len(),
            _ => 0,
        }
    }
}

/// The two halves of a feed connection. `M` is what the peer sends.
pub fn split<M: Frame>(stream: UnixStream) -> (FeedReader<M>, FeedWriter) {
    let stream = Arc::new(stream);
    let reader = FeedReader {
        stream: Arc::clone(&stream),
        buffer: Vec::new(),
        start: 0,
        scratch: vec![0; CHUNK].into_boxed_slice(),
        rights: VecDeque::new(),
        message: PhantomData,
    };
    (
        reader,
        FeedWriter {
            stream,
            half_sent: false,
        },
    )
}

// === impl FeedReader ===

/// The receiving half.
#[derive(Debug)]
pub struct FeedReader<M> {
    stream: Arc<UnixStream>,
    /// Received and not yet handed out.
    buffer: Vec<u8>,
    /// Where in the stream `buffer` begins.
    start: u64,
    scratch: Box<[u8]>,
    /// Descriptors not yet handed out, each batch with the place in the stream of a byte of its frame.
    rights: VecDeque<(u64, Vec<OwnedFd>)>,
    message: PhantomData<fn() -> M>,
}

impl<M: Frame> FeedReader<M> {
    /// The next message with its descriptors (close-on-exec), or `None` once the peer has closed the connection.
    ///
    /// Descriptors that the message does not ask for are closed. Cancel-safe: a call that is dropped loses nothing.
    ///
    /// # Errors
    /// See [`FeedError`]; the connection is then of no more use.
    pub async fn next(&mut self) -> Result<Option<(M, Vec<OwnedFd>)>, FeedError> {
        loop {
            if let Some(length) = self.frame_length()? {
                return self.take(length).map(Some);
            }
            if self.fill().await? == 0 {
                return if self.buffer.is_empty() {
                    Ok(None)
                } else {
                    Err(FeedError::Cut)
                };
            }
        }
    }

    /// Length of the first frame in the buffer, header included, if all of it is there.
    fn frame_length(&self) -> Result<Option<usize>, FeedError> {
        let Some(header) = self.buffer.first_chunk::<HEADER>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*header) as usize;
        if length > FRAME_MAX {
            return Err(FeedError::TooLong { length });
        }
        let whole = HEADER + length;
        Ok((self.buffer.len() >= whole).then_some(whole))
    }

    fn take(&mut self, whole: usize) -> Result<(M, Vec<OwnedFd>), FeedError> {
        let message = serde_json::from_slice::<M>(&self.buffer[HEADER..whole]).map_err(FeedError::Malformed);
        self.start += whole as u64;
        if self.buffer.len() == whole && self.buffer.capacity() > KEEP {
            self.buffer = Vec::new();
        } else {
            self.buffer.drain(..whole);
        }
        let mut descriptors = Vec::new();
        while self.rights.front().is_some_and(|(at, _)| *at < self.start) {
            descriptors.extend(self.rights.pop_front().into_iter().flat_map(|(_, batch)| batch));
        }
        let message = message?;
        let listed = message.descriptors();
        if descriptors.len() < listed {
            return Err(FeedError::DescriptorsMissing {
                listed,
                arrived: descriptors.len(),
            });
        }
        descriptors.truncate(listed);
        Ok((message, descriptors))
    }

    /// Reads once; 0 at the end of the stream.
    async fn fill(&mut self) -> Result<usize, FeedError> {
        let Self { stream, scratch, .. } = self;
        let (read, rights) = stream
            .async_io(Interest::READABLE, || receive(stream, scratch))
            .await?;
        self.buffer.extend_from_slice(&self.scratch[..read]);
        let Rights { descriptors, lost } = rights;
        if lost {
            return Err(FeedError::DescriptorsLost);
        }
        if !descriptors.is_empty() {
            let end = self.start + self.buffer.len() as u64;
            self.rights.push_back((end.saturating_sub(1), descriptors));
            // What whole frames in the buffer own is about to be handed out; only the unfinished one can hoard.
            let unfinished: usize = self.rights.iter().map(|(_, batch)| batch.len()).sum();
            if unfinished > SOCKETS_MAX && self.frame_length()?.is_none() {
                return Err(FeedError::TooManyDescriptors { count: unfinished });
            }
        }
        Ok(read)
    }
}

struct Rights {
    descriptors: Vec<OwnedFd>,
    lost: bool,
}

fn receive(stream: &UnixStream, into: &mut [u8]) -> io::Result<(usize, Rights)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(RIGHTS_MAX))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = recvmsg(
        stream,
        &mut [IoSliceMut::new(into)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC,
    )?;
    let mut descriptors = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            descriptors.extend(rights);
        }
    }
    Ok((
        got.bytes,
        Rights {
            descriptors,
            lost: got.flags.contains(ReturnFlags::CTRUNC),
        },
    ))
}

// === impl FeedWriter ===

/// The sending half.
#[derive(Debug)]
pub struct FeedWriter {
    stream: Arc<UnixStream>,
    half_sent: bool,
}

impl FeedWriter {
    /// Sends one message, with descriptors on its first bytes.
    ///
    /// Not cancel-safe: when a call is dropped after the first byte left, every later one is refused with
    /// [`FeedError::HalfSent`].
    ///
    /// # Errors
    /// See [`FeedError`]. More than [`SOCKETS_MAX`] descriptors and more than [`FRAME_MAX`] bytes are refused before
    /// anything is sent.
    pub async fn send<T: Serialize>(
        &mut self,
        message: &T,
        descriptors: &[BorrowedFd<'_>],
    ) -> Result<(), FeedError> {
        if self.half_sent {
            return Err(FeedError::HalfSent);
        }
        if descriptors.len() > SOCKETS_MAX {
            return Err(FeedError::TooManyDescriptors {
                count: descriptors.len(),
            });
        }
        let frame = encode(message)?;
        let mut descriptors = descriptors;
        let mut sent = 0;
        while sent < frame.len() {
            let rest = &frame[sent..];
            let count = self
                .stream
                .async_io(Interest::WRITABLE, || transmit(&self.stream, rest, descriptors))
                .await;
            // Set between the writes only, where the loop awaits: before the first byte nothing is lost.
            self.half_sent = true;
            sent += count?;
            descriptors = &[];
        }
        self.half_sent = false;
        Ok(())
    }

    /// Sends sockets of any number, [`SOCKETS_MAX`] a frame. `frame` is [`ToProxy::Sockets`] or [`ToNetd::Sockets`].
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub async fn send_sockets<T, F>(
        &mut self,
        frame: fn(Vec<SocketId>) -> T,
        sockets: &[(SocketId, F)],
    ) -> Result<(), FeedError>
    where
        T: Serialize,
        F: AsFd,
    {
        for part in sockets.chunks(SOCKETS_MAX) {
            let message = frame(part.iter().map(|(id, _)| id.clone()).collect());
            let descriptors: Vec<_> = part.iter().map(|(_, socket)| socket.as_fd()).collect();
            self.send(&message, &descriptors).await?;
        }
        Ok(())
    }
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, FeedError> {
    let mut frame = vec![0; HEADER];
    serde_json::to_writer(&mut frame, message).map_err(FeedError::Unwritable)?;
    let length = frame.len() - HEADER;
    if length > FRAME_MAX {
        return Err(FeedError::TooLong { length });
    }
    frame[..HEADER].copy_from_slice(&(length as u32).to_be_bytes());
    Ok(frame)
}

fn transmit(stream: &UnixStream, bytes: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(SOCKETS_MAX))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    // No room would mean more than SOCKETS_MAX, which `send` has refused; then nothing may leave without them.
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    Ok(sendmsg(
        stream,
        &[IoSlice::new(bytes)],
        &mut control,
        SendFlags::NOSIGNAL,
    )?)
}

#[cfg(test)]
mod tests;
