//! The client against a real HTTP server on a unix socket.

use std::convert::Infallible;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tempfile::TempDir;
use tokio::net::UnixListener;
use tokio::sync::mpsc;

use super::*;
use crate::frames;
use crate::v1::frame;

type Reply = Response<UnsyncBoxBody<Bytes, std::io::Error>>;

/// What the daemon was asked: `GET /v1/…`.
type Asked = Arc<Mutex<Vec<String>>>;

fn whole(status: u16, body: impl Into<Bytes>) -> Reply {
    let body = Full::new(body.into())
        .map_err(|never| match never {})
        .boxed_unsync();
    Response::builder().status(status).body(body).unwrap()
}

/// A body whose pieces are sent by the test; an error cuts the connection.
struct Piecewise(mpsc::Receiver<std::io::Result<Bytes>>);

impl hyper::body::Body for Piecewise {
    type Data = Bytes;
    type Error = std::io::Error;
    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<std::io::Result<Frame<Bytes>>>> {
        self.0
            .poll_recv(context)
            .map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}

fn pieces(pieces: Vec<std::io::Result<Bytes>>) -> Reply {
    let (send, receive) = mpsc::channel(pieces.len().max(1));
    for piece in pieces {
        send.try_send(piece).unwrap();
    }
    Response::new(Piecewise(receive).boxed_unsync())
}

/// A daemon that answers as `answer` says, for as long as the folder lives.
fn daemon<F, A>(answer: A) -> (TempDir, Client, Asked)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    let asked = Asked::default();
    let log = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (answer, log) = (answer.clone(), Arc::clone(&log));
            let service = service_fn(move |request: Request<Incoming>| {
                log.lock()
                    .unwrap()
                    .push(format!("{} {}", request.method(), request.uri()));
                let reply = answer(request);
                async { Ok::<_, Infallible>(reply.await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            tokio::spawn(
                server
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades(),
            );
        }
    });
    let client = Client::new(dir.path());
    (dir, client, asked)
}

#[tokio::test]
async fn without_a_daemon_the_error_names_the_socket_and_the_command() {
    let dir = tempfile::tempdir().unwrap();
    let error = Client::new(dir.path()).version().await.unwrap_err();
    let socket = dir.path().join(SOCKET);
    assert_eq!(
        error.to_string(),
        format!(
            "no daemon answers at `{}`; start one with `linkspan daemon`, or name its folder with `--run-dir`",
            socket.display()
        )
    );
    assert!(error.is_unreachable());

    // A socket that a dead daemon left behind.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(
        Client::new(dir.path()).version().await,
        Err(ClientError::NoDaemon { .. })
    ));
}

#[tokio::test]
async fn names_and_options_reach_the_daemon_as_they_are() {
    let (_dir, client, asked) = daemon(|_| async { whole(204, "") });
    client
        .stop("shop-web-1", Some(Duration::from_secs(3)))
        .await
        .unwrap();
    client.restart("shop-web-1", None).await.unwrap();
    client.kill("a/b", "SIGHUP").await.unwrap();
    client.remove_container("x", true).await.unwrap();
    client.remove_image("acme/web:1", false).await.unwrap();
    let query = LogsQuery {
        follow: true,
        tail: Some(10),
        timestamps: true,
        since: Some(-5),
    };
    client.logs("x", &query).await.unwrap();
    client.events_between(Some(1_500), Some(9_000)).await.unwrap();
    client.events_between(None, None).await.unwrap();
    assert_eq!(
        *asked.lock().unwrap(),
        [
            "POST /v1/containers/shop-web-1/stop?timeout=3",
            "POST /v1/containers/shop-web-1/restart",
            "POST /v1/containers/a%2Fb/kill?signal=SIGHUP",
            "DELETE /v1/containers/x?force=true",
            "DELETE /v1/images/acme%2Fweb%3A1",
            "GET /v1/containers/x/logs?follow=true&timestamps=true&tail=10&since=-5",
            "GET /v1/events?since=1500&until=9000",
            "GET /v1/events",
        ]
    );
}

#[tokio::test]
async fn a_site_goes_up_as_json_and_the_generation_comes_back() {
    let (_dir, client, _) = daemon(|request| async move {
        assert_eq!(request.headers()["content-type"], "application/json");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let source: SiteSource = serde_json::from_slice(&body).unwrap();
        assert_eq!(source.text, "name: shop\n");
        whole(200, r#"{"generation":7,"changed":true}"#)
    });
    let source = SiteSource {
        path: "/srv/linkspan.yaml".into(),
        text: "name: shop\n".to_owned(),
        variables: Default::default(),
        files: Default::default(),
    };
    let accepted = client.put_site("shop", &source).await.unwrap();
    assert_eq!(
        accepted,
        Accepted {
            generation: 7,
            changed: true
        }
    );
}

#[tokio::test]
async fn a_refusal_carries_the_daemons_words_and_problems() {
    let (_dir, client, _) = daemon(|_| async {
        whole(
            422,
            r#"{"message":"`shop` has 1 problem","problems":["linkspan.yaml:1:1: unknown key"]}"#,
        )
    });
    let error = client.delete_site("shop", true).await.unwrap_err();
    assert!(error.is_refusal());
    assert_eq!(error.to_string(), "`shop` has 1 problem");
    let ClientError::Failed(failure, status) = error else {
        panic!("{error:?}")
    };
    assert_eq!((failure.problems.len(), status.as_u16()), (1, 422));
}

#[tokio::test]
async fn an_error_that_is_not_json_is_shown_all_the_same() {
    let (_dir, client, _) = daemon(|_| async { whole(500, "out of paper\n") });
    let error = client.status().await.unwrap_err();
    assert!(!error.is_refusal());
    assert_eq!(
        error.to_string(),
        "the daemon answered `500 Internal Server Error`: out of paper"
    );
}

#[tokio::test]
async fn an_answer_of_another_version_is_an_error_not_a_panic() {
    let (_dir, client, _) = daemon(|_| async { whole(200, r#"{"nothing":"we know"}"#) });
    let error = client.version().await.unwrap_err();
    assert!(error.to_string().ends_with("are both of one version?"), "{error}");
}

#[tokio::test]
async fn a_daemon_that_dies_mid_answer_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let listener = UnixListener::bind(dir.path().join(SOCKET)).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.readable().await.unwrap();
    });
    let error = Client::new(dir.path()).version().await.unwrap_err();
    assert!(matches!(error, ClientError::Broken { .. }), "{error:?}");
}

#[tokio::test]
async fn events_come_line_by_line_however_they_are_cut() {
    let (_dir, client, asked) = daemon(|_| async {
        let line = r#"{"time_ms":1,"generation":2,"project":"shop","kind":"site","name":"shop","action":"converged"}"#;
        let text = format!("{line}\n\n{}\n{line}", line.replace("converged", "failed"));
        let cut = text
            .as_bytes()
            .chunks(7)
            .map(|piece| Ok(Bytes::copy_from_slice(piece)))
            .collect();
        pieces(cut)
    });
    let mut events = client.site_events("shop", 2).await.unwrap();
    let mut actions = Vec::new();
    while let Some(event) = events.next_event().await.unwrap() {
        actions.push(event.action);
    }
    assert_eq!(actions, ["converged", "failed", "converged"]);
    assert_eq!(*asked.lock().unwrap(), ["GET /v1/events?site=shop&generation=2"]);
}

#[tokio::test]
async fn logs_tell_both_streams_apart_and_report_what_went_wrong() {
    let (_dir, client, _) = daemon(|_| async {
        pieces(vec![
            Ok(frames::encode(frame::STDOUT, b"out")),
            Ok(frames::encode(99, b"from the future")),
            Ok(frames::encode(frame::STDERR, b"err")),
            Ok(frames::encode(frame::ERROR, b"log file is gone")),
        ])
    });
    let mut logs = client.logs("web", &LogsQuery::default()).await.unwrap();
    assert_eq!(
        logs.next_output().await.unwrap(),
        Some(Output::Stdout(Bytes::from("out")))
    );
    assert_eq!(
        logs.next_output().await.unwrap(),
        Some(Output::Stderr(Bytes::from("err")))
    );
    assert_eq!(
        logs.next_output().await.unwrap_err().to_string(),
        "log file is gone"
    );
}

#[tokio::test]
async fn an_archive_goes_up_with_its_length_and_progress() {
    let (_dir, client, _) = daemon(|request| async move {
        assert_eq!(request.headers()["content-length"], "1000000");
        let body = request.into_body().collect().await.unwrap().to_bytes();
        assert!(body.iter().all(|byte| *byte == 7));
        let size = body.len();
        whole(
            200,
            format!(r#"[{{"names":["a:1"],"digest":"d","id":"i","size":{size},"created":0}}]"#),
        )
    });
    let archive = std::io::Cursor::new(vec![7; 1_000_000]);
    let seen = Arc::new(AtomicU64::new(0));
    let progress = Arc::clone(&seen);
    let loaded = client
        .load(archive, Some(1_000_000), move |sent| {
            progress.store(sent, Ordering::Relaxed);
        })
        .await
        .unwrap();
    assert_eq!(loaded[0].size, 1_000_000);
    assert_eq!(seen.load(Ordering::Relaxed), 1_000_000);
}

#[tokio::test]
async fn a_refused_archive_is_reported_although_not_all_of_it_was_read() {
    let (_dir, client, _) = daemon(|_| async { whole(422, r#"{"message":"the archive is no archive"}"#) });
    let error = client.load(tokio::io::repeat(7), None, |_| ()).await.unwrap_err();
    assert_eq!(error.to_string(), "the archive is no archive");
}

#[tokio::test]
async fn a_download_that_breaks_off_is_an_error_not_an_end() {
    let (send, receive) = mpsc::channel(1);
    let receive = Arc::new(Mutex::new(Some(receive)));
    let (_dir, client, _) = daemon(move |_| {
        let body = Piecewise(receive.lock().unwrap().take().unwrap());
        async { Response::new(body.boxed_unsync()) }
    });
    send.send(Ok(Bytes::from("half"))).await.unwrap();
    let mut archive = client.save(&["a:1".to_owned()]).await.unwrap();
    assert_eq!(archive.next_piece().await.unwrap().unwrap(), "half");
    send.send(Err(std::io::Error::other("disk on fire")))
        .await
        .unwrap();
    assert!(matches!(
        archive.next_piece().await,
        Err(ClientError::BrokenStream(_))
    ));
}

/// Plays a program that answers its input in capitals, and ends with the number of columns as its status.
async fn shout(request: Request<Incoming>) -> Reply {
    assert_eq!(request.headers()["upgrade"], UPGRADE);
    let (head, body) = request.into_parts();
    let asked: ExecRequest = serde_json::from_slice(&body.collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(asked.command, ["cat"]);
    let mut request = Request::from_parts(head, Empty::<Bytes>::new());
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let (from, mut to) = tokio::io::split(TokioIo::new(upgrade.await.unwrap()));
        let mut from = frames::FrameReader::new(from);
        let mut columns = 0;
        while let Some(frame) = from.next_frame().await.unwrap() {
            match frame.kind {
                frame::STDIN if frame.payload.is_empty() => break,
                frame::STDIN => {
                    frames::write(&mut to, frame::STDOUT, &frame.payload.to_ascii_uppercase())
                        .await
                        .unwrap();
                }
                frame::RESIZE => columns = u16::from_be_bytes([frame.payload[2], frame.payload[3]]),
                other => panic!("frame of kind {other}"),
            }
        }
        frames::write(&mut to, frame::EXIT, &u32::from(columns).to_be_bytes())
            .await
            .unwrap();
    });
    let body = Empty::new().map_err(|never| match never {}).boxed_unsync();
    Response::builder()
        .status(101)
        .header("connection", "upgrade")
        .header("upgrade", UPGRADE)
        .body(body)
        .unwrap()
}

fn cat() -> ExecRequest {
    ExecRequest {
        command: vec!["cat".to_owned()],
        env: Vec::new(),
        cwd: None,
        user: None,
        terminal: false,
        size: None,
        stdin: true,
    }
}

#[tokio::test]
async fn exec_carries_input_resizes_output_and_the_exit_status() {
    let (_dir, client, asked) = daemon(shout);
    let (mut input, mut output) = client.exec("web", &cat()).await.unwrap();
    input.stdin(b"hello").await.unwrap();
    assert_eq!(
        output.next_output().await.unwrap(),
        Some(Output::Stdout(Bytes::from("HELLO")))
    );
    input.stdin(b"").await.unwrap();
    input.resize(24, 80).await.unwrap();
    input.close_stdin().await.unwrap();
    assert_eq!(output.next_output().await.unwrap(), Some(Output::Exit(80)));
    assert_eq!(output.next_output().await.unwrap(), None);
    assert_eq!(*asked.lock().unwrap(), ["POST /v1/containers/web/exec"]);
}

#[tokio::test]
async fn exec_in_a_container_that_is_not_there_is_a_plain_error() {
    let (_dir, client, _) = daemon(|_| async { whole(404, r#"{"message":"no container `web`"}"#) });
    let Err(error) = client.exec("web", &cat()).await else {
        panic!("it was let in")
    };
    assert_eq!(error.to_string(), "no container `web`");
}

#[test]
fn the_socket_lies_in_the_run_directory() {
    assert_eq!(
        Client::new(Path::new("/run/linkspan")).socket(),
        Path::new("/run/linkspan/linkspan.sock")
    );
}
