//! `linkspan check`.

use std::path::PathBuf;

use crate::source;
use crate::terminal::print;

/// Check a site's file, without a daemon
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan check
  linkspan check -f shop/linkspan.yaml")]
pub(crate) struct Check {
    /// The site's file [default: linkspan.yaml or linkspan.yml here]
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl Check {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        let loaded = source::load(self.file.as_deref())?;
        let site = &loaded.site;
        print(&format!(
            "{}: site `{}` is fine: {}, {}, {}\n",
            loaded.shown.display(),
            site.name,
            count(site.containers.len(), "container"),
            count(site.routes.len(), "route"),
            count(site.networks.len(), "network"),
        ))
    }
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
