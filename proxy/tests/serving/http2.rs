//! HTTP/2 from clients: to HTTP/1.1 containers, to gRPC, and its failures.

use std::io::Write;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Version};
use http_body::Frame;
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::rig::{Rig, Upstream, fields};
use crate::tls::trusting;

pub(crate) fn rig(upstream: &Upstream) -> (Rig, Arc<rustls::ClientConfig>) {
    let mut rig = Rig::start();
    rig.route("a.test", "/", "p/web", upstream.port);
    rig.service("p/web", &[("web-1", 1)]);
    let certificate = rig.certificate(&["a.test"]);
    rig.publish();
    (rig, trusting(&[certificate], &[b"h2"]))
}

pub(crate) async fn dial<B>(rig: &Rig, config: &Arc<rustls::ClientConfig>) -> SendRequest<B>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = tokio::net::TcpStream::connect(rig.https).await.unwrap();
    let name = ServerName::try_from("a.test").unwrap();
    let stream = tokio_rustls::TlsConnector::from(Arc::clone(config))
        .connect(name, stream)
        .await
        .unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    sender
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Runtime::new().unwrap().block_on(future)
}

#[test]
fn a_request_over_http2_becomes_one_over_http1_with_its_cookies_joined() {
    let upstream = Upstream::echo();
    let (rig, config) = rig(&upstream);
    let text = block_on(async {
        let mut sender = dial(&rig, &config).await;
        let request = Request::get("https://a.test/x?y")
            .header("cookie", "a=1")
            .header("cookie", "b=2")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(
            (response.status().as_u16(), response.version()),
            (200, Version::HTTP_2)
        );
        String::from_utf8(response.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    });
    assert!(text.starts_with("GET /x?y HTTP/1.1\r\n"), "{text}");
    let got = fields(&text);
    assert_eq!(got["host"], ["a.test"]);
    assert_eq!(got["cookie"], ["a=1; b=2"]);
    assert_eq!(got["via"], ["2 linkspan"]);
    assert_eq!(got["forwarded"], ["for=127.0.0.1;host=\"a.test\";proto=https"]);
    assert_eq!(rig.access_lines(1)[0]["protocol"], "HTTP/2");
}

#[test]
fn host_and_authority_that_differ_are_refused_and_connect_is_not_allowed() {
    let upstream = Upstream::echo();
    let (rig, config) = rig(&upstream);
    block_on(async {
        let mut sender = dial(&rig, &config).await;
        let request = Request::get("https://a.test/")
            .header("host", "b.test")
            .body(Empty::<Bytes>::new())
            .unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 400);
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("a.test:443")
            .body(Empty::<Bytes>::new())
            .unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 405);
        let request = Request::get("https://a.test/")
            .body(Empty::<Bytes>::new())
            .unwrap();
        assert_eq!(sender.send_request(request).await.unwrap().status(), 200);
    });
}

#[test]
fn many_streams_of_one_connection_are_answered_at_once() {
    let upstream = Upstream::echo();
    let (rig, config) = rig(&upstream);
    block_on(async {
        let sender = dial(&rig, &config).await;
        let mut tasks = tokio::task::JoinSet::new();
        for n in 0..100 {
            let mut sender = sender.clone();
            tasks.spawn(async move {
                let request = Request::put(format!("https://a.test/{n}"))
                    .body(Full::new(Bytes::from(vec![b'x'; 1000 * n])))
                    .unwrap();
                let response = sender.send_request(request).await.unwrap();
                let body = response.into_body().collect().await.unwrap().to_bytes();
                assert!(body.starts_with(format!("PUT /{n} ").as_bytes()));
                assert!(body.ends_with(&vec![b'x'; 1000 * n]));
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    });
}

#[test]
fn an_answer_that_breaks_off_resets_the_stream() {
    let upstream = Upstream::new(|mut raw| {
        raw.head();
        raw.stream
            .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n")
            .unwrap();
    });
    let (rig, config) = rig(&upstream);
    block_on(async {
        let mut sender = dial(&rig, &config).await;
        let request = Request::get("https://a.test/")
            .body(Empty::<Bytes>::new())
            .unwrap();
        // The reset may overtake the head, when both are ready to be sent at the same time.
        match sender.send_request(request).await {
            Ok(response) => {
                assert_eq!(response.status(), 200);
                assert!(response.into_body().collect().await.is_err());
            }
            Err(error) => assert!(format!("{error:?}").contains("Reset"), "{error:?}"),
        }
    });
    assert_eq!(rig.access_lines(1)[0]["outcome"], "upstream_truncated");
}

#[test]
fn a_websocket_over_http2_becomes_an_upgrade_of_http1() {
    let upstream = Upstream::new(|mut raw| {
        let head = raw.head().unwrap();
        let got = fields(&head);
        assert!(head.starts_with("GET /ws HTTP/1.1"), "{head}");
        assert_eq!(
            (got["upgrade"][0].as_str(), got["connection"][0].as_str()),
            ("websocket", "upgrade")
        );
        assert_eq!(got["sec-websocket-key"][0].len(), 24);
        raw.stream
            .write_all(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                  Sec-WebSocket-Accept: x\r\n\r\n",
            )
            .unwrap();
        let said = raw.exactly(4).unwrap();
        raw.stream.write_all(&said).unwrap();
    });
    let (rig, config) = rig(&upstream);
    block_on(async {
        let mut sender = dial(&rig, &config).await;
        // The client may use extended CONNECT only once the settings allowing it have come.
        let probe = Request::get("https://b.test/")
            .body(Empty::<Bytes>::new())
            .unwrap();
        assert_eq!(sender.send_request(probe).await.unwrap().status(), 421);
        let request = Request::builder()
            .method(Method::CONNECT)
            .uri("https://a.test/ws")
            .extension(hyper::ext::Protocol::from_static("websocket"))
            .header("sec-websocket-version", "13")
            .body(Empty::<Bytes>::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        assert_eq!(response.status(), 200);
        let mut tunnel = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
        tunnel.write_all(b"ping").await.unwrap();
        let mut back = [0; 4];
        tunnel.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"ping");
    });
}

#[test]
fn grpc_keeps_http2_all_the_way_and_its_trailers() {
    // A gRPC server as the proxy sees one: HTTP/2 with prior knowledge, an answer that ends in trailers.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        block_on(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let service = hyper::service::service_fn(|request: Request<hyper::body::Incoming>| async {
                    assert_eq!(request.version(), Version::HTTP_2);
                    assert_eq!(request.headers()["te"], "trailers");
                    assert_eq!(request.uri().authority().unwrap(), "a.test");
                    let collected = request.into_body().collect().await.unwrap();
                    let upward = collected.trailers().unwrap()["x-up"].clone();
                    let mut trailers = HeaderMap::new();
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    trailers.insert("x-up", upward);
                    let frames = [
                        Ok::<_, std::io::Error>(Frame::data(collected.to_bytes())),
                        Ok(Frame::trailers(trailers)),
                    ];
                    Ok::<_, std::io::Error>(http::Response::new(Frames(frames.into_iter().collect())))
                });
                tokio::spawn(
                    hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
    });
    let upstream = Upstream::echo();
    let (mut rig, config) = rig(&upstream);
    rig.snapshot.routes.clear();
    rig.route("a.test", "/", "p/web", port);
    rig.publish();
    block_on(async {
        let mut sender = dial(&rig, &config).await;
        for _ in 0..2 {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-up", HeaderValue::from_static("9"));
            let frames = [
                Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"hi"))),
                Ok(Frame::trailers(trailers)),
            ];
            let request = Request::post("https://a.test/pkg.Service/Call")
                .header("content-type", "application/grpc+proto")
                .header("te", "trailers")
                .body(Frames(frames.into_iter().collect()))
                .unwrap();
            let response = sender.send_request(request).await.unwrap();
            assert_eq!(response.status(), 200);
            let collected = response.into_body().collect().await.unwrap();
            assert_eq!(collected.trailers().unwrap()["grpc-status"], "0");
            assert_eq!(collected.trailers().unwrap()["x-up"], "9");
            assert_eq!(collected.to_bytes(), "hi");
        }
    });
}

/// Frames that are all there already, as a stream.
struct Frames(std::collections::VecDeque<Result<Frame<Bytes>, std::io::Error>>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}
