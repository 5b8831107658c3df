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

/// Who a stranger is to the host: an id that no container has (the kernel's own for nobody).
const STRANGER: u32 = 65_534;

/// A map in which a folder's owner on disk is `inside` (an id in the container), or nobody there, and the other ids are
/// themselves. Disk id 0 is nobody's unless it is the owner, so that a container can't leave root's files on the host.
///
/// Every id of the container has one on disk, or else a program could not give its files away, as databases do when they
/// start. Those whose own number is taken, or is 0, get the one that they have on the host.
pub(super) fn map_for_bind(owner: u32, inside: Option<u32>, ids: IdRange) -> Vec<Extent> {
    let mut extents = vec![(owner, inside.map_or(STRANGER, |inside| ids.first + inside), 1)];
    let mut cuts = vec![0, owner];
    cuts.extend(inside);
    cuts.sort_unstable();
    cuts.dedup();
    let mut from = 0;
    for cut in cuts.iter().copied().chain([ids.count]) {
        let end = cut.min(ids.count);
        if from < end {
            extents.push((from, ids.first + from, end - from));
        }
        from = cut.saturating_add(1);
    }
    // If `inside` is free on disk and 0 is free inside, they belong together: files of that id are root's then.
    let of_root = inside.filter(|inside| *inside != 0 && *inside != owner);
    extents.extend(of_root.map(|inside| (inside, ids.first, 1)));
    let homeless = cuts
        .into_iter()
        .filter(|id| *id < ids.count && Some(*id) != inside && !(*id == 0 && of_root.is_some()));
    // No range begins so low as a rule; where one does, its own ids are in the way.
    let spare = homeless.filter(|_| ids.first >= ids.count);
    extents.extend(spare.map(|id| (ids.first + id, ids.first + id, 1)));
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
            map_for_bind(1000, Some(0), IDS),
            [
                (1000, 100_000, 1),
                (1, 100_001, 999),
                (1001, 101_001, 64_535),
                (101_000, 101_000, 1)
            ]
        );
    }

    #[test]
    fn an_owner_beyond_the_containers_ids_is_root_too() {
        for owner in [70_000, 100_000, 101_000] {
            assert_eq!(
                map_for_bind(owner, Some(0), IDS),
                [(owner, 100_000, 1), (1, 100_001, 65_535)]
            );
        }
    }

    #[test]
    fn a_program_with_the_owners_own_id_keeps_it() {
        assert_eq!(
            map_for_bind(1000, Some(1000), IDS),
            [
                (1000, 101_000, 1),
                (1, 100_001, 999),
                (1001, 101_001, 64_535),
                (100_000, 100_000, 1)
            ]
        );
    }

    #[test]
    fn no_id_is_in_two_places_and_none_is_without() {
        for owner in [0, 1, 33, 1000, 65_535, 65_536, 100_000, 100_033, 4_000_000_000] {
            for inside in [None, Some(0), Some(1), Some(33), Some(1000), Some(65_535)] {
                if inside.is_none() && owner != 0 {
                    continue;
                }
                let map = map_for_bind(owner, inside, IDS);
                let disjoint = |mut spans: Vec<(u32, u32)>| {
                    spans.sort_unstable();
                    spans.windows(2).all(|two| two[0].0 + two[0].1 <= two[1].0)
                };
                assert!(
                    disjoint(map.iter().map(|one| (one.0, one.2)).collect()),
                    "{owner} {inside:?}: {map:?}"
                );
                assert!(
                    disjoint(map.iter().map(|one| (one.1, one.2)).collect()),
                    "{owner} {inside:?}: {map:?}"
                );
                let ours = map.iter().filter(|one| one.1 >= IDS.first);
                assert_eq!(
                    ours.map(|one| one.2).sum::<u32>(),
                    IDS.count,
                    "{owner} {inside:?}: {map:?}"
                );
                let root = map.iter().find(|one| one.0 == 0);
                assert_eq!(root.is_some(), owner == 0, "{owner} {inside:?}: {map:?}");
            }
        }
    }
}
