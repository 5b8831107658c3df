//! Loading: an archive or a folder is staged, checked to the last byte, and only then becomes part of the store.
//!
//! Everything until [`Load::commit`] happens in temporary folders that vanish when the load fails; the commit moves
//! blobs and trees into place and writes `index.json` last.

mod commit;
mod docker;
mod error;
mod oci;
mod source;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncWriteExt};
use tokio::net::unix::pipe;

use crate::blobs::{copy_digest, open_plain};
use crate::catalog::Entry;
use crate::documents::{ConfigDocument, Descriptor, MAX_DOCUMENT, MAX_IMAGES, Manifest, Platform};
use crate::image::Image;
use crate::protocol::{MAX_BYTES, Report, Task, Work};
use crate::store::{Inner, Store, TEMPORARY};
pub use error::LoadError;
use error::at;
use source::Source;

impl Store {
    /// Loads all images of this host's platform from an archive: docker-archive or OCI, gzip, zstd or plain.
    ///
    /// Either all of them are in the store afterwards, unpacked, or the store is as it was.
    pub async fn load(
        &self,
        mut archive: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Vec<Image>, LoadError> {
        let (reader, writer) = io::pipe().map_err(LoadError::Read)?;
        let mut sender = pipe::Sender::from_owned_fd(writer.into()).map_err(LoadError::Read)?;
        let inner = self.inner.clone();
        let split = tokio::task::spawn_blocking(move || inner.split(reader.into()));
        let copied = tokio::io::copy(&mut archive, &mut sender).await;
        let flushed = sender.shutdown().await;
        drop(sender);
        let staged = split.await.unwrap_or(Err(LoadError::Interrupted));
        match copied.and(flushed) {
            // The child stopped reading: its report says why.
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => return Err(LoadError::Read(error)),
            _ => {}
        }
        self.take(staged?).await
    }

    /// Loads all images of this host's platform from a folder in OCI image layout.
    pub async fn load_dir(&self, dir: &Path) -> Result<Vec<Image>, LoadError> {
        let inner = self.inner.clone();
        let dir = dir.to_owned();
        let staged = tokio::task::spawn_blocking(move || {
            let source = Source::folder(&dir).map_err(at(&dir))?;
            Ok((inner.stage()?, source))
        });
        self.take(staged.await.unwrap_or(Err(LoadError::Interrupted))?)
            .await
    }

    async fn take(&self, (staging, source): (TempDir, Source)) -> Result<Vec<Image>, LoadError> {
        let inner = self.inner.clone();
        let work = tokio::task::spawn_blocking(move || {
            let _relies = inner.rely();
            let trees = inner.stage_trees()?;
            let mut load = Load {
                store: &inner,
                source,
                staging,
                trees,
                files: BTreeMap::new(),
                blobs: BTreeMap::new(),
                layers: BTreeMap::new(),
                checked: BTreeSet::new(),
            };
            let entries = load.read()?;
            load.commit(&entries)
        });
        work.await.unwrap_or(Err(LoadError::Interrupted))
    }
}

impl Inner {
    fn stage(&self) -> Result<TempDir, LoadError> {
        tempfile::Builder::new()
            .prefix(TEMPORARY)
            .tempdir_in(&self.images)
            .map_err(at(&self.images))
    }

    /// Splits the archive that comes down `input` into files of a new staging folder.
    fn split(&self, input: OwnedFd) -> Result<(TempDir, Source), LoadError> {
        let staging = self.stage()?;
        let folder = staging.path().to_owned();
        let task = Task {
            target: folder.clone(),
            work: Work::Archive,
            max_bytes: MAX_BYTES,
        };
        match self.sandbox.run(input, &task)? {
            Report::Archive { members } => Ok((staging, Source::archive(folder, members))),
            Report::Failed { reason } => Err(LoadError::Archive { reason }),
            Report::Layer { .. } => Err(LoadError::Archive {
                reason: "the unpacking process answered another question".into(),
            }),
        }
    }
}

/// An image that was found, its documents checked.
struct Found {
    manifest: Descriptor,
    parsed: Manifest,
    config: ConfigDocument,
    /// For each layer, the name of the file that holds it.
    files: Vec<String>,
    names: Vec<String>,
}

/// A load in progress.
struct Load<'a> {
    store: &'a Inner,
    source: Source,
    staging: TempDir,
    trees: TempDir,
    /// Files of the source whose digest is known, by name.
    files: BTreeMap<String, Staged>,
    /// Finished blobs, by digest.
    blobs: BTreeMap<String, PathBuf>,
    /// Finished trees, by chain id.
    layers: BTreeMap<String, PathBuf>,
    /// Pairs of layer and diff id that are known to belong together.
    checked: BTreeSet<(String, String)>,
}

/// A file in the staging folder with its digest.
#[derive(Clone)]
struct Staged {
    digest: String,
    size: u64,
    path: PathBuf,
}

impl Load<'_> {
    fn read(&mut self) -> Result<Vec<Entry>, LoadError> {
        let found = if self.source.has("index.json") {
            oci::find(self)?
        } else if self.source.has("manifest.json") {
            docker::find(self)?
        } else {
            return Err(LoadError::NoImages);
        };
        if found.len() > MAX_IMAGES {
            return Err(LoadError::TooMany { count: found.len() });
        }
        let mut entries = Vec::new();
        for image in found {
            entries.push(self.image(image)?);
        }
        Ok(entries)
    }

    /// Checks and unpacks the layers of one image.
    fn image(&mut self, found: Found) -> Result<Entry, LoadError> {
        let Found {
            manifest,
            parsed,
            config,
            files,
            mut names,
        } = found;
        names.sort();
        names.dedup();
        let entry = Entry::new(manifest, parsed, config, names)?;
        for (layer, file) in entry.layers.iter().zip(&files) {
            self.blob(file, Some(layer))?;
        }
        for number in 0..entry.layers.len() {
            self.unpack(&entry, number)?;
        }
        Ok(entry)
    }

    fn unpack(&mut self, entry: &Entry, number: usize) -> Result<(), LoadError> {
        let (layer, diff_id) = (&entry.layers[number].digest, &entry.diff_ids[number]);
        let chain = &entry.image.layers[number];
        let pair = (layer.clone(), diff_id.clone());
        let unpacked = self.layers.contains_key(chain) || self.store.has_tree(chain);
        if unpacked && (self.checked.contains(&pair) || self.store.knows(layer, diff_id)) {
            return Ok(());
        }
        let path = &self.blobs[layer];
        let blob = open_plain(path).map_err(at(path))?;
        if unpacked {
            self.store
                .verify_layer(layer, blob.into(), diff_id, self.trees.path())?;
        } else {
            let tree = self.trees.path().join(self.layers.len().to_string());
            let below = number.checked_sub(1).map(|below| {
                let below = &entry.image.layers[below];
                self.layers
                    .get(below)
                    .cloned()
                    .unwrap_or_else(|| self.store.tree(below))
            });
            self.store
                .unpack_layer(layer, blob.into(), diff_id, below.as_deref(), &tree)?;
            self.layers.insert(chain.clone(), tree);
        }
        self.checked.insert(pair);
        Ok(())
    }

    /// Takes a file of the source as a blob, and checks it against what is expected of it.
    fn blob(&mut self, name: &str, expected: Option<&Descriptor>) -> Result<Staged, LoadError> {
        let staged = match self.files.get(name) {
            Some(staged) => staged.clone(),
            None => self.stage_file(name)?,
        };
        if let Some(expected) = expected {
            if staged.digest != expected.digest {
                let (expected, found) = (expected.digest.clone(), staged.digest);
                return Err(LoadError::Digest {
                    name: name.to_owned(),
                    expected,
                    found,
                });
            }
            if staged.size != expected.size {
                let (expected, found) = (expected.size, staged.size);
                return Err(LoadError::Size {
                    name: name.to_owned(),
                    expected,
                    found,
                });
            }
        }
        Ok(staged)
    }

    fn stage_file(&mut self, name: &str) -> Result<Staged, LoadError> {
        let failed = |source| LoadError::Member {
            name: name.to_owned(),
            source,
        };
        let missing = || LoadError::Missing {
            name: name.to_owned(),
        };
        let (path, digest, size) = match &self.source {
            // Its own file in the staging folder already.
            Source::Archive { .. } => {
                let path = self.source.staged(name).ok_or_else(missing)?;
                let mut file = open_plain(&path).map_err(failed)?;
                let (digest, size) = copy_digest(&mut file, &mut io::sink()).map_err(failed)?;
                (path, digest, size)
            }
            // Somebody else's file, which may change under our eyes: what counts is the copy.
            Source::Folder { .. } => {
                let mut file = self.source.open(name).map_err(failed)?.ok_or_else(missing)?;
                let path = self.staging.path().join(format!("copy-{}", self.files.len()));
                let mut copy = File::create_new(&path).map_err(at(&path))?;
                let (digest, size) = copy_digest(&mut file, &mut copy).map_err(failed)?;
                (path, digest, size)
            }
        };
        let staged = Staged { digest, size, path };
        self.files.insert(name.to_owned(), staged.clone());
        self.blobs
            .entry(staged.digest.clone())
            .or_insert_with(|| staged.path.clone());
        Ok(staged)
    }

    /// Takes bytes that we made, or that were read and checked, as a blob.
    fn keep(&mut self, digest: &str, bytes: &[u8]) -> Result<(), LoadError> {
        if !self.blobs.contains_key(digest) {
            let path = self.staging.path().join(format!("made-{}", self.blobs.len()));
            fs::write(&path, bytes).map_err(at(&path))?;
            self.blobs.insert(digest.to_owned(), path);
        }
        Ok(())
    }

    /// Refuses an image for other machines; `image` names it.
    fn check_platform(config: &ConfigDocument, image: &str) -> Result<(), LoadError> {
        if config.platform.runs_here() {
            return Ok(());
        }
        let offered = config.platform.to_string();
        Err(LoadError::Platform {
            image: image.to_owned(),
            offered,
            host: Platform::host().to_string(),
        })
    }
}

impl Inner {
    /// Whether a tree is there to stay. One that no image has yet may be taken back by the load that made it.
    fn has_tree(&self, chain: &str) -> bool {
        self.catalog().layers().contains(chain) && self.tree(chain).is_dir()
    }

    /// Whether an image in the store has this layer under this diff id, so that they were checked before.
    fn knows(&self, layer: &str, diff_id: &str) -> bool {
        self.catalog().entries().iter().any(|entry| {
            let mut pairs = entry.layers.iter().zip(&entry.diff_ids);
            pairs.any(|(known, diff)| known.digest == layer && diff == diff_id)
        })
    }
}

impl Load<'_> {
    /// Reads a JSON document of the source.
    fn document<T: serde::de::DeserializeOwned>(&self, name: &str) -> Result<T, LoadError> {
        let document = |source| LoadError::Document {
            name: name.to_owned(),
            source,
        };
        serde_json::from_slice(&self.bytes(name)?).map_err(document)
    }

    /// Reads a file of the source that must be as small as a document.
    fn bytes(&self, name: &str) -> Result<Vec<u8>, LoadError> {
        let failed = |source| LoadError::Member {
            name: name.to_owned(),
            source,
        };
        let file = self.source.open(name).map_err(failed)?;
        let file = file.ok_or_else(|| LoadError::Missing {
            name: name.to_owned(),
        })?;
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT + 1)
            .read_to_end(&mut bytes)
            .map_err(failed)?;
        if bytes.len() as u64 > MAX_DOCUMENT {
            return Err(LoadError::TooLarge {
                name: name.to_owned(),
            });
        }
        Ok(bytes)
    }
}
