//! `linkspan ca`.

mod store;

use anyhow::Context;
use linkspan_api::client::Client;

use self::store::Store;
use crate::failure::Misuse;
use crate::terminal::print;

/// Show, trust or distrust Linkspan's own certificate authority
#[derive(Debug, clap::Args)]
pub(crate) struct Ca {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, clap::Subcommand)]
enum Action {
    /// Print its certificate as PEM
    #[command(
        after_help = "Example:\n  linkspan ca print > ca.pem && curl --cacert ca.pem https://shop.localhost"
    )]
    Print,
    /// Make this system trust it, or no longer
    #[command(after_help = "Examples:\n  linkspan ca trust\n  linkspan ca trust --remove")]
    Trust {
        /// No longer; needs no daemon
        #[arg(long)]
        remove: bool,
    },
}

impl Ca {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        match self.action {
            Action::Print => print(&client.ca().await?),
            Action::Trust { remove: false } => {
                let store = store()?;
                let pem = client.ca().await?;
                if !pem.contains("-----BEGIN CERTIFICATE-----") {
                    anyhow::bail!("the daemon's answer is no certificate");
                }
                let path = store.install(&pem)?;
                print(&format!("wrote {}\n", path.display()))?;
                refresh(&store)?;
                print(
                    "this system trusts it now; programs with a trust store of their own (Firefox, Chromium, Java) need it given: `linkspan ca print`\n",
                )
            }
            Action::Trust { remove: true } => {
                let store = store()?;
                match store.remove()? {
                    Some(path) => {
                        print(&format!("removed {}\n", path.display()))?;
                        refresh(&store)?;
                        print("this system trusts it no longer\n")
                    }
                    None => print(&format!(
                        "{} is not there; nothing to do\n",
                        store.certificate().display()
                    )),
                }
            }
        }
    }
}

fn store() -> anyhow::Result<Store> {
    Store::find(std::path::Path::new("/")).ok_or_else(|| {
        Misuse::new("this system keeps its trusted certificates where Linkspan doesn't know; take it from `linkspan ca print`")
            .into()
    })
}

/// Runs the system's own tool over the folder.
fn refresh(store: &Store) -> anyhow::Result<()> {
    let [program, arguments @ ..] = store.command() else {
        return Ok(());
    };
    let shown = store.command().join(" ");
    let output = std::process::Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run `{shown}`; install `{}`", store.package()))?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        anyhow::bail!("`{shown}` failed ({}): {}", output.status, words.trim());
    }
    print(&format!("ran {shown}\n"))
}
