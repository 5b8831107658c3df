//! `linkspan network ls`.

use linkspan_api::client::Client;
use linkspan_api::v1::NetworkView;

use super::create::boolean;
use crate::args::Format;
use crate::filter::{Filter, admits};
use crate::table::Table;
use crate::terminal::{clean, cut, print, print_json};

/// As much of a conflict as is shown in the table.
const STATE_MAX: usize = 48;

/// List networks
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan network ls
  linkspan network ls -q --filter dangling=true
  linkspan network ls --filter label=team=web")]
pub(crate) struct Ls {
    /// Only names
    #[arg(short, long, conflicts_with = "format")]
    quiet: bool,
    /// Only those with: name (a part of it), driver, project, label (KEY or KEY=VALUE; of several, all), dangling (true:
    /// no container is on it)
    #[arg(short, long = "filter", value_name = "KEY=VALUE", value_parser = filter)]
    filters: Vec<Filter>,
    /// Conflicts in full
    #[arg(long)]
    no_trunc: bool,
    /// How to write it
    #[arg(long, value_enum, default_value_t)]
    format: Format,
}

fn filter(text: &str) -> Result<Filter, String> {
    let filter = Filter::parse(text, &["name", "driver", "project", "label", "dangling"])?;
    if filter.key == "dangling" {
        boolean(&filter.value)?;
    }
    Ok(filter)
}

impl Ls {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let mut networks = client.networks().await?;
        networks.retain(|network| is_wanted(network, &self.filters));
        if self.quiet {
            let names: Vec<_> = networks
                .iter()
                .map(|network| format!("{}\n", clean(&network.name)))
                .collect();
            return print(&names.concat());
        }
        match self.format {
            Format::Json => print_json(&networks),
            Format::Table => print(&render(&networks, self.no_trunc)),
        }
    }
}

/// As in Docker, labels add up, while of the values of another key one is enough.
fn is_wanted(network: &NetworkView, filters: &[Filter]) -> bool {
    let (labels, others): (Vec<Filter>, Vec<Filter>) =
        filters.iter().cloned().partition(|filter| filter.key == "label");
    let has = |filter: &Filter| match filter.value.split_once('=') {
        Some((key, value)) => network.labels.get(key).is_some_and(|held| held == value),
        None => network.labels.contains_key(&filter.value),
    };
    labels.iter().all(has) && admits(&others, |filter| meets(network, filter))
}

fn meets(network: &NetworkView, filter: &Filter) -> bool {
    let value = filter.value.as_str();
    match filter.key {
        "name" => network.name.contains(value),
        "driver" => network.driver == value,
        "project" => network.project.as_deref() == Some(value),
        _ => boolean(value) == Ok(network.containers == 0),
    }
}

fn render(networks: &[NetworkView], no_trunc: bool) -> String {
    let mut table = Table::new(&["NAME", "DRIVER", "SUBNET", "CONTAINERS", "STATE", "SITE"]);
    for network in networks {
        let state = if no_trunc {
            network.state.as_str().into()
        } else {
            cut(&network.state, STATE_MAX)
        };
        table.row([
            &network.name,
            &network.driver,
            &network.subnets.join(", "),
            &network.containers.to_string(),
            &state,
            network.project.as_deref().unwrap_or("-"),
        ]);
    }
    table.render()
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;
    use crate::verbs::network::named::tests::network;

    fn networks() -> [NetworkView; 3] {
        let mut lan = network("lan", None);
        lan.driver = "macvlan".to_owned();
        lan.subnets = vec!["192.168.1.0/24".to_owned()];
        lan.containers = 0;
        lan.labels = [
            ("team".to_owned(), "web".to_owned()),
            ("old".to_owned(), String::new()),
        ]
        .into();
        let mut office = network("office", None);
        office.state =
            "its range 10.201.3.0/24 is also claimed by a route in table main via `tun0`".to_owned();
        [network("shop_default", Some("shop")), lan, office]
    }

    #[test]
    fn a_conflict_stands_beside_its_network() {
        expect![[r#"
            NAME           DRIVER    SUBNET                       CONTAINERS   STATE                                              SITE
            shop_default   bridge    10.201.3.0/24, fd6c:1::/64   2            ok                                                 shop
            lan            macvlan   192.168.1.0/24               0            ok                                                 -
            office         bridge    10.201.3.0/24, fd6c:1::/64   2            its range 10.201.3.0/24 is also claimed by a ro…   -
        "#]]
        .assert_eq(&render(&networks(), false));
        assert!(render(&networks(), true).contains("in table main via `tun0`"));
    }

    #[test]
    fn filters_choose_as_dockers_do() {
        let chosen = |texts: &[&str]| -> Vec<String> {
            let filters: Vec<Filter> = texts.iter().map(|text| filter(text).unwrap()).collect();
            let chosen = networks()
                .into_iter()
                .filter(|network| is_wanted(network, &filters));
            chosen.map(|network| network.name).collect()
        };
        assert_eq!(chosen(&["name=a"]), ["shop_default", "lan"]);
        assert_eq!(chosen(&["driver=macvlan"]), ["lan"]);
        assert_eq!(
            chosen(&["driver=macvlan", "driver=bridge", "project=shop"]),
            ["shop_default"]
        );
        assert_eq!(chosen(&["dangling=1"]), ["lan"]);
        assert_eq!(chosen(&["dangling=false", "name=off"]), ["office"]);
        for labels in [&["label=team"][..], &["label=team=web", "label=old"]] {
            assert_eq!(chosen(labels), ["lan"]);
        }
        for labels in [
            &["label=team=db"][..],
            &["label=team", "label=new"],
            &["label=web"],
        ] {
            assert_eq!(chosen(labels), Vec::<String>::new());
        }
        assert!(filter("dangling=perhaps").is_err());
    }
}
