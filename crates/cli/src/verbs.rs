//! The verbs, a file for each.

pub(crate) mod ca;
pub(crate) mod check;
pub(crate) mod completion;
pub(crate) mod daemon;
pub(crate) mod doctor;
pub(crate) mod down;
pub(crate) mod events;
pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod images;
pub(crate) mod inspect;
pub(crate) mod kill;
pub(crate) mod load;
pub(crate) mod logs;
pub(crate) mod network;
pub(crate) mod plan;
pub(crate) mod ps;
pub(crate) mod restart;
pub(crate) mod rm;
pub(crate) mod routes;
pub(crate) mod save;
pub(crate) mod schema;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod stop;
pub(crate) mod up;
pub(crate) mod version;

use std::process::ExitCode;

use linkspan_api::client::{Client, ClientError};
use linkspan_api::v1::ContainerView;

use crate::args::Verb;
use crate::pick::pick;
use crate::terminal;
use crate::{failure, source};

impl Verb {
    /// Does it. `Ok` may still be a status other than 0, when everything was said already.
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(verb) => verb.run(client).await,
            Self::Exec(verb) => verb.run(client).await,
            Self::Network(verb) => verb.run(client).await,
            Self::Doctor(verb) => verb.run(client).await,
            Self::Down(verb) => verb.run(client).await.map(done),
            Self::Plan(verb) => verb.run(client).await.map(done),
            Self::Check(verb) => verb.run().map(done),
            Self::Schema(verb) => verb.run().map(done),
            Self::Ps(verb) => verb.run(client).await.map(done),
            Self::Logs(verb) => verb.run(client).await.map(done),
            Self::Inspect(verb) => verb.run(client).await.map(done),
            Self::Start(verb) => verb.run(client).await.map(done),
            Self::Stop(verb) => verb.run(client).await.map(done),
            Self::Restart(verb) => verb.run(client).await.map(done),
            Self::Kill(verb) => verb.run(client).await.map(done),
            Self::Rm(verb) => verb.run(client).await.map(done),
            Self::Load(verb) => verb.run(client).await.map(done),
            Self::Save(verb) => verb.run(client).await.map(done),
            Self::Images(verb) => verb.run(client).await.map(done),
            Self::Image(verb) => verb.run(client).await.map(done),
            Self::Routes(verb) => verb.run(client).await.map(done),
            Self::Ca(verb) => verb.run(client).await.map(done),
            Self::Status(verb) => verb.run(client).await.map(done),
            Self::Events(verb) => verb.run(client).await.map(done),
            Self::Version(verb) => verb.run(client).await.map(done),
            Self::Completion(verb) => verb.run().map(done),
            // The daemon is not a thing to run on the command line's runtime; the binary starts it.
            Self::Daemon(_) => anyhow::bail!("the daemon is a role of the program, not a call to it"),
        }
    }
}

fn done((): ()) -> ExitCode {
    ExitCode::SUCCESS
}

/// Does one thing to each container that was named, prints the names it worked for, and goes on after a failure.
async fn each<F>(client: &Client, wanted: &[String], act: impl Fn(ContainerView) -> F) -> anyhow::Result<()>
where
    F: Future<Output = Result<(), ClientError>>,
{
    let all = client.containers(true).await?;
    let project = source::project_here();
    // All names are looked up before anything is done: a typo changes nothing.
    let mut picked: Vec<&ContainerView> = Vec::new();
    for name in wanted {
        for container in pick(&all, name, project.as_deref())? {
            if !picked.iter().any(|other| other.id == container.id) {
                picked.push(container);
            }
        }
    }
    let mut failed = None;
    for container in picked {
        match act(container.clone()).await {
            Ok(()) => terminal::print(&format!("{}\n", terminal::clean(&container.name)))?,
            Err(error) => {
                let earlier = failed.replace(error);
                if let Some(earlier) = earlier {
                    let _ = failure::report(&earlier.into());
                }
            }
        }
    }
    failed.map_or(Ok(()), |error| Err(error.into()))
}
