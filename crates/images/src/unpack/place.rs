//! Where an entry goes: paths resolved folder by folder, never through a link.

use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, open, openat, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat, mkdirat};
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::shown;

/// Longest path, in bytes: the kernel's own limit.
const MAX_PATH: usize = 4096;
/// Deepest nesting of folders: what the tree is removed with keeps a descriptor open for every level.
const MAX_DEPTH: usize = 256;

/// A place that must not or can't be written to.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlaceError {
    /// `..` in a name.
    #[error("entry `{0}` leads out of its layer by `..`")]
    Escapes(String),
    /// A name of an absurd length.
    #[error("entry `{0}…` has a path longer than {MAX_PATH} bytes")]
    TooLong(String),
    /// Folders in folders in folders.
    #[error("entry `{0}` lies deeper than {MAX_DEPTH} folders")]
    TooDeep(String),
    /// An earlier entry made a link of a folder on the way.
    #[error("entry `{path}` would be written through the symbolic link `{link}` that the layer itself made")]
    ThroughLink { path: String, link: String },
    /// A file on the way.
    #[error("entry `{path}` lies below `{parent}`, which is not a folder")]
    NotFolder { path: String, parent: String },
    /// A call failed.
    #[error("can't reach `{path}`")]
    Io {
        path: String,
        #[source]
        source: Errno,
    },
}

/// A path inside of the layer, split; `.` and leading slashes are gone, the root is empty.
#[derive(Debug)]
pub(super) struct Path(Vec<Vec<u8>>);

impl Path {
    pub(super) fn parse(path: &[u8]) -> Result<Self, PlaceError> {
        if path.len() > MAX_PATH {
            return Err(PlaceError::TooLong(shown(&path[..64])));
        }
        let mut parts = Vec::new();
        for part in path.split(|b| *b == b'/') {
            match part {
                b"" | b"." => {}
                b".." => return Err(PlaceError::Escapes(shown(path))),
                part => parts.push(part.to_vec()),
            }
        }
        if parts.len() > MAX_DEPTH {
            Err(PlaceError::TooDeep(shown(path)))
        } else {
            Ok(Self(parts))
        }
    }

    /// Its folder and its name; none for the root.
    pub(super) fn split(&self) -> Option<(&[Vec<u8>], &[u8])> {
        self.0
            .split_last()
            .map(|(name, parents)| (parents, name.as_slice()))
    }

    pub(super) fn parts(&self) -> &[Vec<u8>] {
        &self.0
    }

    pub(super) fn joined(&self) -> Vec<u8> {
        self.0.join(&b'/')
    }
}

/// The tree being written.
pub(super) struct Tree {
    root: OwnedFd,
    /// The entry being written, for messages.
    entry: Vec<u8>,
    /// The folder written to last: most entries have the same one as their neighbour.
    last: Option<(Vec<Vec<u8>>, OwnedFd)>,
}

impl Tree {
    /// The process's own root.
    pub(super) fn open() -> Result<Self, PlaceError> {
        let root = open("/", FOLDER, Mode::empty()).map_err(|source| io(&[], source))?;
        Ok(Self {
            root,
            entry: Vec::new(),
            last: None,
        })
    }

    /// Turns to the next entry.
    pub(super) fn begin(&mut self, entry: &[u8]) {
        self.entry.clear();
        self.entry.extend_from_slice(entry);
    }

    /// The root, once more.
    pub(super) fn root(&self) -> Result<OwnedFd, PlaceError> {
        self.root.try_clone().map_err(|_| io(&[], Errno::EMFILE))
    }

    /// The folder at `parts`, made where it is missing, kept for the next call.
    pub(super) fn parent(&mut self, parts: &[Vec<u8>]) -> Result<&OwnedFd, PlaceError> {
        if self.last.as_ref().is_none_or(|(path, _)| path != parts) {
            let folder = self.folder(parts)?;
            self.last = Some((parts.to_vec(), folder));
        }
        match &self.last {
            Some((_, folder)) => Ok(folder),
            None => Ok(&self.root),
        }
    }

    /// The folder at `parts`, made where it is missing.
    pub(super) fn folder(&self, parts: &[Vec<u8>]) -> Result<OwnedFd, PlaceError> {
        if let Some(folder) = self.reach(parts)? {
            return Ok(folder);
        }
        let mut at = self.root()?;
        for depth in 0..parts.len() {
            let (folder, _) = enter(&at, &parts[..=depth], &self.entry)?;
            at = folder;
        }
        Ok(at)
    }

    /// Makes the folder `name`, in place of whatever else is there. True if a whiteout was there: then the folder
    /// must go on hiding what it hid.
    pub(super) fn make_folder(
        &mut self,
        parents: &[Vec<u8>],
        name: &[u8],
    ) -> Result<(OwnedFd, bool), PlaceError> {
        let mut path = parents.to_vec();
        path.push(name.to_vec());
        let entry = self.entry.clone();
        let parent = self.parent(parents)?;
        let uncovered = match kind(parent, name, &path)? {
            Some(stat) if is(&stat, SFlag::S_IFDIR) => false,
            None => false,
            Some(stat) => {
                remove(parent, name).map_err(|source| io(&path, source))?;
                is_whiteout(&stat)
            }
        };
        let (folder, _) = enter(parent, &path, &entry)?;
        Ok((folder, uncovered))
    }

    /// Removes whatever has this name.
    pub(super) fn clear(&mut self, parents: &[Vec<u8>], name: &[u8]) -> Result<(), PlaceError> {
        let parent = self.parent(parents)?;
        match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::EISDIR | Errno::EPERM) => {
                let removed = remove(parent, name);
                // The folder kept may be below the one removed.
                self.last = None;
                removed.map_err(|source| io(&[parents, &[name.to_vec()]].concat(), source))
            }
            Err(source) => Err(io(&[parents, &[name.to_vec()]].concat(), source)),
        }
    }

    /// The folder at `parts` if it is one, reached by no link.
    pub(super) fn existing_folder_of(&self, parts: &[Vec<u8>]) -> Result<Option<OwnedFd>, PlaceError> {
        self.reach(parts)
    }

    /// The folder `name` if it is one.
    pub(super) fn existing_folder(
        &self,
        parents: &[Vec<u8>],
        name: &[u8],
    ) -> Result<Option<OwnedFd>, PlaceError> {
        self.reach(&[parents, &[name.to_vec()]].concat())
    }

    /// Whether `folder` has something with this name, other than a whiteout.
    pub(super) fn holds(folder: &OwnedFd, name: &[u8]) -> Result<bool, PlaceError> {
        Ok(kind(folder, name, &[name.to_vec()])?.is_some_and(|stat| !is_whiteout(&stat)))
    }

    /// One call for the whole path: the kernel refuses links and whatever leads out.
    fn reach(&self, parts: &[Vec<u8>]) -> Result<Option<OwnedFd>, PlaceError> {
        if parts.is_empty() {
            return self.root().map(Some);
        }
        let resolve = ResolveFlag::RESOLVE_BENEATH
            | ResolveFlag::RESOLVE_NO_SYMLINKS
            | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(FOLDER).resolve(resolve);
        match openat2(&self.root, parts.join(&b'/').as_slice(), how) {
            Ok(folder) => Ok(Some(folder)),
            Err(Errno::ENOENT | Errno::ELOOP | Errno::ENOTDIR) => Ok(None),
            Err(source) => Err(io(parts, source)),
        }
    }
}

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

/// Opens the last of `path` in `parent`, and makes it if need be, for the sake of `entry`. True if it was made.
fn enter(parent: &OwnedFd, path: &[Vec<u8>], entry: &[u8]) -> Result<(OwnedFd, bool), PlaceError> {
    let name = path.last().map_or(b".".as_slice(), Vec::as_slice);
    match openat(parent, name, FOLDER, Mode::empty()) {
        Ok(folder) => return Ok((folder, false)),
        Err(Errno::ENOENT) => {}
        Err(Errno::ENOTDIR | Errno::ELOOP) => match kind(parent, name, path)? {
            Some(stat) if is_whiteout(&stat) => {
                remove(parent, name).map_err(|source| io(path, source))?;
                let folder = make(parent, name).map_err(|source| io(path, source))?;
                xattr::FileExt::set_xattr(
                    &std::fs::File::from(duplicate(&folder, path)?),
                    "user.overlay.opaque",
                    b"y",
                )
                .map_err(|e| io(path, e.raw_os_error().map_or(Errno::EIO, Errno::from_raw)))?;
                return Ok((folder, true));
            }
            Some(stat) if is(&stat, SFlag::S_IFLNK) => {
                let link = shown(&path.join(&b'/'));
                return Err(PlaceError::ThroughLink {
                    path: shown(entry),
                    link,
                });
            }
            _ => {
                let parent = shown(&path.join(&b'/'));
                return Err(PlaceError::NotFolder {
                    path: shown(entry),
                    parent,
                });
            }
        },
        Err(source) => return Err(io(path, source)),
    }
    make(parent, name)
        .map(|folder| (folder, true))
        .map_err(|source| io(path, source))
}

/// A folder that no entry describes, or none yet: root's, 0755. Set in so many words, since a setgid folder passes
/// its group on.
fn make(parent: &OwnedFd, name: &[u8]) -> nix::Result<OwnedFd> {
    mkdirat(parent, name, Mode::from_bits_truncate(0o755))?;
    let folder = openat(parent, name, FOLDER, Mode::empty())?;
    fchown(&folder, Some(Uid::from_raw(0)), Some(Gid::from_raw(0)))?;
    fchmod(&folder, Mode::from_bits_truncate(0o755))?;
    Ok(folder)
}

fn duplicate(folder: &OwnedFd, path: &[Vec<u8>]) -> Result<OwnedFd, PlaceError> {
    folder.try_clone().map_err(|_| io(path, Errno::EMFILE))
}

/// Removes a file, or a folder with all that is in it.
fn remove(parent: &OwnedFd, name: &[u8]) -> nix::Result<()> {
    match unlinkat(parent, name, UnlinkatFlags::NoRemoveDir) {
        Err(Errno::EISDIR | Errno::EPERM) => {}
        other => return other,
    }
    let folder = openat(parent, name, FOLDER, Mode::empty())?;
    let mut listing = Dir::from_fd(folder.try_clone().map_err(|_| Errno::EMFILE)?)?;
    for entry in listing.iter() {
        let entry = entry?;
        match entry.file_name().to_bytes() {
            b"." | b".." => {}
            inner => remove(&folder, inner)?,
        }
    }
    unlinkat(parent, name, UnlinkatFlags::RemoveDir)
}

fn kind(folder: &impl AsFd, name: &[u8], path: &[Vec<u8>]) -> Result<Option<FileStat>, PlaceError> {
    match fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(source) => Err(io(path, source)),
    }
}

fn is(stat: &FileStat, kind: SFlag) -> bool {
    SFlag::from_bits_truncate(stat.st_mode & SFlag::S_IFMT.bits()) == kind
}

fn is_whiteout(stat: &FileStat) -> bool {
    is(stat, SFlag::S_IFCHR) && stat.st_rdev == 0
}

fn io(path: &[Vec<u8>], source: Errno) -> PlaceError {
    PlaceError::Io {
        path: shown(&path.join(&b'/')),
        source,
    }
}
