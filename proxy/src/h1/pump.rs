//! Sends a body over a wire, as fast as the peer takes it.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body;

use super::codec::encode::{self, CHUNK_END};
use super::codec::framing::Length;
use super::splice::{Source, Splice};
use super::wire::Wire;
use crate::error::BoxError;

/// Which side failed.
#[derive(Debug)]
pub(super) enum PumpError {
    /// The body broke off.
    Body(BoxError),
    /// The peer takes no more.
    Write(io::Error),
}

/// A body on its way out.
pub(super) struct Pump<B> {
    body: B,
    /// How its end is told to the peer, and how much is to come where that was told before.
    length: Length,
    /// All of it is in the output.
    ended: bool,
    /// Taken from the body while nothing of the message had left; `None` where nobody would want it back.
    taken: Option<Vec<Bytes>>,
    splice: Splice,
}

impl<B: Body<Data = Bytes, Error = BoxError> + Source + Unpin> Pump<B> {
    pub(super) fn new(body: B, length: Length) -> Self {
        Self {
            body,
            length,
            ended: matches!(length, Length::None | Length::Exactly(0)),
            taken: None,
            splice: Splice::default(),
        }
    }

    /// Remembers what it takes from the body until something of the message has left.
    pub(super) fn remembering(mut self) -> Self {
        self.taken = Some(Vec::new());
        self
    }

    /// The body, and what was taken from it: for another try when nothing was sent.
    pub(super) fn into_unsent(self) -> (B, Vec<Bytes>) {
        (self.body, self.taken.unwrap_or_default())
    }

    /// Ready when all was handed to the kernel, or nothing more can be.
    pub(super) fn poll(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Poll<Result<(), PumpError>> {
        loop {
            // What is in a pipe comes before all else; and with nothing gathered, more may go the same way.
            if let Length::Exactly(left) = &mut self.length
                && (!self.splice.is_empty() || (!self.ended && wire.output().is_empty()))
            {
                ready!(self.splice.poll(&mut self.body, wire, left, cx))?;
                self.ended = *left == 0;
            }
            let waits = self.gather(wire, cx)?;
            ready!(wire.poll_flush(cx)).map_err(PumpError::Write)?;
            self.taken = None;
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
        }
    }

    /// Moves what the body has into the output while there is room. True if the body has no more for now.
    fn gather(&mut self, wire: &Wire, cx: &mut Context<'_>) -> Result<bool, PumpError> {
        while !self.ended {
            if !wire.output().has_room() {
                return Ok(false);
            }
            // The output must not be borrowed here: the body may be read from anywhere.
            let frame = match Pin::new(&mut self.body).poll_frame(cx) {
                Poll::Pending => return Ok(true),
                Poll::Ready(Some(Err(error))) => return Err(PumpError::Body(error)),
                Poll::Ready(None) => None,
                Poll::Ready(Some(Ok(frame))) => Some(frame),
            };
            if wire.is_secure()
                && let Some(body) = self.body.on_wire()
            {
                body.expect_large();
            }
            let mut output = wire.output();
            match frame.map(http_body::Frame::into_data) {
                Some(Ok(data)) if data.is_empty() => {}
                Some(Ok(data)) => {
                    if let Some(taken) = self.taken.as_mut().filter(|_| !output.is_begun()) {
                        taken.push(data.clone());
                    }
                    match &mut self.length {
                        Length::Chunked => {
                            encode::chunk(output.gathered(), data.len());
                            output.push(data, CHUNK_END);
                        }
                        Length::UntilClose => output.push(data, &[]),
                        Length::Exactly(left) => {
                            *left = left.checked_sub(data.len() as u64).ok_or_else(too_long)?;
                            output.push(data, &[]);
                        }
                        Length::None => return Err(too_long()),
                    }
                    drop(output);
                    if self.body.is_end_stream() {
                        self.end(wire)?;
                    }
                }
                // Trailers come last, and only a chunked body has a place for them.
                Some(Err(frame)) => {
                    if let (Length::Chunked, Ok(trailers)) = (self.length, frame.into_trailers()) {
                        encode::trailers(output.gathered(), &trailers);
                        self.ended = true;
                    }
                }
                None => {
                    drop(output);
                    self.end(wire)?;
                }
            }
        }
        Ok(false)
    }

    fn end(&mut self, wire: &Wire) -> Result<(), PumpError> {
        self.ended = true;
        match self.length {
            Length::Chunked => {
                wire.output().last_chunk();
                Ok(())
            }
            Length::Exactly(1..) => Err(PumpError::Body("a body is shorter than its length".into())),
            _ => Ok(()),
        }
    }
}

fn too_long() -> PumpError {
    PumpError::Body("a body is longer than its length".into())
}
