//! `linkspan plan`.

use std::path::PathBuf;

use linkspan_api::client::Client;

use crate::args::Format;
use crate::plan_text;
use crate::source;
use crate::terminal::{Paint, print, print_json};

/// Show what `up` would change, and change nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan plan
  linkspan plan --format json | jq '.steps[].name'")]
pub(crate) struct Plan {
    /// The site's file [default: linkspan.yaml or linkspan.yml here]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

impl Plan {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let loaded = source::load(self.file.as_deref())?;
        let plan = client.plan(&loaded.source).await?;
        match self.format {
            Format::Json => print_json(&plan),
            Format::Table => print(&plan_text::render(&plan, Paint::for_stream(&std::io::stdout()))),
        }
    }
}
