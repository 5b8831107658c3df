//! The shim's loop: signals, clients, output.

mod execs;

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

use self::execs::Asked;
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

/// How often it is looked whether a set-up takes too long.
const LATE_MS: u16 = 500;

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
    /// Programs beside the first, and the client that asked, if it is still there.
    execs: HashMap<Pid, Option<i32>>,
    /// Those that are being set up.
    set_ups: Vec<Asked>,
    /// Children that ended while that was so: one may be the program.
    strays: HashMap<Pid, i32>,
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
            set_ups: Vec::new(),
            strays: HashMap::new(),
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
                } else if let Some(at) = self.set_up_at(fd) {
                    self.hear_set_up(at);
                } else {
                    self.copy(fd);
                }
            }
            self.give_up_late_ones();
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
        let set_ups = self.set_ups.iter().map(|asked| asked.set_up.told());
        for fd in others
            .chain(self.clients.values().map(AsFd::as_fd))
            .chain(set_ups)
        {
            numbers.push(fd.as_raw_fd());
            fds.push(PollFd::new(fd, PollFlags::POLLIN));
        }
        let timeout = if self.set_ups.is_empty() {
            PollTimeout::NONE
        } else {
            PollTimeout::from(LATE_MS)
        };
        match poll(&mut fds, timeout) {
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
                let number = request.number;
                let result = match request.verb {
                    Verb::Exec(order) => match self.begin_exec(client, number, &order, &fds) {
                        // Answered when it is set up.
                        Ok(()) => return,
                        Err(error) => Err(error),
                    },
                    verb => self.answer(&verb),
                };
                self.tell(client, &Told::Answer { number, result }, &[]);
            }
            Ok(None) => self.lose(client),
            // One request of a release that knows more than this one is not answered; the connection is given up.
            Err(error) if error.kind() != ErrorKind::WouldBlock => self.lose(client),
            Err(_) => {}
        }
    }

    fn tell(&mut self, client: i32, told: &Told, fds: &[i32]) {
        if let Some(socket) = self.clients.get(&client)
            && protocol::send(socket.as_fd(), told, fds).is_err()
        {
            self.lose(client);
        }
    }

    fn answer(&mut self, verb: &Verb) -> Result<Answer, String> {
        match verb {
            Verb::Hello { .. } => Ok(Answer::Hello {
                version: VERSION,
                phase: self.shim.phase,
                shim: nix::unistd::getpid().as_raw(),
            }),
            Verb::Start => self.start(),
            Verb::Signal { signal } => signal_process(self.init, *signal),
            Verb::Resize { rows, columns } => {
                let terminal = self.terminal.as_ref().ok_or("the container has no terminal")?;
                console::resize(terminal.as_fd(), *rows, *columns).map_err(|error| error.to_string())?;
                Ok(Answer::Done)
            }
            // Takes its time, so it is answered elsewhere.
            Verb::Exec(_) => Err("it is answered when it is set up".to_owned()),
            Verb::SignalExec { exec, signal } => {
                // Only what was not reaped yet, so the number can't be somebody else's.
                let pid = Pid::from_raw(*exec);
                if !self.execs.contains_key(&pid) {
                    return Err("the program has ended".to_owned());
                }
                signal_process(pid, *signal)
            }
        }
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
            } else if self.execs.contains_key(&pid) {
                self.exec_ended(pid, code);
            } else if !self.set_ups.is_empty() {
                self.strays.insert(pid, code);
            }
        }
    }

    /// The container ended, and with its pid namespace every process in it: what they wrote is in the pipes.
    fn finish(mut self, exit: Exit) {
        self.give_up_set_ups();
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
