//! Follows the daemon's events until a change has become true, or can't.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use linkspan_api::client::{Client, ClientError, Events};
use linkspan_api::v1::Event;
use tokio::time::Instant;

use crate::live::Progress;

/// How it ended.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// The world is as desired.
    Converged,
    /// It won't be, because of these.
    Failed(Vec<Event>),
    /// It isn't yet; these failed so far.
    TimedOut(Vec<Event>),
}

/// How long the daemon may be away in between: it can be killed and come back without anything being lost.
const PATIENCE: Duration = Duration::from_secs(15);
const PAUSE: Duration = Duration::from_millis(200);

/// Follows `generation` of `site` for at most `timeout`.
pub(crate) async fn follow(
    client: &Client,
    site: &str,
    generation: u64,
    timeout: Duration,
    progress: &mut Progress,
) -> anyhow::Result<Outcome> {
    let deadline = Instant::now() + timeout;
    let mut verdict = Verdict::default();
    let mut away_since: Option<Instant> = None;
    loop {
        let attempt = async {
            let mut events = client.site_events(site, generation).await?;
            listen(&mut events, &mut verdict, progress, &mut away_since).await
        };
        let broke_off = match tokio::time::timeout_at(deadline, attempt).await {
            Err(_) => return Ok(Outcome::TimedOut(verdict.failures())),
            Ok(Ok(true)) => return Ok(verdict.outcome()),
            Ok(Ok(false)) => None,
            Ok(Err(error)) if error.is_refusal() || matches!(error, ClientError::PermissionDenied { .. }) => {
                return Err(error.into());
            }
            Ok(Err(error)) => Some(error),
        };
        // What failed before the daemon fell silent is the best answer there is.
        if broke_off.is_none() && !verdict.failed.is_empty() {
            return Ok(Outcome::Failed(verdict.failures()));
        }
        if away_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE {
            let error = broke_off.map_or_else(
                || anyhow::anyhow!("its events ended too early"),
                anyhow::Error::from,
            );
            return Err(error).context(format!("lost sight of `{site}`"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// True when the verdict is in; false when the events ended without one.
async fn listen(
    events: &mut Events,
    verdict: &mut Verdict,
    progress: &mut Progress,
    away_since: &mut Option<Instant>,
) -> Result<bool, ClientError> {
    while let Some(event) = events.next_event().await? {
        *away_since = None;
        progress.event(&event);
        if verdict.apply(event) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the events so far amount to.
#[derive(Debug, Default)]
struct Verdict {
    failed: BTreeMap<(String, String), Event>,
    done: bool,
}

impl Verdict {
    /// True when this event was the last word.
    fn apply(&mut self, event: Event) -> bool {
        let key = (event.kind.clone(), event.name.clone());
        match (event.kind.as_str(), event.action.as_str()) {
            (_, "converged") => {
                self.failed.clear();
                self.done = true;
            }
            ("site", "failed") => {
                self.failed.insert(key, event);
                self.done = true;
            }
            (_, "failed") => {
                self.failed.insert(key, event);
            }
            // It was tried again.
            (
                _,
                "creating" | "starting" | "started" | "repairing" | "repaired" | "ready" | "healthy"
                | "removed",
            ) => {
                self.failed.remove(&key);
            }
            _ => {}
        }
        self.done
    }

    fn outcome(self) -> Outcome {
        if self.failed.is_empty() {
            Outcome::Converged
        } else {
            Outcome::Failed(self.failures())
        }
    }

    /// Those with a name of their own; the site itself only if nothing else is to blame.
    fn failures(&self) -> Vec<Event> {
        let named: Vec<Event> = self
            .failed
            .values()
            .filter(|event| event.kind != "site")
            .cloned()
            .collect();
        if named.is_empty() {
            self.failed.values().cloned().collect()
        } else {
            named
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: &str, name: &str, action: &str) -> Event {
        Event {
            time_ms: 0,
            generation: 1,
            project: None,
            kind: kind.to_owned(),
            name: name.to_owned(),
            action: action.to_owned(),
            detail: String::new(),
        }
    }

    #[test]
    fn a_container_that_failed_and_came_up_after_all_is_no_failure() {
        let mut verdict = Verdict::default();
        assert!(!verdict.apply(event("container", "web", "failed")));
        assert!(!verdict.apply(event("container", "web", "starting")));
        assert!(verdict.apply(event("site", "shop", "converged")));
        assert!(matches!(verdict.outcome(), Outcome::Converged));
    }

    #[test]
    fn the_container_is_to_blame_rather_than_its_site() {
        let mut verdict = Verdict::default();
        assert!(!verdict.apply(event("container", "web", "failed")));
        assert!(verdict.apply(event("site", "shop", "failed")));
        let Outcome::Failed(failures) = verdict.outcome() else {
            panic!("it converged")
        };
        assert_eq!(failures.len(), 1);
        assert_eq!(failures[0].name, "web");
    }

    #[test]
    fn a_site_that_fails_alone_is_named() {
        let mut verdict = Verdict::default();
        assert!(verdict.apply(event("site", "shop", "failed")));
        assert_eq!(verdict.failures()[0].name, "shop");
    }
}
