//! A program on a rig that runs until it is dropped.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::host::children;
use crate::{Host, Rig};

/// Longest time until a program says its first words.
const WORDS: Duration = Duration::from_secs(20);

/// A program that runs, with what it has said so far.
pub struct Running {
    /// `nsenter`, whose only child is the program.
    outer: Child,
    out: PathBuf,
}

impl Running {
    /// Starts a program of a host; its words go to a file.
    pub(crate) fn start(host: &Host, folder: &Path, name: &str, args: &[&str]) -> Running {
        let out = folder.join(format!("{name}.out"));
        let file = File::create(&out).unwrap();
        let outer = host
            .command(Path::new("/"), args)
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        Running { outer, out }
    }

    /// Everything that it has said.
    pub fn said(&self) -> String {
        fs::read_to_string(&self.out).unwrap_or_default()
    }

    /// Waits until it has said something with these words in it.
    ///
    /// # Panics
    ///
    /// When it doesn't in time.
    #[track_caller]
    pub fn wait_for(&self, words: &str) {
        let begun = Instant::now();
        while !self.said().contains(words) {
            assert!(begun.elapsed() < WORDS, "no `{words}` in `{}`", self.said());
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits for its end, and answers what it has said.
    ///
    /// # Panics
    ///
    /// When it doesn't end in time.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> String {
        let begun = Instant::now();
        while self.outer.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < limit, "still running: `{}`", self.said());
            thread::sleep(Duration::from_millis(10));
        }
        self.said()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        for pid in children(self.outer.id()) {
            let _ = kill(Pid::from_raw(pid.cast_signed()), Signal::SIGKILL);
        }
        let _ = self.outer.kill();
        let _ = self.outer.wait();
    }
}

impl Rig {
    /// Starts a program on this host.
    pub fn spawn(&self, name: &str, args: &[&str]) -> Running {
        Running::start(self.host(), self.folder(), name, args)
    }

    /// Starts a program on another machine, see [`Host::run_on`].
    pub fn spawn_on(&self, machine: &str, name: &str, args: &[&str]) -> Running {
        self.spawn(name, &[&["ip", "netns", "exec", machine], args].concat())
    }

    /// Starts a program of this machine's in the network namespace of a container.
    pub fn spawn_beside(&self, container: &str, name: &str, args: &[&str]) -> Running {
        let pid = self.container(container)["pid"].to_string();
        self.spawn(name, &[&["nsenter", "-t", &pid, "-n"], args].concat())
    }
}
