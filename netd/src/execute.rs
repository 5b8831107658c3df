//! One job → the calls that do it. No choice is made here.

use std::net::IpAddr;
use std::time::Duration;

use ipnetwork::IpNetwork;
use linkspan_containers::{AskError, Containers, SignalError};
use linkspan_hostnet::{AttachError, Bound, HostNet};
use linkspan_plan::{ContainerId, ContainerSpec, Job, NetworkNamespace, Placement};
use linkspan_telemetry::chain;
use tokio::sync::watch;
use tokio::time::timeout;

/// After SIGKILL the kernel needs a moment; what takes longer hangs in the kernel and is reported.
const AFTER_KILL: Duration = Duration::from_secs(10);
const SIGKILL: i32 = 9;
/// The proxy takes a snapshot within a few milliseconds.
const KNOWN: Duration = Duration::from_secs(1);

/// What a job works with.
#[derive(Debug, Clone)]
pub(crate) struct Hands {
    pub(crate) hostnet: HostNet,
    pub(crate) containers: Containers,
}

/// A job and everything it needs to know.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) job: Job,
    pub(crate) spec: ContainerSpec,
    /// Turns true when the proxy has nothing under way to it.
    pub(crate) drained: Option<watch::Receiver<bool>>,
    /// Longest wait for that.
    pub(crate) drain: Duration,
    /// Turns true when its pid 1 has ended.
    pub(crate) ended: watch::Receiver<bool>,
    /// What the proxy serves, and what it must serve before a container moves.
    pub(crate) served: (watch::Receiver<u64>, u64),
}

/// How a job ended.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) id: ContainerId,
    pub(crate) job: Job,
    pub(crate) outcome: Result<Outcome, String>,
}

/// What a job achieved.
#[derive(Debug)]
pub(crate) enum Outcome {
    Started {
        pid: u32,
    },
    /// Somebody on a LAN has an address that it was to have.
    Answered {
        address: IpAddr,
        why: String,
    },
    Attached,
    /// With the sockets that stay bound to an address that is being left.
    Moved {
        bound: Vec<String>,
    },
    Stopped,
    Removed,
}

impl Hands {
    /// Does a job.
    pub(crate) async fn perform(self, task: Task) -> Done {
        let id = task.spec.id.clone();
        let job = task.job.clone();
        let outcome = match &task.job {
            Job::Start { .. } => self.start(&task.spec).await,
            Job::Attach { .. } => {
                let attached = self.attach(&task.spec).await;
                attached
                    .map(|()| Outcome::Attached)
                    .map_err(|error| chain(&error))
            }
            Job::Move { to, .. } => {
                let (mut served, generation) = task.served.clone();
                // The resolver answers whom it knows. Without a proxy nobody answers anyway.
                let _ = timeout(KNOWN, served.wait_for(|served| *served >= generation)).await;
                self.move_to(&task.spec, to).await
            }
            Job::Stop { .. } => self.stop(task).await,
            Job::Remove { .. } => self.remove(&task.spec).await,
        };
        Done { id, job, outcome }
    }

    async fn start(&self, spec: &ContainerSpec) -> Result<Outcome, String> {
        let sandbox = self.sandbox(spec).await?;
        if self.containers.phase(&spec.id).is_some() {
            self.containers
                .renew(&spec.id)
                .await
                .map_err(|error| chain(&error))?;
        }
        // The links and the root have nothing to do with each other until the program runs.
        let (attached, created) = tokio::join!(self.attach(spec), async {
            self.containers
                .create(spec, &sandbox)
                .await
                .map_err(|error| chain(&error))
        });
        match attached {
            Err(error @ AttachError::Answered { address, .. }) => {
                return Ok(Outcome::Answered {
                    address: address.into(),
                    why: chain(&error),
                });
            }
            attached => attached.map_err(|error| chain(&error))?,
        }
        created?;
        let pid = self
            .containers
            .start(&spec.id)
            .await
            .map_err(|error| chain(&error))?;
        Ok(Outcome::Started { pid })
    }

    /// Makes the namespaces that a container has of its own, and finds those that it shares.
    async fn sandbox(&self, spec: &ContainerSpec) -> Result<linkspan_containers::Sandbox, String> {
        let made = match (&spec.network, spec.ids) {
            (NetworkNamespace::Own, ids) => self.hostnet.create_sandbox(spec.id.as_str(), ids).await,
            (NetworkNamespace::Host, Some(ids)) => {
                let user = self.hostnet.create_users(spec.id.as_str(), ids).await;
                let user = Some(user.map_err(|error| chain(&error))?);
                return Ok(linkspan_containers::Sandbox { user, net: None });
            }
            (NetworkNamespace::Host, None) => return Ok(linkspan_containers::Sandbox::default()),
            (NetworkNamespace::Container(target), _) => {
                let found = self.hostnet.find_sandbox(target.as_str());
                Ok(found.ok_or_else(|| {
                    format!("container `{target}`, whose network is to be shared, is not there")
                })?)
            }
        };
        let made = made.map_err(|error| chain(&error))?;
        Ok(linkspan_containers::Sandbox {
            user: made.user,
            net: Some(made.net),
        })
    }

    async fn attach(&self, spec: &ContainerSpec) -> Result<(), AttachError> {
        for attachment in &spec.attachments {
            self.hostnet.attach(spec.id.as_str(), attachment).await?;
        }
        Ok(())
    }

    /// New links and addresses before old ones go, and the names of both in its `/etc/hosts` at once.
    async fn move_to(&self, spec: &ContainerSpec, to: &Placement) -> Result<Outcome, String> {
        for attachment in &to.attachments {
            self.hostnet
                .attach(spec.id.as_str(), attachment)
                .await
                .map_err(|error| chain(&error))?;
        }
        let kept = |link: &str| to.attachments.iter().any(|new| new.host_link == link);
        for left in spec.attachments.iter().filter(|old| !kept(&old.host_link)) {
            self.hostnet
                .detach_from(spec.id.as_str(), left)
                .await
                .map_err(|error| chain(&error))?;
        }
        self.containers
            .rewrite_hosts(&spec.id, to)
            .await
            .map_err(|error| chain(&error))?;
        let left: Vec<IpAddr> = to
            .attachments
            .iter()
            .flat_map(|link| link.retiring.iter().map(IpNetwork::ip))
            .collect();
        let bound = match self.hostnet.bound_to(spec.id.as_str(), &left).await {
            Ok(bound) => bound,
            Err(error) => {
                tracing::warn!(
                    container = spec.name,
                    error = chain(&error),
                    "its sockets can't be looked at"
                );
                Vec::new()
            }
        };
        let words = |bound: &Bound| format!("{}/{}", bound.address, bound.protocol.name());
        Ok(Outcome::Moved {
            bound: bound.iter().map(words).collect(),
        })
    }

    async fn stop(&self, mut task: Task) -> Result<Outcome, String> {
        if let Some(drained) = &mut task.drained {
            // Too long a wait or a proxy that is gone: then it is stopped all the same.
            let _ = timeout(task.drain, async {
                tokio::select! {
                    _ = drained.wait_for(|drained| *drained) => {}
                    _ = task.ended.wait_for(|ended| *ended) => {}
                }
            })
            .await;
        }
        let id = &task.spec.id;
        if !self.signal(id, task.spec.stop_signal).await?
            || timeout(task.spec.stop_grace, task.ended.wait_for(|ended| *ended))
                .await
                .is_ok()
            || !self.signal(id, SIGKILL).await?
        {
            return Ok(Outcome::Stopped);
        }
        match timeout(AFTER_KILL, task.ended.wait_for(|ended| *ended)).await {
            Ok(_) => Ok(Outcome::Stopped),
            Err(_) => Err(
                "it didn't end after SIGKILL; a process of it hangs in the kernel (`ps` shows state D)"
                    .to_owned(),
            ),
        }
    }

    /// Answers false when there is nothing left to signal.
    async fn signal(&self, id: &ContainerId, signal: i32) -> Result<bool, String> {
        match self.containers.signal(id, signal).await {
            Ok(()) => Ok(true),
            Err(SignalError::Ended(_)) => Ok(false),
            // The shim was killed and it with it, so its end is on its way, whatever the signal was.
            Err(SignalError::Failed {
                source: AskError::Hung(_),
                ..
            }) => Ok(true),
            Err(error) => Err(chain(&error)),
        }
    }

    async fn remove(&self, spec: &ContainerSpec) -> Result<Outcome, String> {
        let mut failures = Vec::new();
        if let Err(error) = self.containers.remove(&spec.id).await {
            failures.push(chain(&error));
        }
        let addresses = &spec.addresses;
        for attachment in &spec.attachments {
            if let Err(error) = self.hostnet.detach_from(spec.id.as_str(), attachment).await {
                failures.push(chain(&error));
            }
        }
        if let Err(error) = self.hostnet.remove_sandbox(spec.id.as_str()).await {
            failures.push(chain(&error));
        }
        if let Err(error) = self.hostnet.flush_flows(addresses).await {
            tracing::warn!(
                error = chain(&error),
                "connections to a removed container are still tracked"
            );
        }
        if failures.is_empty() {
            Ok(Outcome::Removed)
        } else {
            Err(failures.join("; "))
        }
    }
}
