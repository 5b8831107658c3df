//! `healthcheck`.

use std::time::Duration;

use crate::Healthcheck;
use crate::fields::Fields;
use crate::keys::HEALTHCHECK;
use crate::problem::{Report, quoted};
use crate::quantity;
use crate::yaml::{Node, Value};

/// Docker's defaults.
const INTERVAL: Duration = Duration::from_secs(30);
const TIMEOUT: Duration = Duration::from_secs(30);
const RETRIES: u32 = 3;
const START_INTERVAL: Duration = Duration::from_secs(5);

pub(super) fn read(fields: &Fields<'_>, report: &mut Report) -> Option<Healthcheck> {
    let node = fields.get("healthcheck", report)?;
    let fields = Fields::read(node, &HEALTHCHECK, report)?;
    let disabled = fields.flag("disable", report).unwrap_or(false);
    let test = match fields.get("test", report) {
        Some(node) => test(node, report)?,
        None if disabled => Vec::new(),
        None => {
            if fields.entry("test").is_none() {
                report
                    .at(node.span, "`healthcheck` has no `test`")
                    .hint("to change only the times of the image's check is not supported yet");
            }
            Vec::new()
        }
    };
    let interval = time("interval", Some(INTERVAL), &fields, report);
    let timeout = time("timeout", Some(TIMEOUT), &fields, report);
    let start_period = time("start_period", None, &fields, report);
    let start_interval = time("start_interval", Some(START_INTERVAL), &fields, report);
    let retries = fields
        .get("retries", report)
        .and_then(|node| report.whole("retries", node, 1, 1_000));
    Some(Healthcheck {
        test: if disabled { Vec::new() } else { test },
        interval,
        timeout,
        retries: retries.map_or(RETRIES, |retries| retries as u32),
        start_period,
        start_interval,
    })
}

/// Without a default, zero is fine and the default.
fn time(key: &str, default: Option<Duration>, fields: &Fields<'_>, report: &mut Report) -> Duration {
    let parsed = fields.parsed(key, report, |text| match quantity::duration(text) {
        Ok(time) if default.is_some() && time < Duration::from_millis(1) => Err("must be 1ms or more"),
        other => other,
    });
    parsed.or(default).unwrap_or_default()
}

/// A program and its arguments; empty turns the image's check off.
fn test(node: &Node, report: &mut Report) -> Option<Vec<String>> {
    let Value::List(items) = &node.value else {
        let text = report.text("test", node)?;
        if text.trim().is_empty() {
            report
                .at(node.span, "`test` is empty")
                .hint("to turn the image's check off, write `disable: true`");
            return None;
        }
        return Some(shell(text));
    };
    let words: Vec<String> = items
        .iter()
        .filter_map(|item| report.text("test", item))
        .map(str::to_owned)
        .collect();
    match words.split_first() {
        Some((kind, [])) if kind == "NONE" => Some(Vec::new()),
        Some((kind, arguments)) if kind == "CMD" && !arguments.is_empty() => Some(arguments.to_vec()),
        Some((kind, [command])) if kind == "CMD-SHELL" => Some(shell(command)),
        Some((kind, _)) if kind == "CMD-SHELL" => {
            report
                .at(node.span, "`CMD-SHELL` takes one text, the shell command")
                .hint("`[CMD-SHELL, \"a && b\"]`");
            None
        }
        Some((kind, _)) if matches!(kind.as_str(), "CMD" | "NONE") => {
            report.at(
                node.span,
                format!("`test` is {} with the wrong number of words", quoted(kind)),
            );
            None
        }
        Some((kind, _)) => {
            report
                .at(
                    items.first().unwrap_or(node).span,
                    format!("a list in `test` begins with `CMD`, not {}", quoted(kind)),
                )
                .hint("`[CMD, program, argument]`, `[CMD-SHELL, command]` or `[NONE]`");
            None
        }
        None => {
            report
                .at(node.span, "`test` is empty")
                .hint("to turn the image's check off, write `disable: true`");
            None
        }
    }
}

fn shell(command: &str) -> Vec<String> {
    vec!["/bin/sh".to_owned(), "-c".to_owned(), command.to_owned()]
}
