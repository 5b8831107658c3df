//! What is in the store: `index.json` and the documents it leads to, in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::blobs::{Blobs, sync_folder};
use crate::documents::{
    CONTAINERD_NAME, ConfigDocument, Descriptor, Index, MAX_DOCUMENT, MAX_LAYERS, Manifest, Platform,
    REF_NAME,
};
use crate::image::Image;
use crate::reference::{Reference, is_digest, is_hex};
use crate::store::TEMPORARY;

/// Fewest digits by which an image may be called.
const MIN_PREFIX: usize = 4;

/// All images. Never changed: a change makes another.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Catalog {
    entries: Vec<Entry>,
}

/// An image and its blobs.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) image: Image,
    /// As in `index.json`, but for the annotations.
    pub(crate) manifest: Descriptor,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
    pub(crate) diff_ids: Vec<String>,
}

/// Why a manifest and a configuration don't make an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EntryError {
    #[error("the image `{0}` has {1} layers, but its configuration lists {2}")]
    LayerCount(String, usize, usize),
    #[error("the image `{0}` has {1} layers; at most {MAX_LAYERS} are supported")]
    TooManyLayers(String, usize),
    #[error("the image `{0}` has the layer `{1}`, which is not a sha256 digest")]
    Digest(String, String),
}

impl Entry {
    pub(crate) fn new(
        manifest: Descriptor,
        parsed: Manifest,
        config: ConfigDocument,
        names: Vec<String>,
    ) -> Result<Self, EntryError> {
        let id = parsed.config.digest.clone();
        let (layers, listed) = (parsed.layers.len(), config.rootfs.diff_ids.len());
        if layers != listed {
            return Err(EntryError::LayerCount(id, layers, listed));
        }
        if layers > MAX_LAYERS {
            return Err(EntryError::TooManyLayers(id, layers));
        }
        let digests = parsed
            .layers
            .iter()
            .map(|layer| &layer.digest)
            .chain(&config.rootfs.diff_ids);
        if let Some(bad) = digests.into_iter().find(|digest| !is_digest(digest)) {
            return Err(EntryError::Digest(id, bad.clone()));
        }
        let sizes = parsed.layers.iter().map(|layer| layer.size);
        let image = Image {
            names,
            digest: manifest.digest.clone(),
            id,
            created: config.created(),
            size: sizes.fold(
                manifest.size.saturating_add(parsed.config.size),
                u64::saturating_add,
            ),
            layers: config.chain_ids(),
            config: crate::image::ImageConfig::default(),
        };
        let diff_ids = config.rootfs.diff_ids.clone();
        let image = Image {
            config: config.into_config(),
            ..image
        };
        Ok(Self {
            image,
            manifest,
            config: parsed.config,
            layers: parsed.layers,
            diff_ids,
        })
    }

    /// Every blob that it needs.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        [&self.manifest, &self.config].into_iter().chain(&self.layers)
    }

    /// As written to an index, once for each name.
    pub(crate) fn descriptors(&self, names: &[String]) -> Vec<Descriptor> {
        let plain = Descriptor {
            annotations: BTreeMap::new(),
            platform: Some(self.manifest.platform.clone().unwrap_or_else(Platform::host)),
            ..self.manifest.clone()
        };
        if names.is_empty() {
            return vec![plain];
        }
        let named = |name: &String| {
            let annotations = [REF_NAME, CONTAINERD_NAME].map(|key| (key.to_owned(), name.clone()));
            Descriptor {
                annotations: annotations.into(),
                ..plain.clone()
            }
        };
        names.iter().map(named).collect()
    }
}

impl Catalog {
    /// Reads what `index.json` leads to. Entries that lack a blob are left out; the second value counts them.
    pub(crate) fn read(index: &Index, blobs: &Blobs) -> (Self, usize) {
        let mut names: BTreeMap<&str, (&Descriptor, BTreeSet<String>)> = BTreeMap::new();
        for descriptor in &index.manifests {
            let (_, names) = names
                .entry(&descriptor.digest)
                .or_insert_with(|| (descriptor, BTreeSet::new()));
            names.extend(descriptor.annotations.get(REF_NAME).cloned());
        }
        let mut catalog = Self::default();
        let mut dropped = 0;
        for (descriptor, names) in names.into_values() {
            match read_entry(descriptor, names.into_iter().collect(), blobs) {
                Ok(entry) => catalog.entries.push(entry),
                Err(error) => {
                    let digest = &descriptor.digest;
                    tracing::warn!(%digest, %error, "an image is damaged and was taken off the list");
                    dropped += 1;
                }
            }
        }
        (catalog, dropped)
    }

    /// Replaces `index.json` in `folder`, whole and durable.
    pub(crate) fn write(&self, folder: &Path) -> io::Result<()> {
        let descriptors = self
            .entries
            .iter()
            .flat_map(|entry| entry.descriptors(&entry.image.names));
        let index = Index::of(descriptors.collect());
        let mut file = tempfile::Builder::new().prefix(TEMPORARY).tempfile_in(folder)?;
        serde_json::to_writer_pretty(io::BufWriter::new(file.as_file()), &index)?;
        file.write_all(b"\n")?;
        file.as_file().set_permissions(Permissions::from_mode(0o644))?;
        file.as_file().sync_all()?;
        file.persist(folder.join("index.json"))?;
        sync_folder(folder)
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// With these entries added; a name that they claim leaves its former owner.
    pub(crate) fn with(&self, added: Vec<Entry>) -> Self {
        let mut entries = self.entries.clone();
        for new in added {
            for entry in &mut entries {
                entry.image.names.retain(|name| !new.image.names.contains(name));
            }
            match entries
                .iter_mut()
                .find(|entry| entry.image.digest == new.image.digest)
            {
                Some(entry) => {
                    entry.image.names.extend(new.image.names);
                    entry.image.names.sort();
                }
                None => entries.push(new),
            }
        }
        // The same image under another manifest, with the layers compressed differently: once is enough.
        let named: BTreeSet<String> = entries
            .iter()
            .filter(|entry| !entry.image.names.is_empty())
            .map(|entry| entry.image.id.clone())
            .collect();
        entries.retain(|entry| !entry.image.names.is_empty() || !named.contains(&entry.image.id));
        Self { entries }
    }

    /// The image with this manifest, or else with this id.
    pub(crate) fn same(&self, image: &Image) -> Option<&Entry> {
        let exact = self
            .entries
            .iter()
            .find(|entry| entry.image.digest == image.digest);
        exact.or_else(|| self.entries.iter().find(|entry| entry.image.id == image.id))
    }

    /// Without this name.
    pub(crate) fn without_name(&self, name: &str) -> Self {
        let mut entries = self.entries.clone();
        for entry in &mut entries {
            entry.image.names.retain(|known| known != name);
        }
        Self { entries }
    }

    /// Without the images that the test picks.
    pub(crate) fn without(&self, picked: impl Fn(&Entry) -> bool) -> Self {
        Self {
            entries: self
                .entries
                .iter()
                .filter(|entry| !picked(entry))
                .cloned()
                .collect(),
        }
    }

    /// Digests of all blobs in use.
    pub(crate) fn blobs(&self) -> BTreeSet<&str> {
        self.entries
            .iter()
            .flat_map(Entry::blobs)
            .map(|blob| blob.digest.as_str())
            .collect()
    }

    /// Chain ids of all layers in use.
    pub(crate) fn layers(&self) -> BTreeSet<&str> {
        self.entries
            .iter()
            .flat_map(|entry| &entry.image.layers)
            .map(String::as_str)
            .collect()
    }

    /// Finds an image by name, digest, id, or beginning of an id; and the name under which it was found.
    pub(crate) fn find(&self, text: &str) -> Option<(&Entry, Option<String>)> {
        if let Ok(reference) = Reference::parse(text) {
            let found = match &reference.digest {
                Some(digest) => self.pinned(&reference, digest).map(|entry| (entry, None)),
                None => self.named(&reference),
            };
            if found.is_some() {
                return found;
            }
        }
        self.identified(text).map(|entry| (entry, None))
    }

    fn named(&self, reference: &Reference) -> Option<(&Entry, Option<String>)> {
        let by_name = |full: String| {
            let entry = self
                .entries
                .iter()
                .find(|entry| entry.image.names.contains(&full))?;
            Some((entry, Some(full)))
        };
        by_name(reference.full()).or_else(|| {
            // buildah and Podman call local images `localhost/…`; who types the short name means those too.
            let short = reference.repository.strip_prefix("docker.io/")?;
            let short = short.strip_prefix("library/").unwrap_or(short);
            let local = Reference {
                repository: format!("localhost/{short}"),
                ..reference.clone()
            };
            if reference.qualified {
                None
            } else {
                by_name(local.full())
            }
        })
    }

    fn pinned(&self, reference: &Reference, digest: &str) -> Option<&Entry> {
        let same = |name: &String| Reference::parse(name).is_ok_and(|r| r.repository == reference.repository);
        self.entries
            .iter()
            .find(|entry| entry.image.digest == digest && entry.image.names.iter().any(same))
    }

    fn identified(&self, text: &str) -> Option<&Entry> {
        if is_digest(text)
            && let Some(entry) = self.entries.iter().find(|entry| entry.image.digest == text)
        {
            return Some(entry);
        }
        let digits = text.strip_prefix("sha256:").unwrap_or(text);
        if digits.len() < MIN_PREFIX || !is_hex(digits) {
            return None;
        }
        let matching = |entry: &&Entry| entry.image.id["sha256:".len()..].starts_with(digits);
        let found: Vec<&Entry> = self.entries.iter().filter(matching).collect();
        let first = found
            .iter()
            .find(|entry| !entry.image.names.is_empty())
            .or(found.first())?;
        // One id may have two manifests, with the layers compressed differently; that is still one image.
        found
            .iter()
            .all(|entry| entry.image.id == first.image.id)
            .then_some(*first)
    }
}

/// Reads and checks an image's documents; its layers must be there.
fn read_entry(descriptor: &Descriptor, names: Vec<String>, blobs: &Blobs) -> io::Result<Entry> {
    let manifest: Manifest = serde_json::from_slice(&blobs.read(&descriptor.digest, MAX_DOCUMENT)?)?;
    let config: ConfigDocument = serde_json::from_slice(&blobs.read(&manifest.config.digest, MAX_DOCUMENT)?)?;
    let plain = Descriptor {
        annotations: BTreeMap::new(),
        ..descriptor.clone()
    };
    let entry = Entry::new(plain, manifest, config, names).map_err(io::Error::other)?;
    let missing = entry
        .blobs()
        .find(|blob| !blobs.has(&blob.digest, blob.size))
        .map(|blob| &blob.digest);
    match missing {
        Some(digest) => Err(io::Error::new(
            io::ErrorKind::NotFound,
            format!("`{digest}` is missing"),
        )),
        None => Ok(entry),
    }
}
