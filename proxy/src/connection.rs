//! Drives one client connection: the HTTP codec, its limits and deadlines, and its end when the proxy drains.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use hyper::body::Incoming;
use hyper::rt::ReadBufCursor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use linkspan_api::feed::Limits;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::client::{Client, Clock, Verdict};
use crate::forward;
use crate::worker::LocalExecutor;

/// Least buffer that hyper works with, in bytes.
const BUFFER_MIN: usize = 8 << 10;
/// Window of an HTTP/2 stream, in bytes: what an upload may be ahead of a slow upstream.
const STREAM_WINDOW: u32 = 1 << 20;
/// Window of an HTTP/2 connection, in bytes.
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of one HTTP/2 stream that may wait for the client: what a download may be ahead of it.
const SEND_BUFFER: usize = 256 << 10;
/// How often a silent HTTP/2 client is asked whether it lives.
const PING_EVERY: Duration = Duration::from_secs(30);
/// Between asking an idle connection to close and closing it.
const GOODBYE: Duration = Duration::from_secs(5);

/// Serves HTTP/1 until the connection ends.
pub(crate) async fn http1<S>(stream: S, client: Rc<Client>, limits: Limits) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = Timed {
        io: TokioIo::new(stream),
        clock: Arc::clone(&client.clock),
        heads: true,
    };
    let service = service_fn(|request| forward::serve(Rc::clone(&client), request));
    let mut builder = http1::Builder::new();
    builder
        // A client that has said all it has to say may still want the answer.
        .half_close(true)
        // Heads have a deadline of their own, see `Clock`: hyper's would close idle connections by the same limit.
        .header_read_timeout(None)
        .max_header_size(limits.head_bytes as usize)
        .max_buf_size((limits.head_bytes as usize).max(BUFFER_MIN).max(256 << 10));
    let connection = builder.serve_connection(io, service).with_upgrades();
    drive(pin!(connection), &client, limits).await
}

/// Serves HTTP/2 until the connection ends. Protections against resets (CVE-2023-44487, CVE-2025-8671) stay as the
/// library sets them.
pub(crate) async fn http2<S>(stream: S, client: Rc<Client>, limits: Limits) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let io = Timed {
        io: TokioIo::new(stream),
        clock: Arc::clone(&client.clock),
        heads: false,
    };
    let service = service_fn(|request| forward::serve(Rc::clone(&client), request));
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(SEND_BUFFER)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(limits.head_bytes)
        .keep_alive_interval(PING_EVERY)
        .enable_connect_protocol();
    drive(pin!(builder.serve_connection(io, service)), &client, limits).await
}

/// A connection that can be asked to end after what is under way.
trait Graceful: Future<Output = hyper::Result<()>> {
    fn end(self: Pin<&mut Self>);
}

impl<I, S> Graceful for http1::UpgradeableConnection<I, S>
where
    S: hyper::service::HttpService<Incoming, Error = Infallible>,
    S::ResBody: hyper::body::Body<Error: Into<crate::error::BoxError>> + 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin + Send + 'static,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

impl<I, S, E> Graceful for http2::Connection<I, S, E>
where
    S: hyper::service::HttpService<Incoming, Error = Infallible>,
    S::ResBody: hyper::body::Body<Error: Into<crate::error::BoxError>> + 'static,
    I: hyper::rt::Read + hyper::rt::Write + Unpin,
    E: hyper::rt::bounds::Http2ServerConnExec<S::Future, S::ResBody>,
{
    fn end(self: Pin<&mut Self>) {
        self.graceful_shutdown();
    }
}

async fn drive<C: Graceful>(mut connection: Pin<&mut C>, client: &Client, limits: Limits) -> io::Result<()> {
    let head = Duration::from_millis(limits.head_ms);
    let idle = Duration::from_millis(limits.idle_ms);
    let mut ending = false;
    let mut alarm = pin!(tokio::time::sleep(head.min(idle)));
    let mut draining = pin!(client.worker.draining.cancelled());
    loop {
        tokio::select! {
            biased;
            done = connection.as_mut() => return done.map_err(io::Error::other),
            () = &mut draining, if !ending => {
                ending = true;
                connection.as_mut().end();
            }
            () = &mut alarm => match client.clock.check(Instant::now(), head, idle) {
                Verdict::Until(then) => alarm.as_mut().reset(then.into()),
                Verdict::Idle if !ending => {
                    ending = true;
                    connection.as_mut().end();
                    alarm.as_mut().reset(tokio::time::Instant::now() + GOODBYE);
                }
                Verdict::Idle | Verdict::SlowHead | Verdict::Stalled => return Err(io::ErrorKind::TimedOut.into()),
            },
        }
    }
}

/// A stream that tells the clock when bytes come in and when none go out.
struct Timed<I> {
    io: I,
    clock: Arc<Clock>,
    /// Bytes between requests are the begin of one. Not so in HTTP/2, where they may be pings and windows.
    heads: bool,
}

impl<I> Timed<I> {
    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.clock.wrote(written.is_pending());
        written
    }
}

impl<I: hyper::rt::Read + Unpin> hyper::rt::Read for Timed<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.io).poll_read(cx, buf))?;
        if self.heads {
            self.clock.read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: hyper::rt::Write + Unpin> hyper::rt::Write for Timed<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }
}
