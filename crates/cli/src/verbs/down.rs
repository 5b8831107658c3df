//! `linkspan down`.

use std::path::PathBuf;
use std::time::Duration;

use linkspan_api::client::Client;

use crate::failure::Status;
use crate::follow::{Outcome, follow};
use crate::live::Progress;
use crate::quantity::parse_span;
use crate::source;
use crate::terminal::{clean, complain, print};

/// Take a site down: its containers, networks and routes
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan down
  linkspan down --volumes shop")]
pub(crate) struct Down {
    /// The site's name [default: that of the file here]
    #[arg(conflicts_with = "file")]
    site: Option<String>,
    /// The site's file [default: linkspan.yaml or linkspan.yml here]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Its volumes too, and all that is in them
    #[arg(short, long)]
    volumes: bool,
    /// How long to wait
    #[arg(long, value_name = "TIME", default_value = "120s", value_parser = parse_span)]
    timeout: Duration,
}

impl Down {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let name = match self.site {
            Some(name) => name,
            None => source::project(self.file.as_deref())?,
        };
        let accepted = client.delete_site(&name, self.volumes).await?;
        let shown = clean(&name);
        let mut progress = Progress::on_stderr();
        match follow(client, &name, accepted.generation, self.timeout, &mut progress).await? {
            Outcome::Converged => print(&format!("site `{shown}` is down\n")),
            Outcome::Failed(events) | Outcome::TimedOut(events) => {
                for event in events {
                    let (kind, name, detail) = (clean(&event.kind), clean(&event.name), clean(&event.detail));
                    complain(&format!("error: {kind} `{name}`: {detail}"));
                }
                complain(&format!(
                    "error: site `{shown}` is not down yet; the daemon goes on trying"
                ));
                Err(Status(1).into())
            }
        }
    }
}
