//! From root to nobody: what a thread of the data plane gives up before it reads the first byte from outside.
//!
//! Capabilities, `no_new_privs`, Landlock and seccomp belong to a thread, so each thread that exists at the time goes
//! through the same steps; threads made later inherit. Only the user belongs to the whole process.

use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{Gid, Uid, setgroups, setresgid, setresuid};

mod files;
mod syscalls;

/// Which step of the confinement failed.
#[derive(Debug, thiserror::Error)]
pub enum ConfineError {
    /// `capset` or `prctl`.
    #[error("capabilities can't be dropped")]
    Capabilities(#[from] caps::errors::CapsError),
    /// `setgroups`, `setresgid` or `setresuid`.
    #[error("can't become user {uid}, group {gid}")]
    User {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
        /// From the kernel.
        #[source]
        source: nix::Error,
    },
    /// `prctl`.
    #[error("the process attribute `{0}` can't be set")]
    Attribute(&'static str, #[source] nix::Error),
    /// The kernel has Landlock and refuses the rules.
    #[error("Landlock rules can't be applied")]
    Landlock(#[from] landlock::RulesetError),
    /// The kernel refuses the filter.
    #[error("the seccomp filter can't be applied")]
    Seccomp(#[from] seccompiler::Error),
    /// The filter is not one for this machine.
    #[error("the seccomp filter can't be compiled for this machine")]
    Filter(#[from] seccompiler::BackendError),
    /// Another thread of the start has failed and said why.
    #[error("another thread gave up during the start")]
    Abandoned,
}

/// First step, as root: no program started from this thread, whatever its file says, could get a capability again.
pub(crate) fn drop_bounding() -> Result<(), ConfineError> {
    caps::clear(None, caps::CapSet::Ambient)?;
    caps::clear(None, caps::CapSet::Inheritable)?;
    caps::clear(None, caps::CapSet::Bounding)?;
    Ok(())
}

/// Second step, once for the process (the C library carries it to all threads): become this user.
pub(crate) fn become_user(uid: u32, gid: u32) -> Result<(), ConfineError> {
    let failed = |source| ConfineError::User { uid, gid, source };
    let (user, group) = (Uid::from_raw(uid), Gid::from_raw(gid));
    setgroups(&[]).map_err(failed)?;
    setresgid(group, group, group).map_err(failed)?;
    setresuid(user, user, user).map_err(failed)?;
    // Another process of the same user may not look into our memory, where the keys are.
    prctl::set_dumpable(false).map_err(|error| ConfineError::Attribute("dumpable", error))
}

/// Last step, for each thread: nothing is left but the system calls and the few files that serving needs.
pub(crate) fn seal() -> Result<(), ConfineError> {
    caps::clear(None, caps::CapSet::Effective)?;
    caps::clear(None, caps::CapSet::Permitted)?;
    caps::clear(None, caps::CapSet::Inheritable)?;
    prctl::set_no_new_privs().map_err(|error| ConfineError::Attribute("no_new_privs", error))?;
    files::restrict()?;
    syscalls::restrict()
}

/// As many descriptors as we may have: each connection takes two.
pub(crate) fn raise_descriptors() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}
