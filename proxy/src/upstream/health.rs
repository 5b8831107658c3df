//! What a failed try tells: this worker avoids the endpoint for a moment, and netd gets a hint.

use std::time::Duration;

use linkspan_api::feed::ToNetd;
use tokio::time::Instant;

use super::pool::Host;
use crate::error::Failure;
use crate::worker::Worker;
use crate::world::Place;

/// How long others go first.
const AVOID: Duration = Duration::from_secs(1);
/// Between two hints of one worker about one endpoint.
const HINT_EVERY: Duration = Duration::from_secs(1);

/// The endpoint failed.
pub(crate) fn failed(worker: &Worker, host: &Host, failure: &Failure) {
    if !worker.world().is_live(host.endpoint.uid) {
        // It has left this address, which says nothing about the one that it has now.
        return;
    }
    let now = Instant::now();
    host.suspect_until.set(Some(now + AVOID));
    host.forget();
    let recently = host.hinted.get().is_some_and(|at| now - at < HINT_EVERY);
    if recently || !matches!(host.endpoint.place, Place::Container(_)) {
        return;
    }
    host.hinted.set(Some(now));
    let hint = ToNetd::Unhealthy {
        endpoint: host.endpoint.id.clone(),
        reason: linkspan_telemetry::chain(failure),
    };
    // Only a hint: netd sees the same on its own, later.
    worker.shared.hints.try_send(hint).ok();
}

/// The endpoint answered.
pub(crate) fn answered(host: &Host) {
    if host.suspect_until.get().is_some() {
        host.suspect_until.set(None);
    }
}
