//! From a configuration to a running daemon: adopt what outlived the one before, then begin to reconcile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linkspan_api::feed::SocketKind;
use linkspan_containers::{Adopted, Containers, Phase};
use linkspan_hostnet::HostNet;
use linkspan_images::Store as Images;
use linkspan_plan::{ContainerId, Health, Observation, Planner, Record, Run, Settings as PlanSettings};
use linkspan_site::Restart;
use linkspan_telemetry::chain;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

use crate::Config;
use crate::certs::{Authority, CertError};
use crate::events::{Events, now_ms};
use crate::http::{self, Api, ApiError};
use crate::inside::Inside;
use crate::learn::plan_health;
use crate::reconcile::{Host, Inboxes, Reconciler, View};
use crate::resolv::{self, Resolv};
use crate::settings::{Settings, SettingsError};
use crate::sockets::{SocketError, Sockets};
use crate::store::{Batch, Contents, Store, StoreError};
use crate::supervise::{self, Launch, Note, Order};

/// A proxy that outlived its daemon answers at once, or it is not there.
const ADOPTION: Duration = Duration::from_secs(5);

/// A container that was started so shortly before it is adopted is asked whether it is ready.
const YOUNG_MS: u64 = 10_000;

/// The daemon can't start.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum StartError {
    #[error(
        "the daemon must be root: it makes networks, mounts and namespaces; run it with `sudo` or as a service"
    )]
    NotRoot,
    #[error("folder `{path}` can't be made")]
    Folder {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("signals can't be received")]
    Signals(#[source] io::Error),
    #[error("no random numbers can be had")]
    Random,
    #[error(transparent)]
    Settings(#[from] SettingsError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Api(#[from] ApiError),
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("the certificate authority can't be used")]
    Authority(#[from] CertError),
    #[error("the network can't be used")]
    Network(#[from] linkspan_hostnet::OpenError),
    #[error("containers can't be run")]
    Containers(#[from] linkspan_containers::OpenError),
    #[error("the image store can't be used")]
    Images(#[from] linkspan_images::OpenError),
}

impl StartError {
    /// Is it the caller's to mend (arguments, settings, privilege, a port that is taken) rather than a failure of ours?
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NotRoot
                | Self::Settings(_)
                | Self::Api(ApiError::Busy { .. })
                | Self::Socket(SocketError::Taken { .. })
                | Self::Store(StoreError::Newer { .. })
        )
    }
}

/// A running daemon.
#[derive(Debug)]
pub struct Netd {
    stop: watch::Sender<bool>,
    reconciler: JoinHandle<Reconciler>,
    api: JoinHandle<()>,
    run_dir: std::path::PathBuf,
}

impl Netd {
    /// Starts a daemon. What outlived an earlier one on the same folders is adopted, not restarted.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        if !nix::unistd::geteuid().is_root() {
            return Err(StartError::NotRoot);
        }
        let settings = settings(&config)?;
        folder(&config.state_dir, 0o700)?;
        // Mapped root must pass through to its root file system; it can list nothing.
        folder(&config.run_dir, 0o711)?;
        let listener = http::bind(&config.run_dir, &settings.group).await?;
        let store = Store::open(&config.state_dir.join("state.redb"))?;
        let mut contents = store.load()?;
        let (authority, seed) = secrets(&store, &contents)?;
        let (container_news, container_inbox) = mpsc::unbounded_channel();
        let hostnet = HostNet::open(linkspan_hostnet::Config {
            run_dir: config.run_dir.clone(),
            binary: config.binary.clone(),
            root: "/".into(),
        })
        .await?;
        let (hints, inside) = (hostnet.watch(), hostnet.watch_sandboxes());
        let images = Images::open(linkspan_images::Config {
            state_dir: config.state_dir.clone(),
            binary: config.binary.clone(),
        })?;
        let containers = Containers::open(
            linkspan_containers::Config {
                state_dir: config.state_dir.clone(),
                run_dir: config.run_dir.clone(),
                layers_dir: images.layers_dir(),
                binary: config.binary.clone(),
                runtime: settings.runtime.clone(),
            },
            container_news,
        )?;
        let workers = settings
            .proxy_workers
            .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
        let (notes, notes_inbox) = mpsc::unbounded_channel();
        let gathered = gather(&config, &settings, &hostnet, workers, notes, notes_inbox).await;
        if gathered.is_err() && contents.desired.projects.is_empty() && contents.records.is_empty() {
            // Nothing is up that would need it.
            if let Err(error) = hostnet.remove_all().await {
                tracing::warn!(error = chain(&error), "something of the network is left");
            }
        }
        let (orders, notes_inbox, found, sockets) = gathered?;
        let view = watch::Sender::new(Arc::new(View::default()));
        let (requests, request_inbox) = mpsc::channel(64);
        let events = Events::new();
        let api = Api {
            requests,
            view: view.subscribe(),
            events: events.clone(),
            containers: containers.clone(),
            images: images.clone(),
            hostnet: hostnet.clone(),
        };
        let mut reconciler = Reconciler {
            plan_settings: plan_settings(&settings, seed),
            store,
            seen: BTreeMap::new(),
            hostnet,
            containers,
            images,
            events,
            authority,
            desired: std::mem::take(&mut contents.desired).into(),
            leases: std::mem::take(&mut contents.leases).into(),
            planner: Planner::default(),
            judged: Mutex::default(),
            sources: std::mem::take(&mut contents.sources)
                .into_iter()
                .map(|(name, source)| (name, source.into()))
                .collect(),
            host: Host::default(),
            inside: Inside::default(),
            sockets,
            shards: u32::try_from(workers).unwrap_or(1),
            foreign_ports: BTreeSet::new(),
            orders,
            proxy: None,
            snapshot: linkspan_api::feed::Snapshot::default(),
            snapshot_of: None,
            last_plan: None,
            came_further: false,
            served: watch::Sender::new(0),
            resolv: Resolv::watch(Path::new(resolv::FILE)),
            jobs: JoinSet::new(),
            probes: JoinSet::new(),
            probing: BTreeMap::new(),
            ended: BTreeMap::new(),
            drains: BTreeMap::new(),
            early_exits: BTreeMap::new(),
            unsaved: Batch::default(),
            desired_unsaved: false,
            job_tasks: HashMap::new(),
            announced: BTreeMap::new(),
            touched: BTreeSet::new(),
            troubles: BTreeMap::new(),
            conflicts: Vec::new(),
            coexist_at: None,
            coexists: false,
            accepts: JoinSet::new(),
            view,
            settings,
        };
        reconciler.look_at_host(true).await;
        reconciler.adopt(contents.records).await;
        reconciler.look_inside_all();
        if let Some(note) = found {
            reconciler.learn_note(note);
        }
        let (stop, stopped) = watch::channel(false);
        let inboxes = Inboxes {
            requests: request_inbox,
            containers: container_inbox,
            hints,
            inside,
            notes: notes_inbox,
            stop: stopped,
        };
        tracing::info!(socket = %http::socket_path(&config.run_dir).display(), "ready");
        Ok(Self {
            stop,
            reconciler: tokio::spawn(reconciler.run(inboxes)),
            api: tokio::spawn(http::serve(listener, api)),
            run_dir: config.run_dir,
        })
    }

    /// Ends the daemon. When nothing is up, nothing stays behind; else containers and proxy go on.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.api.abort();
        let Ok(reconciler) = self.reconciler.await else {
            return;
        };
        let _ = fs::remove_file(http::socket_path(&self.run_dir));
        let mut unsaved = reconciler.unsaved.clone();
        if reconciler.desired_unsaved {
            unsaved = unsaved.put("desired", &reconciler.desired);
        }
        if let Err(error) = reconciler.commit(unsaved).await {
            tracing::warn!(error = chain(&error), "what happened last is not noted down");
        }
        let nothing_is_up = reconciler.desired.projects.is_empty() && reconciler.seen.is_empty();
        if !nothing_is_up {
            tracing::info!(
                "containers and proxy go on; `linkspan down` before stopping the daemon ends them"
            );
            return;
        }
        let _ = reconciler.orders.send(Order::Stop);
        if let Some(proxy) = &reconciler.proxy {
            wait_for_end(proxy.pid).await;
        }
        if let Err(error) = reconciler.hostnet.remove_all().await {
            tracing::warn!(error = chain(&error), "something of the network is left");
        }
        // Only empty folders go; what somebody else put there stays.
        for name in ["proxy/feed.sock", "proxy/access.log", "proxy/access.log.1"] {
            let _ = fs::remove_file(self.run_dir.join(name));
        }
        for name in ["proxy", "containers", "ns", "oci"] {
            let _ = fs::remove_dir(self.run_dir.join(name));
        }
        let _ = fs::remove_dir(&self.run_dir);
    }
}

/// Waits until a process that isn't our child has ended.
async fn wait_for_end(pid: u32) {
    let alive = || Path::new(&format!("/proc/{pid}/exe")).read_link().is_ok();
    for _ in 0..500 {
        if !alive() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tracing::warn!(pid, "the proxy doesn't end");
}

fn settings(config: &Config) -> Result<Settings, SettingsError> {
    let mut settings = Settings::read(config.settings.as_deref())?;
    if !config.http.is_empty() {
        settings.http.clone_from(&config.http);
    }
    if !config.https.is_empty() {
        settings.https.clone_from(&config.https);
    }
    Ok(settings)
}

fn folder(path: &Path, mode: u32) -> Result<(), StartError> {
    let failed = |source| StartError::Folder {
        path: path.display().to_string(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .map_err(failed)?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(failed)
}

/// The authority and the seed of container ids, made at the first start.
fn secrets(store: &Store, contents: &Contents) -> Result<(Authority, u64), StartError> {
    let seed = match contents.seed {
        Some(seed) => seed,
        None => {
            let mut bytes = [0; 8];
            getrandom::fill(&mut bytes).map_err(|_| StartError::Random)?;
            let seed = u64::from_le_bytes(bytes);
            store.commit(&Batch::default().put("seed", &seed))?;
            seed
        }
    };
    let authority = match &contents.authority {
        Some(stored) => Authority::read(stored, seed)?,
        None => {
            let (authority, stored) = Authority::create(seed)?;
            store.commit(&Batch::default().put("authority", &stored))?;
            authority
        }
    };
    Ok((authority, seed))
}

fn plan_settings(settings: &Settings, seed: u64) -> PlanSettings {
    let machine = fs::read_to_string("/etc/machine-id")
        .ok()
        .and_then(|text| u64::from_str_radix(text.trim().get(..16)?, 16).ok())
        .unwrap_or(seed);
    PlanSettings {
        seed,
        machine,
        pools: settings.plan_pools(),
        avoid: settings.avoid.clone(),
        prefix6: Some(unique_local(machine)),
        ids_first: settings.ids_first,
        ids_ranges: settings.ids_ranges,
        log: settings.plan_log(),
        hold: Duration::from_millis(settings.limits.hold_ms),
    }
}

/// A /48 of our own (RFC 4193 section 3.1): `fd`, then 40 bits that are seldom another host's.
fn unique_local(machine: u64) -> ipnetwork::Ipv6Network {
    let global = u128::from(machine >> 24) & 0xff_ffff_ffff;
    let bits = (0xfd_u128 << 120) | (global << 80);
    ipnetwork::Ipv6Network::new_checked(bits.into(), 48)
        .unwrap_or_else(|| std::net::Ipv6Addr::from(bits).into())
}

type Gathered = (
    mpsc::UnboundedSender<Order>,
    mpsc::UnboundedReceiver<Note>,
    Option<Note>,
    Sockets,
);

/// Gets back the sockets of a proxy that runs, and binds those that are missing.
async fn gather(
    config: &Config,
    settings: &Settings,
    hostnet: &HostNet,
    workers: usize,
    notes: mpsc::UnboundedSender<Note>,
    mut inbox: mpsc::UnboundedReceiver<Note>,
) -> Result<Gathered, StartError> {
    folder(&config.run_dir.join("proxy"), 0o711)?;
    let launch = Launch {
        binary: config.binary.clone(),
        run_dir: config.run_dir.clone(),
        namespace: hostnet.resolver_netns(),
        user: settings.proxy_user,
        group: settings.proxy_group,
        workers,
    };
    let orders = supervise::keep(launch, notes);
    let mut sockets = Sockets::default();
    // The first note says whether a proxy outlived the daemon before. Its sockets must be ours before we bind any.
    let found = match timeout(ADOPTION, inbox.recv()).await {
        Ok(Some(Note::Up {
            pid,
            generation,
            sockets: held,
        })) => {
            let mut copies = Vec::new();
            for (id, socket) in &held {
                if let Ok(copy) = socket.try_clone() {
                    copies.push((id.clone(), copy));
                }
            }
            sockets.adopt(copies);
            Some(Note::Up {
                pid,
                generation,
                sockets: held,
            })
        }
        _ => None,
    };
    let shards = u32::try_from(workers).unwrap_or(1);
    for (kind, addresses) in [
        (SocketKind::Http, &settings.http),
        (SocketKind::Https, &settings.https),
    ] {
        for address in addresses {
            match sockets.listen(kind, *address, shards) {
                // A host without IPv6 has no IPv6 listener; everything else is an error.
                Err(SocketError::Bind { source, .. })
                    if address.is_ipv6() && config.http.is_empty() && no_ipv6(&source) =>
                {
                    tracing::info!(%address, "no IPv6 here");
                }
                other => drop(other?),
            }
        }
    }
    sockets.listen_resolver(&hostnet.resolver_netns())?;
    // The keeper waits for this only where it found no proxy.
    let _ = orders.send(Order::Begin);
    Ok((orders, inbox, found, sockets))
}

fn no_ipv6(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(nix::errno::Errno::from_raw),
        Some(nix::errno::Errno::EAFNOSUPPORT | nix::errno::Errno::EADDRNOTAVAIL)
    )
}

impl Reconciler {
    /// Joins what the store remembers with what the shims say.
    async fn adopt(&mut self, records: Vec<Record>) {
        let mut found: BTreeMap<ContainerId, Adopted> = self
            .containers
            .adopt()
            .await
            .into_iter()
            .map(|one| (one.id.clone(), one))
            .collect();
        for record in records {
            let id = record.spec.id.clone();
            let observation = match found.remove(&id) {
                Some(adopted) => self.join(record, &adopted),
                None => Observation {
                    record,
                    run: Run::Absent,
                    busy: None,
                    rests_until_ms: 0,
                },
            };
            let asks = matches!(
                observation.run,
                Run::Running {
                    ready: false,
                    health: None,
                    ..
                }
            );
            self.seen.insert(id.clone(), observation.into());
            if asks {
                self.probe(&id);
            }
        }
        // A container that nobody noted down was being created when the daemon before died.
        let unknown: BTreeSet<ContainerId> = found.into_keys().chain(self.containers.leftovers()).collect();
        for id in unknown.into_iter().filter(|id| !self.seen.contains_key(id)) {
            tracing::info!(%id, "removing what a daemon before left half-made");
            if let Err(error) = self.containers.remove(&id).await {
                tracing::warn!(%id, error = chain(&error), "it can't be removed");
            }
        }
        let sandboxes = self.hostnet.sandboxes().unwrap_or_default();
        for name in sandboxes
            .into_iter()
            .filter(|name| !self.seen.contains_key(&ContainerId(name.clone())))
        {
            if let Err(error) = self.hostnet.remove_sandbox(&name).await {
                tracing::warn!(
                    name,
                    error = chain(&error),
                    "a sandbox of nobody can't be removed"
                );
            }
        }
        for (slot, held) in self.desired.held_back.clone() {
            let always = self
                .desired
                .projects
                .get(&slot.project)
                .and_then(|site| site.containers.get(&slot.container))
                .is_some_and(|container| container.restart == Restart::Always);
            // `always` forgets a stop by hand when the daemon starts; that is its difference to `unless-stopped`.
            if always && held == linkspan_plan::HeldBack::Stopped {
                Arc::make_mut(&mut self.desired).held_back.remove(&slot);
            }
        }
    }

    fn join(&mut self, mut record: Record, adopted: &Adopted) -> Observation {
        self.ended.insert(
            adopted.id.clone(),
            watch::Sender::new(matches!(adopted.phase, Phase::Exited(_))),
        );
        let run = match adopted.phase {
            Phase::Created => Run::Absent,
            Phase::Running { pid, started_ms } => {
                let health = adopted.health.as_ref().map(plan_health);
                // It served before we came, unless it is too young to; the proxy tells if it no longer does.
                let young = now_ms().saturating_sub(started_ms) < YOUNG_MS;
                let ready = health.map_or(!young, |health| health == Health::Healthy);
                Run::Running {
                    pid,
                    since_ms: started_ms,
                    ready,
                    health,
                }
            }
            Phase::Exited(exit) => {
                let noted = linkspan_plan::Exit {
                    code: exit.code,
                    at_ms: exit.at_ms,
                    oom: exit.oom,
                };
                if record.exit != Some(noted) {
                    let since_ms = record.created_ms;
                    record = record.after_exit(noted, since_ms);
                    let batch = std::mem::take(&mut self.unsaved);
                    self.unsaved = batch.record(&record);
                }
                Run::Exited
            }
        };
        Observation {
            record,
            run,
            busy: None,
            rests_until_ms: 0,
        }
    }
}
