//! The merged root: read-only layers below, one writable folder on top.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use linkspan_plan::ContainerSpec;
use nix::mount::MsFlags;
use nix::unistd::{Gid, Uid};

use super::calls::{FsMount, Tree, detach};
use super::idmap::IdMap;
use crate::layout::{Layout, make_dir};

/// Why a container has no root.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RootError {
    #[error("layer `{layer}` is not unpacked in `{}`; load the image again", .folder.display())]
    NoLayer { layer: String, folder: PathBuf },
    #[error("cannot prepare `{}`", .path.display())]
    Folder {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot mount the root from {layers} layers; see `dmesg` for what overlayfs says")]
    Overlay {
        layers: usize,
        #[source]
        source: io::Error,
    },
}

/// Mounts a container's root at its place. What could not be had is pushed to `warnings`.
///
/// The layers and the writable folder are shown through the container's id map by two short-lived mounts. The
/// overlay keeps private copies of them, so they are taken away again at once.
pub(crate) fn mount_root(
    layout: &Layout,
    spec: &ContainerSpec,
    ids: &IdMap,
    warnings: &mut Vec<String>,
) -> Result<(), RootError> {
    let folder = |path: PathBuf| move |source| RootError::Folder { path, source };
    let run = layout.run(&spec.id);
    let (lower, rw, rootfs) = (run.join("lower"), run.join("rw"), layout.rootfs(&spec.id));
    let layers = layer_names(layout, spec)?;

    let disk = layout.rw(&spec.id);
    make_upper(
        &disk,
        layers.first().map(|top| layout.layers().join(top)).as_deref(),
    )
    .map_err(folder(disk.clone()))?;
    for path in [&lower, &rw, &rootfs] {
        make_dir(path, 0o711).map_err(folder(path.clone()))?;
    }
    if layers.is_empty() {
        make_dir(&disk.join("none"), 0o755).map_err(folder(disk.clone()))?;
    }
    let source = if layers.is_empty() {
        disk.clone()
    } else {
        layout.layers().to_owned()
    };
    attach_mapped(&source, &lower, ids, warnings).map_err(folder(source.clone()))?;
    attach_mapped(&disk, &rw, ids, warnings).map_err(folder(disk.clone()))?;

    let layers = if layers.is_empty() {
        vec!["none".to_owned()]
    } else {
        layers
    };
    let count = layers.len();
    let owner = spec
        .ids
        .filter(|_| ids.namespace().is_some())
        .map_or(0, |range| range.first);
    let mounted = as_owner(owner, owner, || {
        overlay(&lower, &layers, &rw, &rootfs).or_else(|error| match error.raw_os_error() {
            // Kernels before 6.7 don't know `lowerdir+`.
            Some(libc::EINVAL) => overlay_by_options(&run, &layers, &rootfs).map_err(|old| {
                if old.raw_os_error() == Some(libc::EINVAL) {
                    error
                } else {
                    old
                }
            }),
            _ => Err(error),
        })
    });
    let _ = detach(&lower);
    let _ = detach(&rw);
    mounted.map_err(|source| RootError::Overlay {
        layers: count,
        source,
    })
}

/// Folder names of the layers, topmost first, as overlayfs wants them.
fn layer_names(layout: &Layout, spec: &ContainerSpec) -> Result<Vec<String>, RootError> {
    spec.layers
        .iter()
        .rev()
        .map(|chain| {
            let name = chain.rsplit(':').next().unwrap_or(chain);
            let missing = || RootError::NoLayer {
                layer: chain.clone(),
                folder: layout.layers().to_owned(),
            };
            let plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
            if plain && layout.layers().join(name).is_dir() {
                Ok(name.to_owned())
            } else {
                Err(missing())
            }
        })
        .collect()
}

/// The merged root's own mode and owner are those of `upper`, so it takes them from the topmost layer.
fn make_upper(disk: &Path, top: Option<&Path>) -> io::Result<()> {
    make_dir(disk, 0o700)?;
    make_dir(&disk.join("work"), 0o700)?;
    let upper = disk.join("upper");
    if upper.is_dir() {
        return Ok(());
    }
    make_dir(&upper, 0o755)?;
    if let Some(top) = top {
        let like = std::fs::metadata(top)?;
        std::os::unix::fs::chown(&upper, Some(like.uid()), Some(like.gid()))?;
        std::fs::set_permissions(&upper, std::fs::Permissions::from_mode(like.mode() & 0o7777))?;
    }
    Ok(())
}

/// Shows a folder of the disk at another place through the id map; where the file system can't, without.
pub(super) fn attach_mapped(
    source: &Path,
    at: &Path,
    ids: &IdMap,
    warnings: &mut Vec<String>,
) -> io::Result<()> {
    let tree = Tree::clone_of(source)?;
    tree.map_ids_or_warn(ids.namespace(), source, warnings);
    tree.attach(at)
}

/// Works on files as somebody else. Rights stay what they are.
///
/// Mounts as the owner of the writable folder, which is who overlayfs acts as for ever after. The host's root has no id
/// in a mapped folder, so it could not even make the folder that it works in.
pub(super) fn as_owner<T>(uid: u32, gid: u32, work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    use caps::CapSet;
    let rights = caps::read(None, CapSet::Effective).map_err(io::Error::other)?;
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    let before = (nix::unistd::setfsuid(uid), nix::unistd::setfsgid(gid));
    let worked = caps::set(None, CapSet::Effective, &rights)
        .map_err(io::Error::other)
        .and_then(|()| work());
    nix::unistd::setfsgid(before.1);
    nix::unistd::setfsuid(before.0);
    worked
}

fn overlay(lower: &Path, layers: &[String], rw: &Path, at: &Path) -> io::Result<()> {
    let overlay = FsMount::open(c"overlay")?;
    overlay.set(c"source", b"linkspan")?;
    for layer in layers {
        overlay.set(c"lowerdir+", lower.join(layer).as_os_str().as_encoded_bytes())?;
    }
    overlay.set(c"upperdir", rw.join("upper").as_os_str().as_encoded_bytes())?;
    overlay.set(c"workdir", rw.join("work").as_os_str().as_encoded_bytes())?;
    overlay.flag(c"userxattr")?;
    overlay.mount(libc::MOUNT_ATTR_NODEV, at)
}

/// Before 6.7: the old way has one page for all options, so each layer gets a short name in the working folder.
fn overlay_by_options(run: &Path, layers: &[String], at: &Path) -> io::Result<()> {
    let home = std::env::current_dir()?;
    std::env::set_current_dir(run)?;
    let mounted = (|| {
        let mut names = Vec::with_capacity(layers.len());
        for (number, layer) in layers.iter().enumerate() {
            let name = format!("{number:x}");
            let _ = std::fs::remove_file(&name);
            std::os::unix::fs::symlink(Path::new("lower").join(layer), &name)?;
            names.push(name);
        }
        let options = format!(
            "userxattr,lowerdir={},upperdir=rw/upper,workdir=rw/work",
            names.join(":")
        );
        let mounted = nix::mount::mount(
            Some("linkspan"),
            at,
            Some("overlay"),
            MsFlags::MS_NODEV,
            Some(options.as_str()),
        );
        for name in names {
            let _ = std::fs::remove_file(name);
        }
        mounted.map_err(io::Error::from)
    })();
    std::env::set_current_dir(home)?;
    mounted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_kernel_mounts_many_layers_too() {
        if !nix::unistd::geteuid().is_root() {
            println!("SKIP: not root");
            assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "must not be skipped");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let run = folder.path().to_owned();
        // A thread of its own may have a mount namespace and a working folder of its own.
        let seen = std::thread::spawn(move || {
            super::super::make_private_namespace().unwrap();
            let names: Vec<String> = (0..110).map(|number| format!("{number:064x}")).collect();
            for name in &names {
                let layer = run.join("lower").join(name);
                std::fs::create_dir_all(&layer).unwrap();
                std::fs::write(layer.join("top"), name).unwrap();
                std::fs::write(layer.join(format!("of-{name}")), "").unwrap();
            }
            for name in ["rw/upper", "rw/work", "rootfs"] {
                std::fs::create_dir_all(run.join(name)).unwrap();
            }
            overlay_by_options(&run, &names, &run.join("rootfs")).unwrap();
            std::fs::write(run.join("rootfs/new"), "").unwrap();
            let top = std::fs::read_to_string(run.join("rootfs/top")).unwrap();
            (
                top == names[0],
                std::fs::read_dir(run.join("rootfs")).unwrap().count(),
                run.join("rw/upper/new").exists(),
            )
        });
        assert_eq!(seen.join().unwrap(), (true, 112, true));
    }
}
