//! The verbs of a container's life.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use libcontainer::container::builder::ContainerBuilder;
use libcontainer::container::{Container, ContainerStatus};
use libcontainer::error::LibcontainerError;
use libcontainer::syscall::syscall::SyscallType;
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use super::OciError;
use super::exec::CapabilitySets;
use super::executor::Program;
use crate::bundle::INIT_ANNOTATION;
use crate::cgroup;
use crate::devices;
use crate::fork;
use crate::seccomp;

/// `create`.
#[derive(Debug)]
pub(crate) struct CreateOptions {
    pub(crate) root: PathBuf,
    pub(crate) bundle: PathBuf,
    pub(crate) id: String,
    pub(crate) pid_file: Option<PathBuf>,
    pub(crate) console_socket: Option<PathBuf>,
}

impl From<LibcontainerError> for OciError {
    fn from(error: LibcontainerError) -> Self {
        Self::from_chain(&error)
    }
}

/// Makes a container whose first process waits for `start`; gives its pid. It becomes a child of this process.
pub(crate) fn create(options: &CreateOptions) -> Result<Pid, OciError> {
    fork::reset_signals();
    let file = options.bundle.join("config.json");
    let mut spec = Spec::load(&file).map_err(|error| {
        OciError(format!(
            "cannot read `{}`: {}",
            file.display(),
            OciError::from_chain(&error)
        ))
    })?;
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    let filters = profile
        .map(seccomp::compile)
        .transpose()
        .map_err(|error| OciError::from_chain(&error))?;
    let init = spec
        .annotations()
        .as_ref()
        .and_then(|all| all.get(INIT_ANNOTATION))
        .is_some_and(|on| on == "true");
    let new_privileges = spec
        .process()
        .as_ref()
        .is_some_and(|process| !process.no_new_privileges().unwrap_or(false));

    own_streams(&spec).map_err(|error| OciError::from_chain(&error))?;
    let mut program = Program {
        filters,
        init,
        capabilities: None,
    };
    let mut bundle = options.bundle.clone();
    if program.filters.is_some() && new_privileges {
        // The library drops capabilities before it hands over to us, too early for a filter. So it is given a bundle
        // that drops none, and we do.
        program.capabilities = spec.process().as_ref().map(CapabilitySets::of);
        bundle = keep_capabilities(&mut spec, &options.bundle)?;
    }
    let mut builder = ContainerBuilder::new(options.id.clone(), SyscallType::Linux)
        .with_executor(program)
        .with_root_path(&options.root)?
        .with_pid_file(options.pid_file.as_ref())?;
    if let Some(socket) = &options.console_socket {
        builder = builder.with_console_socket(Some(socket));
    }
    let container = builder
        .validate_id()?
        .as_init(bundle)
        .with_systemd(false)
        .with_detach(true)
        .build()?;
    // The library has an older `Pid` than we.
    let pid = container.pid().map(|pid| Pid::from_raw(pid.as_raw()));
    let pid = pid.ok_or_else(|| OciError("the container's process is gone".to_owned()))?;
    if let Err(error) = restrict_devices(&spec) {
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        return Err(error);
    }
    Ok(pid)
}

/// On cgroup version 2 the library leaves devices to us. The first process waits for `start`, so it is early enough.
fn restrict_devices(spec: &Spec) -> Result<(), OciError> {
    let linux = spec.linux().as_ref();
    let rules = linux
        .and_then(|linux| linux.resources().as_ref())
        .and_then(|resources| resources.devices().as_ref());
    let group = linux.and_then(|linux| linux.cgroups_path().as_ref());
    let (Some(rules), Some(group), true) = (rules, group, cgroup::unified()) else {
        return Ok(());
    };
    let folder = Path::new("/sys/fs/cgroup").join(group.strip_prefix("/").unwrap_or(group));
    devices::restrict(&folder, rules).map_err(|error| OciError::from_chain(&error))
}

/// The container may open its own `/dev/stdout` again, as many programs do; that needs its owner.
fn own_streams(spec: &Spec) -> io::Result<()> {
    let Some(process) = spec.process() else {
        return Ok(());
    };
    let linux = spec.linux().as_ref();
    let users = linux
        .and_then(|linux| linux.uid_mappings().as_ref())
        .and_then(|map| map.first().copied());
    let groups = linux
        .and_then(|linux| linux.gid_mappings().as_ref())
        .and_then(|map| map.first().copied());
    let uid = users.map_or(0, |map| map.host_id()) + process.user().uid();
    let gid = groups.map_or(0, |map| map.host_id()) + process.user().gid();
    super::exec::own_streams(uid, gid)
}

fn keep_capabilities(spec: &mut Spec, bundle: &Path) -> Result<PathBuf, OciError> {
    let folder = bundle.join("with-capabilities");
    if let Some(process) = spec.process_mut() {
        process.set_capabilities(None);
    }
    fs::create_dir_all(&folder).map_err(|error| OciError::from_chain(&error))?;
    spec.save(folder.join("config.json"))
        .map_err(|error| OciError::from_chain(&error))?;
    Ok(folder)
}

fn load(root: &Path, id: &str) -> Result<Container, OciError> {
    let folder = root.join(id);
    if !folder.is_dir() {
        return Err(OciError(format!("container `{id}` does not exist")));
    }
    Ok(Container::load(folder)?)
}

/// Lets the first process go on to its program.
pub(crate) fn start(root: &Path, id: &str) -> Result<(), OciError> {
    Ok(load(root, id)?.start()?)
}

/// The state as OCI defines it, in JSON.
pub(super) fn state(root: &Path, id: &str) -> Result<String, OciError> {
    let mut container = load(root, id)?;
    container.refresh_status()?;
    serde_json::to_string_pretty(&container.state).map_err(|error| OciError::from_chain(&error))
}

pub(super) fn kill(root: &Path, id: &str, signal: &str) -> Result<(), OciError> {
    let mut container = load(root, id)?;
    let signal =
        libcontainer::signal::Signal::try_from(signal).map_err(|error| OciError::from_chain(&error))?;
    Ok(container.kill(signal, false)?)
}

pub(super) fn delete(root: &Path, id: &str, force: bool) -> Result<(), OciError> {
    let mut container = match load(root, id) {
        Err(_) if force => return Ok(()),
        container => container?,
    };
    container.refresh_status()?;
    if !force && container.status() == ContainerStatus::Running {
        return Err(OciError(format!(
            "container `{id}` is running; kill it, or say --force"
        )));
    }
    Ok(container.delete(force)?)
}

/// What `exec` needs to know of a container: its first process and its config.
pub(super) fn running(root: &Path, id: &str) -> Result<(Pid, Spec), OciError> {
    let mut container = load(root, id)?;
    container.refresh_status()?;
    if container.status() != ContainerStatus::Running {
        return Err(OciError(format!("container `{id}` is not running")));
    }
    let pid = container
        .pid()
        .map(|pid| Pid::from_raw(pid.as_raw()))
        .ok_or_else(|| OciError(format!("container `{id}` has no process")))?;
    let spec =
        Spec::load(container.bundle().join("config.json")).map_err(|error| OciError::from_chain(&error))?;
    Ok((pid, spec))
}
