//! `linkspan doctor`: what the daemon knows of ranges and firewalls, in words, and what a person should do about it.

mod firewall;
mod network;

use std::process::ExitCode;

use clap::ValueEnum;
use linkspan_api::client::Client;
use linkspan_api::v1::{FirewallReport, NetworkReport};
use serde::Serialize;

use crate::args::Format;
use crate::terminal::{Colour, Paint, clean, print, print_json};

/// Explain networks and firewall, and tell what needs attention
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan doctor
  linkspan doctor network
  linkspan doctor firewall --format json | jq '.foreign'

Exits with 1 if something needs attention: a range with two owners, a chain in the way, \
a damaged table, a warning.")]
pub(crate) struct Doctor {
    /// Only one of them, with everything about it
    #[arg(value_enum, value_name = "PART")]
    about: Option<About>,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum About {
    /// Every range that somebody uses, and why each network has the one it has
    Network,
    /// Every rule of ours, and what the chains of others do to our traffic
    Firewall,
}

impl Doctor {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<ExitCode> {
        let paint = Paint::for_stream(&std::io::stdout());
        let troubles = match self.about {
            Some(About::Network) => {
                let report = client.network_report().await?;
                match self.format {
                    Format::Json => print_json(&report)?,
                    Format::Table => print(&network::render(&report, paint))?,
                }
                network::troubles(&report)
            }
            Some(About::Firewall) => {
                let report = client.firewall_report().await?;
                match self.format {
                    Format::Json => print_json(&report)?,
                    Format::Table => print(&firewall::render(&report, paint))?,
                }
                firewall::troubles(&report)
            }
            None => {
                let checkup = Checkup::new(
                    client.network_report().await?,
                    client.firewall_report().await?,
                    client.status().await?.warnings,
                );
                match self.format {
                    Format::Json => print_json(&checkup)?,
                    Format::Table => print(&checkup.render(paint))?,
                }
                checkup.attention
            }
        };
        Ok(match troubles.is_empty() {
            true => ExitCode::SUCCESS,
            false => ExitCode::FAILURE,
        })
    }
}

/// Everything at once.
#[derive(Debug, Serialize)]
struct Checkup {
    /// What a person should look at; empty when all is well.
    attention: Vec<String>,
    network: NetworkReport,
    firewall: FirewallReport,
    warnings: Vec<String>,
}

impl Checkup {
    fn new(network: NetworkReport, firewall: FirewallReport, warnings: Vec<String>) -> Self {
        let mut attention = network::troubles(&network);
        attention.extend(firewall::troubles(&firewall));
        // A conflict is among the daemon's warnings too; once is enough.
        let conflicts: Vec<&str> = network
            .networks
            .iter()
            .filter_map(|choice| choice.conflict.as_deref())
            .collect();
        // A move has solved what would have needed attention.
        let left = || network.networks.iter().flat_map(|choice| &choice.left);
        let is_move = |warning: &str| left().any(|range| warning.contains(&format!("moved from {range},")));
        let others = warnings
            .iter()
            .filter(|warning| !conflicts.iter().any(|conflict| warning.contains(conflict)))
            .filter(|warning| !is_move(warning));
        attention.extend(others.cloned());
        Self {
            attention,
            network,
            firewall,
            warnings,
        }
    }

    fn render(&self, paint: Paint) -> String {
        let mut out = format!(
            "networks  {}\nfirewall  {}\n",
            network::summary(&self.network),
            firewall::summary(&self.firewall)
        );
        for trouble in &self.attention {
            let sign = paint.paint(Colour::Yellow, "attention");
            // What is to be run has a line of its own.
            for (number, line) in trouble.lines().enumerate() {
                match number {
                    0 => out.push_str(&format!("{sign} {}\n", clean(line))),
                    _ => out.push_str(&format!("          {}\n", clean(line))),
                }
            }
        }
        out.push_str(&match self.attention.len() {
            0 => format!("{}\n", paint.paint(Colour::Green, "nothing needs attention")),
            count => format!(
                "{} need{} attention; `linkspan doctor network` and `linkspan doctor firewall` tell more\n",
                things(count, "thing"),
                if count == 1 { "s" } else { "" }
            ),
        });
        out
    }
}

/// `1 range`, `2 ranges`.
fn things(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    fn checkup(warnings: &[&str]) -> Checkup {
        let warnings = warnings.iter().map(|warning| (*warning).to_owned()).collect();
        Checkup::new(network::tests::report(), firewall::tests::report(), warnings)
    }

    #[test]
    fn all_that_needs_attention_is_told_once() {
        let conflict = "network `office`: meets route via `tun1`; it was written, so it stays";
        let checkup = checkup(&[conflict, "proxy: restarted 3 times in a minute\x1b[2J"]);
        expect![[r#"
            networks  2 networks; 1 range is in use by others, 1 more does not count
            firewall  owned: nobody else can change it; 3 rules; 2 chains of others see the same packets
            attention network `office` (10.20.0.0/24): meets route via `tun1`; it was written, so it stays
            attention chain `ip filter FORWARD` of Docker: drops what containers send to each other and to the internet
                      to change that: iptables -I DOCKER-USER -j ACCEPT
            attention proxy: restarted 3 times in a minute\u{1b}[2J
            3 things need attention; `linkspan doctor network` and `linkspan doctor firewall` tell more
        "#]]
        .assert_eq(&checkup.render(Paint::PLAIN));
    }

    #[test]
    fn a_move_needs_no_attention() {
        let mut network = network::tests::report();
        network.networks.retain(|choice| choice.conflict.is_none());
        network.networks[0].left = vec!["10.192.9.0/24".to_owned()];
        let mut firewall = firewall::tests::report();
        firewall.foreign.clear();
        let told =
            "network shop_default: moved from 10.192.9.0/24, which somebody else uses, to 10.192.4.0/24";
        let checkup = Checkup::new(network, firewall, vec![told.to_owned(), "another".to_owned()]);
        assert_eq!(checkup.attention, ["another"]);
    }

    #[test]
    fn when_all_is_well_it_says_so() {
        let mut network = network::tests::report();
        network.networks.retain(|choice| choice.conflict.is_none());
        let mut firewall = firewall::tests::report();
        firewall.foreign.retain(|chain| chain.remedy.is_none());
        let checkup = Checkup::new(network, firewall, Vec::new());
        assert!(checkup.attention.is_empty(), "{:?}", checkup.attention);
        let text = checkup.render(Paint::PLAIN);
        assert!(text.ends_with("\nnothing needs attention\n"), "{text}");
    }
}
