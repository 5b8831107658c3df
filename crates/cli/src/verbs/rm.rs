//! `linkspan rm`.

use linkspan_api::client::Client;

/// Remove containers that are stopped; a declared one comes back
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linkspan rm shop-web-1\n  linkspan rm -f shop-web-1")]
pub(crate) struct Rm {
    /// Names, ids, or names in the site's file
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Kill what still runs
    #[arg(short, long)]
    force: bool,
}

impl Rm {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        super::each(client, &self.containers, |container| async move {
            client.remove_container(&container.id, self.force).await
        })
        .await
    }
}
