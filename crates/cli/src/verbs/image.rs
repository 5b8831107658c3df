//! `linkspan image rm`.

use linkspan_api::client::Client;

use crate::terminal::print;

/// Remove images
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Remove images by name
    #[command(after_help = "Example:\n  linkspan image rm shop:1.3 shop:1.2")]
    Rm {
        /// Names or ids
        #[arg(required = true, value_name = "IMAGE")]
        images: Vec<String>,
        /// Also if a container still uses it
        #[arg(short, long)]
        force: bool,
    },
}

impl Image {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let Action::Rm { images, force } = self.action;
        for image in images {
            client.remove_image(&image, force).await?;
            print(&format!("removed {}\n", crate::terminal::clean(&image)))?;
        }
        Ok(())
    }
}
