//! `linkspan restart`.

use linkspan_api::client::Client;

/// Stop containers and start them again
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linkspan restart shop-web-1\n  linkspan restart -t 30 web")]
pub(crate) struct Restart {
    /// Names, ids, or names in the site's file
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// Time to end by itself before it is killed, instead of the container's own
    #[arg(short, long, value_name = "TIME", value_parser = crate::quantity::parse_span)]
    timeout: Option<std::time::Duration>,
}

impl Restart {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        super::each(client, &self.containers, |container| async move {
            client.restart(&container.id, self.timeout).await
        })
        .await
    }
}
