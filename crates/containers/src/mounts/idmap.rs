//! How ids on disk are shown inside a container.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use linkspan_plan::IdRange;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::unistd::Pid;

use crate::fork;

/// Which user namespace's view of ids a mount gets; none for a container with the host's ids.
pub(crate) enum IdMap {
    /// As on disk.
    None,
    /// As the namespace maps them.
    Namespace(OwnedFd),
}

impl IdMap {
    pub(crate) fn namespace(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::None => None,
            Self::Namespace(fd) => Some(fd.as_fd()),
        }
    }
}

/// One line of `/proc/<pid>/uid_map`: from, to, how many.
type Extent = (u32, u32, u32);

/// A map in which the folder's owner on disk is `inside` (an id in the container), and the ids up to there are
/// themselves. Disk id 0 is nobody's unless it is the owner, so that a container can't leave root's files on the host.
pub(crate) fn map_for_bind(owner: u32, inside: u32, ids: IdRange) -> Vec<Extent> {
    let mut extents = vec![(owner, ids.first + inside, 1)];
    // What is left: disk ids 1.. to the same number inside, but for the two that are taken. If `inside` is free on
    // disk and 0 is free inside, they belong together: files of that id are root's then.
    let mut cuts = vec![owner, inside, 0];
    cuts.sort_unstable();
    cuts.dedup();
    let mut from = 0;
    for cut in cuts.into_iter().chain([ids.count]) {
        let end = cut.min(ids.count);
        if from < end {
            extents.push((from, ids.first + from, end - from));
        }
        from = cut.saturating_add(1);
    }
    if inside != 0 && inside != owner {
        extents.push((inside, ids.first, 1));
    }
    extents
}

/// Makes a user namespace with these maps. It lives as long as the descriptor or a mount that uses it.
///
/// Only for single-threaded processes: it forks.
pub(crate) fn user_namespace(users: &[Extent], groups: &[Extent]) -> io::Result<OwnedFd> {
    let (mut told, mut tell) = io::pipe()?;
    let child = fork::child(move || {
        let entered = nix::sched::unshare(CloneFlags::CLONE_NEWUSER).is_ok();
        let _ = tell.write_all(&[u8::from(entered)]);
        // Until the parent holds the namespace.
        nix::unistd::pause();
        0
    })?;
    let made = (|| {
        let mut entered = [0];
        told.read_exact(&mut entered)?;
        if entered != [1] {
            return Err(io::Error::other(
                "no user namespace can be made; see `sysctl user.max_user_namespaces`",
            ));
        }
        write_map(child, "uid_map", users)?;
        write_map(child, "gid_map", groups)?;
        Ok(OwnedFd::from(File::open(format!("/proc/{child}/ns/user"))?))
    })();
    nix::sys::signal::kill(child, Signal::SIGKILL)?;
    nix::sys::wait::waitpid(child, None)?;
    made
}

fn write_map(child: Pid, file: &str, extents: &[Extent]) -> io::Result<()> {
    let text: String = extents
        .iter()
        .map(|(from, to, count)| format!("{from} {to} {count}\n"))
        .collect();
    std::fs::write(format!("/proc/{child}/{file}"), text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: IdRange = IdRange {
        first: 100_000,
        count: 65_536,
    };

    #[test]
    fn container_root_stands_for_the_owner_of_a_bound_folder() {
        assert_eq!(
            map_for_bind(1000, 0, IDS),
            [(1000, 100_000, 1), (1, 100_001, 999), (1001, 101_001, 64_535)]
        );
    }

    #[test]
    fn an_owner_beyond_the_containers_ids_is_root_too() {
        assert_eq!(
            map_for_bind(70_000, 0, IDS),
            [(70_000, 100_000, 1), (1, 100_001, 65_535)]
        );
    }

    #[test]
    fn a_program_with_the_owners_own_id_keeps_it() {
        assert_eq!(
            map_for_bind(1000, 1000, IDS),
            [(1000, 101_000, 1), (1, 100_001, 999), (1001, 101_001, 64_535)]
        );
    }
}
