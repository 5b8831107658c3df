//! `linkspan load`.

use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context;
use linkspan_api::client::Client;

use crate::args::Format;
use crate::failure::Misuse;
use crate::quantity::size;
use crate::terminal::{clean, print, print_json};
use crate::verbs::images::short;

/// Load images from an archive that Docker, Podman, Buildah or Skopeo wrote
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan load -i shop.tar
  docker save shop:1.4 | linkspan load")]
pub(crate) struct Load {
    /// The archive [default: standard input]
    #[arg(short, long, value_name = "FILE")]
    input: Option<PathBuf>,
    /// How to write what was loaded
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Load {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let (file, length) = self.open()?;
        let mut progress = Progress::new(length);
        let loaded = client
            .load(tokio::fs::File::from_std(file), length, move |sent| {
                progress.sent(sent);
            })
            .await?;
        if self.format == Format::Json {
            return print_json(&loaded);
        }
        for image in &loaded {
            let name = if image.names.is_empty() {
                "<none>".to_owned()
            } else {
                image.names.join(", ")
            };
            print(&format!(
                "loaded {} ({}, {})\n",
                clean(&name),
                clean(short(&image.id)),
                size(image.size)
            ))?;
        }
        Ok(())
    }

    /// The archive and, if it is a plain file, its length.
    fn open(&self) -> anyhow::Result<(File, Option<u64>)> {
        let Some(path) = &self.input else {
            let stdin = io::stdin();
            if stdin.is_terminal() {
                return Err(Misuse::new("no archive: name one with `-i FILE`, or pipe one in").into());
            }
            let copy = stdin
                .as_fd()
                .try_clone_to_owned()
                .context("cannot read standard input")?;
            return Ok((File::from(copy), None));
        };
        let shown = path.display();
        let file =
            File::open(path).map_err(|error| Misuse::new(format!("cannot open `{shown}`: {error}")))?;
        let about = file
            .metadata()
            .with_context(|| format!("cannot read `{shown}`"))?;
        if about.is_dir() {
            return Err(Misuse::new(format!("`{shown}` is a folder; pack it with `tar` first")).into());
        }
        Ok((file, about.is_file().then_some(about.len())))
    }
}

/// A counter on a terminal, nothing elsewhere.
struct Progress {
    length: Option<u64>,
    shown: bool,
    last: Option<Instant>,
}

impl Progress {
    fn new(length: Option<u64>) -> Self {
        Self {
            length,
            shown: io::stderr().is_terminal(),
            last: None,
        }
    }

    fn sent(&mut self, sent: u64) {
        let whole = self.length == Some(sent);
        let due = self
            .last
            .is_none_or(|last| last.elapsed() > Duration::from_millis(100));
        if !self.shown || !(due || whole) {
            return;
        }
        self.last = Some(Instant::now());
        let text = counter(sent, self.length);
        let _ = write!(
            io::stderr().lock(),
            "\r\x1b[2K{text}{}",
            if whole { "\r\x1b[2K" } else { "" }
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown && self.last.is_some() {
            let _ = write!(io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

fn counter(sent: u64, length: Option<u64>) -> String {
    match length {
        Some(length) if length > 0 => {
            let percent = u128::from(sent) * 100 / u128::from(length);
            format!("sending {} of {} ({percent}%)", size(sent), size(length))
        }
        _ => format!("sending {}", size(sent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_knows_the_whole_only_of_files() {
        assert_eq!(
            counter(45_000_000, Some(100_000_000)),
            "sending 45MB of 100MB (45%)"
        );
        assert_eq!(counter(45_000_000, None), "sending 45MB");
        assert_eq!(counter(0, Some(0)), "sending 0B");
    }
}
