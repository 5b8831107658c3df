//! Running other programs, with an error that names the program and says how it ended.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Failure, Outcome};

/// Runs to the end with this terminal's output.
pub(crate) fn run(command: &mut Command) -> Outcome {
    let status = command.status().map_err(|error| cannot_start(command, &error))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("`{}`: {status}", shown(command)).into())
    }
}

/// Runs to the end; its standard output, or its standard error in the failure.
pub(crate) fn output(command: &mut Command) -> Outcome<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| cannot_start(command, &error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let told = String::from_utf8_lossy(&output.stderr);
    Err(format!("`{}`: {}: {}", shown(command), output.status, told.trim()).into())
}

/// A program of this name on `PATH`, or in folders that a plain user's `PATH` leaves out: sbin, and podman's own.
pub(crate) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(
            [
                "/usr/local/sbin",
                "/usr/sbin",
                "/sbin",
                "/usr/lib/podman",
                "/usr/libexec/podman",
            ]
            .map(PathBuf::from),
        )
        .map(|folder| folder.join(name))
        .find(|file| file.is_file())
}

/// Is this process root's?
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// `cargo` with the toolchain that runs us, in the work tree.
pub(crate) fn cargo<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.args(args).current_dir(crate::root());
    command
}

fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

fn cannot_start(command: &Command, error: &std::io::Error) -> Failure {
    format!(
        "cannot start `{}`: {error}",
        command.get_program().to_string_lossy()
    )
    .into()
}
