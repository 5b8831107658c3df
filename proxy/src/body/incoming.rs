//! The body of a message that comes in, whichever version it came in.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use crate::error::BoxError;
use crate::h1;

/// From a client or from an upstream.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// There is none.
    None,
    Http1(h1::body::Body),
    Http2(hyper::body::Incoming),
}

impl Incoming {
    /// The body on its wire, if it is one of HTTP/1.1.
    pub(super) fn on_wire(&self) -> Option<&h1::body::Body> {
        match self {
            Self::Http1(body) => Some(body),
            Self::None | Self::Http2(_) => None,
        }
    }

    /// So many bytes were moved past.
    pub(super) fn passed(&mut self, count: u64) {
        if let Self::Http1(body) = self {
            body.passed(count);
        }
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.get_mut() {
            Self::None => Poll::Ready(None),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
            Self::Http2(body) => Pin::new(body).poll_frame(cx).map_err(BoxError::from),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::None => true,
            Self::Http1(body) => body.is_end_stream(),
            Self::Http2(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::None => SizeHint::with_exact(0),
            Self::Http1(body) => body.size_hint(),
            Self::Http2(body) => body.size_hint(),
        }
    }
}
