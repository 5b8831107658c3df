//! Named volumes: folders that outlive containers, and begin as a copy of what the image has there.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use linkspan_plan::IdRange;
use nix::fcntl::OFlag;

use super::calls::in_root;

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make volume `{name}` in `{}`", .folder.display())]
pub(crate) struct VolumeError {
    name: String,
    folder: PathBuf,
    #[source]
    source: io::Error,
}

/// The folder with the volume's files. When it is new or empty, it is filled from `target` in the merged root.
pub(crate) fn fill_from_image(
    name: &str,
    folder: &Path,
    root: &Path,
    target: &str,
    ids: Option<IdRange>,
) -> Result<PathBuf, VolumeError> {
    let data = folder.join("_data");
    let fill = || -> io::Result<()> {
        // Also an empty one: somebody may have it mounted, and whoever emptied it wants it empty.
        if data.is_dir() {
            return Ok(());
        }
        fs::create_dir_all(folder)?;
        // Two containers may start with one new volume: each fills a copy of its own, the first to rename wins.
        let draft = folder.join(format!("_draft-{}", std::process::id()));
        let _ = fs::remove_dir_all(&draft);
        let first = ids.map_or(0, |ids| ids.first);
        match in_root(
            File::open(root)?.as_fd(),
            Path::new(target),
            OFlag::O_RDONLY | OFlag::O_DIRECTORY,
        ) {
            Ok(image) => {
                let image = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&image));
                copy_dir(Path::new(&image).join(".").as_path(), &draft, first)?;
            }
            Err(_) => fs::DirBuilder::new().mode(0o755).create(&draft)?,
        }
        match rename_to_new(&draft, &data) {
            Err(nix::Error::EEXIST | nix::Error::ENOTEMPTY) => fs::remove_dir_all(&draft),
            done => done.map_err(io::Error::from),
        }
    };
    fill().map_err(|source| VolumeError {
        name: name.to_owned(),
        folder: folder.to_owned(),
        source,
    })?;
    Ok(data)
}

/// As rename(2), but an empty folder at the new place is not replaced: a container may have it mounted.
fn rename_to_new(from: &Path, to: &Path) -> nix::Result<()> {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, from, AT_FDCWD, to, RenameFlags::RENAME_NOREPLACE)
}

/// Copies a tree with owners, modes, times and links. Ids in the merged root are the container's as the host counts,
/// on disk they are as the container counts.
fn copy_dir(from: &Path, to: &Path, first: u32) -> io::Result<()> {
    let about = fs::metadata(from)?;
    fs::DirBuilder::new().mode(0o700).create(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy_dir(&source, &target, first)?;
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(fs::read_link(&source)?, &target)?;
            let about = fs::symlink_metadata(&source)?;
            std::os::unix::fs::lchown(&target, id(about.uid(), first), id(about.gid(), first))?;
        } else if kind.is_file() {
            fs::copy(&source, &target)?;
            keep(&fs::metadata(&source)?, &target, first)?;
        }
        // Sockets, pipes and devices in an image are nothing that a volume could begin with.
    }
    keep(&about, to, first)
}

fn keep(about: &fs::Metadata, target: &Path, first: u32) -> io::Result<()> {
    std::os::unix::fs::chown(target, id(about.uid(), first), id(about.gid(), first))?;
    fs::set_permissions(target, fs::Permissions::from_mode(about.mode() & 0o7777))?;
    let times = fs::FileTimes::new()
        .set_modified(about.modified()?)
        .set_accessed(about.accessed()?);
    File::open(target)?.set_times(times)
}

fn id(merged: u32, first: u32) -> Option<u32> {
    Some(merged.saturating_sub(first))
}
