//! Signals by number.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::unistd::Pid;

/// kill(2), for real-time signals too. Never to a group: the pid must be positive.
pub(crate) fn send(pid: Pid, signal: i32) -> nix::Result<()> {
    if pid.as_raw() <= 0 {
        return Err(Errno::ESRCH);
    }
    // SAFETY: plain numbers.
    Errno::result(unsafe { libc::kill(pid.as_raw(), signal) }).map(drop)
}
