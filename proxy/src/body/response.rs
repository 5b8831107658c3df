//! What clients read: the upstream's body or our own words.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::Incoming;
use crate::error::BoxError;
use crate::h1::{self, splice::Source};
use crate::middleware::access_log::{Outcome, Record};
use crate::middleware::compress::Encoder;
use crate::middleware::hop_by_hop;
use crate::upstream::pool::Lease;

/// A response body as the client's connection reads it. Writes the request's line in the access log when it is dropped.
pub(crate) struct ResponseBody {
    source: Answer,
    /// The upstream broke off. Told a turn later, so that what came before is on its way by then.
    broken: Option<BoxError>,
    /// The upstream's body is compressed on its way.
    encoding: Option<Box<Encoding>>,
    record: Option<Record>,
}

struct Encoding {
    encoder: Encoder,
    /// They come last.
    trailers: Option<HeaderMap>,
}

enum Answer {
    /// Our own words.
    Own(Option<Bytes>),
    Upstream {
        body: Incoming,
        lease: Option<Lease>,
    },
}

impl ResponseBody {
    pub(crate) fn own(text: impl Into<Bytes>, record: Record) -> Self {
        let text = text.into();
        let source = Answer::Own((!text.is_empty()).then_some(text));
        let mut body = Self {
            source,
            broken: None,
            encoding: None,
            record: Some(record),
        };
        body.finish_if_ended();
        body
    }

    /// The empty answer that opens a tunnel over HTTP/2; the tunnel keeps the record.
    pub(crate) fn none() -> Self {
        Self {
            source: Answer::Own(None),
            broken: None,
            encoding: None,
            record: None,
        }
    }

    pub(crate) fn upstream(body: Incoming, lease: Lease, record: Record, encoder: Option<Encoder>) -> Self {
        let mut body = Self {
            source: Answer::Upstream {
                body,
                lease: Some(lease),
            },
            broken: None,
            encoding: encoder.map(|encoder| {
                Box::new(Encoding {
                    encoder,
                    trailers: None,
                })
            }),
            record: Some(record),
        };
        body.finish_if_ended();
        body
    }

    fn finish_if_ended(&mut self) {
        if self.is_end_stream() {
            self.finish(Outcome::Ok);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        if let Answer::Upstream { body, lease } = &mut self.source
            && let Some(lease) = lease.take()
            && outcome == Outcome::Ok
        {
            // Nobody may hold on to a connection that is for somebody else next.
            *body = Incoming::None;
            lease.put_back();
        }
        if let Some(record) = &mut self.record {
            match outcome {
                Outcome::Ok => record.delivered(),
                other => record.outcome(other),
            }
        }
    }
}

fn poll_plain(body: &mut Incoming, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
    Pin::new(body)
        .poll_frame(cx)
        .map(|frame| frame.map(|frame| frame.map(hop_by_hop::plain_trailers)))
}

impl Encoding {
    /// Goes on until something comes out. When the upstream pauses, all that it said so far does.
    fn poll(
        &mut self,
        body: &mut Incoming,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.encoder.is_finished() {
            return Poll::Ready(self.trailers.take().map(|trailers| Ok(Frame::trailers(trailers))));
        }
        loop {
            let out = match poll_plain(body, cx) {
                Poll::Pending => match self.encoder.flush() {
                    Ok(out) if out.is_empty() => return Poll::Pending,
                    out => out,
                },
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => self.encoder.finish(),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => self.encoder.push(&data),
                    Err(frame) => {
                        self.trailers = frame.into_trailers().ok();
                        self.encoder.finish()
                    }
                },
            };
            match out {
                Ok(out) if out.is_empty() && !self.encoder.is_finished() => {}
                Ok(out) => return Poll::Ready(Some(Ok(Frame::data(out)))),
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
            }
        }
    }
}

impl Source for ResponseBody {
    fn on_wire(&self) -> Option<&h1::body::Body> {
        match &self.source {
            Answer::Upstream { body, .. } if self.encoding.is_none() => body.on_wire(),
            Answer::Upstream { .. } | Answer::Own(_) => None,
        }
    }

    fn passed(&mut self, count: u64) {
        if let Answer::Upstream { body, .. } = &mut self.source {
            body.passed(count);
        }
        if let Some(record) = &mut self.record {
            record.sent(count);
        }
        self.finish_if_ended();
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        if let Some(error) = this.broken.take() {
            // The client's connection is cut (HTTP/1.1) or its stream reset (HTTP/2): it must not take this for the end.
            this.finish(Outcome::UpstreamTruncated);
            return Poll::Ready(Some(Err(error)));
        }
        let frame = match (&mut this.source, &mut this.encoding) {
            (Answer::Own(text), _) => text.take().map(|text| Ok(Frame::data(text))),
            (Answer::Upstream { body, .. }, None) => ready!(poll_plain(body, cx)),
            (Answer::Upstream { body, .. }, Some(encoding)) => ready!(encoding.poll(body, cx)),
        };
        Poll::Ready(match frame {
            None => {
                this.finish(Outcome::Ok);
                None
            }
            Some(Err(error)) => {
                // A stream that is reset takes along what the HTTP/2 library has not sent yet.
                this.broken = Some(error);
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(Ok(frame)) => {
                if let (Some(data), Some(record)) = (frame.data_ref(), &mut this.record) {
                    record.sent(data.len() as u64);
                }
                this.finish_if_ended();
                Some(Ok(frame))
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        if let Some(encoding) = &self.encoding {
            return encoding.encoder.is_finished() && encoding.trailers.is_none();
        }
        match &self.source {
            _ if self.broken.is_some() => false,
            Answer::Own(text) => text.is_none(),
            Answer::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        if self.encoding.is_some() {
            return SizeHint::default();
        }
        match &self.source {
            Answer::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Answer::Upstream { body, .. } => body.size_hint(),
        }
    }
}
