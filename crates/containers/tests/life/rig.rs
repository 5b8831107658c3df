//! A place to run containers in: folders, a layer of busybox, namespaces.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use linkspan_containers::{Config, Containers, Event, ExecSpec, Exit, LogOptions, LogStream, Sandbox};
use linkspan_plan::{ContainerId, ContainerSpec, IdRange, LogSpec, NetworkNamespace, Resources};
use linkspan_site::{Restart, Seccomp};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// Host id of root in the tests' containers.
pub(crate) const FIRST: u32 = 1_300_000;
const LAYER: &str = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
const CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Which OCI runtime a test is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Runtime {
    Ours,
    Runc,
}

pub(crate) struct Rig {
    folder: tempfile::TempDir,
    pub(crate) containers: Containers,
    pub(crate) events: UnboundedReceiver<Event>,
    pub(crate) config: Config,
    /// Keeps the namespaces.
    holder: Option<Child>,
    pub(crate) sandbox: Sandbox,
}

/// False, having said why, when this machine can't run containers. On the project's own machines that is a failure.
pub(crate) fn possible(runtime: Runtime) -> bool {
    let missing = if !nix::unistd::geteuid().is_root() {
        Some("not root")
    } else if !Path::new("/bin/busybox").exists() {
        Some("no busybox-static")
    } else if runtime == Runtime::Runc && !Path::new("/usr/bin/runc").exists() {
        Some("no runc")
    } else {
        None
    };
    let Some(reason) = missing else { return true };
    println!("SKIP: {reason}");
    assert_ne!(
        std::env::var("CI").as_deref(),
        Ok("true"),
        "must not be skipped: {reason}"
    );
    false
}

impl Rig {
    pub(crate) fn new(runtime: Runtime) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("linkspan-containers-")
            .tempdir()
            .unwrap();
        open(folder.path());
        let layers = folder.path().join("layers");
        make_layer(&layers.join(LAYER.trim_start_matches("sha256:")));
        let config = Config {
            state_dir: folder.path().join("state"),
            run_dir: folder.path().join("run"),
            layers_dir: layers,
            binary: PathBuf::from(env!("CARGO_BIN_EXE_linkspan-roles")),
            runtime: (runtime == Runtime::Runc).then(|| PathBuf::from("/usr/bin/runc")),
        };
        let (holder, sandbox) = namespaces(true);
        let (sender, events) = unbounded_channel();
        let containers = Containers::open(config.clone(), sender).unwrap();
        Self {
            folder,
            containers,
            events,
            config,
            holder: Some(holder),
            sandbox,
        }
    }

    /// As if netd had died and another had come: everything that was known is forgotten.
    pub(crate) async fn forget(&mut self) -> Vec<linkspan_containers::Adopted> {
        let (sender, events) = unbounded_channel();
        self.containers = Containers::open(self.config.clone(), sender).unwrap();
        self.events = events;
        self.containers.adopt().await
    }

    /// Makes this thread's network namespace, which stands for the host's, a new one with a link `host0`; and containers
    /// get a sandbox without network.
    pub(crate) fn on_a_host(&mut self) {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        for line in [
            "link set lo up",
            "link add host0 type bridge",
            "addr add 192.0.2.1/24 dev host0",
            "link set host0 up",
        ] {
            let status = Command::new("ip").args(line.split(' ')).status().unwrap();
            assert!(status.success(), "{line}");
        }
        let (holder, sandbox) = namespaces(false);
        let mut before = self.holder.replace(holder).unwrap();
        before.kill().unwrap();
        before.wait().unwrap();
        self.sandbox = sandbox;
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn spec(&self, script: &str) -> ContainerSpec {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        ContainerSpec {
            id: ContainerId(format!("{:08x}{number:08x}", std::process::id())),
            name: format!("test-{number}"),
            hostname: "box".to_owned(),
            layers: vec![LAYER.to_owned()],
            args: vec![
                "/bin/sh".to_owned(),
                "-c".to_owned(),
                format!("exec 2>&1; {script}"),
            ],
            env: vec!["GREETING=hello".to_owned()],
            cwd: "/".to_owned(),
            user: String::new(),
            terminal: false,
            ids: Some(IdRange {
                first: FIRST,
                count: 65_536,
            }),
            mounts: Vec::new(),
            read_only: false,
            hosts: Vec::new(),
            addresses: Vec::new(),
            nameservers: vec!["169.254.53.53".parse().unwrap()],
            search: Vec::new(),
            capabilities: CAPABILITIES.iter().map(ToString::to_string).collect(),
            privileged: false,
            no_new_privileges: true,
            seccomp: Seccomp::Default,
            devices: Vec::new(),
            resources: Resources::default(),
            ulimits: BTreeMap::new(),
            sysctls: BTreeMap::new(),
            init: false,
            stop_signal: 15,
            stop_grace: Duration::from_secs(10),
            healthcheck: None,
            restart: Restart::No,
            log: LogSpec {
                max_size: 1 << 20,
                max_files: 3,
            },
            network: NetworkNamespace::Own,
            attachments: Vec::new(),
        }
    }

    /// Creates and starts.
    pub(crate) async fn up(&self, spec: &ContainerSpec) -> u32 {
        self.containers
            .create(spec, &self.sandbox)
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        self.containers
            .start(&spec.id)
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)))
    }

    /// Runs to the end; gives the exit and everything it wrote, stdout and stderr.
    pub(crate) async fn run(&mut self, spec: &ContainerSpec) -> (Exit, String) {
        self.up(spec).await;
        let exit = loop {
            if let Event::Exited { id, exit } = self.event().await
                && id == spec.id
            {
                break exit;
            }
        };
        (exit, self.log(&spec.id).await)
    }

    pub(crate) async fn exit(&mut self) -> Exit {
        loop {
            if let Event::Exited { exit, .. } = self.event().await {
                return exit;
            }
        }
    }

    pub(crate) async fn event(&mut self) -> Event {
        tokio::time::timeout(Duration::from_secs(20), self.events.recv())
            .await
            .expect("an event")
            .unwrap()
    }

    pub(crate) async fn log(&self, id: &ContainerId) -> String {
        let mut reader = self.containers.log_files(id, &LogOptions::default());
        let mut text = Vec::new();
        while let Some(line) = reader.next().await.unwrap() {
            text.extend_from_slice(&line.bytes);
        }
        String::from_utf8(text).unwrap()
    }

    /// Runs a program inside; gives its status and output.
    pub(crate) async fn exec(&self, id: &ContainerId, script: &str) -> (Option<i32>, String) {
        let args = ["/bin/sh", "-c", script].map(str::to_owned).to_vec();
        self.exec_as(
            id,
            &ExecSpec {
                args,
                ..ExecSpec::default()
            },
        )
        .await
    }

    pub(crate) async fn exec_as(&self, id: &ContainerId, spec: &ExecSpec) -> (Option<i32>, String) {
        let mut session = self
            .containers
            .exec(id, spec)
            .await
            .unwrap_or_else(|error| panic!("{}", chain(&error)));
        let mut text = Vec::new();
        while let Some((stream, bytes)) = session.output.recv().await {
            assert!(matches!(stream, LogStream::Stdout | LogStream::Stderr));
            text.extend_from_slice(&bytes);
        }
        (session.wait().await, String::from_utf8(text).unwrap())
    }

    /// The first of these files that the container's cgroup has.
    pub(crate) fn in_cgroup(&self, id: &ContainerId, files: &[&str]) -> String {
        let found = Command::new("find")
            .arg("/sys/fs/cgroup")
            .args(["-name", id.as_str()])
            .output()
            .unwrap();
        let folders = String::from_utf8(found.stdout).unwrap();
        folders
            .lines()
            .flat_map(|folder| files.iter().map(move |file| Path::new(folder).join(file)))
            .find_map(|file| std::fs::read_to_string(file).ok())
            .unwrap()
    }

    /// A bundle as `runc spec` would make it, with a new user namespace.
    pub(crate) fn bundle(&self, script: &str) -> PathBuf {
        let bundle = self.folder().join("bundle");
        let rootfs = bundle.join("rootfs");
        make_layer(&rootfs);
        let status = Command::new("chown")
            .arg("-R")
            .arg(format!("{FIRST}:{FIRST}"))
            .arg(&rootfs)
            .status()
            .unwrap();
        assert!(status.success());
        open(&bundle);
        let map = format!(r#"[{{"containerID":0,"hostID":{FIRST},"size":65536}}]"#);
        let config = format!(
            r#"{{"ociVersion":"1.0.2","process":{{"args":["/bin/sh","-c","{script}"],"cwd":"/","env":["PATH=/bin"],
                "user":{{"uid":0,"gid":0}},"noNewPrivileges":true}},"root":{{"path":"rootfs"}},"hostname":"bundle",
                "mounts":[{{"destination":"/proc","type":"proc","source":"proc"}}],
                "linux":{{"uidMappings":{map},"gidMappings":{map},"cgroupsPath":"/linkspan-by-hand-{pid}",
                "namespaces":[{{"type":"pid"}},{{"type":"mount"}},{{"type":"uts"}},{{"type":"ipc"}},{{"type":"user"}}]}}}}"#,
            pid = std::process::id()
        );
        std::fs::write(bundle.join("config.json"), config).unwrap();
        bundle
    }

    /// Everything of a container that a host could still see.
    pub(crate) fn traces(&self, id: &ContainerId) -> Vec<String> {
        let mut traces = Vec::new();
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        traces.extend(
            mounts
                .lines()
                .filter(|line| line.contains(id.as_str()))
                .map(str::to_owned),
        );
        let output = Command::new("find")
            .arg("/sys/fs/cgroup")
            .args(["-name", id.as_str()])
            .output()
            .unwrap();
        traces.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        let output = Command::new("find")
            .arg(self.folder())
            .args(["-name", id.as_str()])
            .output()
            .unwrap();
        traces.extend(String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned));
        for process in std::fs::read_dir("/proc").unwrap().flatten() {
            let command = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
            let command = String::from_utf8_lossy(&command).replace('\0', " ");
            if command.contains(id.as_str()) {
                traces.push(command);
            }
        }
        traces
    }
}

impl Drop for Rig {
    /// Also after a test that failed half-way.
    fn drop(&mut self) {
        let config = self.config.clone();
        let clear = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                let containers = Containers::open(config, unbounded_channel().0).unwrap();
                for one in containers.adopt().await {
                    let _ = containers.remove(&one.id).await;
                }
                for id in containers.leftovers() {
                    let _ = containers.remove(&id).await;
                }
            });
        });
        let _ = clear.join();
        if let Some(mut holder) = self.holder.take() {
            let _ = holder.kill();
            let _ = holder.wait();
        }
    }
}

/// The whole chain of an error.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

fn open(path: &Path) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).unwrap();
}

fn make_layer(layer: &Path) {
    for folder in ["bin", "etc", "tmp", "data", "home/web", "proc", "sys", "dev"] {
        std::fs::create_dir_all(layer.join(folder)).unwrap();
    }
    std::fs::set_permissions(layer.join("tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    std::fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    let list = Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(list.stdout).unwrap().lines() {
        let _ = std::os::unix::fs::symlink("busybox", layer.join("bin").join(applet));
    }
    std::fs::write(
        layer.join("etc/passwd"),
        "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/home/web:/bin/sh\n",
    )
    .unwrap();
    std::fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:33:\n").unwrap();
    std::fs::write(layer.join("data/seed"), "from the image\n").unwrap();
    std::fs::write(layer.join("etc/not-a-program"), "text\n").unwrap();
    std::os::unix::fs::chown(layer.join("data/seed"), Some(33), Some(33)).unwrap();
    std::os::unix::fs::chown(layer.join("home/web"), Some(33), Some(33)).unwrap();
}

/// A user namespace, and a network namespace with its loopback up; kept by a process that waits for its stdin to close.
fn namespaces(network: bool) -> (Child, Sandbox) {
    let mut holder = Command::new("unshare")
        .arg("--user")
        .args(network.then_some("--net"))
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    holder.stdin.as_mut().unwrap().write_all(b"there\n").unwrap();
    let mut line = String::new();
    BufReader::new(holder.stdout.as_mut().unwrap())
        .read_line(&mut line)
        .unwrap();
    let proc = PathBuf::from(format!("/proc/{}", holder.id()));
    let map = format!("0 {FIRST} 65536\n");
    std::fs::write(proc.join("uid_map"), &map).unwrap();
    std::fs::write(proc.join("gid_map"), &map).unwrap();
    if network {
        let target = holder.id().to_string();
        let up = [
            "--target", &target, "--user", "--net", "ip", "link", "set", "lo", "up",
        ];
        assert!(Command::new("nsenter").args(up).status().unwrap().success());
    }
    let sandbox = Sandbox {
        user: Some(proc.join("ns/user")),
        net: network.then(|| proc.join("ns/net")),
    };
    (holder, sandbox)
}

/// Parent of a process.
pub(crate) fn parent_of(pid: u32) -> i32 {
    field_of(pid, 1).parse().unwrap()
}

/// One letter, `Z` for one that ended.
pub(crate) fn state_of(pid: u32) -> char {
    field_of(pid, 0).chars().next().unwrap()
}

/// A field of `/proc/<pid>/stat`, counted from the state.
fn field_of(pid: u32, number: usize) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    text.rsplit(") ")
        .next()
        .unwrap()
        .split(' ')
        .nth(number)
        .unwrap()
        .to_owned()
}
