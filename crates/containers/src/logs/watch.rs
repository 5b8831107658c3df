//! Learning that something in a folder changed: inotify(7).
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use tokio::io::unix::AsyncFd;

/// A folder under watch.
#[derive(Debug)]
pub(super) struct FolderWatch(AsyncFd<OwnedFd>);

impl FolderWatch {
    pub(super) fn new(folder: &Path) -> io::Result<Self> {
        // SAFETY: plain numbers.
        let fd = Errno::result(unsafe { libc::inotify_init1(libc::IN_NONBLOCK | libc::IN_CLOEXEC) })?;
        // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let path = CString::new(folder.as_os_str().as_bytes())?;
        let mask = libc::IN_MODIFY | libc::IN_CREATE | libc::IN_MOVED_TO | libc::IN_DELETE_SELF;
        // SAFETY: the path is a C string that outlives the call.
        Errno::result(unsafe { libc::inotify_add_watch(fd.as_raw_fd(), path.as_ptr(), mask) })?;
        Ok(Self(crate::readiness::register(fd)?))
    }

    /// Waits for the next change; false when the folder is gone.
    pub(super) async fn changed(&mut self) -> io::Result<bool> {
        let mut events = [0; 4096];
        let length = self
            .0
            .async_io(tokio::io::Interest::READABLE, |fd| {
                Ok(nix::unistd::read(fd, &mut events)?)
            })
            .await?;
        // `struct inotify_event`: watch, mask, cookie, length of the name, and the name.
        let mut rest = &events[..length];
        while let (Some(mask), Some(name)) = (rest.get(4..8), rest.get(12..16)) {
            let number = |bytes: &[u8]| bytes.try_into().map_or(0, u32::from_ne_bytes);
            if number(mask) & (libc::IN_DELETE_SELF | libc::IN_IGNORED) != 0 {
                return Ok(false);
            }
            rest = rest.get(16 + number(name) as usize..).unwrap_or_default();
        }
        Ok(true)
    }
}
