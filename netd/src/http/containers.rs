//! Containers: list, inspect, start, stop, restart, kill, remove, logs, exec.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use linkspan_api::frames::{self, Frame, FrameReader};
use linkspan_api::v1::{ExecRequest, frame};
use linkspan_containers::{ExecSession, ExecSpec, LogOptions, LogStream};
use linkspan_plan::{ContainerId, HeldBack, Run};
use linkspan_telemetry::chain;
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::answer::{Answer, Response, read};
use super::sites::ask;
use super::{Api, flag, query};
use crate::reconcile::View;
use crate::requests;

/// A change that isn't there after this time is reported as under way.
const PATIENCE: Duration = Duration::from_secs(90);

pub(crate) fn list(api: &Api, request: &Request<Incoming>) -> Response {
    Answer::json(&api.view.borrow().container_views(flag(request, "all")))
}

pub(crate) fn inspect(api: &Api, name: &str) -> Result<Response, Response> {
    let id = one(api, name)?;
    let view = api.view.borrow().clone();
    let seen = view.containers.get(&id).ok_or_else(|| unknown(name))?;
    let mut document = serde_json::json!({
        "summary": view.container_view(seen),
        "record": seen.record,
        "run": seen.run,
        "warnings": api.containers.warnings(&id),
    });
    // The environment may hold secrets; who may use this socket may read them, as with Docker.
    if let Some(map) = document.as_object_mut() {
        map.insert("busy".to_owned(), serde_json::json!(seen.busy));
    }
    Ok(Answer::json(&document))
}

pub(crate) async fn start(api: &Api, name: &str) -> Result<Response, Response> {
    let word = name.to_owned();
    let ids = ask(api, |reply| requests::Request::Hold {
        word,
        held: None,
        force: false,
        reply,
    })
    .await?;
    let running = |view: &View| ids.iter().all(|id| is_running(view, id) || has_failed(view, id));
    wait(api, running).await;
    let view = api.view.borrow().clone();
    for id in &ids {
        if let Some(error) = view.containers.get(id).and_then(|seen| seen.record.error.clone()) {
            return Err(Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, error));
        }
    }
    Ok(Answer::nothing())
}

pub(crate) async fn stop(api: &Api, name: &str, request: &Request<Incoming>) -> Result<Response, Response> {
    let word = name.to_owned();
    let held = Some(HeldBack::Stopped);
    let ids = ask(api, |reply| requests::Request::Hold {
        word,
        held,
        force: false,
        reply,
    })
    .await?;
    let stopped = |view: &View| ids.iter().all(|id| !is_running(view, id));
    kill_after(api, request, &ids, stopped).await;
    wait(api, stopped).await;
    Ok(Answer::nothing())
}

pub(crate) async fn restart(
    api: &Api,
    name: &str,
    request: &Request<Incoming>,
) -> Result<Response, Response> {
    let word = name.to_owned();
    let before = ask(api, |reply| requests::Request::Restart { word, reply }).await?;
    let ids: Vec<ContainerId> = before.iter().map(|(id, _)| id.clone()).collect();
    let ended = |view: &View| {
        before.iter().all(|(id, run)| {
            view.containers
                .get(id)
                .is_none_or(|seen| seen.record.runs > *run || !is_running(view, id))
        })
    };
    kill_after(api, request, &ids, ended).await;
    let again = |view: &View| {
        before.iter().all(|(id, run)| match view.containers.get(id) {
            Some(seen) => seen.record.runs > *run && (is_running(view, id) || has_failed(view, id)),
            None => true,
        })
    };
    wait(api, again).await;
    Ok(Answer::nothing())
}

/// With `timeout=` in the query: SIGKILL for those that haven't ended by then, instead of after their own grace.
async fn kill_after(
    api: &Api,
    request: &Request<Incoming>,
    ids: &[ContainerId],
    ended: impl Fn(&View) -> bool,
) {
    let Some(seconds) = query(request, "timeout").and_then(|text| text.parse::<u64>().ok()) else {
        return;
    };
    if timeout(Duration::from_secs(seconds), wait(api, ended))
        .await
        .is_ok()
    {
        return;
    }
    for id in ids {
        if let Err(error) = api.containers.signal(id, 9).await {
            tracing::debug!(error = chain(&error), "it ended meanwhile");
        }
    }
}

pub(crate) async fn kill(api: &Api, name: &str, request: &Request<Incoming>) -> Result<Response, Response> {
    let word = query(request, "signal").unwrap_or_else(|| "KILL".to_owned());
    let upper = word.to_ascii_uppercase();
    let signal = linkspan_site::signal_number(&upper).ok_or_else(|| {
        Answer::failure(
            StatusCode::BAD_REQUEST,
            format!("no signal `{word}`; `kill -l` lists them"),
        )
    })?;
    for id in all(api, name)? {
        if !is_running(&api.view.borrow(), &id) {
            return Err(Answer::failure(
                StatusCode::CONFLICT,
                format!("container `{name}` is not running"),
            ));
        }
        api.containers
            .signal(&id, signal)
            .await
            .map_err(|error| failed(&error))?;
    }
    Ok(Answer::nothing())
}

pub(crate) async fn remove(api: &Api, name: &str, request: &Request<Incoming>) -> Result<Response, Response> {
    let (word, force) = (name.to_owned(), flag(request, "force"));
    let held = Some(HeldBack::Removed);
    let ids = ask(api, |reply| requests::Request::Hold {
        word,
        held,
        force,
        reply,
    })
    .await?;
    wait(api, |view: &View| {
        ids.iter().all(|id| !view.containers.contains_key(id))
    })
    .await;
    Ok(Answer::nothing())
}

pub(crate) fn logs(api: &Api, name: &str, request: &Request<Incoming>) -> Result<Response, Response> {
    let id = one(api, name)?;
    let timestamps = flag(request, "timestamps");
    let options = LogOptions {
        follow: flag(request, "follow"),
        tail: query(request, "tail").and_then(|text| text.parse().ok()),
        since_ms: query(request, "since")
            .and_then(|text| text.parse::<u64>().ok())
            .map(|seconds| seconds * 1_000),
    };
    let mut reader = api.containers.log_files(&id, &options);
    let (sender, response) = Answer::stream("application/vnd.linkspan.frames");
    tokio::spawn(async move {
        loop {
            let line = tokio::select! {
                line = reader.next() => line,
                // Nobody reads any more: a quiet log must not keep this task for ever.
                () = sender.closed() => return,
            };
            let piece = match line {
                Ok(Some(line)) => {
                    let mut bytes = Vec::new();
                    if timestamps {
                        bytes.extend_from_slice(line.time.as_bytes());
                        bytes.push(b' ');
                    }
                    bytes.extend_from_slice(&line.bytes);
                    framed(kind(line.stream), &bytes)
                }
                Ok(None) => return,
                Err(error) => {
                    let text = format!("the log can't be read: {error}");
                    let _ = sender.send(Ok(framed(frame::ERROR, text.as_bytes()))).await;
                    return;
                }
            };
            if sender.send(Ok(piece)).await.is_err() {
                return;
            }
        }
    });
    Ok(response)
}

pub(crate) async fn exec(
    api: &Api,
    name: &str,
    mut request: Request<Incoming>,
) -> Result<Response, Response> {
    let id = one(api, name)?;
    let upgrade = hyper::upgrade::on(&mut request);
    let wanted: ExecRequest = read(request.into_body()).await?;
    if wanted.command.is_empty() {
        return Err(Answer::failure(
            StatusCode::BAD_REQUEST,
            "name a program to run".to_owned(),
        ));
    }
    if !is_running(&api.view.borrow(), &id) {
        return Err(Answer::failure(
            StatusCode::CONFLICT,
            format!("container `{name}` is not running"),
        ));
    }
    let spec = ExecSpec {
        args: wanted.command,
        env: wanted.env,
        cwd: wanted.cwd,
        user: wanted.user,
        terminal: wanted.terminal,
        size: wanted.size,
        stdin: wanted.stdin,
    };
    let session = api
        .containers
        .exec(&id, &spec)
        .await
        .map_err(|error| failed(&error))?;
    tokio::spawn(async move {
        match upgrade.await {
            Ok(stream) => relay(TokioIo::new(stream), session).await,
            Err(error) => tracing::debug!(%error, "the client of an exec went away"),
        }
    });
    let mut response = Answer::nothing();
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    response.headers_mut().remove(header::CONTENT_TYPE);
    response
        .headers_mut()
        .insert(header::CONNECTION, header::HeaderValue::from_static("Upgrade"));
    response.headers_mut().insert(
        header::UPGRADE,
        header::HeaderValue::from_static(linkspan_api::client::UPGRADE),
    );
    Ok(response)
}

/// Carries frames both ways until the program has ended and all it wrote is sent.
async fn relay<S>(stream: S, mut session: ExecSession)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + 'static,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let (resizes, mut sizes) = mpsc::unbounded_channel();
    // A task of its own: a program that doesn't read must not keep us from reading what it writes.
    let input = tokio::spawn(feed_input(
        FrameReader::new(reader),
        session.stdin.take(),
        resizes,
    ));
    loop {
        tokio::select! {
            output = session.output.recv() => match output {
                Some((stream, bytes)) => {
                    for piece in bytes.chunks(frame::MAX) {
                        if frames::write(&mut writer, kind(stream), piece).await.is_err() {
                            input.abort();
                            return;
                        }
                    }
                }
                None => break,
            },
            Some((rows, columns)) = sizes.recv() => {
                if let Err(error) = session.resize(rows, columns).await {
                    tracing::debug!(error = chain(&error), "a terminal could not be resized");
                }
            },
        }
    }
    let status = session.wait().await.unwrap_or(255);
    if frames::write(&mut writer, frame::EXIT, &status.to_be_bytes())
        .await
        .is_ok()
    {
        let _ = writer.shutdown().await;
    }
    input.abort();
}

async fn feed_input<R: tokio::io::AsyncRead + Unpin, W: tokio::io::AsyncWrite + Unpin>(
    mut reader: FrameReader<R>,
    mut stdin: Option<W>,
    resizes: mpsc::UnboundedSender<(u16, u16)>,
) {
    while let Ok(Some(Frame { kind, payload })) = reader.next_frame().await {
        match (kind, payload.as_ref()) {
            (frame::STDIN, []) => stdin = None,
            (frame::STDIN, bytes) => {
                if let Some(open) = &mut stdin
                    && open.write_all(bytes).await.is_err()
                {
                    stdin = None;
                }
            }
            (frame::RESIZE, [a, b, c, d]) => {
                let size = (u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d]));
                if resizes.send(size).is_err() {
                    return;
                }
            }
            _ => {}
        }
    }
}

/// A frame of a log line, cut where a frame may not be longer.
fn framed(kind: u8, payload: &[u8]) -> Bytes {
    frames::encode(kind, payload.get(..frame::MAX).unwrap_or(payload))
}

fn kind(stream: LogStream) -> u8 {
    match stream {
        LogStream::Stdout => frame::STDOUT,
        LogStream::Stderr => frame::STDERR,
    }
}

/// Waits until the view is as it should be, or patience ends.
async fn wait(api: &Api, reached: impl Fn(&View) -> bool) {
    let mut view = api.view.clone();
    let _ = timeout(PATIENCE, view.wait_for(|view: &Arc<View>| reached(view))).await;
}

fn is_running(view: &View, id: &ContainerId) -> bool {
    view.containers
        .get(id)
        .is_some_and(|seen| matches!(seen.run, Run::Running { .. }))
}

fn has_failed(view: &View, id: &ContainerId) -> bool {
    view.containers
        .get(id)
        .is_none_or(|seen| seen.record.error.is_some())
}

fn all(api: &Api, name: &str) -> Result<Vec<ContainerId>, Response> {
    let view = api.view.borrow().clone();
    let ids: Vec<ContainerId> = linkspan_plan::named(&view.containers, name)
        .into_iter()
        .cloned()
        .collect();
    if ids.is_empty() {
        Err(unknown(name))
    } else {
        Ok(ids)
    }
}

/// One of several replicas: the first that runs, else the first.
fn one(api: &Api, name: &str) -> Result<ContainerId, Response> {
    let ids = all(api, name)?;
    let view = api.view.borrow().clone();
    let running = ids.iter().find(|id| is_running(&view, id)).or(ids.first());
    running.cloned().ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Response {
    Answer::failure(
        StatusCode::NOT_FOUND,
        format!("no container `{name}`; `linkspan ps -a` lists all"),
    )
}

fn failed(error: &dyn std::error::Error) -> Response {
    Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, chain(error))
}
