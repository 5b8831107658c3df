//! Other engines with their command lines: the same images, the same things asked for.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::bench::start::Docker;
use crate::{Outcome, program};

/// An engine beside Linkspan.
pub(super) enum Engine {
    Docker(Docker),
    Podman(Podman),
}

/// Podman without a daemon, on folders of its own, with netavark.
pub(super) struct Podman {
    state: PathBuf,
}

impl Engine {
    /// Those that run on this host, with this image. Why another doesn't is said, and no error.
    pub(super) fn all(state: &Path, archive: &Path) -> Vec<Engine> {
        let docker = Docker::start(state).map(Engine::Docker);
        let podman = Podman::prepare(state).map(Engine::Podman);
        let mut there = Vec::new();
        for (name, engine) in [("docker", docker), ("podman", podman)] {
            let loaded = engine.and_then(|engine| {
                program::output(engine.command(&["load", "-i"]).arg(archive))?;
                Ok(engine)
            });
            match loaded {
                Ok(engine) => there.push(engine),
                Err(why) => println!("SKIP {name}: {}", why.0),
            }
        }
        there
    }

    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Docker(_) => "docker",
            Self::Podman(_) => "podman",
        }
    }

    pub(super) fn command(&self, args: &[&str]) -> Command {
        match self {
            Self::Docker(docker) => docker.command(args),
            Self::Podman(podman) => podman.command(args),
        }
    }

    /// `run -d --name NAME MORE… IMAGE COMMAND…`.
    pub(super) fn run(&self, name: &str, more: &[String], command: &[&str]) -> Outcome {
        let mut run = self.command(&["run", "-d", "--name", name]);
        if matches!(self, Self::Podman(_)) {
            // Docker has it from its daemon; both are under a name that is swept.
            run.args(["--cgroup-parent", "/linkspan-bench-podman"]);
        }
        run.args(more).arg("busybox:test").args(command);
        program::output(&mut run).map(drop)
    }

    /// `rm -f` of these containers.
    pub(super) fn remove(&self, names: &[String]) -> Outcome {
        let mut remove = self.command(&["rm", "-f"]);
        if matches!(self, Self::Podman(_)) {
            remove.args(["-t", "0"]);
        }
        program::output(remove.args(names)).map(drop)
    }
}

impl Podman {
    fn prepare(state: &Path) -> Outcome<Podman> {
        program::find("podman").ok_or("no `podman` here")?;
        let state = state.join("podman");
        fs::create_dir_all(state.join("networks"))?;
        Ok(Podman { state })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new("podman");
        for (option, folder) in [
            ("--root", "root"),
            ("--runroot", "run"),
            ("--tmpdir", "tmp"),
            ("--network-config-dir", "networks"),
        ] {
            command.arg(option).arg(self.state.join(folder));
        }
        command
            .args(["--network-backend", "netavark", "--cgroup-manager", "cgroupfs"])
            .args(["--events-backend", "none", "--runtime", "runc"])
            .args(args)
            .stderr(Stdio::null());
        command
    }
}
