//! The control API on a unix socket: HTTP becomes requests to the state's owner, or answers from the view.

mod answer;
mod containers;
mod firewall;
mod images;
mod networks;
mod sites;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::{Method, Request as HttpRequest, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use linkspan_api::client::SOCKET;
use linkspan_containers::Containers;
use linkspan_hostnet::HostNet;
use linkspan_images::Store as Images;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use self::answer::{Answer, Response};
use crate::events::Events;
use crate::reconcile::View;
use crate::requests::Request;

/// Longest JSON body: a site file, its variables and `env_file`s.
const BODY_MAX: usize = 8 << 20;

/// The socket can't be made.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Another daemon answers on it.
    #[error("a daemon already answers on `{path}`; stop it, or choose another `--run-dir`")]
    Busy {
        /// The socket.
        path: String,
    },
    /// Binding or its permissions failed.
    #[error("cannot listen on `{path}`")]
    Bind {
        /// The socket.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// What the API's handlers work with.
#[derive(Clone)]
pub(crate) struct Api {
    pub(crate) requests: mpsc::Sender<Request>,
    pub(crate) view: watch::Receiver<Arc<View>>,
    pub(crate) events: Events,
    pub(crate) containers: Containers,
    pub(crate) images: Images,
    pub(crate) hostnet: HostNet,
}

/// Binds the socket: mode 0660, group as the settings say.
pub(crate) async fn bind(run_dir: &Path, group: &str) -> Result<UnixListener, ApiError> {
    let path = run_dir.join(SOCKET);
    if UnixStream::connect(&path).await.is_ok() {
        return Err(ApiError::Busy {
            path: path.display().to_string(),
        });
    }
    let make = || -> std::io::Result<UnixListener> {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660))?;
        // Without such a group only root may speak to the daemon.
        if let Ok(Some(group)) = nix::unistd::Group::from_name(group) {
            nix::unistd::chown(&path, None, Some(group.gid))?;
        }
        Ok(listener)
    };
    make().map_err(|source| ApiError::Bind {
        path: path.display().to_string(),
        source,
    })
}

/// Serves until the listener fails; each connection is a task that ends with the client.
pub(crate) async fn serve(listener: UnixListener, api: Api) {
    // Until the first pass there is nothing to answer from; clients wait in the socket's queue.
    if api.view.clone().changed().await.is_err() {
        return;
    }
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "a client of the control socket was lost");
                // Out of descriptors: without a pause this would spin.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        let api = api.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let api = api.clone();
                async move { Ok::<_, std::convert::Infallible>(route(api, request).await) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .with_upgrades();
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a client went away");
            }
        });
    }
}

async fn route(api: Api, request: HttpRequest<Incoming>) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let parts: Vec<String> = path.trim_matches('/').split('/').map(decode).collect();
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let answer = match (&method, parts.as_slice()) {
        (&Method::GET, ["v1", "version"]) => Ok(sites::version()),
        (&Method::GET, ["v1", "status"]) => Ok(sites::status(&api)),
        (&Method::GET, ["v1", "ca"]) => Ok(sites::authority(&api)),
        (&Method::GET, ["v1", "routes"]) => Ok(sites::routes(&api)),
        (&Method::GET, ["v1", "events"]) => Ok(sites::events(&api, &request)),
        (&Method::GET, ["v1", "sites"]) => Ok(sites::list(&api)),
        (&Method::PUT, ["v1", "sites", name]) => sites::put(&api, name, request).await,
        (&Method::DELETE, ["v1", "sites", name]) => sites::delete(&api, name, &request).await,
        (&Method::POST, ["v1", "plan"]) => sites::plan(&api, request).await,
        (&Method::GET, ["v1", "containers"]) => Ok(containers::list(&api, &request)),
        (&Method::GET, ["v1", "containers", name]) => containers::inspect(&api, name),
        (&Method::DELETE, ["v1", "containers", name]) => containers::remove(&api, name, &request).await,
        (&Method::POST, ["v1", "containers", name, "start"]) => containers::start(&api, name).await,
        (&Method::POST, ["v1", "containers", name, "stop"]) => containers::stop(&api, name, &request).await,
        (&Method::POST, ["v1", "containers", name, "restart"]) => {
            containers::restart(&api, name, &request).await
        }
        (&Method::POST, ["v1", "containers", name, "kill"]) => containers::kill(&api, name, &request).await,
        (&Method::GET, ["v1", "containers", name, "logs"]) => containers::logs(&api, name, &request),
        (&Method::POST, ["v1", "containers", name, "exec"]) => containers::exec(&api, name, request).await,
        (&Method::GET, ["v1", "networks"]) => Ok(networks::list(&api)),
        (&Method::POST, ["v1", "networks"]) => networks::create(&api, request).await,
        (&Method::POST, ["v1", "networks", "prune"]) => networks::prune(&api).await,
        (&Method::GET, ["v1", "networks", name]) => networks::inspect(&api, name),
        (&Method::DELETE, ["v1", "networks", name]) => networks::remove(&api, name).await,
        (&Method::POST, ["v1", "networks", name, "connect"]) => networks::connect(&api, name, request).await,
        (&Method::POST, ["v1", "networks", name, "disconnect"]) => {
            networks::disconnect(&api, name, request).await
        }
        (&Method::GET, ["v1", "pools"]) => Ok(networks::pools(&api)),
        (&Method::GET, ["v1", "doctor", "network"]) => networks::report(&api).await,
        (&Method::GET, ["v1", "doctor", "firewall"]) => firewall::report(&api).await,
        (&Method::GET, ["v1", "images"]) => Ok(images::list(&api)),
        (&Method::POST, ["v1", "images", "load"]) => images::load(&api, request).await,
        (&Method::GET, ["v1", "images", "save"]) => images::save(&api, &request),
        (&Method::DELETE, ["v1", "images", name @ ..]) if !name.is_empty() => {
            images::remove(&api, &name.join("/"), &request).await
        }
        _ => Err(Answer::failure(
            StatusCode::NOT_FOUND,
            format!("the daemon has no `{method} {path}`"),
        )),
    };
    answer.unwrap_or_else(|failure| failure)
}

/// The first value of a query parameter.
pub(crate) fn query(request: &HttpRequest<Incoming>, key: &str) -> Option<String> {
    query_all(request, key).into_iter().next()
}

/// All values of a query parameter.
pub(crate) fn query_all(request: &HttpRequest<Incoming>, key: &str) -> Vec<String> {
    let pairs = request.uri().query().unwrap_or_default().split('&');
    pairs
        .filter_map(|pair| pair.split_once('='))
        .filter(|(name, _)| *name == key)
        .map(|(_, value)| decode(&value.replace('+', " ")))
        .collect()
}

/// Docker's rule for booleans in queries.
pub(crate) fn flag(request: &HttpRequest<Incoming>, key: &str) -> bool {
    query(request, key).is_some_and(|value| matches!(value.as_str(), "1" | "true" | "True"))
}

/// Percent-decoding (RFC 3986 section 2.1); what isn't an escape stays as it is.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut index = 0;
    while let Some(byte) = bytes.get(index) {
        let escaped = (*byte == b'%').then(|| text.get(index + 1..index + 3)).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(value) => {
                out.push(value);
                index += 3;
            }
            None => {
                out.push(*byte);
                index += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Where the socket is.
pub(crate) fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join(SOCKET)
}
