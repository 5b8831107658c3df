//! What happened, for people who follow along: a short memory and a broadcast.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use linkspan_api::v1::Event;
use tokio::sync::broadcast;

/// Events remembered for those who begin to listen a little late.
const MEMORY: usize = 4_096;

/// A handle; clones share the memory.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    past: Arc<Mutex<VecDeque<Event>>>,
    live: broadcast::Sender<Event>,
}

impl Events {
    pub(crate) fn new() -> Self {
        Self {
            past: Arc::default(),
            live: broadcast::channel(MEMORY).0,
        }
    }

    /// Notes an event down and tells everybody.
    pub(crate) fn emit(
        &self,
        generation: u64,
        project: Option<&str>,
        kind: &str,
        name: &str,
        action: &str,
        detail: &str,
    ) {
        self.tell(Event {
            time_ms: now_ms(),
            generation,
            project: project.map(str::to_owned),
            kind: kind.to_owned(),
            name: name.to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
        });
    }

    /// As [`Events::emit`].
    pub(crate) fn tell(&self, event: Event) {
        let Event {
            kind,
            name,
            action,
            detail,
            ..
        } = &event;
        tracing::info!(kind, name, action, detail, "event");
        let mut past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        past.push_back(event.clone());
        if past.len() > MEMORY {
            past.pop_front();
        }
        // Nobody listening is no failure.
        let _ = self.live.send(event);
    }

    /// What is remembered, and what comes from now on, without a gap between.
    pub(crate) fn follow(&self) -> (Vec<Event>, broadcast::Receiver<Event>) {
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        (past.iter().cloned().collect(), self.live.subscribe())
    }
}

/// Milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX))
}
