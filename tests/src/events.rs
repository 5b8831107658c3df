//! The daemon's events, followed as its API tells them.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use crate::{Rig, Running};

/// Events from now on.
pub struct Events {
    curl: Running,
}

impl Events {
    /// Begins to listen.
    ///
    /// # Panics
    ///
    /// When the daemon doesn't answer.
    pub fn follow(rig: &Rig) -> Events {
        Self::listen(rig, "")
    }

    /// All that the daemon remembers, and events from now on.
    ///
    /// # Panics
    ///
    /// When the daemon doesn't answer.
    pub fn since_start(rig: &Rig) -> Events {
        Self::listen(rig, "?since=0")
    }

    fn listen(rig: &Rig, query: &str) -> Events {
        let head: PathBuf = rig.folder().join("events.head");
        let _ = fs::remove_file(&head);
        let curl = rig.spawn(
            "events",
            &[
                "curl",
                "-sN",
                "-D",
                head.to_str().unwrap(),
                "--unix-socket",
                "/run/linkspan/linkspan.sock",
                &format!("http://linkspan/v1/events{query}"),
            ],
        );
        // Only what happens after the answer has begun is told.
        rig.wait_until("the events are followed", Duration::from_secs(10), || {
            fs::read_to_string(&head).is_ok_and(|head| head.contains("200"))
        });
        Events { curl }
    }

    /// All so far, in order.
    pub fn so_far(&self) -> Vec<Value> {
        let said = self.curl.said();
        let whole = said.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole
            .lines()
            .filter(|line| !line.trim().is_empty())
            .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
            .collect()
    }

    /// Those so far in which kind, name, action or detail hold each of these words.
    pub fn with(&self, words: &[&str]) -> Vec<String> {
        let text = |event: &Value| {
            let part = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
            ["kind", "name", "action", "detail"].map(part).join(" ")
        };
        let all = self.so_far();
        let told = all.iter().map(text);
        told.filter(|told| words.iter().all(|word| told.contains(word)))
            .collect()
    }

    /// Waits for one with all of these words.
    ///
    /// # Panics
    ///
    /// When none comes within the limit; with those that came.
    #[track_caller]
    pub fn wait_for(&self, rig: &Rig, words: &[&str], limit: Duration) -> Duration {
        rig.wait_until_ok(&format!("an event with {words:?}"), limit, || {
            if self.with(words).is_empty() {
                Err(format!("there were only {:#?}", self.with(&[])))
            } else {
                Ok(())
            }
        })
    }
}
