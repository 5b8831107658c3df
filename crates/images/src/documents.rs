//! The JSON documents of images, as they are written by others and by us.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};

use crate::image::{ImageConfig, ImageHealthcheck};

/// Largest document, in bytes. Real ones have a few thousand.
pub(crate) const MAX_DOCUMENT: u64 = 4 << 20;
/// Most layers of an image. overlayfs itself takes 500; Docker writes at most 127.
pub(crate) const MAX_LAYERS: usize = 128;
/// Most images of an archive.
pub(crate) const MAX_IMAGES: usize = 1000;

pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const OCI_FOREIGN_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.v1.tar";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";

/// Annotation with an image's name in an index (OCI image specification, *Pre-Defined Annotation Keys*).
pub(crate) const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The full name, as containerd and Docker write it.
pub(crate) const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// The content of the file `oci-layout`.
pub(crate) const OCI_LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: String,
    pub(crate) size: u64,
    #[serde(
        default,
        deserialize_with = "or_default",
        skip_serializing_if = "BTreeMap::is_empty"
    )]
    pub(crate) annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: &str, size: u64) -> Self {
        Self {
            media_type: media_type.to_owned(),
            digest: digest.to_owned(),
            size,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }
}

/// What a manifest is for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// This machine's, in the words of Go.
    pub(crate) fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            "x86" => "386",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            other => other,
        };
        Self {
            architecture: architecture.to_owned(),
            os: "linux".to_owned(),
            variant: None,
        }
    }

    /// Whether it says what it is for.
    pub(crate) fn is_stated(&self) -> bool {
        !self.os.is_empty() && !self.architecture.is_empty()
    }

    /// Whether containers for it run here. What an image leaves out is not held against it.
    pub(crate) fn runs_here(&self) -> bool {
        let host = Self::host();
        let fits = |stated: &str, here: &str| stated.is_empty() || stated == here;
        fits(&self.os, &host.os) && fits(&self.architecture, &host.architecture)
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)
    }
}

/// An index: of a layout, of an image for several platforms, or Docker's manifest list.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    pub(crate) fn of(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: OCI_INDEX.to_owned(),
            manifests,
        }
    }
}

/// A manifest: one image for one platform.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) layers: Vec<Descriptor>,
}

/// Whether a layer of this media type is a tar archive that the unpacker may try; it looks at the bytes itself.
pub(crate) fn is_layer(media_type: &str) -> bool {
    let bare = [OCI_LAYER, OCI_FOREIGN_LAYER, DOCKER_LAYER]
        .into_iter()
        .find_map(|known| media_type.strip_prefix(known));
    matches!(bare, Some("" | "+gzip" | "+zstd" | ".gzip" | ".zstd"))
        || media_type == "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
}

/// Whether a configuration of this media type is an image's.
pub(crate) fn is_config(media_type: &str) -> bool {
    matches!(
        media_type,
        "" | OCI_CONFIG | "application/vnd.docker.container.image.v1+json"
    )
}

/// One image of a docker-archive's `manifest.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct DockerImage {
    pub(crate) config: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) layers: Vec<String>,
}

/// An image's configuration.
#[derive(Debug, Deserialize)]
pub(crate) struct ConfigDocument {
    #[serde(default)]
    pub(crate) created: Option<String>,
    #[serde(flatten)]
    pub(crate) platform: Platform,
    #[serde(default, deserialize_with = "or_default")]
    config: Run,
    pub(crate) rootfs: Rootfs,
}

/// The layers, by the digests of their decompressed bytes.
#[derive(Debug, Deserialize)]
pub(crate) struct Rootfs {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) diff_ids: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Run {
    #[serde(deserialize_with = "or_default")]
    entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    working_dir: String,
    #[serde(deserialize_with = "or_default")]
    user: String,
    #[serde(deserialize_with = "or_default")]
    exposed_ports: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    volumes: BTreeMap<String, serde::de::IgnoredAny>,
    #[serde(deserialize_with = "or_default")]
    labels: BTreeMap<String, String>,
    stop_signal: Option<String>,
    healthcheck: Option<Health>,
    #[serde(deserialize_with = "or_default")]
    shell: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Health {
    #[serde(deserialize_with = "or_default")]
    test: Vec<String>,
    interval: Option<i64>,
    timeout: Option<i64>,
    retries: Option<i64>,
    start_period: Option<i64>,
    start_interval: Option<i64>,
}

impl ConfigDocument {
    /// Seconds since 1970; 0 when absent or unreadable.
    pub(crate) fn created(&self) -> i64 {
        let stamp = self
            .created
            .as_deref()
            .and_then(|text| text.parse::<jiff::Timestamp>().ok());
        stamp.map_or(0, jiff::Timestamp::as_second)
    }

    /// Chain ids, bottom to top: the first diff id, then the SHA-256 of `chain SPACE diff id`
    /// (OCI image specification, *Layer ChainID*).
    pub(crate) fn chain_ids(&self) -> Vec<String> {
        let mut chain: Vec<String> = Vec::with_capacity(self.rootfs.diff_ids.len());
        for diff_id in &self.rootfs.diff_ids {
            let next = match chain.last() {
                None => diff_id.clone(),
                Some(below) => crate::blobs::digest(format!("{below} {diff_id}").as_bytes()),
            };
            chain.push(next);
        }
        chain
    }

    pub(crate) fn into_config(self) -> ImageConfig {
        let keys = |map: BTreeMap<String, serde::de::IgnoredAny>| -> Vec<String> {
            map.into_keys().collect::<BTreeSet<_>>().into_iter().collect()
        };
        let run = self.config;
        ImageConfig {
            entrypoint: run.entrypoint,
            command: run.cmd,
            env: run.env,
            working_dir: run.working_dir,
            user: run.user,
            exposed_ports: keys(run.exposed_ports),
            volumes: keys(run.volumes),
            labels: run.labels,
            stop_signal: run.stop_signal.filter(|signal| !signal.is_empty()),
            healthcheck: run
                .healthcheck
                .filter(|health| !health.test.is_empty())
                .map(Health::into_healthcheck),
            shell: run.shell,
        }
    }
}

impl Health {
    fn into_healthcheck(self) -> ImageHealthcheck {
        // Docker writes nanoseconds, and 0 for what was left out.
        let duration = |ns: Option<i64>| {
            let ns = ns.and_then(|ns| u64::try_from(ns).ok()).filter(|ns| *ns > 0);
            ns.map(Duration::from_nanos)
        };
        ImageHealthcheck {
            test: self.test,
            interval: duration(self.interval),
            timeout: duration(self.timeout),
            retries: self
                .retries
                .and_then(|n| u32::try_from(n).ok())
                .filter(|n| *n > 0),
            start_period: duration(self.start_period),
            start_interval: duration(self.start_interval),
        }
    }
}

/// Go writes `null` for what is empty.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    deserializer: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
