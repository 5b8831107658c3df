//! The kernel's mount API, as far as we need it.
//!
//! See open_tree(2), mount_setattr(2), fsopen(2), fsconfig(2), fsmount(2), move_mount(2), openat2(2).
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::mount::{MntFlags, MsFlags};
use nix::sched::CloneFlags;

const FSCONFIG_SET_FLAG: u32 = 0;
const FSCONFIG_SET_STRING: u32 = 1;
const FSCONFIG_CMD_CREATE: u32 = 6;
const FSOPEN_CLOEXEC: u32 = 1;
const FSMOUNT_CLOEXEC: u32 = 1;
const MOVE_MOUNT_F_EMPTY_PATH: u32 = 4;

/// Leaves the host's mount namespace. What the host mounts or unmounts later is still followed (a stick can be
/// pulled), nothing goes back.
pub(crate) fn make_private_namespace() -> nix::Result<()> {
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    nix::mount::mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_SLAVE,
        None::<&str>,
    )
}

/// Takes a mount off its path; who still uses it is not disturbed.
pub(crate) fn detach(path: &Path) -> nix::Result<()> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH)
}

/// Opens a path as a process inside `root` would see it: links and `..` can't leave.
pub(crate) fn in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT);
    nix::fcntl::openat2(root, path, how)
}

/// A detached copy of a mount, or of a folder as a mount.
pub(crate) struct Tree(OwnedFd);

impl Tree {
    /// Copies what is at the path, without the mounts below it.
    pub(crate) fn clone_of(path: &Path) -> io::Result<Self> {
        let path = c_string(path.as_os_str().as_bytes())?;
        let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
        // SAFETY: the path is a NUL-terminated string that outlives the call.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
        owned(fd).map(Self)
    }

    /// Copies what is open here, with the mounts below it.
    pub(crate) fn of(file: BorrowedFd<'_>) -> io::Result<Self> {
        let flags = libc::OPEN_TREE_CLONE
            | libc::OPEN_TREE_CLOEXEC
            | libc::AT_RECURSIVE as u32
            | libc::AT_EMPTY_PATH as u32;
        // SAFETY: the descriptor is open and the path an empty C string.
        let fd = unsafe { libc::syscall(libc::SYS_open_tree, file.as_raw_fd(), c"".as_ptr(), flags) };
        owned(fd).map(Self)
    }

    /// Sets `MOUNT_ATTR_*` on this mount.
    pub(crate) fn set(&self, attributes: u64) -> io::Result<()> {
        self.set_attr(attributes, None, false)
    }

    /// Sets `MOUNT_ATTR_*` on this mount and all below.
    pub(crate) fn set_recursively(&self, attributes: u64) -> io::Result<()> {
        self.set_attr(attributes, None, true)
    }

    /// Shows ids on disk as the user namespace maps them, if there is one and the file system can.
    pub(crate) fn map_ids_or_warn(
        &self,
        namespace: Option<BorrowedFd<'_>>,
        source: &Path,
        warnings: &mut Vec<String>,
    ) {
        if let Some(namespace) = namespace
            && let Err(error) = self.set_attr(libc::MOUNT_ATTR_IDMAP, Some(namespace), false)
        {
            warnings.push(format!(
                "the file system of `{}` can't map ids ({error}), so its files belong to nobody in the container",
                source.display()
            ));
        }
    }

    fn set_attr(&self, set: u64, namespace: Option<BorrowedFd<'_>>, recursive: bool) -> io::Result<()> {
        let attributes = libc::mount_attr {
            attr_set: set,
            attr_clr: 0,
            propagation: 0,
            userns_fd: namespace.map_or(0, |fd| fd.as_raw_fd() as u64),
        };
        let mut flags = libc::AT_EMPTY_PATH;
        if recursive {
            flags |= libc::AT_RECURSIVE;
        }
        // SAFETY: the descriptors are open, the path is an empty C string, and the structure and its size match.
        let done = unsafe {
            libc::syscall(
                libc::SYS_mount_setattr,
                self.0.as_raw_fd(),
                c"".as_ptr(),
                flags,
                &raw const attributes,
                size_of::<libc::mount_attr>(),
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// The mount itself, as an open path.
    pub(crate) fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Mounts it.
    pub(crate) fn attach(&self, at: &Path) -> io::Result<()> {
        move_mount(self.0.as_fd(), at)
    }
}

/// A file system being configured.
pub(crate) struct FsMount(OwnedFd);

impl FsMount {
    pub(crate) fn open(kind: &CStr) -> io::Result<Self> {
        // SAFETY: the name is a C string that outlives the call.
        owned(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) }).map(Self)
    }

    pub(crate) fn set(&self, key: &CStr, value: &[u8]) -> io::Result<()> {
        let value = c_string(value)?;
        self.config(FSCONFIG_SET_STRING, Some(key), Some(&value))
    }

    pub(crate) fn flag(&self, key: &CStr) -> io::Result<()> {
        self.config(FSCONFIG_SET_FLAG, Some(key), None)
    }

    fn config(&self, command: u32, key: Option<&CStr>, value: Option<&CStr>) -> io::Result<()> {
        let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
        // SAFETY: key and value are null or C strings that outlive the call.
        let done = unsafe {
            libc::syscall(
                libc::SYS_fsconfig,
                self.0.as_raw_fd(),
                command,
                pointer(key),
                pointer(value),
                0,
            )
        };
        if done < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Makes the file system and mounts it with `MOUNT_ATTR_*`.
    pub(crate) fn mount(&self, attributes: u64, at: &Path) -> io::Result<()> {
        self.config(FSCONFIG_CMD_CREATE, None, None)?;
        // SAFETY: plain numbers and an open descriptor.
        let mount = owned(unsafe {
            libc::syscall(
                libc::SYS_fsmount,
                self.0.as_raw_fd(),
                FSMOUNT_CLOEXEC,
                attributes as u32,
            )
        })?;
        move_mount(mount.as_fd(), at)
    }
}

fn move_mount(mount: BorrowedFd<'_>, at: &Path) -> io::Result<()> {
    let at = c_string(at.as_os_str().as_bytes())?;
    // SAFETY: both paths are C strings that outlive the call, the descriptor is open.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            at.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    if done < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel just gave us this descriptor and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn c_string(bytes: &[u8]) -> io::Result<CString> {
    CString::new(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidInput, "a path holds a NUL byte"))
}
