//! The shim's loop: signals, clients, output.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::socket::{SockFlag, accept4};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::Shim;
use super::journal::Journal;
use super::runtime::{Created, set_nonblocking};
use crate::cgroup::Cgroup;
use crate::console;
use crate::console::calls::received;
use crate::layout::write_durably;
use crate::orders::VERSION;
use crate::protocol::{self, Answer, Request, Told, Verb};
use crate::{Exit, LogStream, Phase};

/// How long a client that failed to create a container may take to hear why.
const LAST_WORDS_MS: u16 = 5_000;

/// Makes the container and serves it to its end.
pub(super) fn serve(shim: Shim) -> ExitCode {
    let created = shim.create().and_then(|created| {
        let journal = Journal::open(&shim.layout.log(&shim.orders.spec.id), &shim.orders.spec.log);
        match journal {
            Ok(journal) => Ok((created, journal)),
            Err(error) => {
                let _ = nix::sys::signal::kill(created.init, Signal::SIGKILL);
                Err(format!("cannot open the log: {error}"))
            }
        }
    });
    match created {
        Ok((created, journal)) => Loop::new(shim, created, journal).map_or(ExitCode::FAILURE, Loop::run),
        Err(error) => {
            say_why(&shim, &error);
            ExitCode::FAILURE
        }
    }
}

/// Answers the first client with why there is no container.
fn say_why(shim: &Shim, error: &str) {
    let mut fds = [PollFd::new(shim.listener.as_fd(), PollFlags::POLLIN)];
    if !matches!(poll(&mut fds, LAST_WORDS_MS), Ok(1..)) {
        return;
    }
    let Ok(fd) = accept4(shim.listener.as_raw_fd(), SockFlag::SOCK_CLOEXEC) else {
        return;
    };
    let client = received(fd);
    if let Ok(Some((Request { number, .. }, _))) = protocol::receive::<Request>(client.as_fd()) {
        let told = Told::Answer {
            number,
            result: Err(error.to_owned()),
        };
        let _ = protocol::send(client.as_fd(), &told, &[]);
    }
}

struct Loop {
    shim: Shim,
    init: Pid,
    journal: Journal,
    /// What is still open of stdout and stderr, or the terminal.
    output: Vec<(LogStream, std::fs::File)>,
    terminal: Option<OwnedFd>,
    signals: SignalFd,
    clients: HashMap<i32, OwnedFd>,
    /// Programs beside the first, and the client that asked.
    execs: HashMap<Pid, i32>,
    warnings: Vec<String>,
}

impl Loop {
    fn new(shim: Shim, created: Created, journal: Journal) -> Option<Self> {
        if !created.warnings.is_empty() {
            warn(&shim, &created.warnings);
        }
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGCHLD);
        let signals = SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK).ok()?;
        let terminal = if shim.orders.spec.terminal {
            created.output.first().and_then(|fd| fd.try_clone().ok())
        } else {
            None
        };
        let mut output = Vec::new();
        for (stream, fd) in [LogStream::Stdout, LogStream::Stderr]
            .into_iter()
            .zip(created.output)
        {
            set_nonblocking(fd.as_fd()).ok()?;
            output.push((stream, std::fs::File::from(fd)));
        }
        Some(Self {
            shim,
            init: created.init,
            journal,
            output,
            terminal,
            signals,
            clients: HashMap::new(),
            execs: HashMap::new(),
            warnings: created.warnings,
        })
    }

    fn run(mut self) -> ExitCode {
        loop {
            let (ready, ended) = self.wait();
            for fd in ready {
                if fd == self.shim.listener.as_raw_fd() {
                    self.welcome();
                } else if self.clients.contains_key(&fd) {
                    self.hear(fd);
                } else {
                    self.copy(fd);
                }
            }
            // Last, so that requests that came before the end are answered as such.
            if ended && let Some(exit) = self.reap() {
                self.finish(exit);
                return ExitCode::SUCCESS;
            }
        }
    }

    /// Waits for anything; gives the ready descriptors, and whether a child ended.
    fn wait(&mut self) -> (Vec<i32>, bool) {
        let mut fds = vec![
            PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.shim.listener.as_fd(), PollFlags::POLLIN),
        ];
        let mut numbers = vec![self.signals.as_fd().as_raw_fd(), self.shim.listener.as_raw_fd()];
        let others = self.output.iter().map(|(_, file)| file.as_fd());
        for fd in others.chain(self.clients.values().map(AsFd::as_fd)) {
            numbers.push(fd.as_raw_fd());
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            // Nothing that we hold can make poll fail but want of memory, which passes.
            Err(_) => std::thread::sleep(std::time::Duration::from_millis(10)),
        }
        let mut ready: Vec<i32> = fds
            .iter()
            .zip(numbers)
            .filter(|(fd, _)| fd.any().unwrap_or(false))
            .map(|(_, number)| number)
            .collect();
        let signals = self.signals.as_fd().as_raw_fd();
        let ended = ready.contains(&signals);
        ready.retain(|fd| *fd != signals);
        if ended {
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
        (ready, ended)
    }

    fn welcome(&mut self) {
        // A daemon that does not read must not hold up the container: what can't be sent at once is not sent, and it finds
        // out from the closed socket.
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        if let Ok(fd) = accept4(self.shim.listener.as_raw_fd(), flags) {
            self.clients.insert(fd, received(fd));
        }
    }

    fn hear(&mut self, client: i32) {
        let Some(socket) = self.clients.get(&client) else {
            return;
        };
        match protocol::receive::<Request>(socket.as_fd()) {
            Ok(Some((request, fds))) => {
                let (result, terminal) = match self.answer(request.verb, client, &fds) {
                    Ok((answer, terminal)) => (Ok(answer), terminal),
                    Err(error) => (Err(error), None),
                };
                let told = Told::Answer {
                    number: request.number,
                    result,
                };
                let rights: Vec<i32> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
                self.tell(client, &told, &rights);
            }
            Ok(None) => drop(self.clients.remove(&client)),
            // One request of a release that knows more than this one is not answered; the connection is given up.
            Err(error) if error.kind() != ErrorKind::WouldBlock => drop(self.clients.remove(&client)),
            Err(_) => {}
        }
    }

    fn tell(&mut self, client: i32, told: &Told, fds: &[i32]) {
        if let Some(socket) = self.clients.get(&client)
            && protocol::send(socket.as_fd(), told, fds).is_err()
        {
            self.clients.remove(&client);
        }
    }

    fn answer(
        &mut self,
        verb: Verb,
        client: i32,
        fds: &[OwnedFd],
    ) -> Result<(Answer, Option<OwnedFd>), String> {
        let answer = match verb {
            Verb::Hello { .. } => Answer::Hello {
                version: VERSION,
                phase: self.shim.phase,
                shim: nix::unistd::getpid().as_raw(),
            },
            Verb::Start => self.start()?,
            Verb::Signal { signal } => signal_process(self.init, signal)?,
            Verb::Resize { rows, columns } => {
                let terminal = self.terminal.as_ref().ok_or("the container has no terminal")?;
                console::resize(terminal.as_fd(), rows, columns).map_err(|error| error.to_string())?;
                Answer::Done
            }
            Verb::Exec(order) => {
                if !matches!(self.shim.phase, Phase::Running { .. }) {
                    return Err("the container is not running".to_owned());
                }
                let (pid, terminal) = self.shim.exec(self.init, &order, fds)?;
                self.execs.insert(pid, client);
                return Ok((Answer::Exec { exec: pid.as_raw() }, terminal));
            }
            Verb::SignalExec { exec, signal } => {
                // Only what was not reaped yet, so the number can't be somebody else's.
                let pid = Pid::from_raw(exec);
                if !self.execs.contains_key(&pid) {
                    return Err("the program has ended".to_owned());
                }
                signal_process(pid, signal)?
            }
        };
        Ok((answer, None))
    }

    fn start(&mut self) -> Result<Answer, String> {
        let pid = self.init.as_raw().unsigned_abs();
        match self.shim.phase {
            Phase::Created => {
                self.shim.start()?;
                let started_ms = now_ms();
                self.shim.phase = Phase::Running { pid, started_ms };
                Ok(Answer::Started { pid, started_ms })
            }
            Phase::Running { pid, started_ms } => Ok(Answer::Started { pid, started_ms }),
            Phase::Exited(_) => Err("the container has ended".to_owned()),
        }
    }

    /// Copies what an output has now into the log; forgets it at its end.
    fn copy(&mut self, fd: i32) {
        let Some(at) = self.output.iter().position(|(_, file)| file.as_raw_fd() == fd) else {
            return;
        };
        let mut buffer = [0; 32 << 10];
        let (stream, file) = &mut self.output[at];
        match file.read(&mut buffer) {
            Ok(0) => drop(self.output.remove(at)),
            Ok(length) => self.journal.take(*stream, &buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            // A terminal whose other end is closed says EIO.
            Err(_) => drop(self.output.remove(at)),
        }
    }

    /// Reaps what ended; gives the container's exit if its first process is among it.
    fn reap(&mut self) -> Option<Exit> {
        let mut exit = None;
        loop {
            let (pid, code) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32),
                Ok(WaitStatus::StillAlive) | Err(_) => return exit,
                Ok(_) => continue,
            };
            if pid == self.init {
                let oom = Cgroup::of(&self.shim.layout, &self.shim.orders.spec.id).out_of_memory();
                exit = Some(Exit {
                    code: Some(code),
                    at_ms: now_ms(),
                    oom,
                });
            } else if let Some(client) = self.execs.remove(&pid) {
                self.tell(
                    client,
                    &Told::ExecExited {
                        exec: pid.as_raw(),
                        code,
                    },
                    &[],
                );
            }
        }
    }

    /// The container ended, and with its pid namespace every process in it: what they wrote is in the pipes.
    fn finish(mut self, exit: Exit) {
        while let Some((_, file)) = self.output.first() {
            let (fd, before) = (file.as_raw_fd(), self.output.len());
            let mut poll_fd = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
            // Not until the end of file: a program that was handed a pipe of ours could keep it open elsewhere.
            if !matches!(poll(&mut poll_fd, PollTimeout::ZERO), Ok(1..)) {
                self.output.remove(0);
                continue;
            }
            self.copy(fd);
            debug_assert!(self.output.len() <= before);
        }
        self.journal.finish();
        if let Some(hint) = super::hint::after(&self.shim.orders, &exit) {
            self.warnings.push(hint);
            warn(&self.shim, &self.warnings);
        }
        let clients: Vec<i32> = self.clients.keys().copied().collect();
        for client in clients {
            self.tell(client, &Told::Exited(exit), &[]);
        }
        let path = self.shim.layout.exit(&self.shim.orders.spec.id);
        if let Ok(text) = serde_json::to_vec(&exit) {
            let _ = write_durably(&path, &text);
        }
    }
}

/// Leaves warnings where the daemon looks for them.
fn warn(shim: &Shim, warnings: &[String]) {
    let text = serde_json::to_vec(warnings).unwrap_or_default();
    let _ = std::fs::write(shim.layout.warnings(&shim.orders.spec.id), text);
}

fn signal_process(pid: Pid, signal: i32) -> Result<Answer, String> {
    // Real-time signals have no name in `Signal`, but containers may stop by one.
    match crate::signal::send(pid, signal) {
        Ok(()) => Ok(Answer::Done),
        Err(Errno::EINVAL) => Err(format!("there is no signal {signal}")),
        Err(error) => Err(error.desc().to_owned()),
    }
}

fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis() as u64)
}
