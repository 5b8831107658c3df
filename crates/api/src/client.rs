//! The client of the control API: a method for each row of the table in [`crate::v1`].
//!
//! Every call opens a connection of its own, so that a stream that goes on for hours is in nobody's way.

mod connection;
mod error;
mod networks;
mod streams;
mod target;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::AsyncRead;

use self::connection::Body;
pub use self::error::ClientError;
pub use self::streams::{Download, Events, ExecInput, ExecOutput, Logs, Output};
use self::target::Target;
use crate::v1::{
    Accepted, ContainerView, ExecRequest, ImageView, PlanView, RouteView, SiteSource, SiteSummary, Status,
    Version,
};

/// The socket's name in the run directory.
pub const SOCKET: &str = "linkspan.sock";

/// Longest JSON answer that is taken, in bytes.
const ANSWER_MAX: usize = 64 << 20;

/// Knows where the daemon listens.
#[derive(Debug, Clone)]
pub struct Client {
    socket: PathBuf,
}

/// Which lines of a log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogsQuery {
    /// Go on with what comes.
    pub follow: bool,
    /// Only so many of the last lines.
    pub tail: Option<u64>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Only lines from this time on, in seconds since the epoch.
    pub since: Option<i64>,
}

impl Client {
    /// The daemon whose run directory this is; nothing is connected yet.
    pub fn new(run_dir: &Path) -> Self {
        Self {
            socket: run_dir.join(SOCKET),
        }
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// `GET /v1/version`.
    pub async fn version(&self) -> Result<Version, ClientError> {
        self.fetch(Target::new("version")).await
    }

    /// `GET /v1/status`.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.fetch(Target::new("status")).await
    }

    // === Sites ===

    /// `GET /v1/sites`.
    pub async fn sites(&self) -> Result<Vec<SiteSummary>, ClientError> {
        self.fetch(Target::new("sites")).await
    }

    /// `PUT /v1/sites/{name}`: what the file says is from now on desired.
    pub async fn put_site(&self, name: &str, source: &SiteSource) -> Result<Accepted, ClientError> {
        self.json(Method::PUT, Target::new("sites").segment(name), source)
            .await
    }

    /// `DELETE /v1/sites/{name}`.
    pub async fn delete_site(&self, name: &str, volumes: bool) -> Result<Accepted, ClientError> {
        self.call(
            Method::DELETE,
            Target::new("sites").segment(name).flag("volumes", volumes),
        )
        .await
    }

    /// `POST /v1/plan`: what [`Client::put_site`] would do.
    pub async fn plan(&self, source: &SiteSource) -> Result<PlanView, ClientError> {
        self.json(Method::POST, Target::new("plan"), source).await
    }

    /// `GET /v1/events?site=…&generation=…`: until that generation is converged, or failed.
    pub async fn site_events(&self, site: &str, generation: u64) -> Result<Events, ClientError> {
        let target = Target::new("events")
            .pair("site", site)
            .pair("generation", &generation.to_string());
        Ok(Events::new(self.open(Method::GET, target, Body::empty()).await?))
    }

    /// `GET /v1/events`: for ever.
    pub async fn events(&self) -> Result<Events, ClientError> {
        Ok(Events::new(
            self.open(Method::GET, Target::new("events"), Body::empty())
                .await?,
        ))
    }

    /// `GET /v1/events?since=…&until=…`, both in milliseconds since the epoch: what the daemon remembers from `since` on,
    /// then what comes until `until`; without them nothing of the past, and for ever.
    pub async fn events_between(
        &self,
        since: Option<u64>,
        until: Option<u64>,
    ) -> Result<Events, ClientError> {
        let mut target = Target::new("events");
        for (key, time) in [("since", since), ("until", until)] {
            if let Some(time) = time {
                target = target.pair(key, &time.to_string());
            }
        }
        Ok(Events::new(self.open(Method::GET, target, Body::empty()).await?))
    }

    /// `GET /v1/routes`.
    pub async fn routes(&self) -> Result<Vec<RouteView>, ClientError> {
        self.fetch(Target::new("routes")).await
    }

    // === Containers ===

    /// `GET /v1/containers`: running ones, or all.
    pub async fn containers(&self, all: bool) -> Result<Vec<ContainerView>, ClientError> {
        self.fetch(Target::new("containers").flag("all", all)).await
    }

    /// `GET /v1/containers/{…}`: everything known about it.
    pub async fn inspect(&self, container: &str) -> Result<serde_json::Value, ClientError> {
        self.fetch(Target::new("containers").segment(container)).await
    }

    /// `POST /v1/containers/{…}/start`.
    pub async fn start(&self, container: &str) -> Result<(), ClientError> {
        self.act(
            Method::POST,
            Target::new("containers").segment(container).segment("start"),
        )
        .await
    }

    /// `POST /v1/containers/{…}/stop`; without a time, the container's own grace.
    pub async fn stop(&self, container: &str, timeout: Option<Duration>) -> Result<(), ClientError> {
        let target = Target::new("containers").segment(container).segment("stop");
        self.act(Method::POST, with_timeout(target, timeout)).await
    }

    /// `POST /v1/containers/{…}/restart`; without a time, the container's own grace.
    pub async fn restart(&self, container: &str, timeout: Option<Duration>) -> Result<(), ClientError> {
        let target = Target::new("containers").segment(container).segment("restart");
        self.act(Method::POST, with_timeout(target, timeout)).await
    }

    /// `POST /v1/containers/{…}/kill`.
    pub async fn kill(&self, container: &str, signal: &str) -> Result<(), ClientError> {
        let target = Target::new("containers")
            .segment(container)
            .segment("kill")
            .pair("signal", signal);
        self.act(Method::POST, target).await
    }

    /// `DELETE /v1/containers/{…}`.
    pub async fn remove_container(&self, container: &str, force: bool) -> Result<(), ClientError> {
        self.act(
            Method::DELETE,
            Target::new("containers").segment(container).flag("force", force),
        )
        .await
    }

    /// `GET /v1/containers/{…}/logs`.
    pub async fn logs(&self, container: &str, query: &LogsQuery) -> Result<Logs, ClientError> {
        let mut target = Target::new("containers")
            .segment(container)
            .segment("logs")
            .flag("follow", query.follow)
            .flag("timestamps", query.timestamps);
        if let Some(tail) = query.tail {
            target = target.pair("tail", &tail.to_string());
        }
        if let Some(since) = query.since {
            target = target.pair("since", &since.to_string());
        }
        Ok(Logs::new(self.open(Method::GET, target, Body::empty()).await?))
    }

    /// `POST /v1/containers/{…}/exec`: the two ends of a program's streams.
    pub async fn exec(
        &self,
        container: &str,
        request: &ExecRequest,
    ) -> Result<(ExecInput, ExecOutput), ClientError> {
        let target = Target::new("containers").segment(container).segment("exec");
        let body = Body::json(&encode(request)?);
        let answer = connection::send(&self.socket, Method::POST, target.path(), body, Some(UPGRADE)).await?;
        if answer.response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let answer = answer.check(&self.socket).await?;
            return Err(ClientError::Unexpected {
                path: self.socket.clone(),
                what: format!("`{}` where a stream should begin", answer.response.status()),
            });
        }
        streams::upgrade(answer, &self.socket).await
    }

    // === Images ===

    /// `GET /v1/images`.
    pub async fn images(&self) -> Result<Vec<ImageView>, ClientError> {
        self.fetch(Target::new("images")).await
    }

    /// `POST /v1/images/load`: an archive of `length` bytes, or until its end when that isn't known.
    ///
    /// `progress` is called with the bytes sent so far, each time that more were.
    pub async fn load(
        &self,
        archive: impl AsyncRead + Send + Unpin + 'static,
        length: Option<u64>,
        progress: impl FnMut(u64) + Send + 'static,
    ) -> Result<Vec<ImageView>, ClientError> {
        let body = Body::upload(archive, length, progress);
        let answer = self
            .open(Method::POST, Target::new("images").segment("load"), body)
            .await?;
        decode(&self.socket, &answer.collect(ANSWER_MAX, &self.socket).await?)
    }

    /// `GET /v1/images/save`: an archive of these images.
    pub async fn save(&self, names: &[String]) -> Result<Download, ClientError> {
        let target = Target::new("images").segment("save");
        let target = names
            .iter()
            .fold(target, |target, name| target.pair("name", name));
        Ok(Download::new(
            self.open(Method::GET, target, Body::empty()).await?,
        ))
    }

    /// `DELETE /v1/images/{name}`.
    pub async fn remove_image(&self, name: &str, force: bool) -> Result<(), ClientError> {
        self.act(
            Method::DELETE,
            Target::new("images").segment(name).flag("force", force),
        )
        .await
    }

    /// `GET /v1/ca`: PEM of the certificate to trust.
    pub async fn ca(&self) -> Result<String, ClientError> {
        let answer = self.open(Method::GET, Target::new("ca"), Body::empty()).await?;
        let pem = answer.collect(ANSWER_MAX, &self.socket).await?;
        String::from_utf8(pem.into()).map_err(|_| ClientError::Unexpected {
            path: self.socket.clone(),
            what: "a certificate that is not text".to_owned(),
        })
    }

    // === How ===

    async fn open(
        &self,
        method: Method,
        target: Target,
        body: Body,
    ) -> Result<connection::Answer, ClientError> {
        connection::send(&self.socket, method, target.path(), body, None)
            .await?
            .check(&self.socket)
            .await
    }

    async fn call<T: DeserializeOwned>(&self, method: Method, target: Target) -> Result<T, ClientError> {
        let answer = self.open(method, target, Body::empty()).await?;
        decode(&self.socket, &answer.collect(ANSWER_MAX, &self.socket).await?)
    }

    async fn fetch<T: DeserializeOwned>(&self, target: Target) -> Result<T, ClientError> {
        self.call(Method::GET, target).await
    }

    async fn json<T: DeserializeOwned>(
        &self,
        method: Method,
        target: Target,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let answer = self.open(method, target, Body::json(&encode(body)?)).await?;
        decode(&self.socket, &answer.collect(ANSWER_MAX, &self.socket).await?)
    }

    async fn act(&self, method: Method, target: Target) -> Result<(), ClientError> {
        self.open(method, target, Body::empty()).await.map(drop)
    }

    async fn post(&self, target: Target, body: &impl Serialize) -> Result<(), ClientError> {
        let body = Body::json(&encode(body)?);
        self.open(Method::POST, target, body).await.map(drop)
    }
}

/// The protocol that exec upgrades to.
pub const UPGRADE: &str = "linkspan-exec";

fn with_timeout(target: Target, timeout: Option<Duration>) -> Target {
    match timeout {
        Some(timeout) => target.pair("timeout", &timeout.as_secs().to_string()),
        None => target,
    }
}

fn encode(body: &impl Serialize) -> Result<Bytes, ClientError> {
    serde_json::to_vec(body)
        .map(Bytes::from)
        .map_err(|source| ClientError::Encode { source })
}

fn decode<T: DeserializeOwned>(socket: &Path, body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|source| ClientError::Decode {
        path: socket.to_owned(),
        source,
    })
}
