//! `linkspan version`.

use linkspan_api::client::{Client, ClientError};
use linkspan_api::v1;
use serde::Serialize;

use crate::args::Format;
use crate::terminal::{clean, print, print_json};

/// Show the versions of this program and of the daemon
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan version")]
pub(crate) struct Version {
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Serialize)]
struct Versions {
    client: &'static str,
    daemon: Option<v1::Version>,
}

impl Version {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let (daemon, silence) = match client.version().await {
            Ok(version) => (Some(version), None),
            // Which client this is can be told without a daemon.
            Err(error @ (ClientError::NoDaemon { .. } | ClientError::PermissionDenied { .. })) => {
                (None, Some(error))
            }
            Err(error) => return Err(error.into()),
        };
        let versions = Versions {
            client: env!("CARGO_PKG_VERSION"),
            daemon,
        };
        if self.format == Format::Json {
            return print_json(&versions);
        }
        let daemon = match (&versions.daemon, silence) {
            (Some(daemon), _) => format!("{} (pid {}, Linux {})", daemon.version, daemon.pid, daemon.kernel),
            (None, Some(why)) => format!("- ({why})"),
            (None, None) => "-".to_owned(),
        };
        print(&format!(
            "client  {}\ndaemon  {}\n",
            versions.client,
            clean(&daemon)
        ))
    }
}
