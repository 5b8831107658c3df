//! A host in namespaces: network, mounts, processes, cgroups and name of its own, on this machine's kernel and files.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// Enters a cgroup of its own in every hierarchy, then new namespaces. `$1` names the cgroup, `$2` is the inner script.
const OUTER: &str = r#"
set -e
name=$1 inner=$2
for procs in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
  [ -e "$procs" ] || continue
  folder=${procs%/*}
  # A folder that a process lives in may not hand on controllers, so on cgroup v2 init lives one deeper.
  case $(stat -fc %T "$folder") in cgroup2fs) leaf=/init ;; *) leaf= ;; esac
  [ "$folder" = /sys/fs/cgroup ] || [ ! -e "$folder/cgroup.clone_children" ] || echo 1 > "$folder/cgroup.clone_children"
  mkdir -p "$folder/$name$leaf"
  echo $$ > "$folder/$name/cgroup.procs"
done
exec unshare --cgroup --net --mount --pid --uts --ipc --fork --kill-child=KILL sh -c "$inner"
"#;

/// Pid 1 of the host: its own view of kernel file systems, then nothing but reaping.
const INNER: &str = r#"
set -e
mount --make-rprivate /
mount -t proc proc /proc
hierarchies=$(cd /sys/fs/cgroup; for folder in */cgroup.procs; do [ -e "$folder" ] && echo "${folder%/*}"; done; true)
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
  mount -t sysfs sysfs /sys
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
  echo $$ > /sys/fs/cgroup/init/cgroup.procs
else
  mount -t sysfs sysfs /sys
  mount -t tmpfs tmpfs /sys/fs/cgroup
  for hierarchy in $hierarchies; do
    mkdir /sys/fs/cgroup/$hierarchy
    case $hierarchy in
      unified) mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified; echo $$ > /sys/fs/cgroup/unified/init/cgroup.procs ;;
      systemd) mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd ;;
      *) mount -t cgroup -o $hierarchy cgroup /sys/fs/cgroup/$hierarchy ;;
    esac
  done
fi
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/lock
# What is written below /etc is this host's alone.
mkdir -p /run/etc/upper /run/etc/work
mount -t overlay -o lowerdir=/etc,upperdir=/run/etc/upper,workdir=/run/etc/work etc /etc
hostname rig
ip link set lo up
# A neighbour, through which the rest of the world would be: the "LAN".
ip netns add lan
ip link add wan0 type veth peer name eth0 netns lan
ip addr add 192.0.2.1/24 dev wan0
ip addr add 2001:db8::1/64 dev wan0 nodad
ip -n lan addr add 192.0.2.2/24 dev eth0
ip -n lan addr add 2001:db8::2/64 dev eth0 nodad
ip link set wan0 up
ip -n lan link set lo up
ip -n lan link set eth0 up
ip route add default via 192.0.2.2
ip route add default via 2001:db8::2
echo ready
while :; do sleep 1000 & wait $!; done
"#;

/// Moves the caller into the host's cgroup and a folder, then runs the command.
const ENTER: &str = r#"
cd "$1"; shift
for procs in /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/*/cgroup.procs; do
  [ -e "$procs" ] || continue
  folder=${procs%/*}
  [ -d "$folder/init" ] && procs=$folder/init/cgroup.procs
  echo $$ > "$procs"
done
exec "$@"
"#;

/// A host in namespaces. Dropping it is a power cut: every process inside is killed.
pub struct Host {
    /// `unshare`, parent of the host's pid 1; its death is the host's.
    outer: Child,
    /// Pid 1 of the host, as this machine numbers it.
    init: u32,
    cgroup: String,
}

/// How a command ended.
#[derive(Debug)]
pub struct Ran {
    /// Exit status; -1 when a signal ended it.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
    /// From start to end.
    pub took: Duration,
}

impl Ran {
    /// Standard output of a command that must have succeeded.
    ///
    /// # Panics
    ///
    /// When it didn't, with all that it said.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(
            self.code, 0,
            "exit status {}\nstdout: {}\nstderr: {}",
            self.code, self.out, self.err
        );
        self.out
    }

    /// Both outputs.
    pub fn said(&self) -> String {
        format!("{}{}", self.out, self.err)
    }
}

impl Host {
    /// Switches a host on.
    ///
    /// # Panics
    ///
    /// When this machine's kernel refuses.
    pub fn boot() -> Host {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep();
        let cgroup = format!(
            "linkspan-rig-{}-{}",
            std::process::id(),
            COUNT.fetch_add(1, Ordering::Relaxed)
        );
        let mut outer = Command::new("sh")
            .args(["-c", OUTER, "sh", &cgroup, INNER])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(outer.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        assert_eq!(line, "ready\n", "the host in namespaces did not come up");
        let init = children(outer.id())
            .first()
            .copied()
            .expect("unshare has a child");
        Host { outer, init, cgroup }
    }

    /// Pid 1, as this machine numbers it.
    pub fn init(&self) -> u32 {
        self.init
    }

    /// Folders of this host's cgroup, one for each hierarchy.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        cgroup_folders(&self.cgroup)
    }

    /// A command in a folder of this host; its process is `nsenter`, the command is the only child.
    pub fn command(&self, folder: &Path, args: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "-t",
                &self.init.to_string(),
                "-m",
                "-n",
                "-p",
                "-u",
                "-i",
                "-C",
                "--",
                "sh",
                "-c",
                ENTER,
                "sh",
            ])
            .arg(folder)
            .args(args)
            .env_clear()
            .envs([(
                "PATH",
                "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
            )])
            .envs([
                ("LANG", "C.UTF-8"),
                ("HOME", "/run"),
                ("TERM", "dumb"),
                ("RUST_BACKTRACE", "1"),
            ])
            .stdin(Stdio::null());
        command
    }

    /// Runs a command to its end, at most for so long.
    ///
    /// # Panics
    ///
    /// When it takes longer.
    pub fn run_within(&self, limit: Duration, folder: &Path, args: &[&str]) -> Ran {
        finish(self.command(folder, args), limit)
    }

    /// Runs a command to its end, at most for a minute.
    pub fn run(&self, args: &[&str]) -> Ran {
        self.run_within(Duration::from_secs(60), Path::new("/"), args)
    }

    /// Runs a command on the neighbour in the LAN, which reaches this host at 192.0.2.1 and 2001:db8::1.
    pub fn run_in_lan(&self, args: &[&str]) -> Ran {
        self.run_on("lan", args)
    }

    /// Runs a command on another machine: a named network namespace of this host.
    pub fn run_on(&self, machine: &str, args: &[&str]) -> Ran {
        self.run(&[&["ip", "netns", "exec", machine], args].concat())
    }

    /// Sends a signal to a process, as this host numbers it.
    pub fn kill(&self, pid: u32, signal: &str) {
        self.run(&["kill", "-s", signal, &pid.to_string()]).ok();
    }

    /// Processes of this host save its pid 1 and that one's `sleep`: pid on this machine and command line.
    pub fn processes(&self) -> Vec<(u32, String)> {
        let Ok(own) = fs::read_link(format!("/proc/{}/ns/pid", self.init)) else {
            return Vec::new();
        };
        let idle = children(self.init);
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok())
            else {
                continue;
            };
            if fs::read_link(entry.path().join("ns/pid")).ok().as_ref() != Some(&own) || pid == self.init {
                continue;
            }
            let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line)
                .replace('\0', " ")
                .trim()
                .to_owned();
            // An empty command line is a zombie, which has ended.
            if line.is_empty() || (idle.contains(&pid) && line == "sleep 1000") {
                continue;
            }
            found.push((pid, line));
        }
        found
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // Pid 1 takes all of the host's processes with it, and with them go namespaces and mounts.
        let _ = nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(self.init.cast_signed()),
            nix::sys::signal::Signal::SIGKILL,
        );
        let _ = self.outer.wait();
        for folder in self.cgroups() {
            remove_cgroup(&folder);
        }
    }
}

/// Runs a command to its end with its output collected.
///
/// # Panics
///
/// When it can't be started, or takes longer than `limit`.
pub(crate) fn finish(mut command: Command, limit: Duration) -> Ran {
    let begun = Instant::now();
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let collect = |mut from: Box<dyn Read + Send>| {
        thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = from.read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        })
    };
    let out = collect(Box::new(child.stdout.take().unwrap()));
    let err = collect(Box::new(child.stderr.take().unwrap()));
    let status: Option<ExitStatus> = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break Some(status);
        }
        if begun.elapsed() > limit {
            for pid in children(child.id()) {
                let pid = nix::unistd::Pid::from_raw(pid.cast_signed());
                let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
            }
            let _ = child.kill();
            let _ = child.wait();
            break None;
        }
        thread::sleep(Duration::from_millis(2));
    };
    let took = begun.elapsed();
    let (out, err) = (out.join().unwrap(), err.join().unwrap());
    let Some(status) = status else {
        panic!("{command:?} took longer than {limit:?}\nstdout: {out}\nstderr: {err}");
    };
    Ran {
        code: status.code().unwrap_or(-1),
        out,
        err,
        took,
    }
}

/// Direct children of a process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let list = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .collect()
}

fn cgroup_folders(name: &str) -> Vec<PathBuf> {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(
        fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    roots
        .into_iter()
        .map(|root| root.join(name))
        .filter(|folder| folder.is_dir())
        .collect()
}

/// Removes the cgroups of rigs whose test was killed.
fn sweep() {
    let mut roots = vec![PathBuf::from("/sys/fs/cgroup")];
    roots.extend(
        fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.path()),
    );
    for entry in roots
        .iter()
        .filter_map(|root| fs::read_dir(root).ok())
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let owner = name
            .strip_prefix("linkspan-rig-")
            .and_then(|rest| rest.split('-').next());
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            remove_cgroup(&entry.path());
        }
    }
}

/// Deepest first; a cgroup whose last process has just died is busy for a moment.
fn remove_cgroup(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.path().is_dir() {
            remove_cgroup(&entry.path());
        }
    }
    for _ in 0..100 {
        match fs::remove_dir(folder) {
            Err(error) if error.kind() == std::io::ErrorKind::ResourceBusy => {
                thread::sleep(Duration::from_millis(10));
            }
            _ => return,
        }
    }
}
