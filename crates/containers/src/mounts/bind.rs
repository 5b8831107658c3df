//! A folder or file of the host in a container: who its files belong to there, and who those that are made there.
//!
//! Ids are mapped one to one, so whoever stands for an id of the disk can also make files of it. Our binds are `nosuid`, but the
//! same folder has a path on the host that isn't: if container root stood for the disk's root, it could leave a setuid
//! program of root there (or one with file capabilities) for anybody on the host to run. Hence:
//!
//! - **The owner isn't root**: container root, or the user that the program runs as, stands for the owner. What is made
//!   inside belongs to the person whose folder it is.
//! - **Root's, but it can only be read**, or `allow_host_path` says that it is meant: container root stands for root.
//! - **Root's and empty, or made by us**: `mkdir data` before the first start, or nothing at all, as most people do. It is
//!   handed over to the container's root as the host counts, and then is not root's any more. Nothing was in it that
//!   somebody could miss; not done to folders that lie at the top of the host, which are everybody's.
//! - **Root's and everybody may write to it**: root's files are a stranger's inside, and what is made there belongs to an id of
//!   the container's range.
//! - **Root's, with files in it**: it can only be read, as most such folders are meant (settings, pages, certificates), and
//!   the container says so. Refusing it would stop every site whose `nginx.conf` root wrote without `:ro` beside it;
//!   letting only those files be strangers would take away certificates that nobody but root may read; giving them to
//!   another owner unasked is not ours to do in a tree of any size that other programs of the host may use.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use linkspan_plan::{IdRange, MountSpec};
use nix::fcntl::AtFlags;
use nix::unistd::{Gid, Uid, fchownat};

use super::calls::Tree;
use super::host_path::{HostPath, HostPathError, Wish, open};
use super::idmap::{map_for_bind, user_namespace};
use crate::user::Identity;

/// Why a folder or file of the host is not in the container.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error(transparent)]
    Path(#[from] HostPathError),
    #[error(transparent)]
    Mount(#[from] io::Error),
}

/// A bind that waits for its place.
pub(crate) struct Bind {
    pub(crate) tree: Tree,
    pub(crate) is_folder: bool,
    /// Also where nobody asked for it.
    pub(crate) read_only: bool,
}

/// Who the owner of what is bound is inside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Container root, or whoever the program runs as.
    Ours,
    /// Nobody inside.
    Stranger,
}

/// Opens a path of the host and shows it as the container is to see it. Without `ids`, the host's are meant.
pub(crate) fn bind(
    path: &Path,
    create: bool,
    mount: &MountSpec,
    ids: Option<IdRange>,
    identity: &Identity,
    warnings: &mut Vec<String>,
) -> Result<Bind, BindError> {
    let guarded = ids.filter(|_| !mount.read_only && !mount.allow_host_path);
    let wish = Wish {
        create,
        allow: mount.allow_host_path,
        newcomer: guarded.map(|ids| ids.first),
    };
    let mut host = open(path, wish)?;
    let mut read_only = mount.read_only;
    let mut owner = Owner::Ours;
    if let Some(ids) = guarded
        && host.about.st_uid == 0
    {
        if is_free(&host) {
            hand_over(&mut host, ids.first)?;
        } else if host.about.st_mode & 0o002 != 0 {
            owner = Owner::Stranger;
        } else {
            read_only = true;
            warnings.push(format!(
                "`{}` belongs to root, so it can only be read at `{}`: a program that container root left there could be run as \
                 root of the host. Give it to another user (`chown -R 1000:1000 {0}`), write `:ro` if reading is enough, or \
                 `allow_host_path: true` if you trust the container like the host's root",
                host.path.display(),
                mount.target
            ));
        }
    }
    let tree = Tree::of(host.fd.as_fd())?;
    let mut attributes = libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID;
    if read_only {
        // Here and not only by the runtime, for what a container's own namespace adds its root may take away again.
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    tree.set_recursively(attributes)?;
    if let Some(ids) = ids {
        let view = view(&host, owner, ids, identity)?;
        tree.map_ids_or_warn(Some(view.as_fd()), &host.path, warnings);
    }
    Ok(Bind {
        tree,
        is_folder: is(&host, libc::S_IFDIR),
        read_only,
    })
}

fn is(host: &HostPath, kind: libc::mode_t) -> bool {
    host.about.st_mode & libc::S_IFMT == kind
}

/// Nobody's work is in it, and it is neither at the top of the host nor open to everybody.
fn is_free(host: &HostPath) -> bool {
    let deep = host.path.components().count() > 2;
    let closed = host.about.st_mode & 0o022 == 0;
    let empty = if is(host, libc::S_IFDIR) {
        fs::read_dir(at(&host.fd)).is_ok_and(|mut entries| entries.next().is_none())
    } else {
        is(host, libc::S_IFREG) && host.about.st_size == 0 && host.about.st_nlink == 1
    };
    deep && closed && empty
}

/// The open file by a path.
fn at(fd: &OwnedFd) -> std::path::PathBuf {
    Path::new("/proc/self/fd").join(fd.as_raw_fd().to_string())
}

fn hand_over(host: &mut HostPath, to: u32) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(to), Gid::from_raw(to));
    fchownat(&host.fd, "", Some(uid), Some(gid), AtFlags::AT_EMPTY_PATH)?;
    host.about = nix::sys::stat::fstat(&host.fd)?;
    Ok(())
}

/// Owner and group are who the program runs as: root, or the user it was told to be.
fn view(host: &HostPath, owner: Owner, ids: IdRange, identity: &Identity) -> io::Result<OwnedFd> {
    let (uid, gid) = if identity.uid == 0 {
        (0, 0)
    } else {
        (identity.uid, identity.gid)
    };
    let inside = |owner_on_disk: u32, inside: u32| match owner {
        Owner::Stranger if owner_on_disk == 0 => None,
        _ => Some(inside),
    };
    let (users, groups) = (host.about.st_uid, host.about.st_gid);
    user_namespace(
        &map_for_bind(users, inside(users, uid), ids),
        &map_for_bind(groups, inside(groups, gid), ids),
    )
}
