//! Driving the OCI runtime: ours by a fork, another one by its command line.

use std::ffi::CString;
use std::fs;
use std::io::{self, ErrorKind, PipeReader, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::Shim;
use crate::oci::CreateOptions;
use crate::{console, creator, fork, oci, oom};

/// What a forked child tells of its work, in one line.
#[derive(Serialize, Deserialize)]
pub(super) struct Report {
    warnings: Vec<String>,
    pub(super) result: Result<i32, String>,
}

/// A container that waits for its start.
pub(super) struct Created {
    pub(super) init: Pid,
    /// Reading ends: stdout and stderr, or the terminal alone.
    pub(super) output: Vec<OwnedFd>,
    pub(super) warnings: Vec<String>,
}

/// Work under way in a child.
pub(super) struct Work {
    pub(super) child: Pid,
    told: PipeReader,
    line: Vec<u8>,
}

impl Work {
    /// Begins it. The child may leave processes behind, which are then ours; so the report is a line and not what comes
    /// before the end of file.
    pub(super) fn begin(work: impl FnOnce(&mut Vec<String>) -> Result<i32, String>) -> Result<Self, String> {
        let (told, mut tell) = io::pipe().map_err(|error| error.to_string())?;
        let child = fork::child(move || {
            fork::reset_signals();
            oom::be_a_program();
            let mut warnings = Vec::new();
            let result = work(&mut warnings);
            let mut line = serde_json::to_vec(&Report { warnings, result }).unwrap_or_default();
            line.push(b'\n');
            i32::from(tell.write_all(&line).is_err())
        })
        .map_err(|error| format!("cannot fork: {}", error.desc()))?;
        let line = Vec::new();
        Ok(Self { child, told, line })
    }

    /// Readable when there is more of the report.
    pub(super) fn told(&self) -> BorrowedFd<'_> {
        self.told.as_fd()
    }

    /// Takes what there is of the report; absent while it isn't whole.
    pub(super) fn report(&mut self) -> Option<Result<Report, String>> {
        let mut piece = [0; 4 << 10];
        match self.told.read(&mut piece) {
            Ok(length @ 1..) => {
                self.line.extend_from_slice(&piece[..length]);
                if !self.line.ends_with(b"\n") {
                    return None;
                }
            }
            Ok(0) => {}
            Err(error) if matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                return None;
            }
            Err(error) => return Some(Err(error.to_string())),
        }
        let ended = waitpid(self.child, None);
        Some(serde_json::from_slice(&self.line).map_err(|_| match ended {
            Ok(WaitStatus::Signaled(_, signal, _)) => format!("it was killed by {signal}"),
            _ => "it ended without a word".to_owned(),
        }))
    }
}

/// Runs `work` in a child and waits for it.
fn in_child(work: impl FnOnce(&mut Vec<String>) -> Result<i32, String>) -> Result<Report, String> {
    let mut work = Work::begin(work)?;
    loop {
        if let Some(report) = work.report() {
            return report;
        }
    }
}

/// The whole chain of an error in one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    oci::OciError::from_chain(error).0
}

impl Shim {
    /// Makes the container.
    pub(super) fn create(&self) -> Result<Created, String> {
        let terminal = self.orders.spec.terminal;
        let run = self.layout.run(&self.orders.spec.id);
        let pipes = || -> io::Result<_> { Ok(((io::pipe()?), (io::pipe()?))) };
        let ((out_read, out_write), (err_read, err_write)) = pipes().map_err(|error| error.to_string())?;
        let console_path = run.join("console.sock");
        let console = if terminal {
            Some(
                UnixListener::bind(&console_path)
                    .map_err(|error| format!("cannot listen for a terminal: {error}"))?,
            )
        } else {
            None
        };
        let report = in_child(|warnings| {
            let owner =
                creator::prepare(&self.orders, &self.layout, warnings).map_err(|error| chain(&error))?;
            let streams = (|| -> io::Result<()> {
                if !terminal {
                    nix::unistd::dup2_stdout(&out_write)?;
                    nix::unistd::dup2_stderr(&err_write)?;
                }
                oci::own_streams(owner.0, owner.1)
            })();
            streams.map_err(|error| error.to_string())?;
            let console = terminal.then(|| console_path.clone());
            match &self.orders.runtime {
                None => oci::create(&CreateOptions {
                    root: self.layout.oci_root(),
                    bundle: self.layout.bundle(&self.orders.spec.id),
                    id: self.orders.spec.id.to_string(),
                    pid_file: None,
                    console_socket: console,
                })
                .map(Pid::as_raw)
                .map_err(|error| error.0),
                Some(runtime) => self.create_by(runtime, console.as_deref()),
            }
        })?;
        drop((out_write, err_write));
        let init = Pid::from_raw(report.result?);
        let output = match console {
            None => vec![OwnedFd::from(out_read), OwnedFd::from(err_read)],
            Some(listener) => {
                let master = listener
                    .accept()
                    .and_then(|(socket, _)| console::receive(&socket));
                let _ = fs::remove_file(&console_path);
                vec![master.map_err(|error| format!("cannot get the terminal: {error}"))?]
            }
        };
        Ok(Created {
            init,
            output,
            warnings: report.warnings,
        })
    }

    fn create_by(&self, runtime: &Path, console: Option<&Path>) -> Result<i32, String> {
        let id = &self.orders.spec.id;
        let pid_file = self.layout.run(id).join("init.pid");
        let mut args = vec![
            "create".to_owned(),
            "--bundle".to_owned(),
            path(&self.layout.bundle(id)),
        ];
        args.extend(["--pid-file".to_owned(), path(&pid_file)]);
        args.extend(
            console
                .iter()
                .flat_map(|socket| ["--console-socket".to_owned(), path(socket)]),
        );
        args.push(id.to_string());
        self.call(runtime, &self.log(), &args)?;
        read_pid(&pid_file)
    }

    fn log(&self) -> PathBuf {
        self.layout.run(&self.orders.spec.id).join("runtime.log")
    }

    /// Runs another runtime and waits for it. It inherits our streams, for they become the container's; what is wrong it
    /// writes to a log of its own.
    pub(super) fn call(&self, runtime: &Path, log: &Path, args: &[String]) -> Result<(), String> {
        let _ = fs::remove_file(log);
        let mut words = vec![path(runtime), "--root".to_owned(), path(&self.layout.oci_root())];
        words.extend([
            "--log".to_owned(),
            path(log),
            "--log-format".to_owned(),
            "json".to_owned(),
        ]);
        words.extend_from_slice(args);
        let words: Vec<CString> = words
            .into_iter()
            .filter_map(|word| CString::new(word).ok())
            .collect();
        let child = fork::child(|| {
            fork::reset_signals();
            let _ = nix::unistd::execv(&words[0], &words);
            127
        })
        .map_err(|error| format!("cannot fork: {}", error.desc()))?;
        match waitpid(child, None) {
            Ok(WaitStatus::Exited(_, 0)) => Ok(()),
            Ok(WaitStatus::Exited(_, 127)) => {
                Err(format!("cannot run the OCI runtime `{}`", runtime.display()))
            }
            _ => Err(last_error(log).unwrap_or_else(|| format!("`{}` failed", runtime.display()))),
        }
    }

    /// Lets the container's program run.
    pub(super) fn start(&self) -> Result<(), String> {
        let id = self.orders.spec.id.to_string();
        match &self.orders.runtime {
            Some(runtime) => self.call(runtime, &self.log(), &["start".to_owned(), id]),
            None => {
                let root = self.layout.oci_root();
                in_child(|_| oci::start(&root, &id).map(|()| 0).map_err(|error| error.0))?
                    .result
                    .map(drop)
            }
        }
    }
}

/// Makes reading from it never wait.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = OFlag::from_bits_truncate(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

pub(super) fn read_pid(file: &Path) -> Result<i32, String> {
    let text = fs::read_to_string(file).map_err(|error| format!("the runtime told no pid: {error}"))?;
    text.trim()
        .parse()
        .map_err(|_| format!("the runtime told `{text}` as pid"))
}

/// The last complaint in a runtime's log, whose lines are `{"level":"error","msg":"…"}`.
fn last_error(log: &Path) -> Option<String> {
    let text = fs::read_to_string(log).ok()?;
    let message = |line: &str| -> Option<String> {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        (entry["level"] == "error")
            .then(|| entry["msg"].as_str().map(str::to_owned))
            .flatten()
    };
    text.lines().rev().find_map(message)
}

pub(super) fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
