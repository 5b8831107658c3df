//! Network namespaces by path: pinned, unpinned, entered.
//!
//! A thread that enters a namespace must not be one that others use, so whoever works in one gets a fresh thread that
//! ends with the work. What most work needs is only a socket: it stays in the namespace where it was opened,
//! whichever thread uses it.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::statfs::{FsType, statfs};
use tokio::sync::oneshot;

use crate::NamespaceError;

/// `NSFS_MAGIC` of `linux/magic.h`.
const NAMESPACE_FS: FsType = FsType(0x6e73_6673);

/// Is a namespace pinned here?
pub(crate) fn is_pinned(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == NAMESPACE_FS)
}

/// Keeps the namespace `source` (a file below `/proc/*/ns`) alive at `path`, whose folder exists.
pub(crate) fn pin(source: &Path, path: &Path) -> Result<(), NamespaceError> {
    let attempt = || -> io::Result<()> {
        File::options().create(true).append(true).open(path)?;
        mount(Some(source), path, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
        Ok(())
    };
    attempt().map_err(|source| NamespaceError::Pin {
        path: path.to_owned(),
        source,
    })
}

/// Lets go of what is pinned here, if anything is, and removes the file.
pub(crate) fn unpin(path: &Path) -> Result<(), NamespaceError> {
    let attempt = || -> io::Result<()> {
        // Pins may lie on one another after a crash between two of them.
        loop {
            match umount2(path, MntFlags::MNT_DETACH) {
                Ok(()) => {}
                Err(Errno::EINVAL | Errno::ENOENT) => break,
                Err(error) => return Err(error.into()),
            }
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    };
    attempt().map_err(|source| NamespaceError::Unpin {
        path: path.to_owned(),
        source,
    })
}

/// Makes an empty network namespace and pins it.
pub(crate) async fn create(path: PathBuf) -> Result<(), NamespaceError> {
    let at = path.clone();
    on_own_thread(move || {
        unshare(CloneFlags::CLONE_NEWNET).map_err(|error| NamespaceError::Pin {
            path: at.clone(),
            source: error.into(),
        })?;
        pin(Path::new("/proc/thread-self/ns/net"), &at)
    })
    .await
    .unwrap_or_else(|| {
        Err(NamespaceError::Pin {
            path,
            source: io::ErrorKind::Other.into(),
        })
    })
}

/// Does `work` in the network namespace pinned at `path`.
pub(crate) async fn within<T: Send + 'static>(
    path: &Path,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, NamespaceError> {
    let at = path.to_owned();
    let result = on_own_thread(move || {
        setns(File::open(at)?, CloneFlags::CLONE_NEWNET)?;
        work()
    })
    .await
    .unwrap_or_else(|| Err(io::ErrorKind::Other.into()));
    result.map_err(|source| NamespaceError::Enter {
        path: path.to_owned(),
        source,
    })
}

/// Nothing comes back when no thread can be had or it panicked.
async fn on_own_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, result) = oneshot::channel();
    std::thread::Builder::new()
        .name("netns".into())
        .spawn(move || drop(done.send(work())))
        .ok()?;
    result.await.ok()
}
