//! A layer's entries written as overlayfs wants to find them.
//!
//! Whiteouts follow the OCI image specification, *Image Layer Filesystem Changeset*; their form on disk is that of
//! the kernel's overlayfs documentation with the mount option `userxattr`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, futimens, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, LinkatFlags, Uid, fchown, fchownat, linkat, symlinkat, syncfs};
use xattr::FileExt;

use super::entries::{Entries, Entry, EntryError, Kind};
use super::place::{Path, PlaceError, Tree};
use super::shown;
use super::stream::Stream;
use crate::protocol::{MAX_ENTRIES, RootAttributes};

/// Ids that a layer may use: as many as a container has.
const MAX_ID: u64 = 65_535;
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Other marks of aufs, which mean nothing to anybody else.
const AUFS: &[u8] = b".wh..wh.";

/// Why a layer can't be unpacked. Each names the entry.
#[derive(Debug, thiserror::Error)]
pub(super) enum LayerError {
    /// The stream.
    #[error("the layer")]
    Entries(#[from] EntryError),
    /// A place that must not or can't be written to.
    #[error(transparent)]
    Place(#[from] PlaceError),
    /// A call failed.
    #[error("entry `{path}` can't be written: can't {doing}")]
    Io {
        path: String,
        doing: &'static str,
        #[source]
        source: io::Error,
    },
    /// A file's data.
    #[error("the data of entry `{path}`")]
    Data {
        path: String,
        #[source]
        source: EntryError,
    },
    /// A device outside of the place where they are expected and made by the runtime.
    #[error("entry `{path}` is a device node outside of `dev/`")]
    Device { path: String },
    /// An id no container has.
    #[error("entry `{path}` belongs to id {id}, but containers have ids up to {MAX_ID}")]
    Id { path: String, id: u64 },
    /// A whiteout of nothing, or of the folder itself.
    #[error("entry `{path}` is a whiteout without a name")]
    Whiteout { path: String },
    /// A hard link to what isn't in the layer.
    #[error("entry `{path}` is a hard link to `{target}`, which is not in the layer")]
    Dangling { path: String, target: String },
    /// Something other than a folder in the root's place.
    #[error("entry `{path}` would replace the layer's root")]
    Root { path: String },
    /// Too many entries.
    #[error("the layer has more than {MAX_ENTRIES} entries")]
    TooMany,
}

/// Unpacks a layer into `/`.
pub(super) fn unpack(stream: &mut Stream, root: RootAttributes, max_bytes: u64) -> Result<(), LayerError> {
    let mut layer = Layer {
        tree: Tree::open()?,
        folders: BTreeMap::new(),
    };
    let top = Attributes {
        mode: root.mode,
        uid: root.uid,
        gid: root.gid,
        xattrs: &[],
        mtime: None,
    };
    top.apply(&File::from(layer.tree.root()?), "/")?;
    let mut entries = Entries::new(stream, max_bytes);
    let mut count = 0;
    while let Some(entry) = entries.next()? {
        count += 1;
        if count > MAX_ENTRIES {
            return Err(LayerError::TooMany);
        }
        layer.write(&entry, &mut entries)?;
    }
    layer.finish()
}

struct Layer {
    tree: Tree,
    /// Times of folders, set at the end, since every entry written into a folder changes its own.
    folders: BTreeMap<Vec<u8>, TimeSpec>,
}

impl Layer {
    fn write(&mut self, entry: &Entry, entries: &mut Entries<'_, Stream>) -> Result<(), LayerError> {
        let path = Path::parse(&entry.path)?;
        self.tree.begin(&entry.path);
        let shown = || shown(&entry.path);
        let Some((parents, name)) = path.split() else {
            // The root itself: `./`.
            if entry.kind != Kind::Folder {
                return Err(LayerError::Root { path: shown() });
            }
            let attributes = Attributes::of(entry)?;
            self.folders.insert(Vec::new(), attributes.time());
            return attributes.apply(&File::from(self.tree.root()?), &shown());
        };
        if name == OPAQUE {
            let folder = self.tree.folder(parents)?;
            return mark_opaque(folder, &shown());
        }
        if path.parts().iter().any(|part| part.starts_with(AUFS)) {
            return Ok(());
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(LayerError::Whiteout { path: shown() });
            }
            return self.whiteout(parents, hidden, &shown());
        }
        if entry.kind == Kind::Device {
            // Root trees made by bootstrap tools hold a few; the runtime makes its own in a fresh `/dev`.
            return match parents.first() {
                Some(first) if first.as_slice() == b"dev" => Ok(()),
                _ => Err(LayerError::Device { path: shown() }),
            };
        }
        let attributes = Attributes::of(entry)?;
        match &entry.kind {
            Kind::Folder => {
                let (folder, uncovered) = self.tree.make_folder(parents, name)?;
                self.folders.insert(path.joined(), attributes.time());
                let folder = File::from(folder);
                attributes.apply(&folder, &shown())?;
                if uncovered {
                    mark_opaque(folder, &shown())
                } else {
                    Ok(())
                }
            }
            Kind::File => {
                self.tree.clear(parents, name)?;
                let folder = self.tree.parent(parents)?;
                let flags =
                    OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_WRONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
                let file = openat(folder, name, flags, Mode::from_bits_truncate(0o600))
                    .map_err(|e| failed(&shown(), "create the file", e))?;
                let mut file = File::from(file);
                let data = |source| LayerError::Data {
                    path: shown(),
                    source,
                };
                entries.copy(entry, &mut file).map_err(data)?;
                attributes.apply(&file, &shown())
            }
            Kind::Symlink(target) => {
                self.tree.clear(parents, name)?;
                let folder = self.tree.parent(parents)?;
                symlinkat(target.as_slice(), folder, name)
                    .map_err(|e| failed(&shown(), "create the symbolic link", e))?;
                attributes.apply_at(folder, name, &shown())
            }
            Kind::Fifo => {
                self.tree.clear(parents, name)?;
                let folder = self.tree.parent(parents)?;
                mknodat(folder, name, SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)
                    .map_err(|e| failed(&shown(), "create the fifo", e))?;
                fchmodat(
                    folder,
                    name,
                    attributes.permissions(),
                    FchmodatFlags::FollowSymlink,
                )
                .map_err(|e| failed(&shown(), "set its mode", e))?;
                attributes.apply_at(folder, name, &shown())
            }
            Kind::Hardlink(target) => self.hard_link(parents, name, target, &shown()),
            Kind::Device => Ok(()),
        }
    }

    fn whiteout(&mut self, parents: &[Vec<u8>], hidden: &[u8], path: &str) -> Result<(), LayerError> {
        let folder = self.tree.parent(parents)?;
        match mknodat(folder, hidden, SFlag::S_IFCHR, Mode::empty(), 0) {
            Ok(()) => Ok(()),
            // A whiteout speaks of lower layers only: what this layer has stays. A folder hides its lower namesake.
            Err(Errno::EEXIST) => match self.tree.existing_folder(parents, hidden)? {
                Some(existing) => mark_opaque(existing, path),
                None => Ok(()),
            },
            Err(error) => Err(failed(path, "create the whiteout", error)),
        }
    }

    fn hard_link(
        &mut self,
        parents: &[Vec<u8>],
        name: &[u8],
        target: &[u8],
        path: &str,
    ) -> Result<(), LayerError> {
        let dangling = || LayerError::Dangling {
            path: path.to_owned(),
            target: shown(target),
        };
        let to = Path::parse(target)?;
        let (from_parents, from_name) = to.split().ok_or_else(dangling)?;
        if (from_parents, from_name) == (parents, name) {
            return Ok(());
        }
        let from = self.tree.existing_folder_of(from_parents)?.ok_or_else(dangling)?;
        if !Tree::holds(&from, from_name)? {
            return Err(dangling());
        }
        self.tree.clear(parents, name)?;
        let folder = self.tree.parent(parents)?;
        // Without AT_SYMLINK_FOLLOW: a link to a symbolic link is a second name of that link.
        linkat(&from, from_name, folder, name, LinkatFlags::empty()).map_err(|error| match error {
            Errno::ENOENT => dangling(),
            error => failed(path, "create the hard link", error),
        })
    }

    fn finish(mut self) -> Result<(), LayerError> {
        let folders = std::mem::take(&mut self.folders);
        for (path, time) in folders {
            let shown = shown(&path);
            let parsed = Path::parse(&path)?;
            // A later entry may have put something else in the folder's place.
            if let Some(folder) = self.tree.existing_folder_of(parsed.parts())? {
                futimens(&folder, &time, &time).map_err(|e| failed(&shown, "set its time", e))?;
            }
        }
        // One call instead of a sync for each of some ten thousand files.
        syncfs(self.tree.root()?).map_err(|e| failed("/", "flush to disk", e))
    }
}

/// Owner, mode, extended attributes and time of an entry, ids checked.
struct Attributes<'a> {
    mode: u32,
    uid: u32,
    gid: u32,
    xattrs: &'a [(Vec<u8>, Vec<u8>)],
    mtime: Option<(i64, i64)>,
}

impl<'a> Attributes<'a> {
    fn of(entry: &'a Entry) -> Result<Self, LayerError> {
        let id = |id: u64| match u32::try_from(id) {
            Ok(number) if id <= MAX_ID => Ok(number),
            _ => Err(LayerError::Id {
                path: shown(&entry.path),
                id,
            }),
        };
        Ok(Self {
            mode: entry.mode,
            uid: id(entry.uid)?,
            gid: id(entry.gid)?,
            xattrs: &entry.xattrs,
            mtime: Some(entry.mtime),
        })
    }

    fn permissions(&self) -> Mode {
        Mode::from_bits_truncate(self.mode)
    }

    fn time(&self) -> TimeSpec {
        let (seconds, nanoseconds) = self.mtime.unwrap_or_default();
        TimeSpec::new(seconds, nanoseconds)
    }

    /// On an open file or folder. The order matters: a change of owner clears setuid bits and file capabilities.
    fn apply(&self, file: &File, path: &str) -> Result<(), LayerError> {
        fchown(file, Some(Uid::from_raw(self.uid)), Some(Gid::from_raw(self.gid)))
            .map_err(|e| failed(path, "set its owner", e))?;
        fchmod(file, self.permissions()).map_err(|e| failed(path, "set its mode", e))?;
        for (name, value) in self.xattrs.iter().filter(|(name, _)| is_kept(name)) {
            use std::os::unix::ffi::OsStrExt;
            match file.set_xattr(std::ffi::OsStr::from_bytes(name), value) {
                // Access control lists are a refinement that not every file system has.
                Err(error)
                    if error.raw_os_error() == Some(libc::EOPNOTSUPP) && name.starts_with(b"system.") => {}
                Err(source) => {
                    let doing = "set an extended attribute";
                    return Err(LayerError::Io {
                        path: path.to_owned(),
                        doing,
                        source,
                    });
                }
                Ok(()) => {}
            }
        }
        if self.mtime.is_some() {
            let time = self.time();
            futimens(file, &time, &time).map_err(|e| failed(path, "set its time", e))?;
        }
        Ok(())
    }

    /// On what can't be opened: links and fifos. Symbolic links have no mode, and neither has user attributes.
    fn apply_at(&self, folder: &OwnedFd, name: &[u8], path: &str) -> Result<(), LayerError> {
        let (uid, gid) = (Uid::from_raw(self.uid), Gid::from_raw(self.gid));
        fchownat(folder, name, Some(uid), Some(gid), AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(|e| failed(path, "set its owner", e))?;
        let time = self.time();
        utimensat(folder, name, &time, &time, UtimensatFlags::NoFollowSymlink)
            .map_err(|e| failed(path, "set its time", e))
    }
}

/// Attributes that mean something in a container. overlayfs's own must come from us alone.
fn is_kept(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"system.posix_acl_access" | b"system.posix_acl_default" => true,
        _ => name.starts_with(b"user.") && !name.starts_with(b"user.overlay."),
    }
}

fn mark_opaque(folder: impl Into<OwnedFd>, path: &str) -> Result<(), LayerError> {
    let doing = "mark the folder opaque";
    File::from(folder.into())
        .set_xattr("user.overlay.opaque", b"y")
        .map_err(|source| LayerError::Io {
            path: path.to_owned(),
            doing,
            source,
        })
}

fn failed(path: &str, doing: &'static str, error: Errno) -> LayerError {
    LayerError::Io {
        path: path.to_owned(),
        doing,
        source: error.into(),
    }
}
