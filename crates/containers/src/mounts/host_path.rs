//! Which folder or file of the host a path means.
//!
//! A container that has a folder of the host as a bind can put links there, and we are root: followed blindly, a bind below
//! that folder would show whatever those links name. So a path is opened once, step by step, and what was opened is what is
//! judged and mounted; nobody resolves it a second time. A link that root made in a folder of root is the host's own business
//! and is followed. Any other may lead only below the folder that holds it, and to what belongs to whoever made it: that
//! much they have anyway, and `current -> releases/7` works.

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use linkspan_site::resolved_host_path_danger;
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, readlinkat};
use nix::sys::stat::{FileStat, Mode, fstat, mkdirat, umask};

use super::root::as_owner;

/// As many as the kernel follows.
const LINKS_MAX: usize = 40;

/// Why a path of the host is not mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HostPathError {
    #[error(
        "`{}` is a link to `{}` that user {owner} of the host made, and not root: who can change it would choose what the \
         container gets; name the path that is meant", .link.display(), .target.display()
    )]
    Link {
        link: PathBuf,
        target: PathBuf,
        owner: u32,
    },
    #[error(
        "host path `{}` leads to `{}`, which {reason}; if that is meant, write `allow_host_path: true` beside it",
        .written.display(), .resolved.display()
    )]
    Danger {
        written: PathBuf,
        resolved: PathBuf,
        reason: &'static str,
    },
    #[error("cannot open host path `{}`", .path.display())]
    Open {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot make folder `{}`", .path.display())]
    Make {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// What is wanted of a path.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wish {
    /// Make folders that are missing.
    pub(crate) create: bool,
    /// It may give the host away.
    pub(crate) allow: bool,
    /// Who gets a folder that is made in one of root's; root when absent.
    pub(crate) newcomer: Option<u32>,
}

/// An open folder or file of the host.
#[derive(Debug)]
pub(crate) struct HostPath {
    /// Opened with `O_PATH`.
    pub(crate) fd: OwnedFd,
    /// Without links.
    pub(crate) path: PathBuf,
    pub(crate) about: FileStat,
}

/// Opens a path of the host, or says why it must not be.
pub(crate) fn open(path: &Path, wish: Wish) -> Result<HostPath, HostPathError> {
    let walk = Walk::begin().map_err(|error| HostPathError::Open {
        path: path.to_owned(),
        source: error.into(),
    })?;
    walk.to(path, wish)
}

/// A folder, file or link that was opened.
struct Place {
    fd: OwnedFd,
    name: OsString,
    about: FileStat,
}

impl Place {
    fn is(&self, other: (libc::dev_t, libc::ino_t)) -> bool {
        (self.about.st_dev, self.about.st_ino) == other
    }

    fn is_link(&self) -> bool {
        self.about.st_mode & libc::S_IFMT == libc::S_IFLNK
    }
}

/// A link that was followed although root didn't make it.
struct Strange {
    path: PathBuf,
    target: PathBuf,
    owner: u32,
    /// Where in the way from `/` the folder was that holds it, and which it was.
    depth: usize,
    holder: (libc::dev_t, libc::ino_t),
}

struct Walk {
    /// From `/` to where we are.
    way: Vec<Place>,
    strange: Vec<Strange>,
}

impl Walk {
    fn begin() -> nix::Result<Self> {
        let fd = nix::fcntl::open("/", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
        let root = Place {
            about: fstat(&fd)?,
            fd,
            name: OsString::from("/"),
        };
        Ok(Self {
            way: vec![root],
            strange: Vec::new(),
        })
    }

    fn to(mut self, written: &Path, wish: Wish) -> Result<HostPath, HostPathError> {
        let failed = |error: nix::Error| HostPathError::Open {
            path: written.to_owned(),
            source: error.into(),
        };
        let mut ahead = steps(written);
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                // Of the way that we came, not of where the folder may have been moved to meanwhile.
                if self.way.len() > 1 {
                    self.way.pop();
                }
                continue;
            }
            match self.step(&name) {
                Ok(place) if place.is_link() => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(failed(Errno::ELOOP));
                    }
                    let target = PathBuf::from(readlinkat(&place.fd, "").map_err(failed)?);
                    self.follow(&place, &target);
                    if target.is_absolute() {
                        self.way.truncate(1);
                    }
                    let mut through = steps(&target);
                    through.append(&mut ahead);
                    ahead = through;
                }
                Ok(place) => self.way.push(place),
                Err(Errno::ENOENT) if wish.create => {
                    // Before anything is made: it could be in the wrong place.
                    self.check(written, Some(&name), wish)?;
                    let made = self.make(&name, wish.newcomer.filter(|_| ahead.is_empty()));
                    self.way.push(made.map_err(|error| HostPathError::Make {
                        path: self.here().join(&name),
                        source: error,
                    })?);
                }
                Err(error) => return Err(failed(error)),
            }
        }
        self.check(written, None, wish)?;
        let path = self.here();
        match self.way.pop() {
            Some(Place { fd, about, .. }) => Ok(HostPath { fd, path, about }),
            None => Err(failed(Errno::ENOENT)),
        }
    }

    /// Opens what is here by this name; a link itself and not what it names.
    fn step(&self, name: &OsStr) -> nix::Result<Place> {
        let here = self.here_fd()?;
        let open = |flags| {
            let flags = flags | OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(here, name, flags, Mode::empty())
        };
        // Only who wants a folder gets what is mounted there on demand.
        let fd = match open(OFlag::O_DIRECTORY) {
            Err(Errno::ENOTDIR | Errno::ELOOP) => open(OFlag::empty()),
            opened => opened,
        }?;
        Ok(Place {
            about: fstat(&fd)?,
            fd,
            name: name.to_owned(),
        })
    }

    fn follow(&mut self, link: &Place, target: &Path) {
        let Some(holder) = self.way.last() else { return };
        if link.about.st_uid == 0 && holder.about.st_uid == 0 {
            return;
        }
        self.strange.push(Strange {
            path: self.here().join(&link.name),
            target: target.to_owned(),
            owner: link.about.st_uid,
            depth: self.way.len() - 1,
            holder: (holder.about.st_dev, holder.about.st_ino),
        });
    }

    /// Whether what is here, or what is about to be made here as `next`, may be mounted.
    fn check(&self, written: &Path, next: Option<&OsStr>, wish: Wish) -> Result<(), HostPathError> {
        let owner = self.way.last().map(|place| place.about.st_uid);
        for link in &self.strange {
            let below = self
                .way
                .get(link.depth)
                .is_some_and(|place| place.is(link.holder));
            if !below || owner != Some(link.owner) {
                return Err(HostPathError::Link {
                    link: link.path.clone(),
                    target: link.target.clone(),
                    owner: link.owner,
                });
            }
        }
        let mut resolved = self.here();
        resolved.extend(next);
        match resolved_host_path_danger(written, &resolved) {
            Some(reason) if !wish.allow => Err(HostPathError::Danger {
                written: written.to_owned(),
                resolved,
                reason,
            }),
            _ => Ok(()),
        }
    }

    /// Makes a folder as whoever owns the one that it is made in, so that people find their own in their projects.
    fn make(&self, name: &OsStr, newcomer: Option<u32>) -> io::Result<Place> {
        let here = self.here_fd()?;
        let (uid, gid) = match (self.way.last().map(|place| &place.about), newcomer) {
            (Some(about), Some(newcomer)) if about.st_uid == 0 => (newcomer, newcomer),
            (Some(about), _) => (about.st_uid, about.st_gid),
            (None, _) => (0, 0),
        };
        as_owner(uid, gid, || {
            let before = umask(Mode::from_bits_truncate(0o022));
            let made = mkdirat(here, name, Mode::from_bits_truncate(0o755));
            umask(before);
            match made {
                // Another container has just made it.
                Err(Errno::EEXIST) => Ok(()),
                made => Ok(made?),
            }
        })?;
        let place = self.step(name)?;
        if place.is_link() {
            return Err(Errno::ELOOP.into());
        }
        Ok(place)
    }

    fn here_fd(&self) -> nix::Result<std::os::fd::BorrowedFd<'_>> {
        Ok(self.way.last().ok_or(Errno::ENOENT)?.fd.as_fd())
    }

    fn here(&self) -> PathBuf {
        self.way.iter().map(|place| &place.name).collect()
    }
}

fn steps(path: &Path) -> VecDeque<OsString> {
    path.components()
        .filter_map(|component| match component {
            Component::Normal(name) => Some(name.to_owned()),
            Component::ParentDir => Some(OsString::from("..")),
            _ => None,
        })
        .collect()
}
