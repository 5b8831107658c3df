//! `linkspan kill`.

use linkspan_api::client::Client;

/// Send containers a signal
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  linkspan kill shop-web-1\n  linkspan kill -s HUP web")]
pub(crate) struct Kill {
    /// Names, ids, or names in the site's file
    #[arg(required = true, value_name = "CONTAINER")]
    containers: Vec<String>,
    /// By name or number
    #[arg(short, long, default_value = "KILL")]
    signal: String,
}

impl Kill {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let signal = self.signal.as_str();
        super::each(client, &self.containers, |container| async move {
            client.kill(&container.id, signal).await
        })
        .await
    }
}
