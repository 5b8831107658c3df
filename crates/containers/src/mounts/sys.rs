//! `/sys` of a container in the host's network.

use std::io;
use std::path::Path;

use super::calls::FsMount;

/// Mounts a sysfs that shows the links of the network namespace that this process is in, the host's.
///
/// The kernel lets only the owner of a network namespace mount its sysfs, and root of a container with ids of its own does
/// not own the host's; so the host does it. Not a view of the host's `/sys`: that has a dozen other file systems below it
/// (cgroups, tracing, EFI variables), which are not the container's business. What is read-only here can't be changed
/// inside, where the mount is locked.
pub(crate) fn mount_sys(at: &Path, read_only: bool) -> io::Result<()> {
    let sys = FsMount::open(c"sysfs")?;
    sys.set(c"source", b"sysfs")?;
    let mut attributes = libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC;
    if read_only {
        attributes |= libc::MOUNT_ATTR_RDONLY;
    }
    sys.mount(attributes, at)
}
