//! The store: where it lies, how it is opened, and what it answers.

use std::collections::BTreeSet;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Read};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::blobs::Blobs;
use crate::catalog::Catalog;
use crate::documents::{Index, OCI_LAYOUT};
use crate::image::Image;
use crate::sandbox::Sandbox;

/// Whatever is still being made has a name that begins with this, and is removed on opening.
pub(crate) const TEMPORARY: &str = ".tmp-";
/// Largest `index.json` of ours, in bytes: some hundred thousand names.
const MAX_INDEX: u64 = 256 << 20;

/// Where the store is.
#[derive(Debug, Clone)]
pub struct Config {
    /// The daemon's state folder, `/var/lib/linkspan`; the store uses `images/` and `layers/` below it.
    pub state_dir: PathBuf,
    /// Our own executable, run again as `<binary> unpack` to unpack in.
    pub binary: PathBuf,
}

/// How long the lock of a daemon that has just ended is waited for.
const LOCK_PATIENCE: Duration = Duration::from_secs(1);

/// Why the store can't be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A folder or file can't be made or read.
    #[error("can't prepare `{}` for the image store", .path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Another daemon has it.
    #[error("the image store `{}` is in use by another daemon; stop it, or use another `--state-dir`", .0.display())]
    Busy(PathBuf),
    /// `index.json` is not an index. It is not replaced, since that would lose every image.
    #[error("`{}` is damaged; restore it, or move it away to begin with an empty store", .path.display())]
    Index {
        /// Which file.
        path: PathBuf,
        /// The cause.
        #[source]
        source: serde_json::Error,
    },
}

/// A handle on the store; clones share it.
#[derive(Debug, Clone)]
pub struct Store {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    /// An OCI image layout.
    pub(crate) images: PathBuf,
    /// Unpacked layers, one folder each, named by chain id.
    pub(crate) layers: PathBuf,
    pub(crate) blobs: Blobs,
    pub(crate) sandbox: Sandbox,
    catalog: RwLock<Arc<Catalog>>,
    /// Held while blobs, trees and `index.json` are put into place or taken away.
    changing: Mutex<()>,
    /// Held for reading by who relies on trees that are there, for writing by who takes trees away.
    relying: RwLock<()>,
    /// Held while one missing layer is unpacked again.
    pub(crate) unpacking: Mutex<()>,
    /// Two daemons on one store would each remove what the other is making.
    _lock: Flock<File>,
}

impl Store {
    /// Opens the store, makes it where there is none, and removes what an earlier process left unfinished.
    ///
    /// Images whose blobs are missing are taken off the list.
    pub fn open(config: Config) -> Result<Self, OpenError> {
        // The confined child runs in `/`, so paths are told to it in full.
        let Config { state_dir, binary } = config;
        let full = |path: &Path| std::path::absolute(path).map_err(io_at(path));
        let (state, binary) = (full(&state_dir)?, full(&binary)?);
        let images = state.join("images");
        let layers = state.join("layers");
        let blobs = Blobs {
            folder: images.join("blobs/sha256"),
        };
        for folder in [&images, &layers, &blobs.folder] {
            let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
            made.and_then(|()| keep_private(folder)).map_err(io_at(folder))?;
        }
        let lock = lock(&images)?;
        for folder in [&images, &layers, &blobs.folder] {
            remove_temporary(folder).map_err(io_at(folder))?;
        }
        let layout = images.join("oci-layout");
        if !layout.exists() {
            fs::write(&layout, OCI_LAYOUT).map_err(io_at(&layout))?;
        }
        let catalog = open_catalog(&images, &layers, &blobs)?;
        Ok(Self {
            inner: Arc::new(Inner {
                images,
                layers,
                blobs,
                sandbox: Sandbox { binary },
                catalog: RwLock::new(Arc::new(catalog)),
                changing: Mutex::new(()),
                relying: RwLock::new(()),
                unpacking: Mutex::new(()),
                _lock: lock,
            }),
        })
    }

    /// Finds an image: `nginx`, `nginx:1.2`, `docker.io/library/nginx:latest`, `repo@sha256:…`, an id, a manifest's
    /// digest, or the beginning of an id (four digits or more) that only one image has.
    pub fn resolve(&self, name: &str) -> Option<Image> {
        self.inner
            .catalog()
            .find(name)
            .map(|(entry, _)| entry.image.clone())
    }

    /// All images, by name; those without one come last.
    pub fn list(&self) -> Vec<Image> {
        let catalog = self.inner.catalog();
        let mut images: Vec<Image> = catalog
            .entries()
            .iter()
            .map(|entry| entry.image.clone())
            .collect();
        let key = |image: &Image| (image.names.is_empty(), image.names.clone(), image.id.clone());
        images.sort_by_key(key);
        images
    }

    /// The folder with the unpacked layers: `<chain id's hexadecimal digits>/`, overlayfs lower folders, for mounts
    /// with `userxattr`. Their files have the container's own ids.
    pub fn layers_dir(&self) -> PathBuf {
        self.inner.layers.clone()
    }
}

impl Inner {
    /// What is in the store now.
    pub(crate) fn catalog(&self) -> Arc<Catalog> {
        Arc::clone(&self.catalog.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// While this is held no tree disappears. It comes before [`Inner::change`].
    pub(crate) fn rely(&self) -> RwLockReadGuard<'_, ()> {
        self.relying.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody relies on trees. It comes before [`Inner::change`].
    pub(crate) fn take_away(&self) -> RwLockWriteGuard<'_, ()> {
        self.relying.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the right to change the store.
    pub(crate) fn change(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes `after` the content of the store, on disk and then in memory, and removes what only `before` needed.
    /// The caller holds [`Inner::change`], and has put into place what `after` needs.
    pub(crate) fn replace(&self, after: &Catalog, before: &Catalog) -> io::Result<()> {
        // First the index, so that nothing is ever named that isn't there.
        if after != before {
            after.write(&self.images)?;
            *self.catalog.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(after.clone());
        }
        let (blobs, layers) = (after.blobs(), after.layers());
        for digest in before.blobs().difference(&blobs) {
            if let Ok(path) = self.blobs.path(digest) {
                discard(&path);
            }
        }
        for chain in before.layers().difference(&layers) {
            // Renamed first: half a tree must not look like a layer.
            let tree = self.tree(chain);
            let doomed = self
                .layers
                .join(format!("{TEMPORARY}{}", &chain["sha256:".len()..]));
            match fs::rename(&tree, &doomed) {
                Ok(()) => discard(&doomed),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => tracing::warn!(path = %tree.display(), %error, "a layer can't be removed"),
            }
        }
        Ok(())
    }
}

/// What can't be removed now is removed when the store is opened again.
pub(crate) fn discard(path: &Path) {
    if let Err(error) = remove(path) {
        tracing::warn!(path = %path.display(), %error, "a leftover can't be removed");
    }
}

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { path, source }
}

fn keep_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

fn lock(images: &Path) -> Result<Flock<File>, OpenError> {
    let path = images.join("lock");
    let begun = Instant::now();
    loop {
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(io_at(&path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(lock),
            // A daemon that was killed may have had a helper that was just being started: it holds the lock until it runs.
            Err((_, Errno::EWOULDBLOCK)) if begun.elapsed() < LOCK_PATIENCE => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err((_, Errno::EWOULDBLOCK)) => return Err(OpenError::Busy(images.to_owned())),
            Err((_, error)) => return Err(io_at(&path)(error.into())),
        }
    }
}

fn remove_temporary(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(TEMPORARY.as_bytes())
        {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file or a tree.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() {
        fs::remove_dir_all(path)
    } else {
        fs::remove_file(path)
    }
}

fn open_catalog(images: &Path, layers: &Path, blobs: &Blobs) -> Result<Catalog, OpenError> {
    let path = images.join("index.json");
    let mut text = Vec::new();
    match File::open(&path) {
        Ok(file) => file
            .take(MAX_INDEX)
            .read_to_end(&mut text)
            .map_err(io_at(&path))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            // Blobs without an index are left alone: somebody may bring the index back.
            Catalog::default().write(images).map_err(io_at(&path))?;
            return Ok(Catalog::default());
        }
        Err(error) => return Err(io_at(&path)(error)),
    };
    let index: Index = serde_json::from_slice(&text).map_err(|source| OpenError::Index {
        path: path.clone(),
        source,
    })?;
    let (catalog, dropped) = Catalog::read(&index, blobs);
    if dropped > 0 {
        // Containers may still run from the layers of what was dropped, so nothing is swept this time.
        catalog.write(images).map_err(io_at(&path))?;
    } else {
        sweep(&blobs.folder, &catalog.blobs()).map_err(io_at(&blobs.folder))?;
        sweep(layers, &catalog.layers()).map_err(io_at(layers))?;
    }
    Ok(catalog)
}

/// Removes what a process that was killed between putting blobs into place and naming them left behind.
fn sweep(folder: &Path, used: &BTreeSet<&str>) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let digest = format!("sha256:{}", entry.file_name().to_string_lossy());
        if crate::reference::is_digest(&digest) && !used.contains(digest.as_str()) {
            remove(&entry.path())?;
        }
    }
    Ok(())
}
