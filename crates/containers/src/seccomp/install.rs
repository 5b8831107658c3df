//! Installing a filter without turning `no_new_privs` on, which the library would.
#![allow(unsafe_code)]

use nix::errno::Errno;
use seccompiler::sock_filter;

/// The kernel's `struct sock_fprog`, for the library's own instruction type.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const sock_filter,
}

/// seccomp(2), `SECCOMP_SET_MODE_FILTER`, for this thread and its children.
pub(super) fn install(filter: &[sock_filter]) -> nix::Result<()> {
    let len = u16::try_from(filter.len()).map_err(|_| Errno::E2BIG)?;
    let program = Program {
        len,
        filter: filter.as_ptr(),
    };
    // SAFETY: the program points to `len` instructions in the kernel's layout, which outlive the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            0,
            &raw const program,
        )
    };
    Errno::result(done).map(drop)
}
