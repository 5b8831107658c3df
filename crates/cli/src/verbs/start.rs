//! `linkspan start`.

use linkspan_api::client::Client;

/// Start containers that are stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  linkspan start shop-web-1")]
pub(crate) struct Start {
    /// Names, ids, or names in the site's file
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
}

impl Start {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        super::each(client, &self.containers, |container| async move {
            client.start(&container.id).await
        })
        .await
    }
}
