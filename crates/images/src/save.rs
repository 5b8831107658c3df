//! Saving: one tar that is a docker-archive and an OCI archive at once, as `docker save` writes it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, BufWriter, PipeWriter, Write};
use std::sync::Arc;

use tar::{EntryType, Header};
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::unix::pipe;

use crate::catalog::Entry;
use crate::documents::{Descriptor, DockerImage, Index, OCI_LAYOUT};
use crate::reference::familiar;
use crate::store::{Inner, Store};

const BUFFER: usize = 256 * 1024;

/// Why images are not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// No such image.
    #[error("there is no image `{0}`; see what there is with `linkspan images`")]
    NotFound(String),
    /// Nothing was asked for.
    #[error("no image was named; name one or more")]
    Nothing,
    /// A blob can't be read.
    #[error("the archive member `{name}` can't be made")]
    Member {
        /// The member.
        name: String,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// The receiver failed, or hung up.
    #[error("the archive can't be delivered")]
    Write(#[source] io::Error),
    /// The runtime is shutting down.
    #[error("saving was interrupted")]
    Interrupted,
}

/// An image to save and the names to save with it.
struct Chosen {
    entry: Entry,
    names: Vec<String>,
}

impl Store {
    /// Writes the named images as one archive. An image asked for by its id is saved without a name.
    ///
    /// An image that is removed meanwhile makes it fail, and leaves an archive that is cut short.
    pub async fn save(
        &self,
        names: &[String],
        mut out: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Result<(), SaveError> {
        let chosen = self.choose(names)?;
        let (reader, writer) = io::pipe().map_err(SaveError::Write)?;
        let mut receiver = pipe::Receiver::from_owned_fd(reader.into()).map_err(SaveError::Write)?;
        let inner = Arc::clone(&self.inner);
        let work = tokio::task::spawn_blocking(move || inner.write_archive(&chosen, writer));
        let copied = tokio::io::copy(&mut receiver, &mut out).await;
        // A writer that waits for a receiver who is gone has to be told.
        drop(receiver);
        let written = work.await.unwrap_or(Err(SaveError::Interrupted));
        copied.map_err(SaveError::Write)?;
        written?;
        out.shutdown().await.map_err(SaveError::Write)
    }

    fn choose(&self, names: &[String]) -> Result<Vec<Chosen>, SaveError> {
        let catalog = self.inner.catalog();
        let mut chosen: Vec<Chosen> = Vec::new();
        for text in names {
            let (entry, name) = catalog
                .find(text)
                .ok_or_else(|| SaveError::NotFound(text.clone()))?;
            match chosen
                .iter_mut()
                .find(|known| known.entry.image.digest == entry.image.digest)
            {
                Some(known) => known.names.extend(name),
                None => chosen.push(Chosen {
                    entry: entry.clone(),
                    names: name.into_iter().collect(),
                }),
            }
        }
        for image in &mut chosen {
            image.names.sort();
            image.names.dedup();
        }
        if chosen.is_empty() {
            Err(SaveError::Nothing)
        } else {
            Ok(chosen)
        }
    }
}

impl Inner {
    fn write_archive(&self, chosen: &[Chosen], out: PipeWriter) -> Result<(), SaveError> {
        let mut tar = tar::Builder::new(BufWriter::with_capacity(BUFFER, out));
        folder(&mut tar, "blobs/")?;
        folder(&mut tar, "blobs/sha256/")?;
        let mut written = BTreeSet::new();
        for blob in chosen.iter().flat_map(|image| image.entry.blobs()) {
            if written.insert(&blob.digest) {
                self.write_blob(&mut tar, blob)?;
            }
        }
        document(&mut tar, "index.json", &index(chosen))?;
        document(&mut tar, "manifest.json", &docker_images(chosen))?;
        file(&mut tar, "oci-layout", OCI_LAYOUT.as_bytes())?;
        document(&mut tar, "repositories", &repositories(chosen))?;
        tar.into_inner()
            .and_then(|mut out| out.flush())
            .map_err(SaveError::Write)
    }

    fn write_blob(&self, tar: &mut Tar, blob: &Descriptor) -> Result<(), SaveError> {
        let name = file_name(&blob.digest);
        let failed = |source| SaveError::Member {
            name: name.clone(),
            source,
        };
        let blob_file = self.blobs.open(&blob.digest).map_err(failed)?;
        tar.append_data(&mut header(EntryType::Regular, blob.size), &name, blob_file)
            .map_err(failed)
    }
}

type Tar = tar::Builder<BufWriter<PipeWriter>>;

fn index(chosen: &[Chosen]) -> Index {
    Index::of(
        chosen
            .iter()
            .flat_map(|image| image.entry.descriptors(&image.names))
            .collect(),
    )
}

fn docker_images(chosen: &[Chosen]) -> Vec<DockerImage> {
    let image = |image: &Chosen| DockerImage {
        config: file_name(&image.entry.image.id),
        repo_tags: image.names.iter().map(|name| familiar(name).to_owned()).collect(),
        layers: image
            .entry
            .layers
            .iter()
            .map(|layer| file_name(&layer.digest))
            .collect(),
    };
    chosen.iter().map(image).collect()
}

/// The file that Docker read before 1.10: repository → tag → topmost layer.
fn repositories(chosen: &[Chosen]) -> BTreeMap<&str, BTreeMap<&str, &str>> {
    let mut repositories: BTreeMap<&str, BTreeMap<&str, &str>> = BTreeMap::new();
    for image in chosen {
        let Some(top) = image.entry.layers.last() else {
            continue;
        };
        for (repository, tag) in image
            .names
            .iter()
            .filter_map(|name| familiar(name).rsplit_once(':'))
        {
            repositories
                .entry(repository)
                .or_default()
                .insert(tag, &top.digest["sha256:".len()..]);
        }
    }
    repositories
}

fn file_name(digest: &str) -> String {
    format!("blobs/{}", digest.replacen(':', "/", 1))
}

fn folder(tar: &mut Tar, name: &str) -> Result<(), SaveError> {
    let mut header = header(EntryType::Directory, 0);
    header.set_mode(0o755);
    let failed = |source| SaveError::Member {
        name: name.to_owned(),
        source,
    };
    tar.append_data(&mut header, name, io::empty()).map_err(failed)
}

fn document(tar: &mut Tar, name: &str, document: &impl serde::Serialize) -> Result<(), SaveError> {
    let failed = |error: serde_json::Error| SaveError::Member {
        name: name.to_owned(),
        source: error.into(),
    };
    file(tar, name, &serde_json::to_vec(document).map_err(failed)?)
}

fn file(tar: &mut Tar, name: &str, bytes: &[u8]) -> Result<(), SaveError> {
    let failed = |source| SaveError::Member {
        name: name.to_owned(),
        source,
    };
    tar.append_data(&mut header(EntryType::Regular, bytes.len() as u64), name, bytes)
        .map_err(failed)
}

/// Owner root, a time that doesn't change: the same images make the same archive, byte for byte.
fn header(kind: EntryType, size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_mode(0o644);
    header.set_size(size);
    header.set_mtime(0);
    header.set_uid(0);
    header.set_gid(0);
    header
}
