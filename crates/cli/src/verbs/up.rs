//! `linkspan up`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use linkspan_api::client::{Client, LogsQuery, Output};
use linkspan_api::v1::{ContainerView, Event, RouteView};

use crate::follow::{Outcome, follow};
use crate::live::Progress;
use crate::pick::of_project;
use crate::quantity::parse_span;
use crate::source;
use crate::terminal::{clean, complain, print};
use crate::verbs::routes;

/// Lines of log shown for a container that failed.
const LAST_LINES: u64 = 10;

/// Bring a site up, or make a running one as its file says
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan up
  linkspan up -f shop/linkspan.yaml --timeout 5m")]
pub(crate) struct Up {
    /// The site's file [default: linkspan.yaml or linkspan.yml here]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Wait until everything is ready (the default)
    #[arg(long, overrides_with = "no_wait")]
    wait: bool,
    /// Return once the daemon has taken the change
    #[arg(long, overrides_with = "wait")]
    no_wait: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_span)]
    timeout: Duration,
}

impl Up {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let loaded = source::load(self.file.as_deref())?;
        let name = loaded.site.name.as_str();
        let accepted = client.put_site(name, &loaded.source).await?;
        if self.no_wait {
            print(&match accepted.changed {
                true => format!(
                    "site `{name}` is accepted as generation {}\n",
                    accepted.generation
                ),
                false => format!("site `{name}` is up to date\n"),
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        // Nothing to follow: what the daemon remembers of this generation may be older than what is true now.
        if !accepted.changed && client.status().await?.converged {
            print(&success(name, false, &client.routes().await?))?;
            return Ok(ExitCode::SUCCESS);
        }
        let mut progress = Progress::on_stderr();
        let outcome = tokio::select! {
            outcome = follow(client, name, accepted.generation, self.timeout, &mut progress) => outcome?,
            _ = tokio::signal::ctrl_c() => {
                complain(&format!("interrupted; the daemon goes on with `{name}`, see `linkspan status`"));
                return Ok(ExitCode::from(130));
            }
        };
        match outcome {
            Outcome::Converged => {
                let routes = client.routes().await?;
                print(&success(name, accepted.changed, &routes))?;
                // One that keeps falling over counts as there each time that it was started.
                for container in crashed(&client.containers(true).await?, name) {
                    complain(&format!(
                        "warning: container `{}`: {}",
                        clean(&container.name),
                        clean(&container.status)
                    ));
                    last_lines(client, &container.id).await;
                }
                Ok(ExitCode::SUCCESS)
            }
            Outcome::Failed(events) => {
                explain(client, name, &events).await;
                complain(&format!("error: site `{name}` is not up"));
                Ok(ExitCode::FAILURE)
            }
            Outcome::TimedOut(events) => {
                explain(client, name, &events).await;
                let after = self.timeout.as_secs();
                complain(&format!(
                    "error: site `{name}` is not up after {after} s; the daemon goes on trying"
                ));
                Ok(ExitCode::FAILURE)
            }
        }
    }
}

/// Containers whose program ended with a failure.
fn crashed<'a>(all: &'a [ContainerView], project: &str) -> Vec<&'a ContainerView> {
    let mut own = of_project(all, project);
    own.retain(|container| container.state != "running" && container.exit_code.is_some_and(|code| code != 0));
    own
}

fn success(name: &str, changed: bool, routes: &[RouteView]) -> String {
    let state = if changed { "up" } else { "up to date" };
    format!("site `{name}` is {state}\n{}", routes::summary(routes, name))
}

/// What failed and why; then each container that isn't there, with the last that it wrote.
async fn explain(client: &Client, project: &str, events: &[Event]) {
    for event in events {
        let (kind, name, detail) = (clean(&event.kind), clean(&event.name), clean(&event.detail));
        match detail.is_empty() {
            true => complain(&format!("error: {kind} `{name}` failed")),
            false => complain(&format!("error: {kind} `{name}` failed: {detail}")),
        }
    }
    // What failed has been told; this is what more can be found out.
    if let Ok(status) = client.status().await {
        let own = status.sites.iter().filter(|site| site.name == project);
        for waiting in own.flat_map(|site| &site.waiting) {
            complain(&format!("container {}", clean(waiting)));
        }
    }
    let Ok(containers) = client.containers(true).await else {
        return;
    };
    for container in of_project(&containers, project) {
        let healthy = container
            .health
            .as_deref()
            .is_none_or(|health| health == "healthy");
        if container.state != "running" || !healthy {
            complain(&format!(
                "container `{}`: {}",
                clean(&container.name),
                clean(&container.status)
            ));
            last_lines(client, &container.id).await;
        }
    }
}

/// Best effort: there may be no log yet, and the failure itself has been told.
async fn last_lines(client: &Client, container: &str) {
    let query = LogsQuery {
        tail: Some(LAST_LINES),
        ..LogsQuery::default()
    };
    let read = async {
        let mut text = Vec::new();
        if let Ok(mut logs) = client.logs(container, &query).await {
            while let Ok(Some(Output::Stdout(piece) | Output::Stderr(piece))) = logs.next_output().await {
                text.extend_from_slice(&piece);
            }
        }
        text
    };
    let Ok(text) = tokio::time::timeout(Duration::from_secs(5), read).await else {
        return;
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    for line in text.lines() {
        complain(&format!("    {}", clean(line)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::tests::container;

    #[test]
    fn a_site_that_needed_nothing_is_up_to_date() {
        let route = RouteView {
            host: "a.test".to_owned(),
            project: "shop".to_owned(),
            target: "web:80".to_owned(),
            state: "ready 1/1".to_owned(),
            url: Some("https://a.test/".to_owned()),
        };
        assert_eq!(
            success("shop", false, std::slice::from_ref(&route)),
            "site `shop` is up to date\n  https://a.test/  → web:80  ready 1/1\n"
        );
        assert!(success("shop", true, &[]).ends_with("is up\n"));
    }

    #[test]
    fn only_what_ended_with_a_failure_has_crashed() {
        let mut all = vec![
            container("a", "shop", "web", 1, "running"),
            container("b", "shop", "job", 1, "exited"),
            container("c", "shop", "bad", 1, "restarting"),
            container("d", "blog", "bad", 1, "exited"),
        ];
        for (container, code) in all.iter_mut().zip([None, Some(0), Some(3), Some(3)]) {
            container.exit_code = code;
        }
        let names: Vec<&str> = crashed(&all, "shop")
            .iter()
            .map(|container| container.name.as_str())
            .collect();
        assert_eq!(names, ["shop-bad-1"]);
    }
}
