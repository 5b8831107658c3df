//! `linkspan network inspect`.

use std::process::ExitCode;

use linkspan_api::client::Client;

use super::named::named;
use crate::terminal::print_json;
use crate::{failure, source};

/// Show everything about networks, as a JSON array
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan network inspect shop_default | jq '.[0].members'")]
pub(crate) struct Inspect {
    /// Names, also as in the site's file
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// Docker's; everything is shown anyhow
    #[arg(short, long, hide = true)]
    verbose: bool,
}

impl Inspect {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let all = client.networks().await?;
        let project = source::project_here();
        let mut found = Vec::new();
        let mut code = ExitCode::SUCCESS;
        for wanted in &self.networks {
            let detail = match named(&all, wanted, project.as_deref()) {
                Ok(network) => client.network(&network.name).await.map_err(anyhow::Error::from),
                Err(error) => Err(error.into()),
            };
            match detail {
                Ok(detail) => found.push(detail),
                Err(error) => {
                    let _ = failure::report(&error);
                    code = ExitCode::FAILURE;
                }
            }
        }
        // As Docker does: an array in any case, of those that are there.
        print_json(&found)?;
        Ok(code)
    }
}
