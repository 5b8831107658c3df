//! Images of an OCI image layout: `index.json`, indexes below it, manifests.

use std::collections::BTreeMap;

use super::{Found, Load, LoadError};
use crate::documents::{
    CONTAINERD_NAME, ConfigDocument, DOCKER_INDEX, DOCKER_MANIFEST, Descriptor, DockerImage, Index, Manifest,
    OCI_INDEX, OCI_MANIFEST, Platform, REF_NAME, is_config, is_layer,
};
use crate::reference::{Reference, is_digest};

/// Indexes below `index.json`. Real ones have one.
const MAX_DEPTH: usize = 4;

/// Finds the images for this host.
pub(super) fn find(load: &mut Load<'_>) -> Result<Vec<Found>, LoadError> {
    let index = load.document::<Index>("index.json")?;
    let mut offered = Vec::new();
    let mut found: Vec<Found> = Vec::new();
    for descriptor in &index.manifests {
        let Some(manifest) = choose(load, descriptor, 0, &mut offered)? else {
            continue;
        };
        let name = name(descriptor);
        // One image with several names is several descriptors.
        match found
            .iter_mut()
            .find(|found| found.manifest.digest == manifest.digest)
        {
            Some(known) => known.names.extend(name),
            None => found.extend(read(load, manifest, name, &mut offered)?),
        }
    }
    if found.is_empty() {
        if offered.is_empty() {
            return Err(LoadError::NoImages);
        }
        offered.sort();
        offered.dedup();
        let (offered, host) = (offered.join(", "), Platform::host().to_string());
        return Err(LoadError::Platform {
            image: "the archive".to_owned(),
            offered,
            host,
        });
    }
    add_docker_names(load, &mut found)?;
    Ok(found)
}

/// The manifest for this host that a descriptor leads to, if any.
fn choose(
    load: &mut Load<'_>,
    descriptor: &Descriptor,
    depth: usize,
    offered: &mut Vec<String>,
) -> Result<Option<Descriptor>, LoadError> {
    if let Some(platform) = descriptor
        .platform
        .as_ref()
        .filter(|platform| !platform.runs_here())
    {
        // Attestations are filed under `unknown/unknown`; they are nobody's image.
        offered.extend(Some(platform.to_string()).filter(|text| text != "unknown/unknown"));
        return Ok(None);
    }
    match descriptor.media_type.as_str() {
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(Some(descriptor.clone())),
        OCI_INDEX | DOCKER_INDEX if depth == MAX_DEPTH => Err(LoadError::Nested {
            name: descriptor.digest.clone(),
        }),
        OCI_INDEX | DOCKER_INDEX => {
            let (index, _) = checked::<Index>(load, descriptor)?;
            for inner in &index.manifests {
                if let Some(manifest) = choose(load, inner, depth + 1, offered)? {
                    return Ok(Some(manifest));
                }
            }
            Ok(None)
        }
        other => Err(LoadError::MediaType {
            name: descriptor.digest.clone(),
            media_type: other.to_owned(),
        }),
    }
}

/// Reads manifest and configuration. None if the configuration says that it is for other machines.
fn read(
    load: &mut Load<'_>,
    manifest: Descriptor,
    name: Option<String>,
    offered: &mut Vec<String>,
) -> Result<Option<Found>, LoadError> {
    let (parsed, bytes) = checked::<Manifest>(load, &manifest)?;
    if !is_config(&parsed.config.media_type) {
        // Signatures, charts and the like are kept in layouts too.
        return Ok(None);
    }
    for layer in &parsed.layers {
        if !is_layer(&layer.media_type) {
            let (name, media_type) = (layer.digest.clone(), layer.media_type.clone());
            return Err(LoadError::MediaType { name, media_type });
        }
    }
    let (config, config_bytes) = checked::<ConfigDocument>(load, &parsed.config)?;
    if !config.platform.runs_here() {
        offered.push(config.platform.to_string());
        return Ok(None);
    }
    load.keep(&manifest.digest, &bytes)?;
    load.keep(&parsed.config.digest, &config_bytes)?;
    let manifest = Descriptor {
        annotations: BTreeMap::new(),
        ..manifest
    };
    let mut files = Vec::new();
    for layer in &parsed.layers {
        files.push(file_name(layer)?);
    }
    Ok(Some(Found {
        manifest,
        parsed,
        config,
        files,
        names: name.into_iter().collect(),
    }))
}

/// Reads a document and checks its size and digest, before it is looked into.
fn checked<T: serde::de::DeserializeOwned>(
    load: &Load<'_>,
    descriptor: &Descriptor,
) -> Result<(T, Vec<u8>), LoadError> {
    let name = file_name(descriptor)?;
    let bytes = load.bytes(&name)?;
    let (expected, found) = (descriptor.digest.clone(), crate::blobs::digest(&bytes));
    if found != expected {
        return Err(LoadError::Digest {
            name,
            expected,
            found,
        });
    }
    if bytes.len() as u64 != descriptor.size {
        return Err(LoadError::Size {
            name,
            expected: descriptor.size,
            found: bytes.len() as u64,
        });
    }
    match serde_json::from_slice(&bytes) {
        Ok(parsed) => Ok((parsed, bytes)),
        Err(source) => Err(LoadError::Document { name, source }),
    }
}

/// Where a blob is in the layout.
fn file_name(descriptor: &Descriptor) -> Result<String, LoadError> {
    match descriptor.digest.strip_prefix("sha256:") {
        Some(hex) if is_digest(&descriptor.digest) => Ok(format!("blobs/sha256/{hex}")),
        _ => Err(LoadError::Image(format!(
            "the digest `{}` is not a sha256 digest",
            descriptor.digest
        ))),
    }
}

/// The full name in a descriptor's annotations. The specification allows any text; what isn't a name is none.
fn name(descriptor: &Descriptor) -> Option<String> {
    let annotation = |key| descriptor.annotations.get(key);
    let text = annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME))?;
    Reference::parse(text)
        .ok()
        .filter(|reference| reference.digest.is_none())
        .map(|reference| reference.full())
}

/// Docker writes a `manifest.json` beside the index, which may know names that the index doesn't.
fn add_docker_names(load: &Load<'_>, found: &mut [Found]) -> Result<(), LoadError> {
    if !load.source.has("manifest.json") {
        return Ok(());
    }
    let images = load.document::<Vec<DockerImage>>("manifest.json")?;
    for image in images {
        let hex = image.config.strip_prefix("blobs/sha256/").unwrap_or_default();
        let same = |found: &&mut Found| found.parsed.config.digest.strip_prefix("sha256:") == Some(hex);
        if let Some(found) = found.iter_mut().find(same) {
            found.names.extend(super::docker::names(&image));
        }
    }
    Ok(())
}
