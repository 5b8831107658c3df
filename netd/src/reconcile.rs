//! The event loop: whatever happens, look at the world, plan, and do what the plan says.
//!
//! One task owns all of netd's state, so nothing is locked and nothing is seen half-changed. Things reach it through
//! channels: requests of the API, events of containers, hints of the kernel, notes of the proxy, ends of jobs, and a
//! timer. Each only updates what is known ([`Reconciler::seen`], [`Reconciler::host`]) and marks the state as stale.
//! When no more news waits, [`Reconciler::pass`] makes a plan and executes it in the order that `plan` asks for:
//! promises and records become durable, networks are made, the firewall is set, ports are bound, the snapshot goes to
//! the proxy, and jobs are started, each as a task of its own that ends with one more piece of news. A pass never
//! waits for a container.
//!
//! What fails is reported and tried again by a later pass, at the latest when the slow timer has gone round. Nothing
//! is undone: the next plan starts from what is there. When netd dies, the next one reads the store, asks the kernel,
//! the shims and the proxy what is, and makes its first plan; as a rule that plan is empty.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linkspan_api::feed;
use linkspan_api::v1::{Event, SiteSource};
use linkspan_containers::Containers;
use linkspan_hostnet::{Accept, CoexistError, Hint, HostNet, SandboxHints};
use linkspan_images::Store as Images;
use linkspan_plan::{
    Conflict, ContainerId, Desired, HostPort, Job, Leases, Observation, Plan, Planner, Published, Run,
    Standing, World,
};
use linkspan_site::ProjectName;
use linkspan_telemetry::chain;
use tokio::sync::{mpsc, watch};
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};

use crate::certs::Authority;
use crate::events::{Events, now_ms};
use crate::execute::Done;
use crate::inside::{Inside, Looked};
use crate::observe::Judged;
use crate::ready::Ready;
use crate::requests::Request;
use crate::resolv::Resolv;
use crate::settings::Settings;
use crate::sockets::Sockets;
use crate::store::{Batch, Store};
use crate::supervise::{Note, Order};
use crate::view::networks::Ground;

/// Everything is looked at again after this time though nothing was heard.
const SLOW: Duration = Duration::from_secs(30);
/// Others are left to finish what they do to their rules: a chain that is being removed must be empty.
pub(crate) const FOREIGN: Duration = Duration::from_millis(400);
/// A pass in which something failed is repeated after this time.
const RETRY: Duration = Duration::from_secs(1);

/// What the API may look at. Replaced as a whole after each pass.
#[derive(Debug, Clone, Default)]
pub(crate) struct View {
    pub(crate) desired: Arc<Desired>,
    pub(crate) sources: BTreeMap<String, Arc<SiteSource>>,
    pub(crate) containers: BTreeMap<ContainerId, Arc<Observation>>,
    pub(crate) published: Arc<Published>,
    pub(crate) standing: BTreeMap<ProjectName, Standing>,
    pub(crate) proxy_pid: Option<u32>,
    pub(crate) served: u64,
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) https: Vec<SocketAddr>,
    pub(crate) https_port: u16,
    pub(crate) authority: String,
    /// The last word on each site.
    pub(crate) announced: BTreeMap<String, Event>,
    pub(crate) settled: bool,
    pub(crate) warnings: Vec<String>,
    pub(crate) ground: Ground,
}

/// What the kernel showed when it was last looked at.
#[derive(Debug, Default)]
pub(crate) struct Host {
    pub(crate) observed: Option<linkspan_hostnet::Observed>,
    /// Made by us since then.
    pub(crate) made_bridges: BTreeSet<String>,
    pub(crate) made_links: BTreeSet<String>,
    /// LANs that networks are on, by the host's link; looked at when a plan needs them.
    pub(crate) lans: BTreeMap<String, Arc<linkspan_plan::Lan>>,
}

/// What telling other firewalls of our bridges came to.
pub(crate) type Accepts = Result<Vec<Accept>, CoexistError>;

/// The owner of all state.
pub(crate) struct Reconciler {
    pub(crate) settings: Settings,
    pub(crate) plan_settings: linkspan_plan::Settings,
    pub(crate) planner: Planner,
    pub(crate) judged: Mutex<Judged>,
    pub(crate) store: Store,
    pub(crate) hostnet: HostNet,
    pub(crate) containers: Containers,
    pub(crate) images: Images,
    pub(crate) events: Events,
    pub(crate) authority: Authority,
    pub(crate) desired: Arc<Desired>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) sources: BTreeMap<String, Arc<SiteSource>>,
    pub(crate) seen: BTreeMap<ContainerId, Arc<Observation>>,
    pub(crate) host: Host,
    pub(crate) inside: Inside,
    pub(crate) sockets: Sockets,
    pub(crate) shards: u32,
    pub(crate) foreign_ports: BTreeSet<HostPort>,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
    /// Sockets that the proxy holds; absent while there is no proxy.
    pub(crate) proxy: Option<Proxy>,
    pub(crate) snapshot: feed::Snapshot,
    /// What the snapshot was made from.
    pub(crate) snapshot_of: Option<SnapshotOf>,
    /// The last one, if it was carried out and nothing has been planned since.
    pub(crate) last_plan: Option<Plan>,
    /// The proxy has taken what that plan published, and nobody was told yet.
    pub(crate) came_further: bool,
    /// The snapshot that the proxy serves.
    pub(crate) served: watch::Sender<u64>,
    pub(crate) resolv: Resolv,
    pub(crate) jobs: JoinSet<Done>,
    pub(crate) job_tasks: HashMap<Id, Job>,
    pub(crate) probes: JoinSet<Ready>,
    pub(crate) probing: BTreeMap<ContainerId, tokio::task::AbortHandle>,
    /// Turns true when a container's pid 1 has ended.
    pub(crate) ended: BTreeMap<ContainerId, watch::Sender<bool>>,
    /// Turns true when the proxy has nothing under way to a container.
    pub(crate) drains: BTreeMap<ContainerId, watch::Sender<bool>>,
    pub(crate) early_exits: BTreeMap<ContainerId, linkspan_containers::Exit>,
    pub(crate) unsaved: Batch,
    /// The desired state was changed by what happened and not stored since. It is written as it is then, never as it was
    /// when it changed: a request may have stored a later one meanwhile.
    pub(crate) desired_unsaved: bool,
    /// The last word on each site.
    pub(crate) announced: BTreeMap<ProjectName, Event>,
    /// Sites that somebody changed and waits for.
    pub(crate) touched: BTreeSet<ProjectName>,
    pub(crate) troubles: BTreeMap<String, String>,
    /// Told of already.
    pub(crate) conflicts: Vec<Conflict>,
    /// Other firewalls are to be looked at then.
    pub(crate) coexist_at: Option<Instant>,
    /// Other firewalls were told of our bridges, or are being told.
    pub(crate) coexists: bool,
    /// Their programs may take seconds to answer.
    pub(crate) accepts: JoinSet<Accepts>,
    pub(crate) view: watch::Sender<Arc<View>>,
}

/// The proxy that runs.
#[derive(Debug)]
pub(crate) struct Proxy {
    pub(crate) pid: u32,
    pub(crate) served: u64,
    pub(crate) holds: BTreeSet<feed::SocketId>,
    /// It has what was published last.
    pub(crate) current: bool,
}

/// Where news comes from.
pub(crate) struct Inboxes {
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) containers: mpsc::UnboundedReceiver<linkspan_containers::Event>,
    pub(crate) hints: mpsc::Receiver<linkspan_hostnet::Hint>,
    pub(crate) inside: SandboxHints,
    pub(crate) notes: mpsc::UnboundedReceiver<Note>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// What a snapshot is made from, beside what never changes while the daemon runs.
#[derive(Debug, Clone)]
pub(crate) struct SnapshotOf {
    pub(crate) published: Arc<Published>,
    pub(crate) desired: Arc<Desired>,
    pub(crate) leases: Arc<Leases>,
    pub(crate) listeners: Vec<feed::SocketId>,
    pub(crate) name_servers: Vec<SocketAddr>,
}

impl SnapshotOf {
    /// Is it made from the very same?
    pub(crate) fn is_as(&self, before: &Self) -> bool {
        Arc::ptr_eq(&self.published, &before.published)
            && Arc::ptr_eq(&self.desired, &before.desired)
            && Arc::ptr_eq(&self.leases, &before.leases)
            && self.listeners == before.listeners
            && self.name_servers == before.name_servers
    }
}

/// A piece of news.
enum News {
    Request(Request),
    Container(linkspan_containers::Event),
    Hint(Hint),
    Inside(BTreeSet<String>),
    Looked(Looked),
    Note(Note),
    NameServers,
    Accepts(Accepts),
    Job(Done),
    Ready(Ready),
    Timer,
    Stop,
    /// A probe that was called off.
    Nothing,
}

impl std::fmt::Debug for Reconciler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reconciler")
            .field("generation", &self.desired.generation)
            .finish_non_exhaustive()
    }
}

impl Reconciler {
    /// Runs until it is told to stop. Containers and proxy go on.
    pub(crate) async fn run(mut self, mut inboxes: Inboxes) -> Self {
        let mut again = self.pass().await;
        loop {
            let until = self.coexist_at.map_or(again, |at| again.min(at));
            let news = self.next(&mut inboxes, until).await;
            if matches!(news, News::Stop) {
                return self;
            }
            let mut matters = self.learn(news).await;
            // What else has already happened goes into the same plan.
            while let Some(news) = self.waiting(&mut inboxes) {
                matters |= self.learn(news).await;
            }
            if matters {
                again = self.pass().await;
            } else if std::mem::take(&mut self.came_further)
                && let Some(plan) = self.last_plan.take()
            {
                self.tell(&plan);
                self.last_plan = Some(plan);
            }
        }
    }

    async fn next(&mut self, inboxes: &mut Inboxes, again: Instant) -> News {
        tokio::select! {
            biased;
            _ = inboxes.stop.wait_for(|stop| *stop) => News::Stop,
            Some(event) = inboxes.containers.recv() => News::Container(event),
            Some(ended) = self.jobs.join_next_with_id() => self.job_news(ended),
            Some(ended) = self.probes.join_next() => ended.map_or(News::Nothing, News::Ready),
            Some(ended) = self.accepts.join_next() => ended.map_or(News::Nothing, News::Accepts),
            Some(note) = inboxes.notes.recv() => News::Note(note),
            Some(request) = inboxes.requests.recv() => News::Request(request),
            Some(hint) = inboxes.hints.recv() => News::Hint(hint),
            Some(ended) = self.inside.looks.join_next() => ended.map_or(News::Nothing, News::Looked),
            sandboxes = inboxes.inside.changed() => News::Inside(sandboxes),
            () = self.resolv.changed() => News::NameServers,
            () = sleep_until(again) => News::Timer,
        }
    }

    /// A job that panicked has failed like any other.
    fn job_news(&mut self, ended: Result<(Id, Done), JoinError>) -> News {
        let (id, done) = match ended {
            Ok((id, done)) => (id, Some(done)),
            Err(error) => (error.id(), None),
        };
        let begun = self.job_tasks.remove(&id);
        let done = done.or_else(|| {
            begun.map(|job| Done {
                id: job.id().clone(),
                job,
                outcome: Err("the daemon failed at it".to_owned()),
            })
        });
        done.map_or(News::Nothing, News::Job)
    }

    fn waiting(&mut self, inboxes: &mut Inboxes) -> Option<News> {
        if let Ok(event) = inboxes.containers.try_recv() {
            return Some(News::Container(event));
        }
        if let Some(ended) = self.jobs.try_join_next_with_id() {
            return Some(self.job_news(ended));
        }
        if let Some(ended) = self.probes.try_join_next() {
            return Some(ended.map_or(News::Nothing, News::Ready));
        }
        if let Ok(note) = inboxes.notes.try_recv() {
            return Some(News::Note(note));
        }
        if let Ok(hint) = inboxes.hints.try_recv() {
            return Some(News::Hint(hint));
        }
        inboxes.requests.try_recv().ok().map(News::Request)
    }

    /// Takes note of a piece of news; answers whether there may be something to do.
    async fn learn(&mut self, news: News) -> bool {
        match news {
            News::Request(request) => self.serve(request).await,
            News::Container(event) => self.learn_event(event),
            News::Hint(Hint::Foreign) => {
                self.coexist_at.get_or_insert_with(|| Instant::now() + FOREIGN);
            }
            News::Hint(hint) => {
                tracing::debug!(?hint, "the kernel changed");
                return self.look_at_host(false).await;
            }
            News::Timer => {
                self.look_at_host(true).await;
                // Certificates grow old though nothing else changes.
                self.snapshot_of = None;
                // The older packet filter tells nobody of its changes.
                self.coexist();
            }
            News::Inside(sandboxes) => {
                self.learn_inside(sandboxes);
                return false;
            }
            News::Looked(looked) => return self.learn_looked(looked),
            News::Accepts(accepts) => self.learn_accepts(accepts),
            News::Note(note) => {
                // It is still the plan; only how far it has come may be news.
                let is_progress = matches!(note, Note::Serving(_));
                self.came_further |= is_progress;
                self.learn_note(note);
                return !is_progress;
            }
            News::NameServers => self.learn_name_servers(),
            News::Job(done) => self.learn_done(done),
            News::Ready(ready) => self.learn_ready(&ready),
            News::Stop | News::Nothing => return false,
        }
        true
    }

    /// Asks the kernel: what has changed, or everything. Answers whether anything is otherwise than it was known to be.
    pub(crate) async fn look_at_host(&mut self, anew: bool) -> bool {
        let looked = match anew {
            true => self.hostnet.observe_anew().await,
            false => self.hostnet.observe().await,
        };
        match looked {
            Ok(observed) => {
                let is_better = self.troubles.remove("host").is_some();
                let is_expected = self.expects(&observed);
                self.host = Host {
                    observed: Some(observed),
                    ..Host::default()
                };
                is_better || !is_expected
            }
            Err(error) => {
                self.trouble("host", chain(&error));
                false
            }
        }
    }

    /// One plan, made and executed. Answers when to make the next though nothing happens.
    async fn pass(&mut self) -> Instant {
        // What it said of sites doesn't hold any more, should this one fail.
        self.last_plan = None;
        self.came_further = false;
        if self.host.observed.is_none() {
            // Without a look at the host every network would seem to be missing.
            self.look_at_host(true).await;
            if self.host.observed.is_none() {
                return Instant::now() + RETRY;
            }
        }
        self.look_at_lans(None).await;
        let observed = self.observed();
        let world = World {
            desired: &self.desired,
            observed: &observed,
            leases: &self.leases,
            settings: &self.plan_settings,
            now_ms: now_ms(),
        };
        let plan = self.planner.plan(&world);
        let now = Instant::now();
        let mut again = now + SLOW;
        if let Some(wake_ms) = plan.wake_ms {
            again = again.min(now + Duration::from_millis(wake_ms.saturating_sub(world.now_ms)));
        }
        let lacks = self.lacks(&plan);
        let before = (!Arc::ptr_eq(&plan.leases, &self.leases)).then(|| Arc::clone(&self.leases));
        if let Err(error) = self.remember(&plan).await {
            // Nothing may be done that isn't noted down.
            self.trouble("store", chain(&error));
            // But that an endpoint is gone must be told all the same.
            self.publish(&plan);
            self.show(&plan);
            return now + RETRY;
        }
        self.troubles.remove("store");
        if let Some(before) = before {
            self.tell_lans(&before);
        }
        self.tell_conflicts(&plan);
        let mut whole = self.turn_on(&plan);
        whole &= self.make_networks(&plan, lacks).await;
        whole &= self.bind_ports(&plan);
        whole &= self.set_firewall(&plan).await;
        if self.coexists != self.wants_to_coexist() {
            self.coexist();
        }
        whole &= self.publish(&plan);
        self.start_jobs(&plan);
        whole &= self.remove_networks(&plan).await;
        self.doom_volumes().await;
        self.tell_moved().await;
        self.tell(&plan);
        self.last_plan = Some(plan);
        if !whole {
            again = again.min(now + RETRY);
        }
        again
    }

    /// Tells people how things stand.
    fn tell(&mut self, plan: &Plan) {
        let news = self.announce(plan);
        self.show(plan);
        for event in news {
            self.events.tell(event);
        }
    }

    /// Makes promises and records durable, before anything is done that relies on them.
    async fn remember(&mut self, plan: &Plan) -> Result<(), crate::store::StoreError> {
        let waiting = self.unsaved.clone();
        let mut batch = std::mem::take(&mut self.unsaved);
        if self.desired_unsaved {
            batch = batch.put("desired", self.desired.as_ref());
        }
        if !Arc::ptr_eq(&plan.leases, &self.leases) && plan.leases != self.leases {
            batch = batch.put("leases", plan.leases.as_ref());
        }
        for record in &plan.records {
            batch = batch.record(record);
        }
        if batch.is_empty() {
            return Ok(());
        }
        if let Err(error) = self.commit(batch).await {
            // What the plan wanted is planned again; what happened is not to be forgotten.
            self.unsaved = waiting;
            return Err(error);
        }
        self.desired_unsaved = false;
        self.leases = Arc::clone(&plan.leases);
        for record in &plan.records {
            let id = record.spec.id.clone();
            match self.seen.get_mut(&id) {
                Some(seen) => Arc::make_mut(seen).record = record.clone(),
                None => {
                    self.seen.insert(
                        id,
                        Arc::new(Observation {
                            record: record.clone(),
                            run: Run::Absent,
                            busy: None,
                            rests_until_ms: 0,
                        }),
                    );
                }
            }
        }
        Ok(())
    }

    /// Makes a batch durable, off the runtime's threads.
    pub(crate) async fn commit(&self, batch: Batch) -> Result<(), crate::store::StoreError> {
        let store = self.store.clone();
        match tokio::task::spawn_blocking(move || store.commit(&batch)).await {
            Ok(result) => result,
            Err(_) => Err(crate::store::StoreError::Interrupted),
        }
    }

    pub(crate) fn trouble(&mut self, about: &str, why: String) {
        if self.troubles.get(about) != Some(&why) {
            self.emit(None, "daemon", about, "failed", &why);
            self.troubles.insert(about.to_owned(), why);
        }
    }

    pub(crate) fn emit(&self, project: Option<&str>, kind: &str, name: &str, action: &str, detail: &str) {
        self.events
            .emit(self.desired.generation, project, kind, name, action, detail);
    }
}
