//! What clients read: the upstream's body or our own words.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::Incoming;
use crate::error::BoxError;
use crate::h1::{self, splice::Source};
use crate::middleware::access_log::{Outcome, Record};
use crate::middleware::hop_by_hop;
use crate::upstream::pool::Lease;

/// A response body as the client's connection reads it. Writes the request's line in the access log when it is dropped.
pub(crate) struct ResponseBody {
    source: Answer,
    /// The upstream broke off. Told a turn later, so that what came before is on its way by then.
    broken: Option<BoxError>,
    record: Option<Record>,
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
            record: None,
        }
    }

    pub(crate) fn upstream(body: Incoming, lease: Lease, record: Record) -> Self {
        let mut body = Self {
            source: Answer::Upstream {
                body,
                lease: Some(lease),
            },
            broken: None,
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

impl Source for ResponseBody {
    fn on_wire(&self) -> Option<&h1::body::Body> {
        match &self.source {
            Answer::Upstream { body, .. } => body.on_wire(),
            Answer::Own(_) => None,
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
        let frame = match &mut this.source {
            Answer::Own(text) => text.take().map(|text| Ok(Frame::data(text))),
            Answer::Upstream { body, .. } => {
                ready!(Pin::new(body).poll_frame(cx)).map(|frame| frame.map(hop_by_hop::plain_trailers))
            }
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
        match &self.source {
            _ if self.broken.is_some() => false,
            Answer::Own(text) => text.is_none(),
            Answer::Upstream { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Answer::Own(text) => SizeHint::with_exact(text.as_ref().map_or(0, |text| text.len() as u64)),
            Answer::Upstream { body, .. } => body.size_hint(),
        }
    }
}
