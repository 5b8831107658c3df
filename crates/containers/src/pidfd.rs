//! Processes by descriptor, which is never another process's.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

/// `PIDFD_GET_INFO`, with the first published size of its structure. Linux 6.13; exit statuses since 6.15.
const GET_INFO: libc::c_ulong = 0xC040_FF0B;
const INFO_EXIT: u64 = 1 << 3;

/// The kernel's `struct pidfd_info`, as far as the first release had it.
#[repr(C)]
#[derive(Default)]
struct Info {
    mask: u64,
    cgroup: u64,
    ids: [u32; 11],
    exit_code: i32,
}

/// pidfd_open(2).
pub(crate) fn open(pid: Pid) -> nix::Result<OwnedFd> {
    // SAFETY: plain numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = Errno::result(fd)?;
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A process noted for whoever comes later: its number, and when it began, in clock ticks since boot. No other process ever
/// has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Noted {
    pid: i32,
    began: u64,
}

impl Noted {
    /// The process that has this number now.
    pub(crate) fn now(pid: i32) -> Option<Self> {
        let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything. Of the fields after it, the 20th: proc_pid_stat(5).
        let began = text.rsplit(") ").next()?.split(' ').nth(19)?.parse().ok()?;
        Some(Self { pid, began })
    }

    /// Its descriptor; absent when it has ended.
    pub(crate) fn open(self) -> Option<OwnedFd> {
        let process = open(Pid::from_raw(self.pid)).ok()?;
        (Self::now(self.pid) == Some(self)).then_some(process)
    }
}

/// Ends a process that answers to nothing else; true when it is gone within some milliseconds.
pub(crate) fn kill(process: BorrowedFd<'_>, milliseconds: u16) -> bool {
    // SAFETY: plain numbers and an open descriptor; the kernel fills in what the signal says of its sender.
    unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            libc::SIGKILL,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    ends_within(process, milliseconds)
}

/// Whether the process ends within some milliseconds.
pub(crate) fn ends_within(process: BorrowedFd<'_>, milliseconds: u16) -> bool {
    let mut fds = [PollFd::new(process, PollFlags::POLLIN)];
    matches!(poll(&mut fds, PollTimeout::from(milliseconds)), Ok(1..))
}

/// How a process ended that is another's child, 128 + n for a signal; absent where the kernel does not tell.
pub(crate) fn exit_status(process: &OwnedFd) -> Option<i32> {
    let status = of_reaped(process).or_else(|| of_unreaped(process))?;
    Some(if libc::WIFSIGNALED(status) {
        128 + libc::WTERMSIG(status)
    } else {
        libc::WEXITSTATUS(status)
    })
}

/// After its parent took note: the kernel keeps the status with the descriptor.
fn of_reaped(process: &OwnedFd) -> Option<i32> {
    let mut info = Info {
        mask: INFO_EXIT,
        ..Info::default()
    };
    // SAFETY: the structure is as large as the request's number says, and the kernel writes no more than that.
    let done = unsafe { libc::ioctl(process.as_raw_fd(), GET_INFO, &raw mut info) };
    (done >= 0 && info.mask & INFO_EXIT != 0).then_some(info.exit_code)
}

/// Before that: the last field of proc_pid_stat(5). The number is nobody else's as long as the descriptor still has it.
fn of_unreaped(process: &OwnedFd) -> Option<i32> {
    let number = || -> Option<i32> {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", process.as_raw_fd())).ok()?;
        text.lines()
            .find_map(|line| line.strip_prefix("Pid:"))?
            .trim()
            .parse()
            .ok()
            .filter(|pid| *pid > 0)
    };
    let pid = number()?;
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields = text.rsplit(") ").next()?;
    let status = fields.trim_end().rsplit(' ').next()?.parse().ok()?;
    (fields.starts_with('Z') && number() == Some(pid)).then_some(status)
}
