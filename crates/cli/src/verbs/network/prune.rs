//! `linkspan network prune`.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use linkspan_api::client::Client;

use crate::failure::Misuse;
use crate::terminal::{clean, print};

/// Remove all networks that were made by hand and that nothing is on
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  linkspan network prune -f")]
pub(crate) struct Prune {
    /// Don't ask
    #[arg(short, long)]
    force: bool,
}

impl Prune {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        if !self.force && !is_wanted()? {
            return Ok(());
        }
        let removed = client.prune_networks().await?;
        if removed.is_empty() {
            return Ok(());
        }
        let names: Vec<String> = removed.iter().map(|name| format!("{}\n", clean(name))).collect();
        print(&format!("Deleted Networks:\n{}", names.concat()))
    }
}

/// Asks, as Docker does; anything but a yes is a no.
fn is_wanted() -> anyhow::Result<bool> {
    let stdin = io::stdin();
    if !stdin.is_terminal() {
        return Err(Misuse::new("standard input is no terminal to ask on; say yes with `-f`").into());
    }
    let mut err = io::stderr().lock();
    write!(
        err,
        "All networks that were made by hand and that no container is on will be removed. Go on? [y/N] "
    )
    .and_then(|()| err.flush())
    .context("cannot ask")?;
    let mut answer = String::new();
    stdin.read_line(&mut answer).context("cannot read the answer")?;
    Ok(says_yes(&answer))
}

fn says_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use super::says_yes;

    #[test]
    fn only_a_yes_is_a_yes() {
        assert!(says_yes("y\n") && says_yes("YES\n"));
        assert!(!says_yes("\n") && !says_yes("") && !says_yes("yep\n") && !says_yes("n\n"));
    }
}
