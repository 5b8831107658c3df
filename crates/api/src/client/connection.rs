//! One request on one connection of its own, and bodies that go up.

use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use http::{Method, Request, Response, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full, Limited};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::UnixStream;
use tokio::task::JoinHandle;

use super::ClientError;
use crate::v1::Failure;

/// Bytes of an archive read at once.
const UPLOAD_CHUNK: usize = 256 << 10;

/// A head that came back, its body on the way.
pub(super) struct Answer {
    pub(super) response: Response<Incoming>,
    pub(super) driver: Driver,
}

/// The task that moves a connection's bytes; ends with its owner.
pub(super) struct Driver(JoinHandle<()>);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What goes up.
pub(super) struct Body {
    inner: UnsyncBoxBody<Bytes, io::Error>,
    content_type: Option<&'static str>,
}

impl Body {
    pub(super) fn empty() -> Self {
        Self {
            inner: Empty::new().map_err(|never| match never {}).boxed_unsync(),
            content_type: None,
        }
    }

    pub(super) fn json(text: &Bytes) -> Self {
        let inner = Full::new(text.clone())
            .map_err(|never| match never {})
            .boxed_unsync();
        Self {
            inner,
            content_type: Some("application/json"),
        }
    }

    pub(super) fn upload(
        from: impl AsyncRead + Send + Unpin + 'static,
        length: Option<u64>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Self {
        let upload = Upload {
            from,
            length,
            sent: 0,
            progress: Box::new(progress),
        };
        Self {
            inner: upload.boxed_unsync(),
            content_type: Some("application/x-tar"),
        }
    }
}

/// Sends one request and waits for the head of its answer.
pub(super) async fn send(
    socket: &Path,
    method: Method,
    target: &str,
    body: Body,
    upgrade: Option<&'static str>,
) -> Result<Answer, ClientError> {
    let io = |source| ClientError::Io {
        path: socket.to_owned(),
        source,
    };
    let broken = |source| ClientError::Broken {
        path: socket.to_owned(),
        source,
    };
    let stream = UnixStream::connect(socket)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NoDaemon {
                path: socket.to_owned(),
            },
            io::ErrorKind::PermissionDenied => ClientError::PermissionDenied {
                path: socket.to_owned(),
            },
            _ => io(source),
        })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driver = Driver(tokio::spawn(async move {
        // Its errors reach whoever waits for the head or reads the body.
        let _ = connection.with_upgrades().await;
    }));
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(header::HOST, "linkspan");
    if let Some(kind) = body.content_type {
        request = request.header(header::CONTENT_TYPE, kind);
    }
    if let Some(protocol) = upgrade {
        request = request
            .header(header::CONNECTION, "upgrade")
            .header(header::UPGRADE, protocol);
    }
    let request = request
        .body(body.inner)
        .map_err(|error| io(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    Ok(Answer { response, driver })
}

impl Answer {
    /// Turns an answer that isn't a success into the error that it carries.
    pub(super) async fn check(self, socket: &Path) -> Result<Self, ClientError> {
        let status = self.response.status();
        if status.is_success() {
            return Ok(self);
        }
        let body = self.collect(1 << 20, socket).await?;
        let failure = serde_json::from_slice(&body).unwrap_or_else(|_| Failure {
            // Not our daemon's words; whatever they are, they say more than the number alone.
            message: match String::from_utf8_lossy(&body).trim() {
                "" => format!("the daemon answered `{status}` without a reason"),
                text => format!("the daemon answered `{status}`: {text}"),
            },
            problems: Vec::new(),
        });
        Err(ClientError::Failed(failure, status))
    }

    /// The whole body, if it has at most so many bytes.
    pub(super) async fn collect(self, most: usize, socket: &Path) -> Result<Bytes, ClientError> {
        let Self {
            response,
            driver: _driver,
        } = self;
        match Limited::new(response.into_body(), most).collect().await {
            Ok(body) => Ok(body.to_bytes()),
            Err(error) => Err(match error.downcast::<hyper::Error>() {
                Ok(source) => ClientError::Broken {
                    path: socket.to_owned(),
                    source: *source,
                },
                Err(_) => ClientError::Unexpected {
                    path: socket.to_owned(),
                    what: format!("more than {most} bytes"),
                },
            }),
        }
    }
}

/// A reader as a body. One chunk is read when the one before has been handed over: memory stays bounded.
struct Upload<R> {
    from: R,
    length: Option<u64>,
    sent: u64,
    progress: Box<dyn FnMut(u64) + Send>,
}

impl<R: AsyncRead + Unpin> hyper::body::Body for Upload<R> {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let mut chunk = BytesMut::zeroed(UPLOAD_CHUNK);
        let mut buffer = ReadBuf::new(&mut chunk);
        ready!(Pin::new(&mut this.from).poll_read(context, &mut buffer))?;
        let count = buffer.filled().len();
        if count == 0 {
            return Poll::Ready(None);
        }
        this.sent += count as u64;
        (this.progress)(this.sent);
        chunk.truncate(count);
        Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
    }

    fn size_hint(&self) -> SizeHint {
        self.length.map_or_else(SizeHint::default, |length| {
            SizeHint::with_exact(length.saturating_sub(self.sent))
        })
    }
}
