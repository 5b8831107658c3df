//! Where the files of containers lie.

use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use linkspan_plan::ContainerId;

use crate::Config;

/// All paths of one daemon.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    state: PathBuf,
    run: PathBuf,
    layers: PathBuf,
}

impl Layout {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            state: config.state_dir.clone(),
            run: config.run_dir.clone(),
            layers: config.layers_dir.clone(),
        }
    }

    /// Makes the folders that all containers share. What holds people's data is closed to everybody else; the
    /// way to merged roots must be passable for the mapped root, which is nobody in particular to the host.
    pub(crate) fn make(&self) -> io::Result<()> {
        make_dir(&self.state, 0o700)?;
        make_dir(&self.all_states(), 0o700)?;
        make_dir(&self.volumes(), 0o700)?;
        make_dir(&self.run, 0o711)?;
        make_dir(&self.all_runs(), 0o711)?;
        make_dir(&self.oci_root(), 0o700)
    }

    pub(crate) fn layers(&self) -> &Path {
        &self.layers
    }

    pub(crate) fn all_states(&self) -> PathBuf {
        self.state.join("containers")
    }

    pub(crate) fn all_runs(&self) -> PathBuf {
        self.run.join("containers")
    }

    pub(crate) fn volumes(&self) -> PathBuf {
        self.state.join("volumes")
    }

    pub(crate) fn volume(&self, name: &str) -> PathBuf {
        self.volumes().join(name)
    }

    /// The OCI runtime's own states.
    pub(crate) fn oci_root(&self) -> PathBuf {
        self.run.join("oci")
    }

    pub(crate) fn state(&self, id: &ContainerId) -> PathBuf {
        self.all_states().join(id.as_str())
    }

    pub(crate) fn run(&self, id: &ContainerId) -> PathBuf {
        self.all_runs().join(id.as_str())
    }

    pub(crate) fn orders(&self, id: &ContainerId) -> PathBuf {
        self.state(id).join("spec.json")
    }

    pub(crate) fn exit(&self, id: &ContainerId) -> PathBuf {
        self.state(id).join("exit.json")
    }

    pub(crate) fn warnings(&self, id: &ContainerId) -> PathBuf {
        self.state(id).join("warnings.json")
    }

    pub(crate) fn health(&self, id: &ContainerId) -> PathBuf {
        self.state(id).join("health.json")
    }

    pub(crate) fn log(&self, id: &ContainerId) -> PathBuf {
        self.state(id).join("log.json")
    }

    pub(crate) fn rw(&self, id: &ContainerId) -> PathBuf {
        self.state(id).join("rw")
    }

    pub(crate) fn bundle(&self, id: &ContainerId) -> PathBuf {
        self.run(id).join("bundle")
    }

    pub(crate) fn rootfs(&self, id: &ContainerId) -> PathBuf {
        self.run(id).join("rootfs")
    }

    pub(crate) fn mounts(&self, id: &ContainerId) -> PathBuf {
        self.run(id).join("mounts")
    }

    /// Where the container's files of `/etc` lie: on disk, for it may write as much to them as it likes.
    pub(crate) fn etc(&self, id: &ContainerId) -> PathBuf {
        self.state(id).join("etc")
    }

    /// Where the runtime finds them: the mapped root can't pass the folder that they lie in.
    pub(crate) fn etc_shown(&self, id: &ContainerId) -> PathBuf {
        self.run(id).join("etc")
    }

    /// Where the runtime finds the `/sys` of a container in the host's network.
    pub(crate) fn sys_shown(&self, id: &ContainerId) -> PathBuf {
        self.run(id).join("sys")
    }

    pub(crate) fn socket(&self, id: &ContainerId) -> PathBuf {
        self.run(id).join("shim.sock")
    }

    /// Which process the shim is.
    pub(crate) fn shim(&self, id: &ContainerId) -> PathBuf {
        self.run(id).join("shim.json")
    }

    /// Name of the cgroup that holds the cgroups of all containers of this daemon, at the top of each hierarchy.
    /// Daemons with another run folder have another, so that they live side by side.
    pub(crate) fn cgroup_parent(&self) -> String {
        if self.run == Path::new("/run/linkspan") {
            return "linkspan".to_owned();
        }
        // FNV-1a, 32 bits: stable over releases, which std's hasher is not.
        let hash = self
            .run
            .as_os_str()
            .as_encoded_bytes()
            .iter()
            .fold(0x811c_9dc5_u32, |hash, byte| {
                (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193)
            });
        format!("linkspan-{hash:08x}")
    }
}

/// Makes a folder with its parents, and gives it this mode whatever the umask. One that is there keeps its own.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent)?;
    }
    match std::fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)),
    }
}

/// Writes a file so that a power cut leaves the old one or the new one.
pub(crate) fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = std::fs::File::create(&temporary)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    if let Some(parent) = path.parent() {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_with_other_run_folders_have_other_cgroups() {
        let layout = |run: &str| {
            Layout::new(&Config {
                state_dir: "/s".into(),
                run_dir: run.into(),
                layers_dir: "/l".into(),
                binary: "/b".into(),
                runtime: None,
            })
        };
        assert_eq!(layout("/run/linkspan").cgroup_parent(), "linkspan");
        assert_ne!(layout("/run/a").cgroup_parent(), layout("/run/b").cgroup_parent());
        assert_eq!(layout("/run/a").cgroup_parent().len(), "linkspan-01234567".len());
    }
}
