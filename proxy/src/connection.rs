//! A client's HTTP/2 connection: the library that speaks it, its limits and deadlines, and its end when the proxy drains.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use hyper::ext::Protocol;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use linkspan_api::feed::Limits;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::body::{Incoming, ResponseBody};
use crate::client::{Client, Clock, Verdict};
use crate::forward::{self, ExtendedConnect, Interim, Reply};
use crate::worker::LocalExecutor;

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

/// Serves HTTP/2 until the connection ends. Protections against resets (CVE-2023-44487, CVE-2025-8671) stay as the
/// library sets them.
pub(crate) async fn http2<S>(stream: S, client: Rc<Client>, limits: Limits) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let io = Timed {
        io: TokioIo::new(stream),
        clock: Rc::clone(&client.clock),
    };
    let service = service_fn(|request| serve(Rc::clone(&client), request));
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
    let head = Duration::from_millis(limits.head_ms);
    let idle = Duration::from_millis(limits.idle_ms);
    let mut connection = pin!(builder.serve_connection(io, service));
    let mut ending = false;
    let mut alarm = pin!(tokio::time::sleep(head.min(idle)));
    let mut draining = pin!(client.worker.draining.cancelled());
    loop {
        tokio::select! {
            biased;
            done = connection.as_mut() => return done.map_err(io::Error::other),
            () = &mut draining, if !ending => {
                ending = true;
                connection.as_mut().graceful_shutdown();
            }
            () = &mut alarm => match client.clock.check(Instant::now(), head, idle) {
                Verdict::Until(then) => alarm.as_mut().reset(then.into()),
                Verdict::Idle if !ending => {
                    ending = true;
                    connection.as_mut().graceful_shutdown();
                    alarm.as_mut().reset(tokio::time::Instant::now() + GOODBYE);
                }
                Verdict::Idle | Verdict::SlowHead | Verdict::Stalled => return Err(io::ErrorKind::TimedOut.into()),
            },
        }
    }
}

/// One stream: what the library knows as its own is translated on the way in and on the way out.
async fn serve(
    client: Rc<Client>,
    mut request: Request<hyper::body::Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let upgrade = hyper::upgrade::on(&mut request);
    let protocol = request.extensions_mut().remove::<Protocol>();
    if let Some(protocol) = protocol.and_then(|protocol| HeaderValue::try_from(protocol.as_str()).ok()) {
        request.extensions_mut().insert(ExtendedConnect(protocol));
    }
    let request = request.map(Incoming::Http2);
    Ok(match forward::serve(&client, request, Interim::none()).await {
        Reply::Response(response) => response,
        Reply::Tunnel { response, tunnel } => {
            let tunnel = async move {
                match upgrade.await {
                    Ok(stream) => tunnel.relay(TokioIo::new(stream), bytes::BytesMut::new()).await,
                    Err(_) => tunnel.fail(),
                }
            };
            client.worker.tasks.spawn_local(tunnel);
            response.map(|()| ResponseBody::none())
        }
    })
}

/// A stream that tells the clock when none go out. Bytes that come in say nothing, for they may be pings and windows.
struct Timed<I> {
    io: I,
    clock: Rc<Clock>,
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
        buf: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
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
