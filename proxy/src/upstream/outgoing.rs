//! A request ready to be sent, more than once if it may.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Uri, Version};
use http_body::Body;
use hyper::body::Incoming;
use linkspan_api::feed::Limits;

use crate::body::{Progress, RequestBody, Tape};
use crate::error::{Failure, Kind, Retry};
use crate::world::{Endpoint, Place};

/// Times that a request may reach an upstream which then closes without an answer: it may be the one that crashes it.
const SENT_MAX: u32 = 5;

pub(crate) struct Outgoing {
    /// Absent only after it was sent for good.
    head: Option<Parts>,
    payload: Payload,
    progress: Rc<Progress>,
    idempotent: bool,
    http2: bool,
    sent: u32,
    patience: Option<Duration>,
}

enum Payload {
    None,
    Once(Incoming),
    Tape(Rc<RefCell<Tape>>),
    Spent,
}

impl Outgoing {
    /// `head` as it is to be sent, but for the protocol version and the Host of targets elsewhere.
    pub(crate) fn new(head: Parts, body: Incoming, progress: Rc<Progress>, limits: &Limits) -> Self {
        let replay = limits.replay_body;
        let idempotent = matches!(
            head.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
        let payload = if body.is_end_stream() {
            Payload::None
        } else if idempotent && body.size_hint().lower() <= replay {
            Payload::Tape(Tape::new(body, replay))
        } else {
            Payload::Once(body)
        };
        // Not gRPC-Web, which is made for HTTP/1.1.
        let grpc = |kind: &HeaderValue| {
            kind.as_bytes()
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| !rest.starts_with(b"-web"))
        };
        let http2 = head.version == Version::HTTP_2
            && head.headers.get(http::header::CONTENT_TYPE).is_some_and(grpc)
            && !head.headers.contains_key(UPGRADE);
        Self {
            head: Some(head),
            payload,
            progress,
            idempotent,
            http2,
            sent: 0,
            patience: (!http2).then(|| Duration::from_millis(limits.idle_ms)),
        }
    }

    /// gRPC needs trailers in both directions, hence HTTP/2 with prior knowledge.
    pub(crate) fn http2(&self) -> bool {
        self.http2
    }

    pub(crate) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// May the request be sent again after this failure?
    pub(crate) fn may_retry(&self, failure: &Failure) -> bool {
        match failure.retry() {
            Retry::Always => self.head.is_some(),
            Retry::Idempotent => self.can_repeat() && self.sent < SENT_MAX,
            Retry::Never => false,
        }
    }

    fn can_repeat(&self) -> bool {
        self.idempotent
            && match &self.payload {
                Payload::None => true,
                Payload::Tape(tape) => tape.borrow().can_replay(),
                Payload::Once(_) | Payload::Spent => false,
            }
    }

    /// The request for this endpoint.
    pub(crate) fn request(&mut self, endpoint: &Endpoint) -> Result<Request<RequestBody>, Failure> {
        let head = if self.can_repeat() {
            self.head.clone()
        } else {
            self.head.take()
        };
        let mut head = head.ok_or_else(|| Kind::Cut {
            endpoint: endpoint.id.clone(),
        })?;
        self.sent += 1;
        let body = match &self.payload {
            Payload::None => RequestBody::empty(&self.progress),
            Payload::Tape(tape) => RequestBody::replay(tape, &self.progress, self.patience),
            Payload::Once(_) | Payload::Spent => match std::mem::replace(&mut self.payload, Payload::Spent) {
                Payload::Once(body) => RequestBody::stream(body, &self.progress, self.patience),
                _ => {
                    return Err(Kind::Cut {
                        endpoint: endpoint.id.clone(),
                    }
                    .into());
                }
            },
        };
        if let Place::External(external) = &endpoint.place {
            head.headers.insert(HOST, external.host_field.clone());
        }
        if self.http2 {
            as_http2(&mut head);
        } else {
            head.version = Version::HTTP_11;
        }
        Ok(Request::from_parts(head, body))
    }

    /// Takes a request back of which nothing was sent.
    pub(crate) fn give_back(&mut self, request: Request<RequestBody>) {
        self.sent -= 1;
        let (head, body) = request.into_parts();
        if let Some(body) = body.into_stream() {
            self.payload = Payload::Once(body);
        }
        self.head.get_or_insert(head);
    }

    /// What it means that sending failed.
    pub(crate) fn failure(&self, endpoint: &Endpoint, error: hyper::Error, unsent: bool) -> Failure {
        if self.progress.client_failed.get() {
            return Failure::because(Kind::ClientGone, error);
        }
        let endpoint = endpoint.id.clone();
        let failure = if error.is_parse() {
            Failure::because(Kind::Protocol { endpoint }, error)
        } else {
            Failure::because(Kind::Cut { endpoint }, error)
        };
        if unsent { failure.unsent() } else { failure }
    }
}

/// The head as HTTP/2 has it: authority instead of Host, no connection fields but `te: trailers`.
fn as_http2(head: &mut Parts) {
    head.version = Version::HTTP_2;
    head.headers.remove(CONNECTION);
    head.headers.insert(TE, HeaderValue::from_static("trailers"));
    if head
        .headers
        .get(CONTENT_LENGTH)
        .is_some_and(|length| length == "0")
    {
        head.headers.remove(CONTENT_LENGTH);
    }
    let host = head.headers.remove(HOST);
    let authority = host.and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let mut uri = std::mem::take(&mut head.uri).into_parts();
    uri.scheme = Some(Scheme::HTTP);
    uri.authority = Some(authority.unwrap_or_else(|| Authority::from_static("localhost")));
    uri.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    head.uri = Uri::from_parts(uri).unwrap_or_default();
}
