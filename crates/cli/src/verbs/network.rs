//! `linkspan network`, a file for each of its actions.

mod connect;
mod create;
mod disconnect;
mod foreign;
mod inspect;
mod ls;
mod named;
mod pools;
mod prune;
mod rm;

use std::process::ExitCode;

use linkspan_api::client::Client;

use super::done;

/// Make, list and remove networks, and put containers on them
#[derive(Debug, clap::Args)]
pub(crate) struct Network {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    Create(create::Create),
    #[command(visible_alias = "list")]
    Ls(ls::Ls),
    Inspect(inspect::Inspect),
    #[command(visible_alias = "remove")]
    Rm(rm::Rm),
    Prune(prune::Prune),
    Connect(connect::Connect),
    Disconnect(disconnect::Disconnect),
    Pools(pools::Pools),
}

impl Network {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        match self.action {
            Action::Create(verb) => verb.run(client).await.map(done),
            Action::Ls(verb) => verb.run(client).await.map(done),
            Action::Inspect(verb) => verb.run(client).await,
            Action::Rm(verb) => verb.run(client).await,
            Action::Prune(verb) => verb.run(client).await.map(done),
            Action::Connect(verb) => verb.run(client).await.map(done),
            Action::Disconnect(verb) => verb.run(client).await.map(done),
            Action::Pools(verb) => verb.run(client).await.map(done),
        }
    }
}
