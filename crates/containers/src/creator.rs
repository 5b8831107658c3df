//! Makes a container from orders: everything up to the moment when its program could start.
//!
//! Runs in a short-lived child of the shim, in a mount namespace of its own; see [`crate::mounts`].

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use linkspan_plan::{ContainerSpec, MountKind, MountSpec};
use nix::mount::MsFlags;

use crate::layout::{Layout, make_dir};
use crate::mounts::{
    BindError, HostPathError, IdMap, RootError, Tree, VolumeError, bind, fill_from_image,
    make_private_namespace, mount_root,
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
    #[error(transparent)]
    HostPath(#[from] HostPathError),
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
    // The runtime is told what was mounted, which may be less than what was asked for.
    let mut orders = orders.clone();
    for (number, mount) in orders.spec.mounts.iter_mut().enumerate() {
        let at = layout.mounts(&spec.id).join(number.to_string());
        attach(spec, layout, mount, &at, &ids, &identity, warnings)?;
    }
    let orders = &orders;
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

/// Attaches a volume's or the host's folder at a path below the run folder, from where the runtime binds it. Notes when it
/// can only be read.
fn attach(
    spec: &ContainerSpec,
    layout: &Layout,
    mount: &mut MountSpec,
    at: &Path,
    ids: &IdMap,
    identity: &Identity,
    warnings: &mut Vec<String>,
) -> Result<(), PrepareError> {
    let mut is_folder = true;
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
            let tree = Tree::clone_of(&data).and_then(|tree| {
                tree.set(libc::MOUNT_ATTR_NODEV)?;
                Ok(tree)
            });
            let tree = tree.inspect(|tree| tree.map_ids_or_warn(ids.namespace(), &data, warnings));
            (tree, name.clone())
        }
        MountKind::Bind { path, create } => {
            // A namespace that is not there maps nothing, whatever ids were meant.
            let range = spec.ids.filter(|_| ids.namespace().is_some());
            let bound = bind(path, *create, mount, range, identity, warnings);
            let bound = bound.map_err(|error| match error {
                BindError::Path(error) => PrepareError::HostPath(error),
                BindError::Mount(source) => PrepareError::Mount {
                    source_path: path.display().to_string(),
                    target: mount.target.clone(),
                    source,
                },
            })?;
            mount.read_only = bound.read_only;
            is_folder = bound.is_folder;
            (Ok(bound.tree), path.display().to_string())
        }
    };
    let attached = tree.and_then(|tree| {
        if is_folder {
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
