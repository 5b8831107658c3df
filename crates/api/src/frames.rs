//! The codec of [`crate::v1::frame`]: how logs and exec put several streams on one connection, for both of its ends.

use std::io;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::v1::frame::MAX;

/// Bytes before a payload: kind and length.
pub const HEAD: usize = 5;

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// One of the kinds in [`crate::v1::frame`]; others are for the reader to skip.
    pub kind: u8,
    /// At most [`MAX`] bytes.
    pub payload: Bytes,
}

/// A stream that isn't frames, or not whole ones.
#[derive(Debug, thiserror::Error)]
pub enum FrameError {
    /// The peer speaks something else, or means harm.
    #[error("a frame of {length} bytes is longer than the {MAX} that are allowed")]
    TooLong {
        /// As its head says.
        length: usize,
    },
    /// The stream ended inside a frame.
    #[error("the stream broke off inside a frame")]
    Truncated,
    /// The stream failed.
    #[error("the stream of frames failed")]
    Io(#[source] io::Error),
}

/// Frames out of bytes that come in pieces of any size.
#[derive(Debug, Default)]
pub struct Decoder {
    pending: BytesMut,
}

impl Decoder {
    /// Adds bytes as they came in.
    pub fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next whole frame, if it is there already.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some((head, _)) = self.pending.split_first_chunk::<HEAD>() else {
            return Ok(None);
        };
        let [kind, length @ ..] = *head;
        let length = u32::from_be_bytes(length) as usize;
        if length > MAX {
            return Err(FrameError::TooLong { length });
        }
        if self.pending.len() < HEAD + length {
            self.pending.reserve(HEAD + length - self.pending.len());
            return Ok(None);
        }
        self.pending.advance(HEAD);
        Ok(Some(Frame {
            kind,
            payload: self.pending.split_to(length).freeze(),
        }))
    }

    /// Call at the end of the stream: an error if it ended inside a frame.
    pub fn finish(&self) -> Result<(), FrameError> {
        if self.pending.is_empty() {
            Ok(())
        } else {
            Err(FrameError::Truncated)
        }
    }
}

/// Frames from a socket.
#[derive(Debug)]
pub struct FrameReader<R> {
    from: R,
    decoder: Decoder,
}

impl<R: AsyncRead + Unpin> FrameReader<R> {
    /// Reads frames from here on.
    pub fn new(from: R) -> Self {
        Self {
            from,
            decoder: Decoder::default(),
        }
    }

    /// The next frame, `None` at a clean end. Cancelling loses nothing: safe in `select!`.
    pub async fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(Some(frame));
            }
            self.decoder.pending.reserve(16 << 10);
            let count = self
                .from
                .read_buf(&mut self.decoder.pending)
                .await
                .map_err(FrameError::Io)?;
            if count == 0 {
                return self.decoder.finish().map(|()| None);
            }
        }
    }
}

/// The bytes of `payload` as frames of one kind: one frame, or several when it is longer than [`MAX`].
///
/// An empty payload is one empty frame.
pub fn encode(kind: u8, payload: &[u8]) -> Bytes {
    let mut out = BytesMut::with_capacity(payload.len() + HEAD * (payload.len() / MAX + 1));
    let mut rest = payload;
    loop {
        let (piece, after) = rest.split_at(rest.len().min(MAX));
        out.put_u8(kind);
        out.put_u32(piece.len() as u32);
        out.put_slice(piece);
        rest = after;
        if rest.is_empty() {
            return out.freeze();
        }
    }
}

/// Writes `payload` as [`encode`] does, and flushes.
///
/// Not safe to cancel: half a frame may have left.
pub async fn write<W: AsyncWrite + Unpin>(to: &mut W, kind: u8, payload: &[u8]) -> io::Result<()> {
    to.write_all(&encode(kind, payload)).await?;
    to.flush().await
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::v1::frame::{STDERR, STDOUT};

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_the_stream_is_cut(
            frames in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..300)), 0..12),
            cut in 1_usize..64,
        ) {
            let wire: Vec<u8> = frames.iter().flat_map(|(kind, payload)| encode(*kind, payload)).collect();
            let mut decoder = Decoder::default();
            let mut seen = Vec::new();
            for piece in wire.chunks(cut) {
                decoder.push(piece);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push((frame.kind, frame.payload.to_vec()));
                }
            }
            decoder.finish().unwrap();
            prop_assert_eq!(seen, frames);
        }

        #[test]
        fn garbage_never_panics_and_never_makes_a_frame_too_long(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let mut decoder = Decoder::default();
            decoder.push(&bytes);
            while let Ok(Some(frame)) = decoder.next_frame() {
                prop_assert!(frame.payload.len() <= MAX);
            }
        }
    }

    #[test]
    fn a_long_payload_becomes_several_frames() {
        let payload = vec![7; MAX * 2 + 3];
        let mut decoder = Decoder::default();
        decoder.push(&encode(STDOUT, &payload));
        let lengths: Vec<usize> = std::iter::from_fn(|| decoder.next_frame().unwrap())
            .map(|frame| frame.payload.len())
            .collect();
        assert_eq!(lengths, [MAX, MAX, 3]);
    }

    #[test]
    fn a_head_that_claims_too_much_is_refused_before_its_payload_comes() {
        let mut decoder = Decoder::default();
        decoder.push(&[STDOUT, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(
            decoder.next_frame(),
            Err(FrameError::TooLong { length: 0xffff_ffff })
        ));
    }

    #[tokio::test]
    async fn a_stream_cut_inside_a_frame_is_told_from_one_that_ended() {
        let whole = encode(STDERR, b"boom");
        let mut reader = FrameReader::new(&whole[..]);
        assert_eq!(reader.next_frame().await.unwrap().unwrap().payload, "boom");
        assert_eq!(reader.next_frame().await.unwrap(), None);

        let mut reader = FrameReader::new(&whole[..whole.len() - 1]);
        assert!(matches!(reader.next_frame().await, Err(FrameError::Truncated)));
    }
}
