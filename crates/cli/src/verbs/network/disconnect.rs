//! `linkspan network disconnect`.

use linkspan_api::client::Client;
use linkspan_api::v1::DisconnectRequest;

use super::named::named;
use crate::pick::pick_one;
use crate::source;

/// Take a container off a network, without restarting it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan network disconnect backend shop-web-1")]
pub(crate) struct Disconnect {
    /// Name of the network, also as in the site's file
    network: String,
    /// Name, id, or name in the site's file
    container: String,
    /// Docker's; a container is let go whatever it does
    #[arg(short, long, hide = true)]
    force: bool,
}

impl Disconnect {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let networks = client.networks().await?;
        let containers = client.containers(true).await?;
        let project = source::project_here();
        let network = named(&networks, &self.network, project.as_deref())?;
        let container = pick_one(&containers, &self.container, project.as_deref())?;
        let request = DisconnectRequest {
            container: container.id.clone(),
        };
        client.disconnect_network(&network.name, &request).await?;
        Ok(())
    }
}
