//! Sites, routes, events, status.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use linkspan_api::v1::{Event, ProxyView, SiteSource, Status, Version};
use tokio::sync::{broadcast, oneshot};
use tokio::time::Instant;

use super::answer::{Answer, Response, read};
use super::{Api, flag, query};
use crate::events::now_ms;
use crate::requests::{self, Rejection, Reply};

pub(crate) fn version() -> Response {
    Answer::json(&own_version())
}

fn own_version() -> Version {
    let kernel = nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default();
    Version {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel,
        pid: std::process::id(),
    }
}

pub(crate) fn status(api: &Api) -> Response {
    let view = api.view.borrow().clone();
    Answer::json(&Status {
        version: own_version(),
        generation: view.desired.generation,
        converged: view.settled,
        proxy: ProxyView {
            pid: view.proxy_pid,
            generation: view.served,
            http: view.http.clone(),
            https: view.https.clone(),
        },
        sites: view.site_summaries(),
        warnings: view.warnings.clone(),
    })
}

pub(crate) fn authority(api: &Api) -> Response {
    Answer::text(api.view.borrow().authority.clone())
}

pub(crate) fn routes(api: &Api) -> Response {
    Answer::json(&api.view.borrow().route_views())
}

pub(crate) fn list(api: &Api) -> Response {
    Answer::json(&api.view.borrow().site_summaries())
}

pub(crate) async fn put(api: &Api, name: &str, request: Request<Incoming>) -> Result<Response, Response> {
    let source: SiteSource = read(request.into_body()).await?;
    let name = name.to_owned();
    ask(api, |reply| requests::Request::Put {
        name,
        source: Box::new(source),
        reply,
    })
    .await
    .map(|done| Answer::json(&done))
}

pub(crate) async fn plan(api: &Api, request: Request<Incoming>) -> Result<Response, Response> {
    let source: SiteSource = read(request.into_body()).await?;
    ask(api, |reply| requests::Request::Preview {
        source: Box::new(source),
        reply,
    })
    .await
    .map(|done| Answer::json(&done))
}

pub(crate) async fn delete(api: &Api, name: &str, request: &Request<Incoming>) -> Result<Response, Response> {
    let (name, volumes) = (name.to_owned(), flag(request, "volumes"));
    ask(api, |reply| requests::Request::Delete { name, volumes, reply })
        .await
        .map(|done| Answer::json(&done))
}

/// Sends a request to the state's owner and waits for its answer.
pub(crate) async fn ask<T>(
    api: &Api,
    request: impl FnOnce(Reply<T>) -> requests::Request,
) -> Result<T, Response> {
    let ending = || {
        Answer::failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "the daemon is stopping".to_owned(),
        )
    };
    let (reply, answer) = oneshot::channel();
    api.requests.send(request(reply)).await.map_err(|_| ending())?;
    match answer.await {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(rejection)) => Err(Answer::rejection(rejection)),
        Err(_) => Err(Answer::rejection(Rejection::Failed(
            "the daemon is stopping".to_owned(),
        ))),
    }
}

/// JSON lines. With `site` and `generation`: those of that site from there on, until it converged or failed. With `since`
/// and `until`, in milliseconds since the epoch: those remembered from then on, and what comes until then.
pub(crate) fn events(api: &Api, request: &Request<Incoming>) -> Response {
    let site = query(request, "site");
    let time = |key| query(request, key).and_then(|text| text.parse::<u64>().ok());
    let (since, until) = (time("since"), time("until"));
    let left = until.map(|until| Duration::from_millis(until.saturating_sub(now_ms())));
    let from = query(request, "generation")
        .and_then(|text| text.parse().ok())
        .unwrap_or(0_u64);
    let (sender, response) = Answer::stream("application/x-ndjson");
    let (past, mut live) = api.events.follow();
    // How the site stands is told as it is now, not as it was at some time.
    let standing = site
        .as_deref()
        .and_then(|site| api.view.borrow().announced.get(site).cloned())
        .filter(is_final);
    tokio::spawn(async move {
        let end = left.map(|left| Instant::now() + left);
        // Without a site or a time only what comes from now on is asked for.
        let past = past
            .into_iter()
            .filter(|event| match since {
                _ if site.is_some() => !is_final(event),
                Some(since) => event.time_ms >= since && until.is_none_or(|until| event.time_ms <= until),
                None => false,
            })
            .chain(standing);
        for event in past {
            match pass(&sender, &event, site.as_deref(), from).await {
                Passed::On => {}
                Passed::Last => return,
            }
        }
        loop {
            let next = match end {
                Some(end) => match tokio::time::timeout_at(end, live.recv()).await {
                    Ok(next) => next,
                    Err(_) => return,
                },
                None => live.recv().await,
            };
            match next {
                Ok(event) => {
                    if let Passed::Last = pass(&sender, &event, site.as_deref(), from).await {
                        return;
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            }
        }
    });
    response
}

enum Passed {
    On,
    Last,
}

async fn pass(
    sender: &tokio::sync::mpsc::Sender<Result<Bytes, std::io::Error>>,
    event: &Event,
    site: Option<&str>,
    from: u64,
) -> Passed {
    if let Some(site) = site
        && (event.project.as_deref() != Some(site) || event.generation < from)
    {
        return Passed::On;
    }
    let mut line = serde_json::to_vec(event).unwrap_or_default();
    line.push(b'\n');
    if sender.send(Ok(Bytes::from(line))).await.is_err() {
        return Passed::Last;
    }
    if site.is_some() && is_final(event) {
        Passed::Last
    } else {
        Passed::On
    }
}

fn is_final(event: &Event) -> bool {
    event.kind == "site" && matches!(event.action.as_str(), "converged" | "failed")
}
