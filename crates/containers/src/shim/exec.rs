//! One more program in the container: its set-up, beside everything else that the shim does.
//!
//! Looking up a user, entering a cgroup that is frozen, or a working folder on a file system that hangs may take for ever. All of
//! it happens in a child, and the loop goes on until that one has reported.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use super::Shim;
use super::runtime::{Report, Work, chain, path, read_pid, set_nonblocking};
use crate::cgroup::Cgroup;
use crate::oci::ExecRequest;
use crate::protocol::ExecOrder;
use crate::{bundle, console, oci, rlimit, user};

/// What takes longer is given up. Less than the daemon waits for the answer.
pub(super) const LIMIT: Duration = Duration::from_secs(30);
/// Set-ups at once: health checks of a container whose disk hangs must not pile up.
pub(super) const MOST: usize = 32;
/// Below the child are the other runtime and what it begins.
const GENERATIONS: usize = 4;

/// Where the other end of a program's terminal comes from.
enum Terminal {
    None,
    Handed(UnixStream),
    Sent(UnixListener),
}

/// A program on its way.
pub(super) struct SetUp {
    work: Work,
    terminal: Terminal,
    /// Files that nobody needs afterwards.
    leftovers: Vec<PathBuf>,
    until: Instant,
}

impl SetUp {
    fn new(work: Work, terminal: Terminal, leftovers: Vec<PathBuf>) -> Result<Self, String> {
        let set_up = Self {
            work,
            terminal,
            leftovers,
            until: Instant::now() + LIMIT,
        };
        // The loop must not wait, whatever it takes for readable.
        set_nonblocking(set_up.told()).map_err(|error| error.desc().to_owned())?;
        Ok(set_up)
    }

    /// Readable when there is something for [`SetUp::report`].
    pub(super) fn told(&self) -> BorrowedFd<'_> {
        self.work.told()
    }

    /// Who does it.
    pub(super) fn child(&self) -> Pid {
        self.work.child
    }

    pub(super) fn is_late(&self) -> bool {
        Instant::now() >= self.until
    }

    pub(super) fn report(&mut self) -> Option<Result<Report, String>> {
        self.work.report()
    }

    /// The program's pid and its terminal's other end.
    pub(super) fn finish(self, report: Result<Report, String>) -> Result<(Pid, Option<OwnedFd>), String> {
        let pid = Pid::from_raw(report?.result?);
        let terminal = match &self.terminal {
            Terminal::None => None,
            Terminal::Handed(socket) => Some(console::receive(socket)),
            Terminal::Sent(listener) => Some(
                listener
                    .accept()
                    .and_then(|(socket, _)| console::receive(&socket)),
            ),
        };
        Ok((pid, terminal.transpose().map_err(|error| error.to_string())?))
    }

    /// Ends what is under way.
    pub(super) fn give_up(self) -> String {
        kill_all(self.work.child, GENERATIONS);
        format!(
            "it was not set up within {} s; is the container paused, or does its working folder lie on a file system that hangs?",
            LIMIT.as_secs()
        )
    }
}

impl Drop for SetUp {
    fn drop(&mut self) {
        for leftover in &self.leftovers {
            let _ = fs::remove_file(leftover);
        }
    }
}

/// Kills a process and what it has begun, that first: else it would become ours.
fn kill_all(process: Pid, generations: usize) {
    if let Some(generations) = generations.checked_sub(1) {
        let children = fs::read_to_string(format!("/proc/{process}/task/{process}/children"));
        for child in children.unwrap_or_default().split_whitespace() {
            if let Ok(child) = child.parse() {
                kill_all(Pid::from_raw(child), generations);
            }
        }
    }
    let _ = kill(process, Signal::SIGKILL);
}

impl Shim {
    /// Begins to set up one more program.
    pub(super) fn begin_exec(
        &self,
        init: Pid,
        order: &ExecOrder,
        streams: &[OwnedFd],
    ) -> Result<SetUp, String> {
        let streams = match streams {
            [stdin, stdout, stderr] => [stdin, stdout, stderr].map(|fd| Some(fd.as_fd())),
            _ if order.terminal => [None; 3],
            _ => return Err("a program without a terminal needs three streams".to_owned()),
        };
        match &self.orders.runtime {
            Some(runtime) => self.begin_exec_by(runtime, init, order, streams),
            None => self.begin_our_exec(init, order, streams),
        }
    }

    fn begin_our_exec(
        &self,
        init: Pid,
        order: &ExecOrder,
        streams: [Option<BorrowedFd<'_>>; 3],
    ) -> Result<SetUp, String> {
        let pair = if order.terminal {
            Some(UnixStream::pair().map_err(|error| error.to_string())?)
        } else {
            None
        };
        let (terminal, theirs) = match pair {
            Some((ours, theirs)) => (Terminal::Handed(ours), Some(theirs)),
            None => (Terminal::None, None),
        };
        let work = Work::begin(|_| {
            let (process, owner) = self.exec_process(init, order)?;
            let mut unused = Vec::new();
            rlimit::apply(&self.orders.spec, &mut unused);
            take_streams(streams).map_err(|error| error.to_string())?;
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
        SetUp::new(work, terminal, Vec::new())
    }

    fn begin_exec_by(
        &self,
        runtime: &Path,
        init: Pid,
        order: &ExecOrder,
        streams: [Option<BorrowedFd<'_>>; 3],
    ) -> Result<SetUp, String> {
        // Several may be under way.
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = |kind: &str| {
            self.layout
                .run(&self.orders.spec.id)
                .join(format!("exec-{number}.{kind}"))
        };
        let (file, pid_file, socket, log) = (name("json"), name("pid"), name("sock"), name("log"));
        let mut args: Vec<String> = ["exec", "--detach", "--process"].map(str::to_owned).to_vec();
        args.extend([path(&file), "--pid-file".to_owned(), path(&pid_file)]);
        let terminal = if order.terminal {
            args.extend(["--console-socket".to_owned(), path(&socket)]);
            Terminal::Sent(UnixListener::bind(&socket).map_err(|error| error.to_string())?)
        } else {
            Terminal::None
        };
        args.push(self.orders.spec.id.to_string());
        let work = Work::begin(|_| {
            let (process, owner) = self.exec_process(init, order)?;
            fs::write(&file, process.to_string()).map_err(|error| error.to_string())?;
            let streams = take_streams(streams).and_then(|()| oci::own_streams(owner.0, owner.1));
            streams.map_err(|error| error.to_string())?;
            self.call(runtime, &log, &args)?;
            read_pid(&pid_file)
        })?;
        SetUp::new(work, terminal, vec![file, pid_file, socket, log])
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
