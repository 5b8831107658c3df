//! `linkspan stop`.

use linkspan_api::client::Client;

/// Stop containers, and keep them stopped
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linkspan stop shop-web-1\n  linkspan stop -t 30 web")]
pub(crate) struct Stop {
    /// Names, ids, or names in the site's file
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Time to end by itself before it is killed, instead of the container's own
    #[arg(short, long, value_name = "TIME", value_parser = crate::quantity::parse_span)]
    timeout: Option<std::time::Duration>,
}

impl Stop {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        super::each(client, &self.containers, |container| async move {
            client.stop(&container.id, self.timeout).await
        })
        .await
    }
}
