//! `linkspan schema`.

use crate::terminal::print_json;

/// Print the JSON Schema of linkspan.yaml, for editors
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan schema > linkspan.schema.json
  # then, first line of linkspan.yaml:  # yaml-language-server: $schema=linkspan.schema.json")]
pub(crate) struct Schema {}

impl Schema {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        print_json(&linkspan_site::schema())
    }
}
