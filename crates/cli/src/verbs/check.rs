//! `linkspan check`.

use std::path::PathBuf;

use linkspan_site::{ContainerName, Driver, Site};

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
        ))?;
        for name in without_ports(site) {
            print(&format!(
                "  note: `ports` of container `{name}` have no meaning: it is only on networks that are on the LAN itself, where it \
                 has an address of its own\n"
            ))?;
        }
        Ok(())
    }
}

/// Containers that publish ports and have none, since no network of theirs is behind the host.
fn without_ports(site: &Site) -> Vec<&ContainerName> {
    let on_lan = |name| {
        site.networks
            .get(name)
            .is_some_and(|network| network.driver != Driver::Bridge)
    };
    let all = site.containers.iter().filter(|(_, container)| {
        let networks = &container.networks;
        !container.ports.is_empty() && !networks.is_empty() && networks.keys().all(on_lan)
    });
    all.map(|(name, _)| name).collect()
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
