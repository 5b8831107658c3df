//! A request ready to be sent, more than once if it may.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::Body;
use linkspan_api::feed::Limits;

use super::pool::Connection;
use crate::body::{Incoming, Progress, RequestBody, Tape};
use crate::error::{BoxError, Failure, Kind, Retry};
use crate::interim::Interim;
use crate::world::{Endpoint, Place};

/// Times that a request may reach an upstream which then closes without an answer: it may be the one that crashes it.
const SENT_MAX: u32 = 5;

pub(crate) struct Outgoing {
    /// As it was when it came, but for the Host, which is written for each endpoint.
    head: Parts,
    /// The client's Host, while another one stands in the head.
    host: Option<HeaderValue>,
    payload: Payload,
    /// It can't be sent again, whatever happens.
    spent: bool,
    progress: Rc<Progress>,
    interim: Interim,
    idempotent: bool,
    http2: bool,
    sent: u32,
    patience: Option<Duration>,
}

enum Payload {
    None,
    Once(RequestBody),
    Tape(Rc<RefCell<Tape>>),
    Spent,
}

impl Outgoing {
    /// `head` as it is to be sent, but for the protocol version and the Host of targets elsewhere.
    pub(crate) fn new(
        mut head: Parts,
        body: Incoming,
        interim: Interim,
        progress: Rc<Progress>,
        limits: &Limits,
    ) -> Self {
        let replay = limits.replay_body;
        let idempotent = matches!(
            head.method,
            Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE
        );
        // Not gRPC-Web, which is made for HTTP/1.1.
        let grpc = |kind: &HeaderValue| {
            kind.as_bytes()
                .strip_prefix(b"application/grpc")
                .is_some_and(|rest| !rest.starts_with(b"-web"))
        };
        let http2 = head.version == Version::HTTP_2
            && head.headers.get(http::header::CONTENT_TYPE).is_some_and(grpc)
            && !head.headers.contains_key(UPGRADE);
        let patience = (!http2).then(|| Duration::from_millis(limits.body_ms));
        let payload = if body.is_end_stream() {
            Payload::None
        } else if idempotent && body.size_hint().lower() <= replay {
            Payload::Tape(Tape::new(body, replay))
        } else {
            Payload::Once(RequestBody::stream(body, &progress, patience))
        };
        head.version = Version::HTTP_11;
        Self {
            host: None,
            head,
            payload,
            spent: false,
            progress,
            interim,
            idempotent,
            http2,
            sent: 0,
            patience,
        }
    }

    /// How much of the request has gone out, for those who wait for its answer.
    pub(crate) fn progress(&self) -> Rc<Progress> {
        Rc::clone(&self.progress)
    }

    /// gRPC needs trailers in both directions, hence HTTP/2 with prior knowledge.
    pub(crate) fn http2(&self) -> bool {
        self.http2
    }

    /// May the request be sent again after this failure?
    pub(crate) fn may_retry(&self, failure: &Failure) -> bool {
        match failure.retry() {
            Retry::Always => !self.spent,
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

    /// Sends the request over a connection to this endpoint, and returns the answer's head and the body behind it.
    pub(crate) async fn send(
        &mut self,
        connection: &mut Connection,
        endpoint: &Endpoint,
    ) -> Result<Response<Incoming>, Failure> {
        let body = self.body(endpoint)?;
        self.address(endpoint);
        match connection {
            Connection::Http1 { connection, .. } => {
                let interim = &self.interim;
                match connection
                    .send(&self.head, body, |response| interim.pass(response))
                    .await
                {
                    Ok((head, body)) => Ok(Response::from_parts(head, Incoming::Http1(body))),
                    Err(failed) => {
                        let unsent = failed.unsent.is_some();
                        if let Some((body, taken)) = failed.unsent {
                            self.give_back(body.into_unsent(taken));
                        }
                        let broken = failed.error.is_protocol();
                        Err(self.failure(endpoint, failed.error, broken, unsent))
                    }
                }
            }
            Connection::Http2(sender) => {
                let mut head = self.head.clone();
                as_http2(&mut head);
                match sender.try_send_request(Request::from_parts(head, body)).await {
                    Ok(response) => Ok(response.map(Incoming::Http2)),
                    Err(mut error) => {
                        let unsent = error.take_message();
                        let is_unsent = unsent.is_some();
                        if let Some(request) = unsent {
                            self.give_back(request.into_body().into_unsent(Vec::new()));
                        }
                        let error = error.into_error();
                        let broken = error.is_parse();
                        Err(self.failure(endpoint, error, broken, is_unsent))
                    }
                }
            }
        }
    }

    /// Writes the Host that this endpoint is sent.
    fn address(&mut self, endpoint: &Endpoint) {
        match &endpoint.place {
            Place::External(external) => {
                let theirs = external.host_field.clone();
                let before = self.head.headers.insert(HOST, theirs);
                if self.host.is_none() {
                    self.host = before;
                }
            }
            Place::Container(_) => {
                if let Some(host) = self.host.take() {
                    self.head.headers.insert(HOST, host);
                }
            }
        }
    }

    /// The body for the next try.
    fn body(&mut self, endpoint: &Endpoint) -> Result<RequestBody, Failure> {
        let spent = || Kind::Cut {
            endpoint: endpoint.id.clone(),
        };
        if self.spent {
            return Err(spent().into());
        }
        self.spent = !self.can_repeat();
        self.sent += 1;
        match &self.payload {
            Payload::None => Ok(RequestBody::empty(&self.progress)),
            Payload::Tape(tape) => Ok(RequestBody::replay(tape, &self.progress, self.patience)),
            Payload::Once(_) | Payload::Spent => match std::mem::replace(&mut self.payload, Payload::Spent) {
                Payload::Once(body) => Ok(body),
                _ => Err(spent().into()),
            },
        }
    }

    /// Nothing of the last try was sent. `body` is the one that exists only once.
    fn give_back(&mut self, body: Option<RequestBody>) {
        self.sent -= 1;
        self.spent = false;
        if let Some(body) = body {
            self.payload = Payload::Once(body);
        }
    }

    /// What it means that sending failed. `broken`: the endpoint said what it must not.
    fn failure(
        &self,
        endpoint: &Endpoint,
        error: impl Into<BoxError>,
        broken: bool,
        unsent: bool,
    ) -> Failure {
        if self.progress.too_large.get() {
            return Failure::because(Kind::BodyTooLarge(self.progress.most.get()), error);
        }
        if self.progress.client_failed.get() {
            return Failure::because(Kind::ClientGone, error);
        }
        let endpoint = endpoint.id.clone();
        let kind = if broken {
            Kind::Protocol { endpoint }
        } else {
            Kind::Cut { endpoint }
        };
        let failure = Failure::because(kind, error);
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
