//! The handle that netd holds: every container of this daemon, by id.

mod adopt;
mod create;
mod hosts;
mod remove;

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linkspan_plan::{ContainerId, ContainerSpec};
use nix::unistd::Pid;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use crate::cgroup;
use crate::exec::{self, ExecError, ExecSession, ExecSpec};
use crate::layout::Layout;
use crate::link::{AskError, Farewell, Link};
use crate::logs::{LogOptions, LogReader};
use crate::protocol::{Answer, Verb};
use crate::{Config, Event, Exit, Health, Phase, health, pidfd};

pub use create::CreateError;
pub use remove::RemoveError;

/// The folders that everything lies in could not be made.
#[derive(Debug, thiserror::Error)]
#[error("cannot make folders for containers in `{state}` and `{run}`; is the daemon root?")]
pub struct OpenError {
    state: String,
    run: String,
    #[source]
    source: io::Error,
}

/// Why a container could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// No such container.
    #[error("container `{0}` is not known")]
    Unknown(ContainerId),
    /// The shim or the runtime could not.
    #[error("cannot start container `{name}`")]
    Failed {
        /// As shown.
        name: String,
        /// Why.
        #[source]
        source: AskError,
    },
}

/// Why a signal, or a terminal's size, did not get there.
#[derive(Debug, thiserror::Error)]
pub enum SignalError {
    /// No such container.
    #[error("container `{0}` is not known")]
    Unknown(ContainerId),
    /// It has ended.
    #[error("container `{0}` is not running")]
    Ended(String),
    /// The shim could not.
    #[error("cannot signal container `{name}`")]
    Failed {
        /// As shown.
        name: String,
        /// Why.
        #[source]
        source: AskError,
    },
}

/// All containers of one daemon. Clones share one state.
#[derive(Clone, Debug)]
pub struct Containers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Config,
    layout: Layout,
    events: mpsc::UnboundedSender<Event>,
    known: Mutex<HashMap<ContainerId, Known>>,
    /// Read while a container is being made, written while the cgroup that all share is removed.
    making: tokio::sync::RwLock<()>,
    /// Held while a container's orders and `/etc/hosts` are changed.
    moving: tokio::sync::Mutex<()>,
}

/// A container as far as this process knows it.
#[derive(Debug)]
struct Known {
    spec: Arc<ContainerSpec>,
    phase: Phase,
    /// Absent when its shim is gone.
    link: Option<Arc<Link>>,
    health: Option<Health>,
    checks: Option<AbortHandle>,
    /// Its pid 1, when it runs: knows the exit status if the shim can't tell it any more.
    process: Option<Arc<OwnedFd>>,
    /// Until its shim has said that it is made; what happens before is told by `create`, not by events.
    in_making: bool,
}

impl Known {
    fn new(spec: Arc<ContainerSpec>, link: Option<Arc<Link>>) -> Self {
        Self {
            spec,
            phase: Phase::Created,
            link,
            health: None,
            checks: None,
            process: None,
            in_making: false,
        }
    }

    fn runs(&mut self, pid: u32, started_ms: u64) {
        self.phase = Phase::Running { pid, started_ms };
        self.process = pidfd::open(Pid::from_raw(pid.cast_signed())).ok().map(Arc::new);
    }
}

impl Containers {
    /// Makes the folders. Call within a tokio runtime; see [`Containers::adopt`] next.
    pub fn open(config: Config, events: mpsc::UnboundedSender<Event>) -> Result<Self, OpenError> {
        let layout = Layout::new(&config);
        layout.make().map_err(|source| OpenError {
            state: config.state_dir.display().to_string(),
            run: config.run_dir.display().to_string(),
            source,
        })?;
        Ok(Self(Arc::new(Inner {
            config,
            layout,
            events,
            known: Mutex::new(HashMap::new()),
            making: tokio::sync::RwLock::new(()),
            moving: tokio::sync::Mutex::new(()),
        })))
    }

    fn known(&self) -> MutexGuard<'_, HashMap<ContainerId, Known>> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Name and shim of a container; an absent shim is gone.
    fn find(&self, id: &ContainerId) -> Option<(String, Option<Arc<Link>>)> {
        self.known()
            .get(id)
            .map(|known| (known.spec.name.clone(), known.link.clone()))
    }

    fn tell(&self, event: Event) {
        // Without a receiver nobody wants to know any more.
        let _ = self.0.events.send(event);
    }

    /// Starts the program; gives its pid as the host counts. Starting a running one again is fine.
    pub async fn start(&self, id: &ContainerId) -> Result<u32, StartError> {
        let (name, link) = self.find(id).ok_or_else(|| StartError::Unknown(id.clone()))?;
        let failed = |source| StartError::Failed { name, source };
        let answer = match link {
            Some(link) => link.ask(Verb::Start).await,
            None => Err(AskError::Gone),
        };
        match answer {
            Ok(Answer::Started { pid, started_ms }) => {
                let mut known = self.known();
                if let Some(one) = known.get_mut(id)
                    && matches!(one.phase, Phase::Created)
                {
                    one.runs(pid, started_ms);
                    self.check_health(id, one, Health::Starting);
                }
                Ok(pid)
            }
            Ok(_) => Err(failed(AskError::Gone)),
            Err(source) => Err(failed(source)),
        }
    }

    /// Sends a signal to pid 1.
    pub async fn signal(&self, id: &ContainerId, signal: i32) -> Result<(), SignalError> {
        self.ask(id, Verb::Signal { signal }).await
    }

    /// Sets the size of the container's own terminal.
    pub async fn resize(&self, id: &ContainerId, rows: u16, columns: u16) -> Result<(), SignalError> {
        self.ask(id, Verb::Resize { rows, columns }).await
    }

    async fn ask(&self, id: &ContainerId, verb: Verb) -> Result<(), SignalError> {
        let (name, link) = self.find(id).ok_or_else(|| SignalError::Unknown(id.clone()))?;
        let Some(link) = link else {
            return Err(SignalError::Ended(name));
        };
        match link.ask(verb).await {
            Ok(_) => Ok(()),
            Err(AskError::Gone) => Err(SignalError::Ended(name)),
            Err(source) => Err(SignalError::Failed { name, source }),
        }
    }

    /// Runs a program inside, beside others.
    pub async fn exec(&self, id: &ContainerId, spec: &ExecSpec) -> Result<ExecSession, ExecError> {
        let (name, link) = self.find(id).ok_or_else(|| ExecError::Unknown(id.to_string()))?;
        match link {
            Some(link) => exec::exec(link, &name, spec).await,
            None => Err(ExecError::Failed {
                name,
                source: AskError::Gone,
            }),
        }
    }

    /// Where it is now; absent when unknown.
    pub fn phase(&self, id: &ContainerId) -> Option<Phase> {
        self.known().get(id).map(|known| known.phase)
    }

    /// What its health check says now; absent without one.
    pub fn health(&self, id: &ContainerId) -> Option<Health> {
        self.known().get(id).and_then(|known| known.health.clone())
    }

    /// What could not be had and was done without, in words for the user.
    pub fn warnings(&self, id: &ContainerId) -> Vec<String> {
        let text = std::fs::read(self.0.layout.warnings(id)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Its log, also after its end, until it is removed.
    pub fn log_files(&self, id: &ContainerId, options: &LogOptions) -> LogReader {
        LogReader::new(&self.0.layout, id, options)
    }

    /// Named volumes on disk.
    pub async fn volumes(&self) -> io::Result<Vec<String>> {
        let folder = self.0.layout.volumes();
        blocking(move || {
            let mut names: Vec<String> = std::fs::read_dir(folder)?
                .flatten()
                .filter_map(|entry| entry.file_name().into_string().ok())
                .collect();
            names.sort();
            Ok(names)
        })
        .await?
    }

    /// Removes a named volume and what is in it. Removing one that isn't there is fine; that no container uses it is for
    /// the caller to know.
    pub async fn remove_volume(&self, name: &str) -> io::Result<()> {
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                format!("`{name}` is no name of a volume"),
            ));
        }
        let folder = self.0.layout.volume(name);
        blocking(move || match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await?
    }

    /// Containers that left folders or cgroups but can't be adopted; [`Containers::remove`] clears them.
    pub fn leftovers(&self) -> BTreeSet<ContainerId> {
        let layout = &self.0.layout;
        let mut found = cgroup::names(layout);
        for folder in [layout.all_states(), layout.all_runs(), layout.oci_root()] {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            found.extend(entries.filter_map(|entry| entry.file_name().into_string().ok()));
        }
        let known = self.known();
        found
            .into_iter()
            .map(ContainerId)
            .filter(|id| !known.contains_key(id))
            .collect()
    }

    /// Serves the connection to a shim, to the container's end.
    fn follow(&self, id: &ContainerId, link: Arc<Link>) {
        let (containers, id) = (self.clone(), id.clone());
        tokio::spawn(async move {
            match link.read().await {
                Farewell::Exited(exit) => containers.exited(&id, exit),
                // It may have ended in good order before we were there to hear it.
                Farewell::Silent => match adopt::read_exit(&containers.0.layout, &id) {
                    Some(exit) => containers.exited(&id, exit),
                    None => containers.lost(&id).await,
                },
            }
        });
    }

    fn exited(&self, id: &ContainerId, exit: Exit) {
        {
            let mut known = self.known();
            let Some(one) = known.get_mut(id).filter(|one| !one.in_making) else {
                return;
            };
            one.phase = Phase::Exited(exit);
            one.link = None;
            if let Some(checks) = one.checks.take() {
                checks.abort();
            }
        }
        self.tell(Event::Exited { id: id.clone(), exit });
    }

    /// A shim died. Nobody holds the container's output any more, so it goes too.
    async fn lost(&self, id: &ContainerId) {
        if self.known().get(id).is_none_or(|one| one.in_making) {
            return;
        }
        self.tell(Event::ShimLost { id: id.clone() });
        let process = self.known().get(id).and_then(|known| known.process.clone());
        let (layout, of) = (self.0.layout.clone(), id.clone());
        let exit = blocking(move || adopt::end_without_shim(&layout, &of, process.as_deref())).await;
        match exit {
            Ok(exit) => self.exited(id, exit),
            Err(error) => tracing::error!(container = %id, %error, "cannot end a container without shim"),
        }
    }

    /// Begins the health checks of a running container, if it has any.
    fn check_health(&self, id: &ContainerId, known: &mut Known, health: Health) {
        let check = known
            .spec
            .healthcheck
            .clone()
            .filter(|check| !check.test.is_empty());
        let (Some(check), Some(link)) = (check, known.link.clone()) else {
            return;
        };
        known.health = Some(health.clone());
        let (containers, id, name) = (self.clone(), id.clone(), known.spec.name.clone());
        let told = move |health: Health| {
            // For the next netd; an old word is better than none.
            let file = containers.0.layout.health(&id);
            if let Ok(text) = serde_json::to_vec(&health) {
                let _ = std::fs::write(file, text);
            }
            if let Some(known) = containers.known().get_mut(&id) {
                known.health = Some(health.clone());
            }
            containers.tell(Event::Health {
                id: id.clone(),
                health,
            });
        };
        known.checks = Some(tokio::spawn(health::ask_on(link, name, check, health, told)).abort_handle());
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}
