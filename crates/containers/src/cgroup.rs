//! Control groups, version 1 and 2: what the OCI runtime leaves to its caller.
//!
//! The runtime makes the group, sets its limits and puts the container in. We ask it whether memory ran out, kill what
//! is in it, and take it away.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use linkspan_plan::ContainerId;
use nix::sys::signal::Signal;
use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, statfs};
use nix::unistd::Pid;

use crate::layout::Layout;

/// The host has version 2 only.
pub(crate) fn unified() -> bool {
    statfs("/sys/fs/cgroup").is_ok_and(|about| about.filesystem_type() == CGROUP2_SUPER_MAGIC)
}

/// Limits can be set on swap.
pub(crate) fn counts_swap() -> bool {
    unified() || Path::new("/sys/fs/cgroup/memory/memory.memsw.limit_in_bytes").exists()
}

/// The groups of one container, one in each hierarchy.
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    folders: Vec<PathBuf>,
}

impl Cgroup {
    pub(crate) fn of(layout: &Layout, id: &ContainerId) -> Self {
        Self::at(&Path::new(&layout.cgroup_parent()).join(id.as_str()))
    }

    /// By OCI's `cgroupsPath`, from the top of each hierarchy.
    pub(crate) fn at(path: &Path) -> Self {
        let path = path.strip_prefix("/").unwrap_or(path);
        Self {
            folders: hierarchies().into_iter().map(|root| root.join(path)).collect(),
        }
    }

    /// Puts this process in.
    pub(crate) fn enter(&self) -> io::Result<()> {
        for folder in self.folders.iter().filter(|folder| folder.is_dir()) {
            std::fs::write(folder.join("cgroup.procs"), "0")?;
        }
        Ok(())
    }

    /// The kernel killed somebody in it for want of memory.
    pub(crate) fn out_of_memory(&self) -> bool {
        self.folders.iter().any(|folder| {
            ["memory.events", "memory.oom_control"].iter().any(|file| {
                std::fs::read_to_string(folder.join(file)).is_ok_and(|text| {
                    text.lines().any(|line| {
                        line.strip_prefix("oom_kill ")
                            .is_some_and(|count| count.trim() != "0")
                    })
                })
            })
        })
    }

    /// Every process in it.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let mut all = BTreeSet::new();
        for folder in &self.folders {
            collect(folder, &mut all);
        }
        all
    }

    /// Kills every process in it, until none is left to fork.
    pub(crate) fn kill(&self) {
        for folder in &self.folders {
            if std::fs::write(folder.join("cgroup.kill"), "1").is_ok() {
                return;
            }
        }
        for _ in 0..64 {
            let all = self.processes();
            if all.is_empty() {
                return;
            }
            for pid in all {
                let _ = nix::sys::signal::kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Takes it away. It must be empty of processes.
    pub(crate) fn remove(&self) -> io::Result<()> {
        for folder in &self.folders {
            remove_tree(folder)?;
        }
        Ok(())
    }
}

/// Begins what the kernel needs for moving a process into another group: a grace period of several milliseconds, for the
/// first move after a quiet time. Moving ourselves to where we are costs the same and changes nothing; done while a
/// container is being prepared, the runtime's own move need not wait.
pub(crate) fn warm() {
    let text = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    for line in text.lines() {
        // `number:controllers:path`; version 2 is number 0 without controllers.
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (fields.next(), fields.next()) else {
            continue;
        };
        let root = if controllers.is_empty() && unified() {
            PathBuf::from("/sys/fs/cgroup")
        } else {
            Path::new("/sys/fs/cgroup").join(controllers)
        };
        let file = root.join(path.trim_start_matches('/')).join("cgroup.procs");
        if !controllers.contains('=') && std::fs::write(file, std::process::id().to_string()).is_ok() {
            return;
        }
    }
}

/// Names of all groups below our parent group.
pub(crate) fn names(layout: &Layout) -> BTreeSet<String> {
    let parent = layout.cgroup_parent();
    hierarchies()
        .into_iter()
        .flat_map(|root| folders(&root.join(&parent)))
        .filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()))
        .collect()
}

/// Takes the parent groups away if they are empty.
pub(crate) fn remove_parent(layout: &Layout) {
    let parent = layout.cgroup_parent();
    for root in hierarchies() {
        let _ = std::fs::remove_dir(root.join(&parent));
    }
}

fn hierarchies() -> Vec<PathBuf> {
    if unified() {
        return vec![PathBuf::from("/sys/fs/cgroup")];
    }
    // Controllers that share a hierarchy are links to one folder.
    folders(Path::new("/sys/fs/cgroup"))
}

/// Real folders in a folder.
fn folders(path: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(path) else {
        return Vec::new();
    };
    entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

fn collect(folder: &Path, into: &mut BTreeSet<i32>) {
    let text = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
    into.extend(
        text.lines()
            .filter_map(|line| line.parse::<i32>().ok())
            .filter(|pid| *pid > 0),
    );
    for inner in folders(folder) {
        collect(&inner, into);
    }
}

/// Groups that a privileged container made below go first.
fn remove_tree(folder: &Path) -> io::Result<()> {
    for inner in folders(folder) {
        remove_tree(&inner)?;
    }
    match std::fs::remove_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
