//! A host with a Linkspan daemon on it.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use crate::host::{children, finish};
use crate::{Host, Ran, binary, leaks};

/// Longest time that the daemon may take to answer after its start.
const START: Duration = Duration::from_secs(20);
/// Longest time that one command of the command line may take.
const COMMAND: Duration = Duration::from_secs(90);

/// A host with a daemon. Its state outlives a [`Rig::power_cut`]; everything goes when it is dropped.
pub struct Rig {
    /// Absent only between a power cut and the next boot.
    host: Option<Host>,
    /// State, site files, logs.
    folder: tempfile::TempDir,
    /// `nsenter`, whose child is the daemon.
    daemon: Option<Child>,
    /// What was on the host before the daemon.
    before: BTreeSet<String>,
}

impl Rig {
    /// A host that has just been switched on, with a daemon that answers; `None` where that can't be, see
    /// [`crate::cannot_run`].
    pub fn start() -> Option<Rig> {
        Rig::start_with(&[])
    }

    /// The same, for a test that needs further tools.
    pub fn start_with(needs: &[&str]) -> Option<Rig> {
        let mut rig = Rig::without_daemon(needs)?;
        rig.start_daemon();
        Some(rig)
    }

    /// A host without a daemon.
    pub fn without_daemon(needs: &[&str]) -> Option<Rig> {
        let all = [&["nsenter", "unshare", "ip", "nft", "curl"], needs].concat();
        if crate::cannot_run(&all) {
            return None;
        }
        let folder = tempfile::Builder::new()
            .prefix("linkspan-rig-")
            .tempdir_in("/var/tmp")
            .unwrap();
        // Containers' mapped roots must be able to pass.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o711)).unwrap();
        let host = Host::boot();
        let before = leaks::inventory(&host);
        Some(Rig {
            host: Some(host),
            folder,
            daemon: None,
            before,
        })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        self.host.as_ref().expect("the host is switched on")
    }

    /// A folder of this rig's own, gone with it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    // === The daemon ===

    /// Starts a daemon, and waits until it answers.
    ///
    /// # Panics
    ///
    /// When it ends, or doesn't answer in time; with its log.
    pub fn start_daemon(&mut self) {
        let state = self.state();
        let linkspan = binary("linkspan");
        let log = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        let mut command = self.host().command(
            Path::new("/"),
            &[
                linkspan.to_str().unwrap(),
                "daemon",
                "--state-dir",
                state.to_str().unwrap(),
            ],
        );
        let settings = self.folder().join("config.yaml");
        if settings.exists() {
            command.arg("--config").arg(settings);
        }
        command.stdout(log.try_clone().unwrap()).stderr(log);
        self.daemon = Some(command.spawn().unwrap());
        let begun = Instant::now();
        loop {
            let ran = self.linkspan(&["version"]);
            let answers = ran.code == 0 && self.linkspan(&["status", "--format", "json"]).code == 0;
            if answers {
                return;
            }
            let ended = self.daemon.as_mut().unwrap().try_wait().unwrap();
            if ended.is_some() || begun.elapsed() > START {
                panic!(
                    "the daemon does not answer ({ended:?}): {}\n{}",
                    ran.said(),
                    self.daemon_log()
                );
            }
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// The daemon's pid, as this machine numbers it.
    pub fn daemon_pid(&self) -> u32 {
        let nsenter = self.daemon.as_ref().expect("a daemon runs").id();
        children(nsenter).first().copied().expect("the daemon runs")
    }

    /// `kill -9` of the control daemon alone.
    pub fn kill_daemon(&mut self) {
        kill(Pid::from_raw(self.daemon_pid().cast_signed()), Signal::SIGKILL).unwrap();
        self.daemon.take().unwrap().wait().unwrap();
    }

    /// SIGTERM, and waits for the end.
    ///
    /// # Panics
    ///
    /// When it takes longer than half a minute.
    pub fn stop_daemon(&mut self) {
        kill(Pid::from_raw(self.daemon_pid().cast_signed()), Signal::SIGTERM).unwrap();
        let mut daemon = self.daemon.take().unwrap();
        let begun = Instant::now();
        while daemon.try_wait().unwrap().is_none() {
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "the daemon does not stop\n{}",
                self.daemon_log()
            );
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// What the daemon, and the programs it started, have logged.
    pub fn daemon_log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// Pulls the plug: all processes are killed, links, mounts, `/run` and the firewall are gone. The disk stays.
    pub fn power_cut(&mut self) {
        self.host = None;
        if let Some(mut nsenter) = self.daemon.take() {
            let _ = nsenter.wait();
        }
    }

    /// Switches the host on again. No daemon is started.
    pub fn power_on(&mut self) {
        let host = Host::boot();
        self.before = leaks::inventory(&host);
        self.host = Some(host);
    }

    /// Daemon settings, for the next start.
    pub fn settings(&self, yaml: &str) {
        fs::write(self.folder().join("config.yaml"), yaml).unwrap();
    }

    /// The daemon's state folder.
    pub fn state(&self) -> PathBuf {
        self.folder().join("state")
    }

    fn log_path(&self) -> PathBuf {
        self.folder().join("daemon.log")
    }

    // === The command line ===

    /// `linkspan ARGS` on this host.
    pub fn linkspan(&self, args: &[&str]) -> Ran {
        self.linkspan_in(Path::new("/"), args)
    }

    /// `linkspan ARGS` in a folder.
    pub fn linkspan_in(&self, folder: &Path, args: &[&str]) -> Ran {
        finish(self.linkspan_command(folder, args), COMMAND)
    }

    /// `linkspan ARGS`, not started yet.
    pub fn linkspan_command(&self, folder: &Path, args: &[&str]) -> Command {
        let linkspan = binary("linkspan");
        self.host()
            .command(folder, &[&[linkspan.to_str().unwrap()], args].concat())
    }

    /// A listing as JSON.
    ///
    /// # Panics
    ///
    /// When the command fails or prints something else.
    #[track_caller]
    pub fn json(&self, args: &[&str]) -> Value {
        let out = self.linkspan(&[args, &["--format", "json"]].concat()).ok();
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{args:?}: {error}: {out}"))
    }

    /// Writes `NAME/linkspan.yaml`; the folder.
    pub fn site(&self, name: &str, yaml: &str) -> PathBuf {
        let folder = self.folder().join("sites").join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::write(folder.join("linkspan.yaml"), yaml).unwrap();
        folder
    }

    /// Writes `NAME/linkspan.yaml`, and `linkspan up`.
    pub fn up(&self, name: &str, yaml: &str) -> Ran {
        let folder = self.site(name, yaml);
        self.linkspan_in(&folder, &["up"])
    }

    /// Loads one of the archives that `cargo xtask images` makes.
    ///
    /// # Panics
    ///
    /// When it can't be made or loaded.
    pub fn load_image(&self, name: &str) -> PathBuf {
        let archive = image(name);
        self.linkspan(&["load", "-i", archive.to_str().unwrap()]).ok();
        archive
    }

    /// `linkspan ps`, one object a container.
    pub fn ps(&self) -> Vec<Value> {
        self.json(&["ps", "--all"])
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// One container as `ps` shows it.
    ///
    /// # Panics
    ///
    /// When there is none of this name.
    #[track_caller]
    pub fn container(&self, name: &str) -> Value {
        let all = self.ps();
        let found = all.iter().find(|container| container["name"] == name);
        found
            .cloned()
            .unwrap_or_else(|| panic!("no container `{name}` in {all:#?}"))
    }

    /// Pid of the proxy, as this host numbers it.
    pub fn proxy_pid(&self) -> u32 {
        let status = self.json(&["status"]);
        let pid = status["proxy"]["pid"]
            .as_u64()
            .unwrap_or_else(|| panic!("no proxy in {status:#}"));
        u32::try_from(pid).unwrap()
    }

    /// The certificate of Linkspan's CA on this host, in a file.
    pub fn ca(&self) -> PathBuf {
        let path = self.folder().join("ca.pem");
        if !path.exists() {
            let pem = self.linkspan(&["ca", "print"]).ok();
            assert!(
                pem.starts_with("-----BEGIN CERTIFICATE-----"),
                "`ca print` printed `{pem}`"
            );
            fs::File::create(&path)
                .unwrap()
                .write_all(pem.as_bytes())
                .unwrap();
        }
        path
    }

    /// Waits until something holds.
    ///
    /// # Panics
    ///
    /// When it doesn't within the limit; with the daemon's log.
    #[track_caller]
    pub fn wait_until(&self, what: &str, limit: Duration, mut holds: impl FnMut() -> bool) -> Duration {
        let begun = Instant::now();
        while !holds() {
            assert!(
                begun.elapsed() < limit,
                "after {limit:?} still not: {what}\n{}",
                self.daemon_log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    /// Waits until something works; the last reason why it didn't is told.
    ///
    /// # Panics
    ///
    /// When it doesn't within the limit; with the daemon's log.
    #[track_caller]
    pub fn wait_until_ok(
        &self,
        what: &str,
        limit: Duration,
        mut works: impl FnMut() -> Result<(), String>,
    ) -> Duration {
        let begun = Instant::now();
        while let Err(reason) = works() {
            let late = begun.elapsed() > limit;
            assert!(
                !late,
                "after {limit:?} still not: {what}: {reason}\n{}",
                self.daemon_log()
            );
            thread::sleep(Duration::from_millis(20));
        }
        begun.elapsed()
    }

    /// What is on the host that wasn't before the daemon.
    pub fn leaks(&self) -> Vec<String> {
        leaks::inventory(self.host())
            .difference(&self.before)
            .cloned()
            .collect()
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("── the daemon's log\n{}", self.daemon_log());
        }
        self.power_cut();
    }
}

/// Path of an archive that `cargo xtask images` makes: `demo-web`, `demo-site`, `busybox` or `nginx`.
///
/// # Panics
///
/// When it can't be made.
pub fn image(name: &str) -> PathBuf {
    let mut command = Command::new(binary("xtask"));
    command.args(["images", name]).stdin(Stdio::null());
    let ran = finish(command, Duration::from_secs(280));
    let path = ran.ok();
    PathBuf::from(path.lines().last().unwrap_or_default())
}
