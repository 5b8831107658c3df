//! Which endpoint gets the next request: of two different ones the less busy, in turn when they are equal.

use std::rc::Rc;

use tokio::time::Instant;

use super::pool::Host;
use crate::worker::Worker;
use crate::world::{Candidate, Forwarding};

/// Picks among the candidates that are not in `tried` (by uid). One that failed a moment ago comes last.
pub(crate) fn pick<'a>(
    worker: &Worker,
    forwarding: &'a Forwarding,
    tried: &[u64],
) -> Option<(&'a Candidate, Rc<Host>)> {
    let is_live = |uid| worker.world().is_live(uid);
    let host = |candidate: &'a Candidate| (candidate, worker.pool.host(&candidate.endpoint, is_live));
    let candidates = &forwarding.candidates;
    if tried.is_empty() {
        let n = candidates.len();
        let first = match n {
            0 => return None,
            1 => return Some(host(&candidates[0])),
            _ => worker.turn() % n,
        };
        let second = (first + 1 + worker.random() as usize % (n - 1)) % n;
        let (a, b) = (host(&candidates[first]), host(&candidates[second]));
        let now = Instant::now();
        match (suspect(&a.1, now), suspect(&b.1, now)) {
            (false, false) => {
                return Some(if b.1.in_flight.get() < a.1.in_flight.get() {
                    b
                } else {
                    a
                });
            }
            (false, true) => return Some(a),
            (true, false) => return Some(b),
            (true, true) => {}
        }
    }
    let now = Instant::now();
    let left = candidates
        .iter()
        .filter(|candidate| !tried.contains(&candidate.endpoint.uid))
        .map(host);
    left.min_by_key(|(_, host)| (suspect(host, now), host.in_flight.get()))
}

fn suspect(host: &Host, now: Instant) -> bool {
    host.suspect_until.get().is_some_and(|until| now < until)
}
