//! Makes a container from orders: everything up to the moment when its program could start.
//!
//! Runs in a short-lived child of the shim, in a mount namespace of its own; see [`crate::mounts`].

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use linkspan_plan::{ContainerSpec, IdRange, MountKind, MountSpec};
use nix::mount::MsFlags;

use crate::layout::{Layout, make_dir};
use crate::mounts::{
    IdMap, RootError, Tree, VolumeError, fill_from_image, make_private_namespace, map_for_bind, mount_root,
    user_namespace,
};
use crate::orders::Orders;
use crate::user::{Identity, UserError, look_up};
use crate::{bundle, etc, mounts, rlimit};

/// Why a container could not be made ready.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PrepareError {
    #[error("cannot leave the host's mount namespace; is the daemon root?")]
    Namespace(#[source] nix::Error),
    #[error("cannot open namespace `{}`", .path.display())]
    Sandbox {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("`{}` is closed to other users, but containers' roots lie below it; run `chmod o+x` on it", .0.display())]
    Closed(PathBuf),
    #[error(transparent)]
    Root(#[from] RootError),
    #[error(transparent)]
    Volume(#[from] VolumeError),
    #[error("cannot mount `{source_path}` at `{target}`")]
    Mount {
        source_path: String,
        target: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    User(#[from] UserError),
    #[error(transparent)]
    Bundle(#[from] bundle::BundleError),
    #[error(transparent)]
    Etc(#[from] etc::EtcError),
    #[error("cannot write `{}`", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Puts everything in place that the OCI runtime needs; gives the host ids of the program's user.
pub(crate) fn prepare(
    orders: &Orders,
    layout: &Layout,
    warnings: &mut Vec<String>,
) -> Result<(u32, u32), PrepareError> {
    let spec = &orders.spec;
    let written = |path: &Path| {
        let path = path.to_owned();
        move |source| PrepareError::Write { path, source }
    };
    make_private_namespace().map_err(PrepareError::Namespace)?;
    let open = |path: &Path| -> Result<OwnedFd, PrepareError> {
        let fail = |source| PrepareError::Sandbox {
            path: path.to_owned(),
            source,
        };
        File::open(path).map(OwnedFd::from).map_err(fail)
    };
    let ids = match &orders.user_namespace {
        Some(path) => {
            passable(&layout.run(&spec.id))?;
            IdMap::Namespace(open(path)?)
        }
        None => IdMap::None,
    };
    mount_root(layout, spec, &ids, warnings)?;
    let rootfs = layout.rootfs(&spec.id);
    let root = File::open(&rootfs).map_err(written(&rootfs))?;
    let identity = look_up(&spec.user, root.as_fd())?;

    make_dir(&layout.mounts(&spec.id), 0o711).map_err(written(&layout.mounts(&spec.id)))?;
    for (number, mount) in spec.mounts.iter().enumerate() {
        let at = layout.mounts(&spec.id).join(number.to_string());
        attach(orders, layout, mount, &at, &ids, &identity, warnings)?;
    }
    if let Some(net) = &orders.net_namespace {
        bind_net(net, &layout.run(&spec.id).join("net"))?;
    }
    if orders.is_guest_of_host() {
        show_sys(&layout.sys_shown(&spec.id), !spec.privileged)?;
    }
    etc::write(layout, spec)?;
    show_etc(layout, spec)?;

    let limits = rlimit::apply(spec, warnings);
    let config = bundle::config(orders, layout, &identity, &limits)?;
    let file = layout.bundle(&spec.id).join("config.json");
    make_dir(&layout.bundle(&spec.id), 0o700).map_err(written(&file))?;
    let text = serde_json::to_vec(&config)
        .map_err(io::Error::from)
        .map_err(written(&file))?;
    fs::write(&file, text).map_err(written(&file))?;
    root_folders(orders, &rootfs, warnings);
    let first = spec.ids.map_or(0, |ids| ids.first);
    Ok((first + identity.uid, first + identity.gid))
}

/// The mapped root is nobody to the host, and must pass every folder on the way to its own.
fn passable(folder: &Path) -> Result<(), PrepareError> {
    for folder in folder.ancestors() {
        let about = fs::metadata(folder).map_err(|source| PrepareError::Write {
            path: folder.to_owned(),
            source,
        })?;
        if about.permissions().mode() & 0o001 == 0 {
            return Err(PrepareError::Closed(folder.to_owned()));
        }
    }
    Ok(())
}

/// Shows the network namespace at a path that the mapped root can reach.
fn bind_net(from: &Path, at: &Path) -> Result<(), PrepareError> {
    let fail = |source| PrepareError::Sandbox {
        path: from.to_owned(),
        source,
    };
    File::create(at).map_err(fail)?;
    nix::mount::mount(Some(from), at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|error| fail(error.into()))
}

fn show_sys(at: &Path, read_only: bool) -> Result<(), PrepareError> {
    make_dir(at, 0o711)
        .and_then(|()| mounts::mount_sys(at, read_only))
        .map_err(|source| PrepareError::Mount {
            source_path: "sysfs".to_owned(),
            target: "/sys".to_owned(),
            source,
        })
}

fn show_etc(layout: &Layout, spec: &ContainerSpec) -> Result<(), PrepareError> {
    let (from, at) = (layout.etc(&spec.id), layout.etc_shown(&spec.id));
    let fail = |source| PrepareError::Mount {
        source_path: from.display().to_string(),
        target: at.display().to_string(),
        source,
    };
    make_dir(&at, 0o711).map_err(fail)?;
    nix::mount::mount(Some(&from), &at, None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(|error| fail(error.into()))
}

/// Attaches a volume's or the host's folder at a path below the run folder, from where the runtime binds it.
fn attach(
    orders: &Orders,
    layout: &Layout,
    mount: &MountSpec,
    at: &Path,
    ids: &IdMap,
    identity: &Identity,
    warnings: &mut Vec<String>,
) -> Result<(), PrepareError> {
    let spec = &orders.spec;
    let (tree, source_path) = match &mount.source {
        MountKind::Tmpfs { .. } => return Ok(()),
        MountKind::Volume { name } => {
            let data = fill_from_image(
                name,
                &layout.volume(name),
                &layout.rootfs(&spec.id),
                &mount.target,
                spec.ids,
            )?;
            let tree = Tree::clone_of(&data, false).and_then(|tree| {
                tree.set(libc::MOUNT_ATTR_NODEV)?;
                Ok(tree)
            });
            let tree = tree.inspect(|tree| map(tree, ids.namespace(), &data, warnings));
            (tree, name.clone())
        }
        MountKind::Bind { path, create } => {
            if *create && !path.exists() {
                make_dir(path, 0o755).map_err(|source| PrepareError::Write {
                    path: path.clone(),
                    source,
                })?;
            }
            let tree = Tree::clone_of(path, true).and_then(|tree| {
                tree.set_recursively(libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOSUID)?;
                if let (Some(range), IdMap::Namespace(_)) = (spec.ids, ids) {
                    let view = bind_view(path, range, identity)?;
                    map(&tree, Some(view.as_fd()), path, warnings);
                }
                Ok(tree)
            });
            (tree, path.display().to_string())
        }
    };
    let attached = tree.and_then(|tree| {
        let folder = !matches!(&mount.source, MountKind::Bind { path, .. } if !path.is_dir());
        if folder {
            make_dir(at, 0o711)?;
        } else {
            drop(File::create(at)?);
        }
        tree.attach(at)
    });
    attached.map_err(|source| PrepareError::Mount {
        source_path,
        target: mount.target.clone(),
        source,
    })
}

fn map(tree: &Tree, namespace: Option<std::os::fd::BorrowedFd<'_>>, path: &Path, warnings: &mut Vec<String>) {
    if let Some(namespace) = namespace
        && let Err(error) = tree.map_ids(namespace)
    {
        warnings.push(format!(
            "the file system of `{}` can't map ids ({error}), so its files belong to nobody in the container",
            path.display()
        ));
    }
}

/// A view of the host's folder in which its owner is who the program runs as: root, or the user it was told to be.
fn bind_view(path: &Path, range: IdRange, identity: &Identity) -> io::Result<OwnedFd> {
    let about = fs::metadata(path)?;
    let (uid, gid) = if identity.uid == 0 {
        (0, 0)
    } else {
        (identity.uid, identity.gid)
    };
    user_namespace(
        &map_for_bind(about.uid(), uid, range),
        &map_for_bind(about.gid(), gid, range),
    )
}

/// Folders that must be there before the program runs, made by the container's own root: the working folder, and what
/// our files in `/etc` are mounted on where the image has a dangling link instead.
fn root_folders(orders: &Orders, rootfs: &Path, warnings: &mut Vec<String>) {
    let Ok(root) = File::open(rootfs) else { return };
    let cwd = Path::new(&orders.spec.cwd);
    let is_there = |path: &Path| mounts::in_root(root.as_fd(), path, nix::fcntl::OFlag::O_PATH).is_ok();
    let covered = |path: &Path| {
        orders
            .spec
            .mounts
            .iter()
            .any(|mount| path.starts_with(&mount.target))
            || ["/proc", "/sys", "/dev"].iter().any(|own| path.starts_with(own))
    };
    let dangling: Vec<PathBuf> = etc::FILES
        .iter()
        .map(|file| Path::new("etc").join(file))
        .filter(|path| rootfs.join(path).is_symlink() && !is_there(&Path::new("/").join(path)))
        .collect();
    let wants_cwd = !covered(cwd) && !is_there(cwd);
    if dangling.is_empty() && !wants_cwd {
        return;
    }
    let made = crate::mounts::as_root_of(orders.user_namespace.as_deref(), rootfs, || {
        for link in &dangling {
            fs::remove_file(Path::new("/").join(link))?;
        }
        if wants_cwd {
            fs::create_dir_all(cwd)
        } else {
            Ok(())
        }
    });
    if let Err(error) = made {
        warnings.push(format!(
            "cannot make `{}` in the container: {error}",
            orders.spec.cwd
        ));
    }
}
