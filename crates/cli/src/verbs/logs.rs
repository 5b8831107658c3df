//! `linkspan logs`.

use std::path::PathBuf;

use anyhow::Context;
use linkspan_api::client::{Client, ClientError, LogsQuery, Output};
use linkspan_api::v1::ContainerView;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::failure::Misuse;
use crate::pick::{of_project, pick};
use crate::terminal::{clean, complain_bytes, print_bytes};
use crate::{quantity, source};

/// Longest unfinished line that is kept back, in bytes.
const LINE_MAX: usize = 64 << 10;

/// Show what containers wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan logs -f web
  linkspan logs --tail 100 --since 10m")]
pub(crate) struct Logs {
    /// Names, ids, or names in the site's file [default: all of the site here]
    #[arg(value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Go on with what comes
    #[arg(short, long)]
    follow: bool,
    /// Only so many of the last lines
    #[arg(short = 'n', long, value_name = "LINES", value_parser = tail)]
    tail: Option<Tail>,
    /// Begin each line with its time
    #[arg(short, long)]
    timestamps: bool,
    /// Only from this time on: `10m`, `2026-05-01T12:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = quantity::parse_time, allow_hyphen_values = true)]
    since: Option<i64>,
    /// The site's file [default: linkspan.yaml or linkspan.yml here]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy)]
enum Tail {
    All,
    Lines(u64),
}

fn tail(text: &str) -> Result<Tail, String> {
    match text {
        "all" => Ok(Tail::All),
        _ => text
            .parse()
            .map(Tail::Lines)
            .map_err(|_| "write a number of lines, or `all`".to_owned()),
    }
}

impl Logs {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let all = client.containers(true).await?;
        let chosen = self.choose(&all)?;
        let query = LogsQuery {
            follow: self.follow,
            tail: match self.tail {
                Some(Tail::Lines(lines)) => Some(lines),
                Some(Tail::All) | None => None,
            },
            timestamps: self.timestamps,
            since: self.since,
        };
        match chosen.as_slice() {
            [one] => single(client, one, &query).await,
            several => merged(client, several, &query).await,
        }
    }

    fn choose<'a>(&self, all: &'a [ContainerView]) -> anyhow::Result<Vec<&'a ContainerView>> {
        if self.containers.is_empty() {
            let project = source::project(self.file.as_deref())?;
            let found = of_project(all, &project);
            if found.is_empty() {
                return Err(Misuse::new(format!(
                    "site `{project}` has no containers; `linkspan up` makes them"
                ))
                .into());
            }
            return Ok(found);
        }
        let project = match &self.file {
            Some(file) => Some(source::project(Some(file))?),
            None => source::project_here(),
        };
        let mut chosen: Vec<&ContainerView> = Vec::new();
        for name in &self.containers {
            for container in pick(all, name, project.as_deref())? {
                if !chosen.iter().any(|other| other.id == container.id) {
                    chosen.push(container);
                }
            }
        }
        Ok(chosen)
    }
}

/// As the container wrote it, byte by byte.
async fn single(client: &Client, container: &ContainerView, query: &LogsQuery) -> anyhow::Result<()> {
    let mut logs = client.logs(&container.id, query).await?;
    while let Some(output) = logs.next_output().await? {
        match output {
            Output::Stdout(bytes) => print_bytes(&bytes)?,
            Output::Stderr(bytes) => complain_bytes(&bytes),
            Output::Exit(_) => {}
        }
    }
    Ok(())
}

/// Line by line, each with its container's name before it: one after the other, or as they come when following.
async fn merged(client: &Client, containers: &[&ContainerView], query: &LogsQuery) -> anyhow::Result<()> {
    let width = containers
        .iter()
        .map(|container| clean(&container.name).chars().count())
        .max()
        .unwrap_or(0);
    let prefix = |container: &ContainerView| format!("{:<width$} | ", clean(&container.name));
    if !query.follow {
        for container in containers {
            let mut logs = client.logs(&container.id, query).await?;
            let mut lines = Lines::new(&prefix(container));
            while let Some(output) = logs.next_output().await? {
                show(&lines.take(output))?;
            }
            show(&lines.finish())?;
        }
        return Ok(());
    }
    let (send, mut receive) = mpsc::channel(64);
    let mut readers = JoinSet::new();
    for container in containers {
        let (client, query, send) = (client.clone(), query.clone(), send.clone());
        let (id, prefix) = (container.id.clone(), prefix(container));
        let name = container.name.clone();
        readers.spawn(async move {
            read(&client, &id, &query, &prefix, &send)
                .await
                .with_context(|| name)
        });
    }
    drop(send);
    while let Some(pieces) = receive.recv().await {
        show(&pieces)?;
    }
    while let Some(ended) = readers.join_next().await {
        ended.context("a reader of logs died")??;
    }
    Ok(())
}

async fn read(
    client: &Client,
    id: &str,
    query: &LogsQuery,
    prefix: &str,
    send: &mpsc::Sender<Pieces>,
) -> Result<(), ClientError> {
    let mut logs = client.logs(id, query).await?;
    let mut lines = Lines::new(prefix);
    // Nobody receives any more: the whole is over.
    while let Some(output) = logs.next_output().await? {
        if send.send(lines.take(output)).await.is_err() {
            return Ok(());
        }
    }
    let _ = send.send(lines.finish()).await;
    Ok(())
}

fn show(pieces: &Pieces) -> anyhow::Result<()> {
    if !pieces.err.is_empty() {
        complain_bytes(&pieces.err);
    }
    if pieces.out.is_empty() {
        Ok(())
    } else {
        print_bytes(&pieces.out)
    }
}

/// Whole lines for standard output and standard error.
#[derive(Debug, Default, PartialEq, Eq)]
struct Pieces {
    out: Vec<u8>,
    err: Vec<u8>,
}

/// Puts a prefix before every line; what isn't a line yet waits.
struct Lines {
    prefix: Vec<u8>,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl Lines {
    fn new(prefix: &str) -> Self {
        Self {
            prefix: prefix.as_bytes().to_vec(),
            out: Vec::new(),
            err: Vec::new(),
        }
    }

    fn take(&mut self, output: Output) -> Pieces {
        let mut pieces = Pieces::default();
        match output {
            Output::Stdout(bytes) => split(&self.prefix, &mut self.out, &bytes, &mut pieces.out),
            Output::Stderr(bytes) => split(&self.prefix, &mut self.err, &bytes, &mut pieces.err),
            Output::Exit(_) => {}
        }
        pieces
    }

    /// What is left, ended as lines so that another container's line can follow.
    fn finish(mut self) -> Pieces {
        let mut pieces = Pieces::default();
        if !self.out.is_empty() {
            split(&self.prefix, &mut self.out, b"\n", &mut pieces.out);
        }
        if !self.err.is_empty() {
            split(&self.prefix, &mut self.err, b"\n", &mut pieces.err);
        }
        pieces
    }
}

fn split(prefix: &[u8], pending: &mut Vec<u8>, bytes: &[u8], to: &mut Vec<u8>) {
    for part in bytes.split_inclusive(|byte| *byte == b'\n') {
        pending.extend_from_slice(part);
        if part.ends_with(b"\n") || pending.len() > LINE_MAX {
            to.extend_from_slice(prefix);
            to.append(pending);
            if !to.ends_with(b"\n") {
                to.push(b'\n');
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn out(text: &'static str) -> Output {
        Output::Stdout(Bytes::from(text))
    }

    #[test]
    fn every_line_has_its_container_before_it_and_halves_are_joined() {
        let mut lines = Lines::new("web-1 | ");
        assert_eq!(lines.take(out("one\ntw")).out, b"web-1 | one\n");
        assert_eq!(
            lines.take(Output::Stderr(Bytes::from("oops\n"))).err,
            b"web-1 | oops\n"
        );
        assert_eq!(lines.take(out("o\n\nend")).out, b"web-1 | two\nweb-1 | \n");
        assert_eq!(lines.finish().out, b"web-1 | end\n");
    }

    #[test]
    fn a_line_without_an_end_does_not_fill_the_memory() {
        let mut lines = Lines::new("");
        let long = Output::Stdout(Bytes::from(vec![b'x'; LINE_MAX + 1]));
        assert_eq!(lines.take(long).out.len(), LINE_MAX + 2);
        assert_eq!(lines.finish(), Pieces::default());
    }
}
