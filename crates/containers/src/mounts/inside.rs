//! Work on a merged root as its own root does it.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use nix::sched::CloneFlags;
use nix::unistd::{Gid, Uid};

use crate::fork;

/// Runs `work` in a child that is root of the user namespace and sees nothing but this tree, so that files it makes have
/// the right owner and no link leads it astray.
pub(crate) fn as_root_of(
    user_namespace: Option<&Path>,
    root: &Path,
    work: impl FnOnce() -> io::Result<()>,
) -> io::Result<()> {
    let (mut told, mut tell) = io::pipe()?;
    let child = fork::child(move || {
        let enter = || -> io::Result<()> {
            let namespace = user_namespace.map(File::open).transpose()?;
            nix::unistd::chroot(root)?;
            nix::unistd::chdir("/")?;
            if let Some(namespace) = namespace {
                nix::sched::setns(namespace, CloneFlags::CLONE_NEWUSER)?;
                nix::unistd::setgroups(&[])?;
                nix::unistd::setresgid(Gid::from_raw(0), Gid::from_raw(0), Gid::from_raw(0))?;
                nix::unistd::setresuid(Uid::from_raw(0), Uid::from_raw(0), Uid::from_raw(0))?;
            }
            work()
        };
        match enter() {
            Ok(()) => 0,
            Err(error) => {
                let _ = tell.write_all(error.to_string().as_bytes());
                1
            }
        }
    })?;
    let mut error = String::new();
    told.read_to_string(&mut error)?;
    nix::sys::wait::waitpid(child, None)?;
    if error.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other(error))
    }
}
