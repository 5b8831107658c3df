//! A Linkspan daemon on private folders, and its end: in order if it can be, by force where it can't.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::{Outcome, program, root, sweep};

/// Where a daemon lives and listens.
#[derive(Debug)]
pub(crate) struct Daemon {
    /// `linkspan`.
    pub(crate) binary: PathBuf,
    /// Sockets and namespaces.
    pub(crate) run: PathBuf,
    /// Everything else.
    pub(crate) state: PathBuf,
    /// Port for plain HTTP.
    pub(crate) http: u16,
    /// Port for HTTPS.
    pub(crate) https: u16,
}

/// A folder of its own for this name: one that was killed may have left its own, and process numbers come again.
fn new_folder(name: &str) -> Outcome<PathBuf> {
    let folder = |suffix: String| PathBuf::from("/var/tmp").join(format!("{name}{suffix}"));
    let mut choices = std::iter::once(folder(String::new())).chain((1..100).map(|n| folder(format!("-{n}"))));
    let made = choices.find_map(|path| match fs::create_dir(&path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => None,
        made => Some(made.map(|()| path)),
    });
    Ok(made.unwrap_or_else(|| Err(std::io::ErrorKind::AlreadyExists.into()))?)
}

impl Daemon {
    /// Makes the folders, `name` in their names; refuses a host on which a daemon runs already.
    pub(crate) fn prepare(name: &str, binary: PathBuf, http: u16, https: u16) -> Outcome<Daemon> {
        let run = PathBuf::from(format!("/run/linkspan-{name}"));
        for other in [PathBuf::from("/run/linkspan"), run.clone()] {
            let socket = other.join("linkspan.sock");
            if std::os::unix::net::UnixStream::connect(&socket).is_ok() {
                let socket = socket.display();
                return Err(format!("a daemon runs on this host already (`{socket}`); stop it first").into());
            }
        }
        let state = new_folder(&format!("linkspan-{name}-{}", std::process::id()))?;
        // Containers' ids are not the host's; they must be able to pass.
        fs::set_permissions(&state, fs::Permissions::from_mode(0o711))?;
        // What one that was killed has left.
        sweep::sweep(&run, &state)?;
        Ok(Daemon {
            binary,
            run,
            state,
            http,
            https,
        })
    }

    /// `linkspan ARGS`, for this daemon.
    pub(crate) fn linkspan(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("--run-dir")
            .arg(&self.run)
            .args(args)
            .current_dir(root());
        command
    }

    /// Starts it, and waits until it answers.
    pub(crate) fn start(&self) -> Outcome<Child> {
        self.start_with(&[])
    }

    /// The same with further arguments.
    pub(crate) fn start_with(&self, more: &[&str]) -> Outcome<Child> {
        let log = File::create(self.log_path())?;
        let mut child = self
            .linkspan(&["daemon", "--state-dir"])
            .arg(&self.state)
            .args([
                "--http",
                &format!("0.0.0.0:{}", self.http),
                "--https",
                &format!("0.0.0.0:{}", self.https),
            ])
            .args(more)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            // Ctrl-C is for us; the daemon is stopped in order.
            .process_group(0)
            .spawn()
            .map_err(|error| format!("cannot start `{}`: {error}", self.binary.display()))?;
        let begun = Instant::now();
        while program::output(&mut self.linkspan(&["status"])).is_err() {
            if child.try_wait()?.is_some() || begun.elapsed() > Duration::from_secs(30) {
                let _ = child.kill();
                let _ = child.wait();
                return Err(format!("the daemon does not answer; its log:\n{}", self.log()).into());
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(child)
    }

    /// Stops it in order. Sites should be down.
    pub(crate) fn stop(&self, child: &mut Child) -> Outcome {
        let pid = nix::unistd::Pid::from_raw(child.id().cast_signed());
        nix::sys::signal::kill(pid, Signal::SIGTERM)
            .map_err(|error| format!("cannot stop the daemon: {error}"))?;
        let begun = Instant::now();
        while child.try_wait()?.is_none() {
            if begun.elapsed() > Duration::from_secs(30) {
                child.kill()?;
                child.wait()?;
                return Err("the daemon did not stop within 30 s and was killed".into());
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Removes the folders and what should not be there any more: that is returned, one line each.
    pub(crate) fn remove(&self) -> Outcome<Vec<String>> {
        let left = sweep::sweep(&self.run, &self.state)?;
        for folder in [&self.run, &self.state] {
            match fs::remove_dir_all(folder) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(format!("cannot remove `{}`: {error}", folder.display()).into());
                }
                _ => {}
            }
        }
        Ok(left)
    }

    /// What it has logged.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Writes the certificate of its authority to a file.
    pub(crate) fn ca(&self) -> Outcome<PathBuf> {
        let path = self.state.join("ca.pem");
        fs::write(&path, program::output(&mut self.linkspan(&["ca", "print"]))?)?;
        Ok(path)
    }

    fn log_path(&self) -> PathBuf {
        self.state.join("daemon.log")
    }
}
