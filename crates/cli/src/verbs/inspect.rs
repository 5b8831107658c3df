//! `linkspan inspect`.

use linkspan_api::client::Client;

use crate::pick::pick;
use crate::source;
use crate::terminal::print_json;

/// Show everything about containers, as a JSON array
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan inspect shop-web-1 | jq '.[0]'")]
pub(crate) struct Inspect {
    /// Names, ids, or names in the site's file
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Inspect {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let all = client.containers(true).await?;
        let project = source::project_here();
        let mut found = Vec::new();
        for name in &self.containers {
            for container in pick(&all, name, project.as_deref())? {
                found.push(client.inspect(&container.id).await?);
            }
        }
        print_json(&found)
    }
}
