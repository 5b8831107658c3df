//! An image, as others see it.

use std::collections::BTreeMap;
use std::time::Duration;

/// An image in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// Full names, sorted: `docker.io/library/nginx:latest`. Empty when other images took them over.
    pub names: Vec<String>,
    /// Digest of the manifest, `sha256:…`.
    pub digest: String,
    /// Digest of the configuration, `sha256:…`: what Docker calls the image's id.
    pub id: String,
    /// Seconds since 1970; 0 when the image does not say.
    pub created: i64,
    /// Bytes of its layers and documents as they are stored, mostly compressed.
    pub size: u64,
    /// Chain ids of its layers, `sha256:…`, from bottom to top.
    pub layers: Vec<String>,
    /// How its containers are run.
    pub config: ImageConfig,
}

/// What an image says about its containers (OCI image specification, *Image Configuration*, and Docker's additions).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// Program and first arguments.
    pub entrypoint: Vec<String>,
    /// Arguments, or program and arguments where there is no entrypoint.
    pub command: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Absolute, or empty for `/`.
    pub working_dir: String,
    /// `name|uid[:group|gid]`; empty is root.
    pub user: String,
    /// `80/tcp`, sorted.
    pub exposed_ports: Vec<String>,
    /// Paths that want a volume, sorted.
    pub volumes: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Name or number.
    pub stop_signal: Option<String>,
    /// How its health is asked for.
    pub healthcheck: Option<ImageHealthcheck>,
    /// Shell of commands written as text; empty is `/bin/sh -c`.
    pub shell: Vec<String>,
}

/// Docker's `HEALTHCHECK`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageHealthcheck {
    /// `NONE`, or `CMD` and program with arguments, or `CMD-SHELL` and a line.
    pub test: Vec<String>,
    /// Between two checks.
    pub interval: Option<Duration>,
    /// Of one check.
    pub timeout: Option<Duration>,
    /// Failures in a row that make it unhealthy.
    pub retries: Option<u32>,
    /// After the start, while failures don't count.
    pub start_period: Option<Duration>,
    /// Between two checks in that time.
    pub start_interval: Option<Duration>,
}
