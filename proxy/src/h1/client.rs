//! A connection to an endpoint: one request after the other, each with its response.
//!
//! It is used again only if the request was sent to its end, the response was read to its end by a rule that we
//! understand, and no byte is left over on either side. Everything else would give somebody the answer to somebody
//! else's question.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_LENGTH, UPGRADE};
use http::request::Parts as Request;
use http::response::Parts as Response;
use http::{HeaderMap, StatusCode};
use tokio::task::JoinHandle;

use super::body::Body;
use super::codec::encode;
use super::codec::framing::{self, FramingError, Length};
use super::codec::head::{self, HeadError};
use super::input::NoHead;
use super::pump::{Pump, PumpError};
use super::splice::Source;
use super::wire::Wire;
use crate::error::BoxError;
use crate::stream::Pipes;
use crate::transport::Transport;

/// Longest head of a response, in bytes.
const HEAD: usize = 128 << 10;
/// Informational responses to one request. Some send a few; an endless series would hold the request for ever.
const INFORMATIONAL: u32 = 32;

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error("the request's body broke off")]
    Body(#[source] BoxError),
    #[error("the connection broke")]
    Cut(#[source] io::Error),
    #[error("the connection was closed without an answer")]
    Closed,
    #[error("the answer is malformed")]
    Head(#[from] HeadError),
    #[error("the answer's length is unclear")]
    Framing(#[from] FramingError),
    #[error("more than {INFORMATIONAL} informational answers came")]
    TooMuchAhead,
    #[error("the protocol was changed without being asked")]
    NotAskedFor,
}

impl SendError {
    /// The endpoint said something that it must not.
    pub(crate) fn is_protocol(&self) -> bool {
        !matches!(self, Self::Body(_) | Self::Cut(_) | Self::Closed)
    }
}

/// A request without response.
pub(crate) struct Failed<B> {
    pub(crate) error: SendError,
    /// The body with what was taken from it: when nothing of the request was sent.
    pub(crate) unsent: Option<(B, Vec<Bytes>)>,
}

/// A connection that speaks HTTP/1.1.
pub(crate) struct Connection {
    wire: Rc<Wire>,
    /// All of the last request was sent.
    sent: Rc<Cell<bool>>,
    /// Neither side said that this is the last response.
    persists: bool,
    /// Sends the rest of a request whose response has begun.
    upload: Option<Upload>,
}

/// Ends with its owner.
struct Upload(JoinHandle<()>);

impl Drop for Upload {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Connection {
    pub(crate) fn new(transport: Transport, pipes: &Arc<Pipes>) -> Self {
        Self {
            wire: Wire::new(transport, None, pipes),
            sent: Rc::new(Cell::new(true)),
            persists: true,
            upload: None,
        }
    }

    /// Sends a request and returns the head and the body of its response. Informational responses before it go to
    /// `inform`.
    pub(crate) async fn send<B>(
        &mut self,
        request: &Request,
        body: B,
        inform: impl FnMut(Response),
    ) -> Result<(Response, Body), Failed<B>>
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Source + Unpin + 'static,
    {
        let length = request_length(request, &body);
        self.sent.set(false);
        self.persists = false;
        {
            let mut output = self.wire.output();
            output.begin();
            encode::request(
                output.gathered(),
                &request.method,
                &request.uri,
                &request.headers,
                length,
            );
        }
        let mut exchange = Exchange {
            wire: &self.wire,
            request,
            upload: Some(Pump::new(body, length).remembering()),
            broken: None,
            inform,
            informed: 0,
        };
        let answered = poll_fn(|cx| exchange.poll(cx)).await;
        let upload = exchange.upload.take();
        match answered {
            Ok((response, length)) => {
                self.sent.set(upload.is_none() && exchange.broken.is_none());
                self.persists = encode::persists(response.version, &response.headers);
                if let Some(upload) = upload {
                    self.go_on(upload);
                }
                Ok((response, self.wire.begin(length)))
            }
            Err(error) => {
                let untouched = upload.filter(|_| !self.wire.output().is_begun());
                Err(Failed {
                    error,
                    unsent: untouched.map(Pump::into_unsent),
                })
            }
        }
    }

    /// Lets the request go on while its response is being read.
    fn go_on<B>(&mut self, mut upload: Pump<B>)
    where
        B: http_body::Body<Data = Bytes, Error = BoxError> + Source + Unpin + 'static,
    {
        let (wire, sent) = (Rc::clone(&self.wire), Rc::clone(&self.sent));
        let rest = async move {
            match poll_fn(|cx| upload.poll(&wire, cx)).await {
                Ok(()) => sent.set(true),
                // An endpoint that has answered may well not want the rest.
                Err(PumpError::Write(_)) => {}
                Err(PumpError::Body(error)) => {
                    tracing::debug!(%error, "the rest of a request did not come");
                    // What was sent is not a request; whoever reads it must notice.
                    wire.reset();
                    poll_fn(|cx| wire.poll_shutdown(cx)).await.ok();
                }
            }
        };
        self.upload = Some(Upload(tokio::task::spawn_local(rest)));
    }

    /// May another request be sent over it? Asked when the response's body was read, and again before it is used.
    pub(crate) fn is_reusable(&self) -> bool {
        if !(self.persists && self.sent.get() && self.wire.is_read() && self.wire.is_quiet()) {
            return false;
        }
        // Whatever comes in now, be it the end, is no answer to a request.
        let mut cx = Context::from_waker(Waker::noop());
        let lost = self.wire.poll_lost(&mut cx).is_ready();
        let quiet = !lost && self.wire.is_quiet() && !self.wire.is_drained();
        self.wire.release();
        quiet
    }

    /// The bare connection and what came in over it behind the head of a 101.
    pub(crate) fn into_raw(self) -> Option<(Transport, BytesMut)> {
        self.sent.get().then_some(())?;
        drop(self.upload);
        Rc::try_unwrap(self.wire).ok().map(Wire::into_raw)
    }
}

fn request_length(request: &Request, body: &impl http_body::Body) -> Length {
    match body.size_hint().exact() {
        // None at all and one of no bytes are told apart by what the client said.
        Some(0) if !request.headers.contains_key(CONTENT_LENGTH) => Length::None,
        Some(length) => Length::Exactly(length),
        None => Length::Chunked,
    }
}

/// A request that is being sent, and whose response is waited for.
struct Exchange<'a, B, F> {
    wire: &'a Wire,
    request: &'a Request,
    /// Absent when all was sent, or nothing more can be.
    upload: Option<Pump<B>>,
    /// Why nothing more can be sent. The endpoint may have said its word on it before.
    broken: Option<io::Error>,
    inform: F,
    informed: u32,
}

impl<B, F> Exchange<'_, B, F>
where
    B: http_body::Body<Data = Bytes, Error = BoxError> + Source + Unpin,
    F: FnMut(Response),
{
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(Response, Length), SendError>> {
        if let Some(upload) = &mut self.upload
            && let Poll::Ready(sent) = upload.poll(self.wire, cx)
        {
            match sent {
                Ok(()) => self.upload = None,
                Err(PumpError::Body(error)) => return Poll::Ready(Err(SendError::Body(error))),
                Err(PumpError::Write(error)) if !self.wire.output().is_begun() => {
                    return Poll::Ready(Err(SendError::Cut(error)));
                }
                Err(PumpError::Write(error)) => {
                    self.upload = None;
                    self.broken = Some(error);
                }
            }
        }
        loop {
            let head = match ready!(self.wire.poll_head(cx, HEAD, false)) {
                Ok(Some(head)) => head,
                Ok(None) => {
                    return Poll::Ready(Err(self.broken.take().map_or(SendError::Closed, SendError::Cut)));
                }
                Err(NoHead::Io(error)) => return Poll::Ready(Err(SendError::Cut(error))),
                Err(NoHead::Malformed(error)) => return Poll::Ready(Err(error.into())),
            };
            if let Some(answer) = self.head(&head)? {
                return Poll::Ready(Ok(answer));
            }
        }
    }

    fn head(&mut self, head: &Bytes) -> Result<Option<(Response, Length)>, SendError> {
        let response = head::response(head)?;
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            let asked = is_asked_for(&self.request.headers, &response.headers) && self.upload.is_none();
            return if asked {
                Ok(Some((response, Length::None)))
            } else {
                Err(SendError::NotAskedFor)
            };
        }
        if response.status.is_informational() {
            self.informed += 1;
            if self.informed > INFORMATIONAL {
                return Err(SendError::TooMuchAhead);
            }
            (self.inform)(response);
            return Ok(None);
        }
        let length = framing::of_response(
            &self.request.method,
            response.status,
            response.version,
            &response.headers,
        )?;
        Ok(Some((response, length)))
    }
}

/// Is every protocol that the response changes to one that the request named (RFC 9110 §7.8)?
fn is_asked_for(request: &HeaderMap, response: &HeaderMap) -> bool {
    let named = |headers: &HeaderMap| -> Vec<String> {
        let values = headers
            .get_all(UPGRADE)
            .iter()
            .filter_map(|value| value.to_str().ok());
        let names = values.flat_map(|value| value.split(','));
        names
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty())
            .collect()
    };
    let (wanted, chosen) = (named(request), named(response));
    !chosen.is_empty() && chosen.iter().all(|protocol| wanted.contains(protocol))
}
