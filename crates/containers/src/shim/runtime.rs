//! Driving the OCI runtime: ours by a fork, another one by its command line.

use std::ffi::CString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;

use nix::fcntl::OFlag;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Shim;
use crate::cgroup::Cgroup;
use crate::oci::{CreateOptions, ExecRequest};
use crate::protocol::ExecOrder;
use crate::{bundle, console, creator, fork, oci, oom, rlimit, user};

/// What a forked child tells of its work, in one line.
#[derive(Serialize, Deserialize)]
struct Report {
    warnings: Vec<String>,
    result: Result<i32, String>,
}

/// A container that waits for its start.
pub(super) struct Created {
    pub(super) init: Pid,
    /// Reading ends: stdout and stderr, or the terminal alone.
    pub(super) output: Vec<OwnedFd>,
    pub(super) warnings: Vec<String>,
}

/// Runs `work` in a child. The child may leave processes behind, which are then ours; so the report is a line and not
/// what comes before the end of file.
fn in_child(work: impl FnOnce(&mut Vec<String>) -> Result<i32, String>) -> Result<Report, String> {
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
    let mut line = String::new();
    let read = BufReader::new(told).read_line(&mut line);
    let ended = waitpid(child, None);
    read.map_err(|error| error.to_string())?;
    serde_json::from_str(&line).map_err(|_| match ended {
        Ok(WaitStatus::Signaled(_, signal, _)) => format!("creation was killed by {signal}"),
        _ => "creation ended without a word".to_owned(),
    })
}

/// The whole chain of an error in one line.
fn chain(error: &dyn std::error::Error) -> String {
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
        self.call(runtime, &args)?;
        read_pid(&pid_file)
    }

    /// Runs another runtime and waits for it. It inherits our streams, for they become the container's; what is wrong it
    /// writes to a log of its own.
    fn call(&self, runtime: &Path, args: &[String]) -> Result<(), String> {
        let log = self.layout.run(&self.orders.spec.id).join("runtime.log");
        let _ = fs::remove_file(&log);
        let mut words = vec![path(runtime), "--root".to_owned(), path(&self.layout.oci_root())];
        words.extend([
            "--log".to_owned(),
            path(&log),
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
            _ => Err(last_error(&log).unwrap_or_else(|| format!("`{}` failed", runtime.display()))),
        }
    }

    /// Lets the container's program run.
    pub(super) fn start(&self) -> Result<(), String> {
        let id = self.orders.spec.id.to_string();
        match &self.orders.runtime {
            Some(runtime) => self.call(runtime, &["start".to_owned(), id]),
            None => {
                let root = self.layout.oci_root();
                in_child(|_| oci::start(&root, &id).map(|()| 0).map_err(|error| error.0))?
                    .result
                    .map(drop)
            }
        }
    }

    /// Runs one more program; gives its pid and its terminal's other end.
    pub(super) fn exec(
        &self,
        init: Pid,
        order: &ExecOrder,
        streams: &[OwnedFd],
    ) -> Result<(Pid, Option<OwnedFd>), String> {
        let (process, owner) = self.exec_process(init, order)?;
        let [stdin, stdout, stderr] = match streams {
            [stdin, stdout, stderr] => [stdin, stdout, stderr].map(|fd| Some(fd.as_fd())),
            _ if order.terminal => [None; 3],
            _ => return Err("a program without a terminal needs three streams".to_owned()),
        };
        if let Some(runtime) = &self.orders.runtime {
            return self.exec_by(runtime, order, &process, owner, [stdin, stdout, stderr]);
        }
        let pair = if order.terminal {
            Some(UnixStream::pair().map_err(|error| error.to_string())?)
        } else {
            None
        };
        let (ours, theirs) = pair.map_or((None, None), |(ours, theirs)| (Some(ours), Some(theirs)));
        let report = in_child(|_| {
            let mut unused = Vec::new();
            rlimit::apply(&self.orders.spec, &mut unused);
            take_streams([stdin, stdout, stderr]).map_err(|error| error.to_string())?;
            let config = fs::read(self.layout.bundle(&self.orders.spec.id).join("config.json"));
            let config = config.map_err(|error| error.to_string())?;
            let config: serde_json::Value =
                serde_json::from_slice(&config).map_err(|error| error.to_string())?;
            let filters = match config.pointer("/linux/seccomp") {
                Some(profile) => {
                    let profile =
                        serde_json::from_value(profile.clone()).map_err(|error| error.to_string())?;
                    Some(crate::seccomp::compile(&profile).map_err(|error| chain(&error))?)
                }
                None => None,
            };
            let request = ExecRequest {
                init,
                process: serde_json::from_value(process).map_err(|error| error.to_string())?,
                filters,
                cgroup: Cgroup::of(&self.layout, &self.orders.spec.id),
                console: theirs,
                owner,
            };
            request
                .run()
                .map(|exec| exec.pid.as_raw())
                .map_err(|error| error.0)
        })?;
        let pid = Pid::from_raw(report.result?);
        let terminal = ours.map(|socket| console::receive(&socket)).transpose();
        Ok((pid, terminal.map_err(|error| error.to_string())?))
    }

    fn exec_by(
        &self,
        runtime: &Path,
        order: &ExecOrder,
        process: &serde_json::Value,
        owner: (u32, u32),
        streams: [Option<BorrowedFd<'_>>; 3],
    ) -> Result<(Pid, Option<OwnedFd>), String> {
        let run = self.layout.run(&self.orders.spec.id);
        let (file, pid_file, socket) = (run.join("exec.json"), run.join("exec.pid"), run.join("exec.sock"));
        fs::write(&file, process.to_string()).map_err(|error| error.to_string())?;
        let mut args: Vec<String> = ["exec", "--detach", "--process"].map(str::to_owned).to_vec();
        args.extend([path(&file), "--pid-file".to_owned(), path(&pid_file)]);
        let listener = if order.terminal {
            args.extend(["--console-socket".to_owned(), path(&socket)]);
            Some(UnixListener::bind(&socket).map_err(|error| error.to_string())?)
        } else {
            None
        };
        args.push(self.orders.spec.id.to_string());
        let report = in_child(|_| {
            let streams = take_streams(streams).and_then(|()| oci::own_streams(owner.0, owner.1));
            streams.map_err(|error| error.to_string())?;
            self.call(runtime, &args)?;
            read_pid(&pid_file)
        });
        let terminal = match (&report, &listener) {
            (Ok(Report { result: Ok(_), .. }), Some(listener)) => Some(
                listener
                    .accept()
                    .and_then(|(socket, _)| console::receive(&socket)),
            ),
            _ => None,
        };
        for leftover in [&file, &pid_file, &socket] {
            let _ = fs::remove_file(leftover);
        }
        let pid = Pid::from_raw(report?.result?);
        Ok((pid, terminal.transpose().map_err(|error| error.to_string())?))
    }

    /// OCI's process for a program, and the host ids of its user.
    fn exec_process(&self, init: Pid, order: &ExecOrder) -> Result<(serde_json::Value, (u32, u32)), String> {
        let spec = &self.orders.spec;
        let root =
            File::open(format!("/proc/{init}/root")).map_err(|_| "the container is gone".to_owned())?;
        let name = order.user.as_deref().unwrap_or(&spec.user);
        let identity = user::look_up(name, root.as_fd()).map_err(|error| chain(&error))?;
        let mut process = bundle::process(spec, &identity);
        process["args"] = json!(order.args);
        process["env"] = json!(bundle::exec_environment(
            spec,
            &identity,
            &order.env,
            order.terminal
        ));
        process["cwd"] = json!(order.cwd.as_deref().unwrap_or(&spec.cwd));
        process["terminal"] = json!(order.terminal);
        if let Some((rows, columns)) = order.size {
            process["consoleSize"] = json!({ "height": rows, "width": columns });
        }
        let first = spec.ids.map_or(0, |ids| ids.first);
        Ok((process, (first + identity.uid, first + identity.gid)))
    }
}

/// Makes these the streams of this process; without them they are nowhere.
fn take_streams(streams: [Option<BorrowedFd<'_>>; 3]) -> io::Result<()> {
    let [stdin, stdout, stderr] = streams;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(stdin.unwrap_or_else(|| null.as_fd()))?;
    nix::unistd::dup2_stdout(stdout.unwrap_or_else(|| null.as_fd()))?;
    nix::unistd::dup2_stderr(stderr.unwrap_or_else(|| null.as_fd()))?;
    Ok(())
}

/// Makes reading from it never wait.
pub(super) fn set_nonblocking(fd: BorrowedFd<'_>) -> nix::Result<()> {
    let flags = OFlag::from_bits_truncate(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK)).map(drop)
}

fn read_pid(file: &Path) -> Result<i32, String> {
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

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
