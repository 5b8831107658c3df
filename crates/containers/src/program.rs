//! Becoming the container's program: the last steps before and including execve(2).

mod init;

use std::ffi::CString;
use std::io::Write;
use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::seccomp::Filters;

pub(crate) use init::run_as_init;

/// Exit status of a program that can't be run, and of one that isn't there; as shells have it.
const NOT_EXECUTABLE: i32 = 126;
const NOT_FOUND: i32 = 127;

/// Replaces this process by the program; `PATH` is searched as it is in the environment now. Comes back only as an exit
/// status, having told on stderr, which is the container's log, what is wrong.
pub(crate) fn become_program(args: &[String]) -> i32 {
    let arguments: Result<Vec<CString>, _> = args.iter().map(|arg| CString::new(arg.as_str())).collect();
    let (Some(name), Ok(arguments)) = (args.first(), arguments) else {
        return complain(
            "the program's arguments are empty or hold a NUL byte",
            NOT_EXECUTABLE,
        );
    };
    let Err(error) = nix::unistd::execvp(&arguments[0], &arguments);
    match error {
        Errno::ENOENT if name.contains('/') => complain(
            &format!("cannot run `{name}`: it, or the interpreter that it names, is not in the image"),
            NOT_FOUND,
        ),
        Errno::ENOENT => complain(&format!("cannot run `{name}`: not found in $PATH"), NOT_FOUND),
        Errno::EACCES => complain(&format!("cannot run `{name}`: not executable"), NOT_EXECUTABLE),
        Errno::ENOEXEC => complain(
            &format!("cannot run `{name}`: not a program for this machine"),
            NOT_EXECUTABLE,
        ),
        error => complain(&format!("cannot run `{name}`: {}", error.desc()), NOT_EXECUTABLE),
    }
}

/// Tells why the container's program does not run, where its user looks first.
pub(crate) fn complain(text: &str, status: i32) -> i32 {
    let _ = writeln!(std::io::stderr(), "linkspan: {text}");
    status
}

/// The last steps in the container: protection, init if asked for, program.
pub(crate) fn run(args: &[String], filters: Option<&Filters>, init: bool) -> i32 {
    if let Some(filters) = filters
        && let Err(error) = filters.install()
    {
        return complain(&error.to_string(), NOT_EXECUTABLE);
    }
    if init {
        run_as_init(
            args,
            nix::unistd::isatty(std::io::stdin().as_fd()).unwrap_or(false),
        )
    } else {
        become_program(args)
    }
}
