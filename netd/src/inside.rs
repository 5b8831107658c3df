//! What containers lose inside their own namespaces. A namespace is looked into when something has changed there, and
//! when the daemon starts; one in which nothing happens is left alone.
//!
//! Our own changes are heard like those of others. While a job is at work on a container nothing is looked at; afterwards it
//! is, once, and as a rule nothing is missing. Somebody who takes the same thing away again and again is answered
//! more and more slowly: else we and he would do nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use linkspan_hostnet::LookError;
use linkspan_plan::{Attachment, ContainerId, NetworkNamespace, Run};
use linkspan_telemetry::chain;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::reconcile::Reconciler;

/// Looks at a time: each takes a thread for less than a millisecond.
const AT_ONCE: usize = 4;
/// The first pause after the same loss as before; each further one is twice as long.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Between two looks into one container: whoever changes things there all the time is seen a moment later, not more often.
const REST: Duration = Duration::from_millis(100);
/// A loss that comes so long after the same one was made good is a new one.
const FORGOTTEN: Duration = Duration::from_secs(120);

/// What is known of containers' insides.
#[derive(Debug)]
pub(crate) struct Inside {
    /// By container, the host ends of its links and what they lack.
    lost: BTreeMap<ContainerId, Lost>,
    /// Those whose links are being attached again, and what was gone, in words.
    mending: BTreeMap<ContainerId, String>,
    /// To be looked at when their job is done.
    later: BTreeSet<ContainerId>,
    /// Looks that are under way. True: something has changed since they began.
    looking: BTreeMap<ContainerId, bool>,
    /// When the last look was over.
    looked: BTreeMap<ContainerId, Instant>,
    losses: BTreeMap<ContainerId, Losses>,
    pub(crate) looks: JoinSet<Looked>,
    permits: Arc<Semaphore>,
}

type Lost = BTreeMap<String, Vec<String>>;

/// A look into a container.
#[derive(Debug)]
pub(crate) struct Looked {
    id: ContainerId,
    /// The links that it was to have.
    links: Vec<Attachment>,
    found: Result<Lost, LookError>,
}

/// The same loss in a row.
#[derive(Debug)]
struct Losses {
    lost: Lost,
    count: u32,
    last: Instant,
}

impl Default for Inside {
    fn default() -> Self {
        Self {
            lost: BTreeMap::new(),
            mending: BTreeMap::new(),
            later: BTreeSet::new(),
            looking: BTreeMap::new(),
            looked: BTreeMap::new(),
            losses: BTreeMap::new(),
            looks: JoinSet::new(),
            permits: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }
}

impl Inside {
    /// The host ends of all links that lack something inside.
    pub(crate) fn damaged_links(&self) -> BTreeSet<String> {
        self.lost.values().flat_map(BTreeMap::keys).cloned().collect()
    }

    /// What a container lacks, in words.
    pub(crate) fn lost(&self, id: &ContainerId) -> impl Iterator<Item = &String> {
        self.lost.get(id).into_iter().flat_map(BTreeMap::values).flatten()
    }

    /// Its links are being attached again, since this is gone.
    pub(crate) fn mend(&mut self, id: &ContainerId, gone: &str) {
        self.mending.insert(id.clone(), gone.to_owned());
    }

    /// Its links were attached: nothing is missing until another look says so. Gives what was gone before.
    pub(crate) fn mended(&mut self, id: &ContainerId) -> String {
        self.lost.remove(id);
        self.mending.remove(id).unwrap_or_default()
    }

    /// It is gone.
    pub(crate) fn forget(&mut self, id: &ContainerId) {
        self.mended(id);
        self.later.remove(id);
        self.losses.remove(id);
        self.looked.remove(id);
    }

    /// How long to wait before the next look, after the last one and what was lost before.
    fn pause(&self, id: &ContainerId) -> Duration {
        let last = self.looked.get(id).map(Instant::elapsed);
        let rest = last.map_or(Duration::ZERO, |since| REST.saturating_sub(since));
        let repeated = self
            .losses
            .get(id)
            .map_or(0, |losses| match losses.last.elapsed() {
                age if age > FORGOTTEN => 0,
                _ => losses.count.saturating_sub(1),
            });
        match repeated {
            0 => rest,
            times => PAUSE
                .saturating_mul(2_u32.saturating_pow(times - 1))
                .clamp(rest, LONGEST_PAUSE),
        }
    }

    fn note(&mut self, id: &ContainerId, lost: Lost) {
        let now = Instant::now();
        let losses = self.losses.entry(id.clone()).or_insert_with(|| Losses {
            lost: Lost::new(),
            count: 0,
            last: now,
        });
        let again = losses.lost == lost && now.duration_since(losses.last) <= FORGOTTEN;
        losses.count = if again { losses.count.saturating_add(1) } else { 1 };
        losses.last = now;
        losses.lost.clone_from(&lost);
        self.lost.insert(id.clone(), lost);
    }
}

impl Reconciler {
    /// Something has changed inside these sandboxes.
    pub(crate) fn learn_inside(&mut self, sandboxes: BTreeSet<String>) {
        for name in sandboxes {
            self.look_inside(&ContainerId(name));
        }
    }

    /// Looks into every container, as after a time in which nobody listened.
    pub(crate) fn look_inside_all(&mut self) {
        let all: Vec<ContainerId> = self.seen.keys().cloned().collect();
        for id in all {
            self.look_inside(&id);
        }
    }

    /// Looks into a container, if it is one with links of its own that runs and that nothing is at work on.
    pub(crate) fn look_inside(&mut self, id: &ContainerId) {
        let Some(seen) = self.seen.get(id) else { return };
        if seen.busy.is_some() {
            self.inside.later.insert(id.clone());
            return;
        }
        let spec = &seen.record.spec;
        let has_links = spec.network == NetworkNamespace::Own && !spec.attachments.is_empty();
        if !has_links || !matches!(seen.run, Run::Running { .. }) {
            return;
        }
        if let Some(changed) = self.inside.looking.get_mut(id) {
            *changed = true;
            return;
        }
        self.inside.looking.insert(id.clone(), false);
        let (hostnet, permits) = (self.hostnet.clone(), Arc::clone(&self.inside.permits));
        let (id, links) = (id.clone(), spec.attachments.clone());
        let pause = self.inside.pause(&id);
        self.inside.looks.spawn(async move {
            sleep(pause).await;
            // It is never closed; without a permit a look is only less patient.
            let _permit = permits.acquire().await.ok();
            let found = hostnet.missing_inside(id.as_str(), &links).await;
            Looked { id, links, found }
        });
    }

    /// What was under way when the container was busy is looked at now.
    pub(crate) fn look_inside_after(&mut self, id: &ContainerId) {
        if self.inside.later.remove(id) {
            self.look_inside(id);
        }
    }

    /// Answers whether something is missing, or was.
    pub(crate) fn learn_looked(&mut self, looked: Looked) -> bool {
        let Looked { id, links, found } = looked;
        let changed = self.inside.looking.remove(&id).unwrap_or_default();
        let Some(seen) = self.seen.get(&id) else {
            return false;
        };
        self.inside.looked.insert(id.clone(), Instant::now());
        let outdated = seen.record.spec.attachments != links;
        if seen.busy.is_some() || outdated {
            self.look_inside(&id);
            return false;
        }
        let was_lost = self.inside.lost.contains_key(&id);
        match found {
            Ok(lost) if lost.is_empty() => drop(self.inside.mended(&id)),
            Ok(lost) => self.inside.note(&id, lost),
            // It has just ended, or a start will make it anew.
            Err(error) => tracing::debug!(%id, error = chain(&error), "it can't be looked into"),
        }
        if changed {
            self.look_inside(&id);
        }
        was_lost || self.inside.lost.contains_key(&id)
    }
}
