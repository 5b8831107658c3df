//! Requests that wait while an endpoint is coming, and how many may.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use linkspan_api::feed::Limits;
use tokio::time::{Instant, timeout_at};

use crate::shared::Shared;
use crate::worker::Worker;

/// How many are held now. Touched only by requests that wait.
#[derive(Debug, Default)]
pub(crate) struct HoldCounts(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    total: u32,
    services: HashMap<String, u32>,
}

/// The right to wait; given back on drop.
pub(crate) struct Permit<'a> {
    counts: &'a HoldCounts,
    service: String,
}

impl HoldCounts {
    /// A place among the held, or `None` when there are too many already.
    pub(crate) fn enter(&self, service: &str, limits: &Limits) -> Option<Permit<'_>> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = counts.services.get(service).copied().unwrap_or(0);
        if counts.total >= limits.hold_total || here >= limits.hold_per_service {
            return None;
        }
        counts.total += 1;
        counts.services.insert(service.to_owned(), here + 1);
        Some(Permit {
            counts: self,
            service: service.to_owned(),
        })
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        let mut counts = self.counts.0.lock().unwrap_or_else(PoisonError::into_inner);
        counts.total = counts.total.saturating_sub(1);
        if let Some(here) = counts.services.get_mut(&self.service) {
            *here -= 1;
            if *here == 0 {
                counts.services.remove(&self.service);
            }
        }
    }
}

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// There is a world newer than the one seen, or it is time to look again.
    Again,
    Deadline,
}

/// Waits for a world other than the one of `seen`, for `pause` at most if there is one, and never beyond `deadline`.
///
/// Nothing of the request's body is read meanwhile: it waits in the client's socket.
pub(crate) async fn wait(worker: &Worker, seen: u64, pause: Option<Duration>, deadline: Instant) -> Woken {
    let mut changed = subscribe(&worker.shared, seen);
    let until = pause.map_or(deadline, |pause| deadline.min(Instant::now() + pause));
    match timeout_at(until, changed.changed()).await {
        Err(_) if until == deadline => Woken::Deadline,
        // A sender can't be gone: the worker holds it.
        Ok(_) | Err(_) => Woken::Again,
    }
}

/// Returns once the endpoint may no longer be sent requests.
pub(crate) async fn gone(worker: &Worker, uid: u64) {
    let mut changed = worker.shared.changed.subscribe();
    while worker.world().is_live(uid) {
        if changed.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// A receiver that counts as changed unless the world is still the one of that generation.
fn subscribe(shared: &Shared, seen: u64) -> tokio::sync::watch::Receiver<u64> {
    let mut changed = shared.changed.subscribe();
    if *changed.borrow_and_update() != seen {
        changed.mark_changed();
    }
    changed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_among_the_held_are_capped_per_service_and_in_all_and_come_back() {
        let limits = Limits {
            hold_per_service: 2,
            hold_total: 3,
            ..Limits::default()
        };
        let counts = HoldCounts::default();
        let first = counts.enter("a", &limits);
        let _second = counts.enter("a", &limits);
        assert!(first.is_some() && counts.enter("a", &limits).is_none());
        let _third = counts.enter("b", &limits).expect("one left in all");
        assert!(counts.enter("b", &limits).is_none());
        drop(first);
        assert!(counts.enter("a", &limits).is_some());
    }
}
