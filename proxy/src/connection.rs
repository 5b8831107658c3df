//! A client's HTTP/2 connection: the library that speaks it, its limits and deadlines, and its end when the proxy drains.

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};
use hyper::ext::Protocol;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use linkspan_api::feed::Limits;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Notify;

use crate::body::{Incoming, ResponseBody};
use crate::client::{Client, Verdict};
use crate::forward::{self, ExtendedConnect, Interim, Reply};
use crate::worker::LocalExecutor;

mod flood;
mod watched;

use watched::Watched;

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
/// library sets them; [`flood`] adds those that it has none for.
pub(crate) async fn http2<S>(stream: S, client: Rc<Client>, limits: Limits) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + 'static,
{
    let io = TokioIo::new(Watched::new(stream, Rc::clone(&client.clock)));
    // Rung when the connection has had its requests.
    let (requests, last) = (Cell::new(0), Notify::new());
    let service = service_fn(|request| {
        requests.set(requests.get() + 1);
        if requests.get() == limits.requests_per_connection {
            last.notify_one();
        }
        serve(Rc::clone(&client), request)
    });
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
            () = last.notified(), if !ending => {
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
