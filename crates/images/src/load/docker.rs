//! Images of a docker-archive: `manifest.json` and what it names. They have no OCI manifest, so we make one.

use std::io::Read;

use super::{Found, Load, LoadError, at};
use crate::blobs::open_plain;
use crate::documents::{
    ConfigDocument, Descriptor, DockerImage, MAX_LAYERS, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST,
    Platform,
};
use crate::reference::Reference;

/// Finds all images of the archive.
pub(super) fn find(load: &mut Load<'_>) -> Result<Vec<Found>, LoadError> {
    let images: Vec<DockerImage> = load.document("manifest.json")?;
    if images.is_empty() {
        return Err(LoadError::NoImages);
    }
    let mut found: Vec<Found> = Vec::new();
    for image in &images {
        let new = read(load, image)?;
        match found
            .iter_mut()
            .find(|known| known.manifest.digest == new.manifest.digest)
        {
            Some(known) => known.names.extend(new.names),
            None => found.push(new),
        }
    }
    Ok(found)
}

/// The full names of an image; what isn't a name (`<none>:<none>`) is left out.
pub(super) fn names(image: &DockerImage) -> Vec<String> {
    let parsed = image
        .repo_tags
        .iter()
        .filter_map(|tag| Reference::parse(tag).ok());
    parsed
        .filter(|reference| reference.digest.is_none())
        .map(|reference| reference.full())
        .collect()
}

fn read(load: &mut Load<'_>, image: &DockerImage) -> Result<Found, LoadError> {
    let names = names(image);
    if image.layers.len() > MAX_LAYERS {
        let (name, count) = (&image.config, image.layers.len());
        return Err(LoadError::Image(format!(
            "the image `{name}` has {count} layers; at most {MAX_LAYERS} fit"
        )));
    }
    let config: ConfigDocument = load.document(&image.config)?;
    Load::check_platform(&config, image.repo_tags.first().unwrap_or(&image.config))?;
    let staged = load.blob(&image.config, None)?;
    check_name(&image.config, &staged.digest)?;
    let mut layers = Vec::new();
    for name in &image.layers {
        let layer = load.blob(name, None)?;
        let mut magic = Vec::new();
        let opened = open_plain(&layer.path).map_err(at(&layer.path))?;
        opened.take(4).read_to_end(&mut magic).map_err(at(&layer.path))?;
        let compression = match magic.as_slice() {
            [0x1f, 0x8b, ..] => "+gzip",
            [0x28, 0xb5, 0x2f, 0xfd] => "+zstd",
            _ => "",
        };
        layers.push(Descriptor::new(
            &format!("{OCI_LAYER}{compression}"),
            &layer.digest,
            layer.size,
        ));
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.to_owned(),
        config: Descriptor::new(OCI_CONFIG, &staged.digest, staged.size),
        layers,
    };
    let document = |source| LoadError::Document {
        name: image.config.clone(),
        source,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(document)?;
    let digest = crate::blobs::digest(&bytes);
    load.keep(&digest, &bytes)?;
    let descriptor = Descriptor {
        platform: Some(config.platform.clone()).filter(Platform::is_stated),
        ..Descriptor::new(OCI_MANIFEST, &digest, bytes.len() as u64)
    };
    Ok(Found {
        manifest: descriptor,
        parsed: manifest,
        config,
        files: image.layers.clone(),
        names,
    })
}

/// A configuration is named by its digest, `<hex>.json` or `blobs/sha256/<hex>`: the only proof that it is genuine.
fn check_name(name: &str, digest: &str) -> Result<(), LoadError> {
    let file = name.rsplit('/').next().unwrap_or(name);
    let stated = format!("sha256:{}", file.strip_suffix(".json").unwrap_or(file));
    if crate::reference::is_digest(&stated) && stated != digest {
        return Err(LoadError::Digest {
            name: name.to_owned(),
            expected: stated,
            found: digest.to_owned(),
        });
    }
    Ok(())
}
