//! Forking, which only the single-threaded roles may do.
#![allow(unsafe_code)]

use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal};
use nix::unistd::{ForkResult, Pid};

/// Runs `body` in a child process, which ends with the status that it returns.
///
/// The caller must be single-threaded (the roles `shim`, `oci` and `init` are): other threads could hold locks that the
/// child would wait for in vain.
pub(crate) fn child(body: impl FnOnce() -> i32) -> nix::Result<Pid> {
    // SAFETY: by the contract above there is no other thread whose locks the child could inherit.
    match unsafe { nix::unistd::fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            let status = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body)).unwrap_or(101);
            // SAFETY: ends this process at once; the parent's buffers and exit handlers are not ours to run.
            unsafe { libc::_exit(status) }
        }
    }
}

/// Gives back every signal's default action and an empty mask, as a program expects to find them.
pub(crate) fn reset_signals() {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    for signal in Signal::iterator() {
        if matches!(signal, Signal::SIGKILL | Signal::SIGSTOP) {
            continue;
        }
        // SAFETY: sets no handler, only the default action.
        let _ = unsafe { nix::sys::signal::sigaction(signal, &default) };
    }
    let _ = nix::sys::signal::sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}
