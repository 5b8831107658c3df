//! `linkspan events`.

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use linkspan_api::client::Client;
use linkspan_api::v1::{ContainerView, Event};
use tokio::time::Instant;

use crate::args::Format;
use crate::failure::Misuse;
use crate::filter::{Filter, admits};
use crate::live::tone;
use crate::pick::pick;
use crate::quantity::parse_moment;
use crate::source;
use crate::terminal::{Colour, Paint, clean, print};

/// How long a daemon may take to tell of the past, when nothing of the future is asked for.
const GRACE: Duration = Duration::from_secs(2);

/// Show what happens, as it happens
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan events
  linkspan events --since 10m --filter type=network --filter event=failed
  linkspan events --since 1h --until 0s --format json | jq -r .name

The daemon remembers the last few thousand, since it was started.")]
pub(crate) struct Events {
    /// Also what happened from this time on: `10m`, `2026-05-01T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    since: Option<i64>,
    /// Only until this time, then end; `0s` is now
    #[arg(long, value_name = "TIME", value_parser = parse_moment, allow_hyphen_values = true)]
    until: Option<i64>,
    /// Only those with: type, event, container, network, project
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    filters: Vec<Filter>,
    /// How to write it; `json` is a line for each
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text, &["type", "event", "container", "network", "project"])
}

impl Events {
    pub(crate) async fn run(mut self, client: &Client) -> anyhow::Result<()> {
        // Before the epoch nothing happened.
        let since = self.since.map(|since| u64::try_from(since).unwrap_or(0));
        let until = self.until.map(|until| u64::try_from(until).unwrap_or(0));
        if let (Some(since), Some(until)) = (since, until)
            && since > until
        {
            return Err(Misuse::new("`--since` is later than `--until`; nothing lies between").into());
        }
        if self.filters.iter().any(|filter| filter.key == "container") {
            let containers = client.containers(true).await?;
            self.filters = named(self.filters, &containers, source::project_here().as_deref())?;
        }
        let paint = Paint::for_stream(&std::io::stdout());
        let mut events = client.events_between(since, until).await?;
        let end = until.map(|until| {
            let now = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(0);
            Instant::now() + Duration::from_millis(until.saturating_sub(now)) + GRACE
        });
        loop {
            let next = events.next_event();
            let next = match end {
                Some(end) => match tokio::time::timeout_at(end, next).await {
                    Ok(next) => next?,
                    Err(_) => return Ok(()),
                },
                None => next.await?,
            };
            let Some(event) = next else {
                return match until {
                    Some(_) => Ok(()),
                    None => Err(anyhow::anyhow!(
                        "the daemon has ended; `linkspan status` says when it is back"
                    )),
                };
            };
            if until.is_some_and(|until| event.time_ms > until) {
                return Ok(());
            }
            // A daemon that doesn't know of `since` is asked for nothing of the past, and says nothing of it.
            if since.is_some_and(|since| event.time_ms < since) || !self.shows(&event) {
                continue;
            }
            print(&match self.format {
                Format::Json => format!("{}\n", serde_json::to_string(&event)?),
                Format::Table => line(&event, &TimeZone::system(), paint),
            })?;
        }
    }

    fn shows(&self, event: &Event) -> bool {
        admits(&self.filters, |filter| meets(event, filter))
    }
}

/// Containers by the names that events call them; one that isn't there yet may come.
fn named(
    filters: Vec<Filter>,
    containers: &[ContainerView],
    project: Option<&str>,
) -> Result<Vec<Filter>, Misuse> {
    let mut found = Vec::new();
    for filter in filters {
        if filter.key != "container" {
            found.push(filter);
            continue;
        }
        let value = filter.value.as_str();
        let is_known = containers.iter().any(|one| {
            one.service.as_deref() == Some(value) || one.id.starts_with(value) || one.name == value
        });
        if !is_known {
            found.push(filter);
            continue;
        }
        found.extend(pick(containers, value, project)?.into_iter().map(|one| Filter {
            key: "container",
            value: one.name.clone(),
        }));
    }
    Ok(found)
}

fn meets(event: &Event, filter: &Filter) -> bool {
    let value = filter.value.as_str();
    match filter.key {
        "type" => event.kind == value,
        "event" => event.action == value,
        "project" => event.project.as_deref() == Some(value),
        // `container` and `network` are kinds of their own.
        kind => event.kind == kind && event.name == value,
    }
}

/// `2026-05-01T12:00:00.123+02:00 container ready shop-web-1 (detail)`.
fn line(event: &Event, zone: &TimeZone, paint: Paint) -> String {
    let time = i64::try_from(event.time_ms)
        .ok()
        .and_then(|time| Timestamp::from_millisecond(time).ok())
        .unwrap_or(Timestamp::MAX)
        .to_zoned(zone.clone())
        .strftime("%Y-%m-%dT%H:%M:%S%.3f%:z")
        .to_string();
    let mut line = format!(
        "{} {} {} {}",
        paint.paint(Colour::Dim, &time),
        clean(&event.kind),
        paint.paint(tone(&event.action), &clean(&event.action)),
        clean(&event.name)
    );
    if !event.detail.is_empty() {
        line.push_str(&format!(" ({})", clean(&event.detail)));
    }
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pick::tests::container;

    fn event(kind: &str, name: &str, action: &str, detail: &str) -> Event {
        Event {
            time_ms: 1_777_640_400_123,
            generation: 1,
            project: Some("shop".to_owned()),
            kind: kind.to_owned(),
            name: name.to_owned(),
            action: action.to_owned(),
            detail: detail.to_owned(),
        }
    }

    fn filters(texts: &[&str]) -> Vec<Filter> {
        texts.iter().map(|text| filter(text).unwrap()).collect()
    }

    #[test]
    fn an_event_is_a_line_and_cannot_move_the_cursor() {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        assert_eq!(
            line(
                &event("container", "shop-web-1", "ready", ""),
                &zone,
                Paint::PLAIN
            ),
            "2026-05-01T15:00:00.123+02:00 container ready shop-web-1\n"
        );
        assert_eq!(
            line(
                &event("network", "shop_default", "failed", "no\x1b[2J\n"),
                &zone,
                Paint::PLAIN
            ),
            "2026-05-01T15:00:00.123+02:00 network failed shop_default (no\\u{1b}[2J\\n)\n"
        );
        let coloured = line(&event("network", "n", "failed", ""), &zone, Paint::ALWAYS);
        assert!(
            coloured.ends_with("network \x1b[31mfailed\x1b[0m n\n"),
            "{coloured}"
        );
        let far = Event {
            time_ms: u64::MAX,
            ..event("network", "n", "failed", "")
        };
        assert!(line(&far, &TimeZone::UTC, Paint::PLAIN).starts_with("9999-"));
    }

    #[test]
    fn filters_choose_as_dockers_do() {
        let shown = |texts: &[&str], event: &Event| admits(&filters(texts), |filter| meets(event, filter));
        let ready = event("container", "shop-web-1", "ready", "");
        assert!(shown(&[], &ready));
        assert!(shown(&["type=container", "type=network", "event=ready"], &ready));
        assert!(shown(&["container=shop-web-1", "project=shop"], &ready));
        assert!(!shown(&["container=shop-web-1", "event=failed"], &ready));
        // A network of that name is no container.
        assert!(!shown(
            &["container=shop-web-1"],
            &event("network", "shop-web-1", "ready", "")
        ));
        assert!(!shown(&["network=shop-web-1"], &ready));
    }

    #[test]
    fn a_container_may_be_named_as_in_its_file_and_may_yet_have_to_come() {
        let all = [
            container("abcd1", "shop", "web", 1, "running"),
            container("abcd2", "shop", "web", 2, "running"),
            container("ef003", "blog", "web", 1, "running"),
        ];
        let values = |text: &str, project| {
            named(filters(&[text]), &all, project)
                .map(|found| found.into_iter().map(|filter| filter.value).collect::<Vec<_>>())
        };
        assert_eq!(
            values("container=web", Some("shop")).unwrap(),
            ["shop-web-1", "shop-web-2"]
        );
        assert_eq!(values("container=ef003", None).unwrap(), ["blog-web-1"]);
        assert_eq!(values("container=new", None).unwrap(), ["new"]);
        assert_eq!(values("network=web", None).unwrap(), ["web"]);
        assert!(
            values("container=web", None)
                .unwrap_err()
                .to_string()
                .contains("several projects")
        );
    }
}
