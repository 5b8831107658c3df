//! Networks, pools, and what the doctor has to say of them.

use std::time::Duration;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use linkspan_api::v1::{ConnectRequest, DisconnectRequest, NetworkRequest};
use linkspan_telemetry::chain;

use tokio::time::timeout;

use super::Api;
use super::answer::{Answer, Response, read};
use super::sites::ask;
use crate::reconcile::View;
use crate::requests::{self, NetworkOrder, Reply};

/// Links are changed within milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn list(api: &Api) -> Response {
    Answer::json(&api.view.borrow().network_views())
}

pub(crate) fn inspect(api: &Api, name: &str) -> Result<Response, Response> {
    let view = api.view.borrow().clone();
    view.network_detail(name)
        .map(|detail| Answer::json(&detail))
        .ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Response {
    let message = format!("no network `{name}`; `linkspan network ls` lists all");
    Answer::failure(StatusCode::NOT_FOUND, message)
}

pub(crate) async fn create(api: &Api, request: Request<Incoming>) -> Result<Response, Response> {
    let request: NetworkRequest = read(request.into_body()).await?;
    let name = request.name.clone();
    order(api, |reply| NetworkOrder::Create {
        request: Box::new(request),
        reply,
    })
    .await?;
    // It is there once a pass has seen it; somebody else may remove it before that.
    until(api, |view| {
        view.network_views().iter().any(|network| network.name == name)
    })
    .await;
    let made = api.view.borrow().network_views();
    made.iter()
        .find(|network| network.name == name)
        .map(Answer::json)
        .ok_or_else(|| unknown(&name))
}

pub(crate) async fn remove(api: &Api, name: &str) -> Result<Response, Response> {
    let name = name.to_owned();
    let gone = name.clone();
    order(api, |reply| NetworkOrder::Remove { name, reply }).await?;
    until(api, |view| view.network_detail(&gone).is_none()).await;
    Ok(Answer::nothing())
}

pub(crate) async fn prune(api: &Api) -> Result<Response, Response> {
    let gone = order(api, |reply| NetworkOrder::Prune { reply }).await?;
    until(api, |view| {
        gone.iter().all(|name| view.network_detail(name).is_none())
    })
    .await;
    Ok(Answer::json(&gone))
}

pub(crate) async fn connect(api: &Api, name: &str, request: Request<Incoming>) -> Result<Response, Response> {
    let request: ConnectRequest = read(request.into_body()).await?;
    let (network, container) = (name.to_owned(), request.container.clone());
    order(api, |reply| NetworkOrder::Connect {
        network,
        request: Box::new(request),
        reply,
    })
    .await?;
    placed(api, &container, name, true).await
}

pub(crate) async fn disconnect(
    api: &Api,
    name: &str,
    request: Request<Incoming>,
) -> Result<Response, Response> {
    let request: DisconnectRequest = read(request.into_body()).await?;
    let (network, container) = (name.to_owned(), request.container.clone());
    order(api, |reply| NetworkOrder::Disconnect {
        network,
        container: request.container,
        reply,
    })
    .await?;
    placed(api, &container, name, false).await
}

/// Waits until a container is on a network, or off it.
async fn placed(api: &Api, container: &str, network: &str, on: bool) -> Result<Response, Response> {
    if until(api, |view| view.is_placed(container, network, on)).await {
        return Ok(Answer::nothing());
    }
    let warnings = api.view.borrow().warnings.join("; ");
    let why = if warnings.is_empty() {
        "`linkspan events` tells how it goes on".to_owned()
    } else {
        warnings
    };
    let message = format!("network `{network}`: it is noted down, but not done yet: {why}");
    Err(Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, message))
}

/// Waits until what was asked for is done, as long as that takes when all is well: who goes on then finds it so.
async fn until(api: &Api, done: impl FnMut(&View) -> bool) -> bool {
    let mut done = done;
    let mut view = api.view.clone();
    // What takes longer is told by events and status.
    timeout(PATIENCE, view.wait_for(|view| done(view)))
        .await
        .is_ok_and(|seen| seen.is_ok())
}

async fn order<T>(api: &Api, order: impl FnOnce(Reply<T>) -> NetworkOrder) -> Result<T, Response> {
    ask(api, |reply| requests::Request::Network(order(reply))).await
}

pub(crate) fn pools(api: &Api) -> Response {
    Answer::json(&api.view.borrow().pool_views())
}

pub(crate) async fn report(api: &Api) -> Result<Response, Response> {
    let claims = api.hostnet.claims().await;
    let failed = |error| Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, chain(&error));
    let claims = claims.map_err(failed)?;
    Ok(Answer::json(&api.view.borrow().network_report(claims)))
}
