//! A client's connection: requests in the order in which they came, each answered before the next is read.
//!
//! Between requests it waits for a head, and holds no memory for it. A request is handed to [`forward::serve`] together
//! with its body, which is read from the wire by whoever forwards it. While the answer is not there, the client is watched
//! in case it leaves. Then the answer is written, and what was not read of the request decides how it goes on: with the
//! next request, or with an end that leaves the client time to read the answer.

use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use linkspan_api::feed::Limits;
use tokio::time::Sleep;
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::codec::encode::{self, Persistence};
use super::codec::framing::{self, Length};
use super::codec::head;
use super::date;
use super::input::NoHead;
use super::pump::{Pump, PumpError};
use super::wire::Wire;
use crate::body::{Incoming, ResponseBody};
use crate::client::{Client, Verdict};
use crate::forward::{self, Interim, Reply};
use crate::transport::Transport;
use crate::tunnel::Tunnel;

/// How long a client that is still sending may do so after its last answer, and how much, so that it gets to read that.
/// Closing at once would make its kernel throw the answer away (RFC 9112 §9.6).
const LINGER: Duration = Duration::from_secs(5);
const LINGER_BYTES: usize = 16 << 20;

/// Serves a connection until it ends.
pub(crate) async fn serve(transport: Transport, client: Rc<Client>, limits: Limits) -> io::Result<()> {
    let mut connection = Connection {
        wire: Wire::new(
            transport,
            Some(Rc::clone(&client.clock)),
            &client.worker.shared.pipes,
        ),
        patience: Patience::new(&client, limits),
        client,
        limits,
        requests: 0,
    };
    loop {
        let head = match connection.head().await {
            Ok(Some(head)) => head,
            Ok(None) => return connection.close().await,
            Err(NoHead::Io(error)) => return Err(error),
            Err(NoHead::Malformed(error)) => {
                let response = forward::refuse(&connection.client, None, error.status(), &error);
                connection.answer(response, Asked::nothing()).await?;
                return connection.linger().await;
            }
        };
        // Boxed, so that a connection without request is no larger than it must be.
        match Box::pin(connection.request(head)).await? {
            Next::Request => {}
            Next::Close => return connection.close().await,
            Next::Linger => return connection.linger().await,
            Next::Tunnel(tunnel) => return connection.tunnel(tunnel).await,
        }
    }
}

struct Connection {
    wire: Rc<Wire>,
    client: Rc<Client>,
    limits: Limits,
    patience: Patience,
    /// Taken so far.
    requests: u32,
}

/// What comes after a request.
enum Next {
    Request,
    /// Nothing, and nothing more comes in, as far as one can see.
    Close,
    /// Nothing, but the client may be sending still.
    Linger,
    Tunnel(Box<Tunnel>),
}

/// What matters about a request for writing its answer.
#[derive(Debug, Clone, Copy)]
struct Asked {
    head: bool,
    version: Version,
    persists: bool,
    /// The client waits for leave to send its body.
    expects: bool,
}

impl Asked {
    /// Of a request that could not be read.
    fn nothing() -> Self {
        Self {
            head: false,
            version: Version::HTTP_11,
            persists: false,
            expects: false,
        }
    }
}

impl Connection {
    /// The next request's head; `None` when there will be none.
    async fn head(&mut self) -> Result<Option<Bytes>, NoHead> {
        let most = self.limits.head_bytes as usize;
        poll_fn(|cx| {
            if let Poll::Ready(head) = self.wire.poll_head(cx, most, true) {
                return Poll::Ready(head);
            }
            if self.wire.is_quiet() {
                self.wire.release();
                if self.patience.poll_draining(cx).is_ready() {
                    return Poll::Ready(Ok(None));
                }
            } else {
                // It may have begun while the request before it was under way.
                self.client.clock.read();
            }
            match ready!(self.patience.poll_over(&self.client, cx)) {
                Verdict::Idle => Poll::Ready(Ok(None)),
                _ => Poll::Ready(Err(NoHead::Io(io::ErrorKind::TimedOut.into()))),
            }
        })
        .await
    }

    async fn request(&mut self, bytes: Bytes) -> io::Result<Next> {
        let mut parts = match head::request(&bytes) {
            Ok(parts) => parts,
            Err(error) => {
                let response = forward::refuse(&self.client, None, error.status(), &error);
                return self
                    .answer(response, Asked::nothing())
                    .await
                    .map(|_| Next::Linger);
            }
        };
        drop(bytes);
        let length = match framing::of_request(parts.version, &parts.headers) {
            Ok(length) => length,
            Err(error) => {
                let request = Request::from_parts(parts, ());
                let response = forward::refuse(&self.client, Some(&request), StatusCode::BAD_REQUEST, &error);
                return self
                    .answer(response, Asked::nothing())
                    .await
                    .map(|_| Next::Linger);
            }
        };
        self.requests += 1;
        let has_body = !matches!(length, Length::None | Length::Exactly(0));
        let asked = Asked {
            head: parts.method == Method::HEAD,
            version: parts.version,
            persists: encode::persists(parts.version, &parts.headers)
                && self.requests < self.limits.requests_per_connection,
            expects: has_body && parts.version == Version::HTTP_11 && expects(&parts.headers),
        };
        // RFC 9110 §10.1.1: who speaks HTTP/1.0 does not wait, and who sends no body has nothing to wait with.
        if !asked.expects {
            parts.headers.remove(EXPECT);
        }
        let body = self.wire.begin(length);
        let body = if has_body {
            Incoming::Http1(body)
        } else {
            Incoming::None
        };
        let interim = match asked.version {
            Version::HTTP_11 => Interim::to(Rc::clone(&self.wire)),
            _ => Interim::none(),
        };
        let client = Rc::clone(&self.client);
        let reply = {
            // Pinned where it is made: what is moved takes its room twice.
            let mut serving = pin!(forward::serve(&client, Request::from_parts(parts, body), interim));
            poll_fn(|cx| match serving.as_mut().poll(cx) {
                Poll::Ready(reply) => Poll::Ready(Ok(reply)),
                Poll::Pending => self.poll_meanwhile(cx).map(Err),
            })
            .await?
        };
        match reply {
            Reply::Response(response) => self.answer(response, asked).await,
            Reply::Tunnel { response, tunnel } => {
                let (head, ()) = response.into_parts();
                self.write_head(&head, Length::None, Persistence::Upgrade);
                self.flush().await?;
                Ok(Next::Tunnel(tunnel))
            }
        }
    }

    /// What goes on while the answer is being made. Ready when there is nobody left to answer.
    fn poll_meanwhile(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if !self.wire.output().is_empty()
            && let Poll::Ready(Err(error)) = self.wire.poll_flush(cx)
        {
            return Poll::Ready(error);
        }
        self.poll_lost(cx)
    }

    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Poll::Ready(error) = self.wire.poll_lost(cx) {
            return Poll::Ready(error);
        }
        ready!(self.patience.poll_over(&self.client, cx));
        Poll::Ready(io::ErrorKind::TimedOut.into())
    }

    fn write_head(&self, head: &http::response::Parts, length: Length, persistence: Persistence) {
        let mut output = self.wire.output();
        output.begin();
        date::with_now(|now| encode::response(output.gathered(), head, length, persistence, now));
    }

    /// Writes an answer, all of it.
    async fn answer(&mut self, response: Response<ResponseBody>, asked: Asked) -> io::Result<Next> {
        let (mut head, body) = response.into_parts();
        let length = response_length(&mut head, &body, asked);
        // A body that nobody wants and that is here already is read away; for another one the connection is given up.
        let readable = self.wire.is_read() || !self.wire.is_abandoned() || self.wire.discard();
        let refused = asked.expects && !self.wire.is_continued() && !self.wire.is_read();
        let keeps = asked.persists
            && readable
            && !refused
            && length != Length::UntilClose
            && !self.client.worker.draining.is_cancelled()
            && encode::persists(Version::HTTP_11, &head.headers);
        let persistence = match (keeps, asked.version) {
            (false, _) => Persistence::Close,
            (true, Version::HTTP_10) => Persistence::KeepAlive,
            (true, _) => Persistence::Implied,
        };
        self.write_head(&head, length, persistence);
        drop(head);
        let mut pump = Pump::new(body, length);
        let sent = poll_fn(|cx| match pump.poll(&self.wire, cx) {
            Poll::Ready(sent) => Poll::Ready(Ok(sent)),
            Poll::Pending => self.poll_lost(cx).map(Err),
        })
        .await?;
        match sent {
            Ok(()) => {}
            Err(PumpError::Write(error)) => return Err(error),
            Err(PumpError::Body(_)) => return self.broken_off(length).await,
        }
        drop(pump);
        let done = self.wire.is_read() || (self.wire.is_abandoned() && self.wire.discard());
        Ok(match (done, keeps) {
            (true, true) => Next::Request,
            (true, false) if self.wire.is_quiet() => Next::Close,
            _ => Next::Linger,
        })
    }

    /// The answer's body ended before its end. What there is of it is sent, and then the connection ends in such a way
    /// that the client can't take it for all.
    async fn broken_off(&mut self, length: Length) -> io::Result<Next> {
        self.flush().await?;
        if length == Length::UntilClose {
            self.wire.reset();
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(Next::Close)
    }

    async fn flush(&mut self) -> io::Result<()> {
        poll_fn(|cx| match self.wire.poll_flush(cx) {
            Poll::Ready(flushed) => Poll::Ready(flushed),
            Poll::Pending => self.poll_lost(cx).map(Err),
        })
        .await
    }

    async fn close(self) -> io::Result<()> {
        let ending = poll_fn(|cx| self.wire.poll_shutdown(cx));
        tokio::time::timeout(LINGER, ending).await.unwrap_or(Ok(()))
    }

    /// Says that this was the last answer, and hears the client out for a while.
    async fn linger(self) -> io::Result<()> {
        let ending = async {
            poll_fn(|cx| self.wire.poll_shutdown(cx)).await?;
            let mut left = LINGER_BYTES;
            while left > 0 && !self.wire.is_drained() {
                match poll_fn(|cx| self.wire.poll_ignore(cx)).await? {
                    0 => break,
                    read => left = left.saturating_sub(read),
                }
            }
            Ok(())
        };
        tokio::time::timeout(LINGER, ending).await.unwrap_or(Ok(()))
    }

    async fn tunnel(self, tunnel: Box<Tunnel>) -> io::Result<()> {
        let Ok(wire) = Rc::try_unwrap(self.wire) else {
            return Err(io::Error::other(
                "somebody still reads from a connection that became a tunnel",
            ));
        };
        let (transport, early) = wire.into_raw();
        tunnel.relay(transport, early).await;
        Ok(())
    }
}

fn expects(headers: &http::HeaderMap) -> bool {
    let is_continue = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    headers.get(EXPECT).is_some_and(is_continue)
}

/// How the answer's body ends. Fields that would say otherwise are taken away.
fn response_length(head: &mut http::response::Parts, body: &ResponseBody, asked: Asked) -> Length {
    if head.status == StatusCode::NO_CONTENT {
        // RFC 9110 §8.6: it must not have one.
        head.headers.remove(CONTENT_LENGTH);
    }
    let exact = body.size_hint().exact();
    if asked.head || framing::never_has_body(head.status) {
        if let Some(length) = exact.filter(|length| *length > 0) {
            head.headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
        }
        return Length::None;
    }
    match (exact, asked.version) {
        (Some(length), _) => Length::Exactly(length),
        (None, Version::HTTP_11) => Length::Chunked,
        (None, _) => Length::UntilClose,
    }
}

/// How long the client may do nothing, and whether the proxy drains. One timer for the connection, looked at seldom.
struct Patience {
    head: Duration,
    idle: Duration,
    alarm: Pin<Box<Sleep>>,
    draining: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl Patience {
    fn new(client: &Client, limits: Limits) -> Self {
        let head = Duration::from_millis(limits.head_ms);
        let idle = Duration::from_millis(limits.idle_ms);
        Self {
            head,
            idle,
            alarm: Box::pin(tokio::time::sleep(head.min(idle))),
            draining: Box::pin(client.worker.draining.clone().cancelled_owned()),
        }
    }

    fn poll_draining(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.draining.as_mut().poll(cx)
    }

    /// Ready when the client has done nothing for too long.
    fn poll_over(&mut self, client: &Client, cx: &mut Context<'_>) -> Poll<Verdict> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            match client.clock.check(Instant::now(), self.head, self.idle) {
                Verdict::Until(then) => self.alarm.as_mut().reset(then.into()),
                over => return Poll::Ready(over),
            }
        }
    }
}
