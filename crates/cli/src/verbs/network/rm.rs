//! `linkspan network rm`.

use std::process::ExitCode;

use linkspan_api::client::{Client, ClientError};

use super::named::named;
use crate::terminal::{clean, print};
use crate::{failure, source};

/// Remove networks that nothing is on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan network rm backend office")]
pub(crate) struct Rm {
    /// Names, also as in the site's file
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<String>,
    /// One that isn't there is no failure
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    /// Goes on after a failure, as Docker does; the status is then 1.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let all = client.networks().await?;
        let project = source::project_here();
        let mut code = ExitCode::SUCCESS;
        for wanted in &self.networks {
            let removed = match named(&all, wanted, project.as_deref()) {
                Err(_) if self.force => continue,
                Err(error) => Err(error.into()),
                Ok(network) => match client.remove_network(&network.name).await {
                    // Somebody was faster.
                    Err(ClientError::Failed(_, status)) if self.force && status.as_u16() == 404 => continue,
                    Err(error) => Err(anyhow::Error::from(error)),
                    Ok(()) => Ok(&network.name),
                },
            };
            match removed {
                Ok(name) => print(&format!("{}\n", clean(name)))?,
                Err(error) => {
                    let _ = failure::report(&error);
                    code = ExitCode::FAILURE;
                }
            }
        }
        Ok(code)
    }
}
