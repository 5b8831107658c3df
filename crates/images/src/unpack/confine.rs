//! Shedding everything but one folder, before the first byte from outside is looked at.
//!
//! The child keeps uid 0 as the file system knows it, since layers hold files of all owners; what it loses is all
//! that makes uid 0 powerful: it lives in a user namespace that knows 65,536 ids and no other namespace's objects,
//! sees no path but its target, no network and no process, holds five capabilities over its own files, and may
//! make only the system calls that writing files takes.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::PathBuf;

use caps::{CapSet, Capability, CapsHashSet};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::sys::stat::{Mode, umask};
use nix::unistd::{Gid, Uid, chdir, close, pivot_root, setgroups, setresgid, setresuid};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::protocol::{Task, UNSHARED};

/// Longest task line, in bytes.
const MAX_TASK: u64 = 64 * 1024;
/// Address space, in bytes: room for an allocator's reservations, not for a bomb.
const MAX_MEMORY: u64 = 4 << 30;
/// Open files.
const MAX_FILES: u64 = 1024;

/// Why the child could not confine itself.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConfineError {
    /// A call was refused.
    #[error("the unpacking process can't {0}")]
    Call(&'static str, #[source] nix::Error),
    /// Reading or writing failed.
    #[error("the unpacking process can't {0}")]
    Io(&'static str, #[source] io::Error),
    /// The capability library failed.
    #[error("the unpacking process can't drop its capabilities")]
    Capabilities(#[source] caps::errors::CapsError),
    /// The filter can't be built or loaded.
    #[error("the unpacking process can't load its system call filter")]
    Seccomp(#[source] seccompiler::Error),
    /// The task isn't one.
    #[error("the unpacking process got no task that it understands")]
    Task(#[source] serde_json::Error),
}

/// Confines the process for good, and returns what it is to do.
pub(super) fn enter(channel: &mut File) -> Result<Task, ConfineError> {
    use ConfineError::{Call, Io};
    close_strangers(channel).map_err(|e| Io("close inherited files", e))?;
    unshare(
        CloneFlags::CLONE_NEWUSER
            | CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWCGROUP,
    )
    .map_err(|e| Call("make namespaces of its own", e))?;
    channel
        .write_all(&[UNSHARED])
        .map_err(|e| Io("report to the daemon", e))?;

    // The answer comes once the id maps are written, so that all that follows runs as a mapped root.
    let mut line = String::new();
    let read = BufReader::new((&*channel).take(MAX_TASK)).read_line(&mut line);
    read.map_err(|e| Io("read its task", e))?;
    let task: Task = serde_json::from_str(&line).map_err(ConfineError::Task)?;

    setgroups(&[]).map_err(|e| Call("leave its groups", e))?;
    let (uid, gid) = (Uid::from_raw(0), Gid::from_raw(0));
    setresgid(gid, gid, gid).map_err(|e| Call("set its group", e))?;
    setresuid(uid, uid, uid).map_err(|e| Call("set its user", e))?;
    // After the change of credentials, which clears it. A parent that died earlier shows as end of file above.
    prctl::set_pdeathsig(Signal::SIGKILL).map_err(|e| Call("tie its life to the daemon's", e))?;
    umask(Mode::empty());

    take_root(&task.target)?;
    limit(task.max_bytes)?;
    drop_capabilities()?;
    prctl::set_no_new_privs().map_err(|e| Call("give up new privileges", e))?;
    seccompiler::apply_filter(&filter()?).map_err(ConfineError::Seccomp)?;
    Ok(task)
}

/// Closes whatever was inherited beside standard input, output and `channel`.
fn close_strangers(channel: &File) -> io::Result<()> {
    use std::os::fd::AsRawFd;
    let mut open = Vec::new();
    for entry in fs::read_dir("/proc/self/fd")? {
        open.extend(
            entry?
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<i32>().ok()),
        );
    }
    for fd in open
        .into_iter()
        .filter(|fd| *fd > 2 && *fd != channel.as_raw_fd())
    {
        // The descriptor of the listing itself is closed by now.
        let _ = close(fd);
    }
    Ok(())
}

/// Makes `target` the root; nothing else stays reachable.
fn take_root(target: &PathBuf) -> Result<(), ConfineError> {
    let call = |what| move |e| ConfineError::Call(what, e);
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
        .map_err(call("keep its mounts to itself"))?;
    // Recursive, for the kernel refuses to show what lies below a mount that was locked on unsharing.
    mount(
        Some(target),
        target,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        none,
    )
    .map_err(call("bind its target folder"))?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(
        none,
        target,
        none,
        MsFlags::MS_BIND | MsFlags::MS_REMOUNT | flags,
        none,
    )
    .map_err(call("make its target folder harmless"))?;
    chdir(target).map_err(call("enter its target folder"))?;
    pivot_root(".", ".").map_err(call("make the target its root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(call("leave the old root"))?;
    chdir("/").map_err(call("enter its new root"))
}

/// Lowers the limits; a hard limit that is lower already stays.
fn limit(max_bytes: u64) -> Result<(), ConfineError> {
    let wanted = [
        (Resource::RLIMIT_AS, MAX_MEMORY),
        (Resource::RLIMIT_NOFILE, MAX_FILES),
        (Resource::RLIMIT_FSIZE, max_bytes),
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_NPROC, 0),
        (Resource::RLIMIT_MEMLOCK, 0),
    ];
    for (resource, value) in wanted {
        let call = |e| ConfineError::Call("lower its limits", e);
        let (_, hard) = getrlimit(resource).map_err(call)?;
        let value = value.min(hard);
        setrlimit(resource, value, value).map_err(call)?;
    }
    Ok(())
}

fn drop_capabilities() -> Result<(), ConfineError> {
    // What it takes to write files of all owners and modes. Whiteouts (0:0) need no CAP_MKNOD.
    let kept: CapsHashSet = [
        Capability::CAP_CHOWN,
        Capability::CAP_DAC_OVERRIDE,
        Capability::CAP_FOWNER,
        Capability::CAP_FSETID,
        Capability::CAP_SETFCAP,
    ]
    .into_iter()
    .collect();
    for capability in caps::all().difference(&kept) {
        // A capability that this kernel does not know is not in the set.
        if caps::has_cap(None, CapSet::Bounding, *capability).unwrap_or(false) {
            caps::drop(None, CapSet::Bounding, *capability).map_err(ConfineError::Capabilities)?;
        }
    }
    let set = |which, value: &CapsHashSet| caps::set(None, which, value).map_err(ConfineError::Capabilities);
    set(CapSet::Effective, &kept)?;
    set(CapSet::Permitted, &kept)?;
    set(CapSet::Inheritable, &CapsHashSet::new())
}

/// The system calls that reading one stream and writing files takes. Others fail with EPERM: an allocator's
/// optional call then does no harm.
fn filter() -> Result<BpfProgram, ConfineError> {
    let allowed = [
        libc::SYS_read,
        libc::SYS_readv,
        libc::SYS_write,
        libc::SYS_writev,
        libc::SYS_close,
        libc::SYS_lseek,
        libc::SYS_openat,
        libc::SYS_openat2,
        libc::SYS_fstat,
        libc::SYS_newfstatat,
        libc::SYS_statx,
        libc::SYS_mkdirat,
        libc::SYS_mknodat,
        libc::SYS_symlinkat,
        libc::SYS_linkat,
        libc::SYS_unlinkat,
        libc::SYS_fchown,
        libc::SYS_fchownat,
        libc::SYS_fchmod,
        libc::SYS_fchmodat,
        libc::SYS_utimensat,
        libc::SYS_fsetxattr,
        libc::SYS_ftruncate,
        libc::SYS_getdents64,
        libc::SYS_fcntl,
        libc::SYS_syncfs,
        libc::SYS_brk,
        libc::SYS_mmap,
        libc::SYS_munmap,
        libc::SYS_mremap,
        libc::SYS_mprotect,
        libc::SYS_madvise,
        libc::SYS_futex,
        libc::SYS_sched_yield,
        libc::SYS_getrandom,
        libc::SYS_clock_gettime,
        libc::SYS_getpid,
        libc::SYS_gettid,
        libc::SYS_tgkill,
        libc::SYS_rt_sigaction,
        libc::SYS_rt_sigprocmask,
        libc::SYS_rt_sigreturn,
        libc::SYS_sigaltstack,
        libc::SYS_restart_syscall,
        libc::SYS_exit,
        libc::SYS_exit_group,
    ];
    let rules: BTreeMap<i64, Vec<seccompiler::SeccompRule>> =
        allowed.into_iter().map(|call| (call, Vec::new())).collect();
    let seccomp = |e| ConfineError::Seccomp(seccompiler::Error::Backend(e));
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(seccomp)?;
    let denied = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)
        .and_then(BpfProgram::try_from)
        .map_err(seccomp)
}
