//! The decisions: [`plan`] looks at the world and says what to do next.
//!
//! A plan is made anew whenever something changed: somebody edited a site, a container ended, a link vanished, a
//! timer went off. It is a function of its inputs alone (no I/O, no clock, no chance), so every decision of the
//! daemon can be shown in a golden file, and the daemon has nothing to decide.
//!
//! Nothing here remembers what an earlier plan wanted. The *desired* state says which slots there are (replica 2 of
//! `web` in `shop`); the *observed* state says which incarnations of containers exist and how each of them is; the
//! *leases* say what was promised. For each slot, the plan compares the incarnations that are there with the template
//! that is wanted now, and gives each incarnation at most one [`Job`]: start, stop or remove. A deploy is nothing
//! special: the template's hash changed, so a new incarnation is started beside the old; once it is ready the old one
//! is no longer published, and once it is no longer published it is drained, stopped and removed. Each of these is a
//! plan of its own, made when the one before it had come true. If a step fails, the next plan sees what is and goes
//! on from there. There are no rollbacks.
//!
//! Order, for whoever executes a plan: store the leases and records, make networks, apply the firewall, bind sockets,
//! publish, start the jobs (which are independent of each other), remove networks.

mod admit;
mod diff;
mod ending;
mod lease;
mod lifecycle;
mod network;
mod placement;
mod pools;
mod ports;
mod publish;
mod spec;
mod state;
mod template;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnetwork::IpNetwork;
use linkspan_site::ProjectName;
use serde::{Deserialize, Serialize};

pub use admit::{MemberError, Refusal, admit, admit_connection, admit_network};
pub use diff::{Change, Sign, diff, forgotten, tell_replaced};
pub use lease::{IDS_PER_CONTAINER, LeaseError, conflict, overlaps};
pub use lifecycle::named;
pub use network::{network_id, network_spec};
pub use placement::Placement;
pub use pools::{Holder, PoolUse, pool_uses};
pub use ports::{held_ports, is_on_lan_alone};
pub use publish::{Asker, Endpoint, Location, NetworkNames, Published, Service};
pub use spec::*;
pub use state::*;

use placement::InPlace;
use template::Templates;

/// What to do next.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// All promises, old and new. Stored before anything else is done.
    pub leases: Arc<Leases>,
    /// Records that are new or changed. Stored with the leases.
    pub records: Vec<Record>,
    /// Networks to make or mend.
    pub networks: Vec<NetworkSpec>,
    /// Kernel parameters of the whole host's to turn on.
    pub parameters: BTreeSet<String>,
    /// By network, the bridge that it has now. One that got another range since, other than by a move, has two leases
    /// until nobody is at the former one.
    pub bridges: Arc<BTreeMap<NetworkId, String>>,
    /// What the kernel's table must hold.
    pub firewall: Firewall,
    /// Host ports that must be held.
    pub ports: BTreeSet<HostPort>,
    /// What the proxy must know.
    pub published: Arc<Published>,
    /// At most one for each incarnation.
    pub jobs: Vec<Job>,
    /// Networks whose range somebody else has come to use.
    pub conflicts: Vec<Conflict>,
    /// Networks that nobody uses any more.
    pub gone_networks: Vec<GoneNetwork>,
    /// Plan again at this time, in milliseconds since the epoch, though nothing else happens.
    pub wake_ms: Option<u64>,
    /// Where each project stands.
    pub standing: BTreeMap<ProjectName, Standing>,
}

/// Work on one incarnation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// Namespaces, links, root, process.
    Start {
        /// Which.
        id: ContainerId,
    },
    /// Put back links that somebody took from a running container.
    Attach {
        /// Which.
        id: ContainerId,
    },
    /// Change the links of a running container: its networks moved, or it was put on others.
    Move {
        /// Which.
        id: ContainerId,
        /// Where to.
        to: Box<Placement>,
    },
    /// The stop signal, and SIGKILL after the grace.
    Stop {
        /// Which.
        id: ContainerId,
        /// Wait until the proxy has nothing under way to it.
        drain: bool,
    },
    /// Every trace of it, save its volumes.
    Remove {
        /// Which.
        id: ContainerId,
    },
}

impl Job {
    /// The incarnation it is about.
    pub fn id(&self) -> &ContainerId {
        match self {
            Self::Start { id }
            | Self::Attach { id }
            | Self::Move { id, .. }
            | Self::Stop { id, .. }
            | Self::Remove { id } => id,
        }
    }
}

/// A network's range is somebody else's too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Which network.
    pub network: NetworkId,
    /// Its range.
    pub range: IpNetwork,
    /// Who else uses it.
    pub claim: Claim,
    /// Where this plan moves it; absent if it stays.
    pub moved_to: Option<IpNetwork>,
    /// Why it stays.
    pub stays: Option<String>,
}

/// A network that nobody uses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct GoneNetwork {
    /// Which it was; absent where nothing was noted down of it.
    pub id: Option<NetworkId>,
    /// Its bridge.
    pub bridge: String,
    /// The resolver leg's host end.
    pub leg: String,
}

/// Where a project stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Containers that should run.
    pub desired: u32,
    /// Those of them that are ready.
    pub ready: u32,
    /// Everything is as it should be.
    pub settled: bool,
    /// What keeps it from that, and doesn't look as if it would pass: container and reason.
    pub failed: Vec<(String, String)>,
    /// Containers that wait for others: which, and for what.
    pub waiting: Vec<(String, String)>,
}

/// Decides what to do next.
pub fn plan(world: &World<'_>) -> Plan {
    Planner::default().plan(world)
}

/// Makes one plan after the other. It keeps what it worked out for the last one together with what that was worked out
/// from, and works it out again only where that has changed. So it may be thrown away at any time, and the same world
/// gives the same plan, whatever was planned before.
#[derive(Debug, Default)]
pub struct Planner {
    templates: Templates,
    in_place: InPlace,
    published: Arc<Published>,
}

impl Planner {
    /// Decides what to do next.
    pub fn plan(&mut self, world: &World<'_>) -> Plan {
        let mut plan = Plan {
            leases: Arc::clone(world.leases),
            ..Plan::default()
        };
        let networks = network::wanted(world, &mut plan);
        let serving = lifecycle::decide(world, &networks, &mut self.templates, &mut plan);
        placement::follow(world, &networks, &serving, &mut self.in_place, &mut plan);
        network::unwanted(world, &networks, &mut plan);
        publish::publish(world, &serving, &mut plan);
        // Who has it already sees at a glance that it is the same.
        if plan.published == self.published {
            plan.published = Arc::clone(&self.published);
        } else {
            self.published = Arc::clone(&plan.published);
        }
        plan.bridges = networks.into_current().into();
        plan
    }
}

impl Plan {
    /// For a change; until the first one they are those of the world.
    fn leases_mut(&mut self) -> &mut Leases {
        Arc::make_mut(&mut self.leases)
    }

    fn published_mut(&mut self) -> &mut Published {
        Arc::make_mut(&mut self.published)
    }

    /// Would executing it change nothing?
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
            && self.networks.is_empty()
            && self.parameters.is_empty()
            && self.jobs.is_empty()
            && self.gone_networks.is_empty()
    }

    fn wake_at(&mut self, at_ms: u64) {
        self.wake_ms = Some(self.wake_ms.map_or(at_ms, |earlier| earlier.min(at_ms)));
    }

    /// The job that this plan has for an incarnation.
    fn job(&self, id: &ContainerId) -> Option<&Job> {
        self.jobs.iter().find(|job| job.id() == id)
    }

    fn fail(&mut self, project: &ProjectName, what: String, why: String) {
        self.standing
            .entry(project.clone())
            .or_default()
            .failed
            .push((what, why));
    }
}

#[cfg(test)]
mod tests;
