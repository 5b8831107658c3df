//! Taking a container away.

use std::io;
use std::path::Path;
use std::time::Duration;

use linkspan_plan::ContainerId;

use super::{Containers, blocking};
use crate::Phase;
use crate::cgroup::{self, Cgroup};
use crate::layout::Layout;
use crate::protocol::Verb;

/// How long a shim may take to see its container's end after SIGKILL.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);

/// What could not be taken away.
#[derive(Debug, thiserror::Error)]
#[error("cannot remove container `{id}` completely")]
pub struct RemoveError {
    id: ContainerId,
    #[source]
    source: io::Error,
}

impl Containers {
    /// Kills it if it runs and removes every trace of it but its volumes. Idempotent; works on strays too.
    pub async fn remove(&self, id: &ContainerId) -> Result<(), RemoveError> {
        self.end(id, clear).await
    }

    /// Makes it ready to be created again: as [`Containers::remove`], but what it wrote and its log stay. Idempotent.
    ///
    /// The end of what still ran is not told: it would be taken for the end of what is created next.
    pub async fn renew(&self, id: &ContainerId) -> Result<(), RemoveError> {
        if let Some(known) = self.known().get_mut(id) {
            known.in_making = true;
        }
        self.end(id, clear_run).await
    }

    async fn end(
        &self,
        id: &ContainerId,
        clear: fn(&Layout, &ContainerId) -> io::Result<()>,
    ) -> Result<(), RemoveError> {
        let link = self.known().get(id).and_then(|known| known.link.clone());
        if let Some(link) = link {
            // What comes of it is seen below: a shim that does not answer is killed by then.
            let _ = link
                .ask(Verb::Signal {
                    signal: libc::SIGKILL,
                })
                .await;
            // The shim ends after it has noted the exit; until then it still writes to the folders.
            if tokio::time::timeout(PATIENCE, link.closed()).await.is_err() {
                tracing::warn!(container = %id, "a shim did not end; it is killed, and what is in its cgroup");
                link.kill().await;
            }
            self.mourned(id).await;
        }
        if let Some(known) = self.known().remove(id)
            && let Some(checks) = known.checks
        {
            checks.abort();
        }
        let (layout, of) = (self.0.layout.clone(), id.clone());
        let cleared = blocking(move || clear(&layout, &of))
            .await
            .and_then(|cleared| cleared);
        // The last one takes the common cgroup along, unless one is just being made in it.
        if let Ok(_nobody_is_making) = self.0.making.try_write() {
            cgroup::remove_parent(&self.0.layout);
        }
        cleared.map_err(|source| RemoveError {
            id: id.clone(),
            source,
        })
    }
}

impl Containers {
    /// Waits until the end of a container without shim has been noted: nothing is written to its folders after that.
    async fn mourned(&self, id: &ContainerId) {
        let expected = || {
            self.known()
                .get(id)
                .is_some_and(|known| !known.in_making && !matches!(known.phase, Phase::Exited(_)))
        };
        let noted = async {
            while expected() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, noted).await;
    }
}

/// Removes everything. All is tried, the first failure is told.
pub(super) fn clear(layout: &Layout, id: &ContainerId) -> io::Result<()> {
    let run = clear_run(layout, id);
    let state = remove_folder(&layout.state(id));
    run.and(state)
}

/// Removes processes, cgroups and what one run left, but neither what the container wrote nor its log.
pub(super) fn clear_run(layout: &Layout, id: &ContainerId) -> io::Result<()> {
    // Before anything else: what is half removed must not be adopted.
    let files = [
        layout.orders(id),
        layout.exit(id),
        layout.health(id),
        layout.warnings(id),
    ];
    let files: Vec<io::Result<()>> = files.iter().map(|file| remove_file(file)).collect();
    let cgroup = Cgroup::of(layout, id);
    cgroup.kill();
    let cgroup = empty(&cgroup);
    let folders = [layout.oci_root().join(id.as_str()), layout.run(id)];
    let folders: Vec<io::Result<()>> = folders.iter().map(|folder| remove_folder(folder)).collect();
    files
        .into_iter()
        .chain([cgroup])
        .chain(folders)
        .find(Result::is_err)
        .unwrap_or(Ok(()))
}

/// A killed process leaves its group when it is reaped, which the kernel tells nobody on version 1.
fn empty(cgroup: &Cgroup) -> io::Result<()> {
    for pause in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512] {
        std::thread::sleep(Duration::from_millis(pause));
        match cgroup.remove() {
            Err(error) if error.raw_os_error() == Some(libc::EBUSY) => {}
            done => return done,
        }
    }
    cgroup.remove()
}

fn remove_file(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A runtime that was killed with its shim may be writing here for a moment longer.
fn remove_folder(path: &Path) -> io::Result<()> {
    for pause in [0, 5, 10, 20, 40, 80, 160] {
        std::thread::sleep(Duration::from_millis(pause));
        match std::fs::remove_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            done => return done,
        }
    }
    std::fs::remove_dir_all(path)
}
