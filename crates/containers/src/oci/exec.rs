//! `exec`: one more program in a running container.
//!
//! This is ours and not the library's, whose own leaves the new process in the host's user namespace. The process joins
//! the first process's groups and namespaces, forks (a pid namespace is for children only) and gives up every right that the
//! container doesn't have before it runs anything from there.

use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use caps::{CapSet, Capability, CapsHashSet};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid};
use oci_spec::runtime::{Process, Spec};

use super::OciError;
use crate::cgroup::Cgroup;
use crate::seccomp::{self, Filters};
use crate::{console, fork, pidfd, program};

/// The sets of capabilities(7) that a program ends up with.
#[derive(Debug, Clone, Default)]
pub(crate) struct CapabilitySets {
    bounding: CapsHashSet,
    effective: CapsHashSet,
    permitted: CapsHashSet,
}

impl CapabilitySets {
    pub(crate) fn of(process: &Process) -> Self {
        let Some(sets) = process.capabilities() else {
            return Self::default();
        };
        let set = |set: &Option<oci_spec::runtime::Capabilities>| -> CapsHashSet {
            set.iter()
                .flatten()
                .filter_map(|one| format!("CAP_{}", one).replace("CAP_CAP_", "CAP_").parse().ok())
                .collect()
        };
        Self {
            bounding: set(sets.bounding()),
            effective: set(sets.effective()),
            permitted: set(sets.permitted()),
        }
    }

    /// No program that this process becomes can get others.
    fn bound(&self) -> Result<(), caps::errors::CapsError> {
        for capability in caps::all() {
            if !self.bounding.contains(&capability) && caps::has_cap(None, CapSet::Bounding, capability)? {
                caps::drop(None, CapSet::Bounding, capability)?;
            }
        }
        Ok(())
    }

    fn hold(&self) -> Result<(), caps::errors::CapsError> {
        // Nobody can hold what this process lacks: an older kernel's, or a nested daemon's missing ones.
        let ours = caps::read(None, CapSet::Permitted)?;
        let of_ours = |set: &CapsHashSet| -> CapsHashSet { set.intersection(&ours).copied().collect() };
        caps::set(None, CapSet::Effective, &of_ours(&self.effective))?;
        caps::set(None, CapSet::Permitted, &of_ours(&self.permitted))?;
        caps::clear(None, CapSet::Inheritable)?;
        caps::clear(None, CapSet::Ambient)
    }

    /// Gives up every other capability of this process.
    pub(crate) fn keep_only(&self) -> Result<(), caps::errors::CapsError> {
        caps::raise(None, CapSet::Effective, Capability::CAP_SETPCAP)?;
        self.bound()?;
        self.hold()
    }
}

/// `exec` as decided.
pub(crate) struct ExecRequest {
    /// The container's first process.
    pub(crate) init: Pid,
    pub(crate) process: Process,
    pub(crate) filters: Option<Filters>,
    pub(crate) cgroup: Cgroup,
    /// Gets the terminal's other end.
    pub(crate) console: Option<UnixStream>,
    /// Host ids of the user, who is to own the streams.
    pub(crate) owner: (u32, u32),
}

/// A program that runs.
pub(crate) struct Exec {
    /// As the host counts; a child of this process.
    pub(crate) pid: Pid,
}

impl ExecRequest {
    /// Runs it with this process's stdin, stdout and stderr, or a terminal. This process is not fit for anything else
    /// afterwards.
    pub(crate) fn run(self) -> Result<Exec, OciError> {
        let fail =
            |what: &'static str| move |error: nix::Error| OciError(format!("{what}: {}", error.desc()));
        fork::reset_signals();
        // Nobody inside may look into this process, or take its descriptors, while it is on its way.
        nix::sys::prctl::set_dumpable(false).map_err(fail("cannot hide from the container"))?;
        if self.console.is_none() {
            own_streams(self.owner.0, self.owner.1).map_err(|error| OciError::from_chain(&error))?;
        }
        let target = pidfd::open(self.init).map_err(fail("the container is gone"))?;
        self.cgroup
            .enter()
            .map_err(|error| OciError(format!("cannot enter the container's cgroup: {error}")))?;
        let mut namespaces = CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWPID
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWCGROUP;
        if other_user_namespace(self.init) {
            namespaces |= CloneFlags::CLONE_NEWUSER;
        }
        nix::sched::setns(target, namespaces).map_err(fail("cannot enter the container's namespaces"))?;

        let (mut told, tell) = io::pipe().map_err(|error| OciError::from_chain(&error))?;
        let pid = fork::child(move || match self.inside() {
            Err(error) => {
                let _ = (&tell).write_all(error.0.as_bytes());
                1
            }
            Ok((args, filters)) => {
                drop(tell);
                program::run(&args, filters.as_ref(), false)
            }
        })
        .map_err(fail("cannot fork"))?;
        let mut error = String::new();
        told.read_to_string(&mut error)
            .map_err(|error| OciError::from_chain(&error))?;
        if error.is_empty() {
            Ok(Exec { pid })
        } else {
            Err(OciError(error))
        }
    }

    /// In the new process: becomes the user. What is left to do is to install filters and run the program.
    fn inside(self) -> Result<(Vec<String>, Option<Filters>), OciError> {
        let fail =
            |what: &'static str| move |error: nix::Error| OciError(format!("{what}: {}", error.desc()));
        let user = self.process.user();
        let (uid, gid) = (Uid::from_raw(user.uid()), Gid::from_raw(user.gid()));
        let root = (Uid::from_raw(0), Gid::from_raw(0));
        nix::unistd::setsid().map_err(fail("cannot start a session"))?;
        nix::unistd::setgroups(&[]).map_err(fail("cannot leave the host's groups"))?;
        nix::unistd::setresgid(root.1, root.1, root.1).map_err(fail("cannot become the container's root"))?;
        nix::unistd::setresuid(root.0, root.0, root.0).map_err(fail("cannot become the container's root"))?;
        nix::sys::prctl::set_dumpable(false).map_err(fail("cannot hide from the container"))?;
        if let Some(socket) = &self.console {
            let size = self
                .process
                .console_size()
                .map(|size| (size.height() as u16, size.width() as u16));
            console::open(socket, uid, size)
                .map_err(|error| OciError(format!("cannot open a terminal: {error}")))?;
        }
        close_others_at_exec();
        nix::sys::stat::umask(Mode::from_bits_truncate(user.umask().unwrap_or(0o022)));

        let no_new_privileges = self.process.no_new_privileges().unwrap_or(false);
        let mut filters = self.filters;
        if no_new_privileges {
            nix::sys::prctl::set_no_new_privs().map_err(fail("cannot set no_new_privs"))?;
        } else if let Some(filters) = filters.take() {
            filters.install().map_err(|error| OciError::from_chain(&error))?;
        }
        let capabilities = CapabilitySets::of(&self.process);
        capabilities
            .bound()
            .map_err(|error| OciError::from_chain(&error))?;
        let changed = nix::unistd::chdir(self.process.cwd());
        let groups: Vec<Gid> = user
            .additional_gids()
            .iter()
            .flatten()
            .map(|gid| Gid::from_raw(*gid))
            .collect();
        nix::unistd::setgroups(&groups).map_err(fail("cannot join the user's groups"))?;
        nix::sys::prctl::set_keepcaps(true).map_err(fail("cannot keep capabilities"))?;
        nix::unistd::setresgid(gid, gid, gid).map_err(fail("cannot become the user"))?;
        nix::unistd::setresuid(uid, uid, uid).map_err(fail("cannot become the user"))?;
        capabilities
            .hold()
            .map_err(|error| OciError::from_chain(&error))?;
        if changed.is_err() {
            let no_folder = |error: nix::Error| {
                OciError(format!(
                    "cannot go to `{}`: {}",
                    self.process.cwd().display(),
                    error.desc()
                ))
            };
            nix::unistd::chdir(self.process.cwd()).map_err(no_folder)?;
        }
        if nix::unistd::getcwd().is_ok_and(|path| path.starts_with("(unreachable)")) {
            return Err(OciError("the working folder is outside the container".to_owned()));
        }
        set_environment(self.process.env().as_deref().unwrap_or_default());
        Ok((self.process.args().clone().unwrap_or_default(), filters))
    }
}

/// `exec` on the command line: `--process` holds OCI's process in JSON.
pub(super) fn command(
    root: &Path,
    id: &str,
    process: &Path,
    pid_file: Option<PathBuf>,
    console: Option<PathBuf>,
    detach: bool,
) -> Result<(), OciError> {
    let (init, spec) = super::container::running(root, id)?;
    let text = std::fs::read(process)
        .map_err(|error| OciError(format!("cannot read `{}`: {error}", process.display())))?;
    let process: Process = serde_json::from_slice(&text).map_err(|error| OciError::from_chain(&error))?;
    let linux = spec.linux().as_ref();
    let filters = linux
        .and_then(|linux| linux.seccomp().as_ref())
        .map(seccomp::compile)
        .transpose();
    let cgroup = linux
        .and_then(|linux| linux.cgroups_path().clone())
        .unwrap_or_else(|| PathBuf::from(id));
    let console = console.map(UnixStream::connect).transpose();
    let request = ExecRequest {
        init,
        owner: owner(&spec, &process),
        process,
        filters: filters.map_err(|error| OciError::from_chain(&error))?,
        cgroup: Cgroup::at(&cgroup),
        console: console.map_err(|error| OciError::from_chain(&error))?,
    };
    let exec = request.run()?;
    if let Some(file) = pid_file {
        std::fs::write(file, exec.pid.to_string()).map_err(|error| OciError::from_chain(&error))?;
    }
    if detach {
        return Ok(());
    }
    match waitpid(exec.pid, None) {
        Ok(WaitStatus::Exited(_, status)) => std::process::exit(status),
        Ok(WaitStatus::Signaled(_, signal, _)) => std::process::exit(128 + signal as i32),
        _ => Err(OciError("lost sight of the program".to_owned())),
    }
}

/// Host ids of a process's user.
fn owner(spec: &Spec, process: &Process) -> (u32, u32) {
    let linux = spec.linux().as_ref();
    let first = |map: Option<&Vec<oci_spec::runtime::LinuxIdMapping>>| {
        map.and_then(|map| map.first())
            .map_or(0, oci_spec::runtime::LinuxIdMapping::host_id)
    };
    let users = first(linux.and_then(|linux| linux.uid_mappings().as_ref()));
    let groups = first(linux.and_then(|linux| linux.gid_mappings().as_ref()));
    (users + process.user().uid(), groups + process.user().gid())
}

/// Gives the pipes among this process's streams to somebody; files and devices keep their owner.
pub(crate) fn own_streams(uid: u32, gid: u32) -> io::Result<()> {
    for stream in [io::stdin().as_fd(), io::stdout().as_fd(), io::stderr().as_fd()] {
        let kind = nix::sys::stat::fstat(stream)?.st_mode & libc::S_IFMT;
        if kind == libc::S_IFIFO {
            nix::unistd::fchown(stream, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
        }
    }
    Ok(())
}

fn other_user_namespace(pid: Pid) -> bool {
    let ours = std::fs::read_link("/proc/self/ns/user").ok();
    std::fs::read_link(format!("/proc/{pid}/ns/user")).ok() != ours
}

mod calls {
    //! Calls that have no safe wrapper.
    #![allow(unsafe_code)]

    /// The program inherits its three streams and nothing else, whatever was left open.
    pub(crate) fn close_others_at_exec() {
        // SAFETY: only marks descriptors; all of them stay open until execve.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    }

    /// Replaces the whole environment.
    pub(crate) fn set_environment(entries: &[String]) {
        // SAFETY: this process has one thread, so nobody reads the environment meanwhile.
        unsafe {
            for (name, _) in std::env::vars_os() {
                std::env::remove_var(name);
            }
            for (name, value) in entries.iter().filter_map(|entry| entry.split_once('=')) {
                if !name.is_empty() && !name.contains('\0') && !value.contains('\0') {
                    std::env::set_var(name, value);
                }
            }
        }
    }
}

use calls::{close_others_at_exec, set_environment};
