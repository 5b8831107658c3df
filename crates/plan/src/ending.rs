//! What the end of a run, or a start that failed, means for the next one.

use crate::{Exit, Record};

/// A run that lasted so long wasn't a failure to start, whatever ended it.
const STEADY_MS: u64 = 10_000;
/// Wait after the first failure; doubles with each further one.
const BACKOFF_MS: u64 = 100;
/// Longest wait between attempts.
const BACKOFF_MAX_MS: u64 = 60_000;

/// How a run ended, for people.
pub(crate) fn how_it_ended(exit: Option<Exit>) -> String {
    match exit {
        Some(Exit { oom: true, .. }) => "killed for using more memory than its limit".to_owned(),
        Some(Exit { code: Some(code), .. }) => format!("exited with status {code}"),
        Some(Exit { code: None, .. }) => "ended with unknown status".to_owned(),
        None => "not running".to_owned(),
    }
}

impl Record {
    /// What is noted down when a run ends that began at `since_ms`.
    #[must_use]
    pub fn after_exit(mut self, exit: Exit, since_ms: u64) -> Self {
        let steady = exit.at_ms.saturating_sub(since_ms) >= STEADY_MS;
        self.failures = if steady {
            0
        } else {
            self.failures.saturating_add(1)
        };
        // The first death is answered at once; only a container that keeps dying has to wait.
        self.not_before_ms = exit.at_ms
            + if self.failures <= 1 {
                0
            } else {
                backoff(self.failures - 1)
            };
        self.exit = Some(exit);
        self.error = None;
        self
    }

    /// What is noted down when a start fails.
    #[must_use]
    pub fn after_failed_start(mut self, error: String, now_ms: u64) -> Self {
        self.failures = self.failures.saturating_add(1);
        self.not_before_ms = now_ms + backoff(self.failures.max(4));
        self.error = Some(error);
        self
    }
}

fn backoff(failures: u32) -> u64 {
    BACKOFF_MS
        .saturating_mul(1 << failures.saturating_sub(1).min(20))
        .min(BACKOFF_MAX_MS)
}
