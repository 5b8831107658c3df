//! Pseudo terminals: made inside a container, held outside.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use nix::unistd::Uid;

/// Opens a terminal from the container's own `/dev/ptmx`, makes it this process's streams and controlling terminal, and
/// sends the other end as the OCI runtimes do: one message with one descriptor.
pub(crate) fn open(socket: &UnixStream, owner: Uid, size: Option<(u16, u16)>) -> io::Result<()> {
    let master = nix::pty::posix_openpt(nix::fcntl::OFlag::O_RDWR | nix::fcntl::OFlag::O_NOCTTY)?;
    nix::pty::unlockpt(&master)?;
    let slave = calls::peer(master.as_fd())?;
    nix::unistd::fchown(&slave, Some(owner), None)?;
    if let Some((rows, columns)) = size {
        resize(master.as_fd(), rows, columns)?;
    }
    let bytes = [IoSlice::new(b"/dev/ptmx")];
    let fds = [master.as_raw_fd()];
    sendmsg::<()>(
        socket.as_raw_fd(),
        &bytes,
        &[ControlMessage::ScmRights(&fds)],
        MsgFlags::empty(),
        None,
    )?;
    nix::unistd::dup2_stdin(&slave)?;
    nix::unistd::dup2_stdout(&slave)?;
    nix::unistd::dup2_stderr(&slave)?;
    calls::control(slave.as_fd())?;
    Ok(())
}

/// Receives the other end of a terminal.
pub(crate) fn receive(socket: &UnixStream) -> io::Result<OwnedFd> {
    let mut bytes = [0; 4096];
    let mut iov = [IoSliceMut::new(&mut bytes)];
    let mut space = nix::cmsg_space!([RawFd; 1]);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut iov,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let Some(fd) = fds.first()
        {
            return Ok(calls::received(*fd));
        }
    }
    Err(io::Error::new(
        io::ErrorKind::UnexpectedEof,
        "the runtime sent no terminal",
    ))
}

/// Sets the size of a terminal, in characters.
pub(crate) fn resize(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    calls::set_size(
        terminal,
        &libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
}

pub(crate) mod calls {
    //! Calls that have no safe wrapper. See ioctl_tty(2).
    #![allow(unsafe_code)]

    use std::io;
    use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

    use nix::errno::Errno;

    /// The other end without a look-up by name, which the container could bend.
    pub(super) fn peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
        let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
        // SAFETY: the descriptor is an open terminal and the argument is a plain number.
        let fd = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
        let fd = Errno::result(fd)?;
        Ok(received(fd))
    }

    pub(super) fn control(terminal: BorrowedFd<'_>) -> io::Result<()> {
        // SAFETY: the descriptor is an open terminal and the argument is a plain number.
        Errno::result(unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0) })?;
        Ok(())
    }

    pub(super) fn set_size(terminal: BorrowedFd<'_>, size: &libc::winsize) -> io::Result<()> {
        // SAFETY: the descriptor is open, the kernel only reads the structure.
        Errno::result(unsafe {
            libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, std::ptr::from_ref(size))
        })?;
        Ok(())
    }

    /// Owns a descriptor that the kernel just made for us.
    pub(crate) fn received(fd: RawFd) -> OwnedFd {
        // SAFETY: every caller passes a descriptor that a call has just returned or received, and passes it once.
        unsafe { OwnedFd::from_raw_fd(fd) }
    }
}
