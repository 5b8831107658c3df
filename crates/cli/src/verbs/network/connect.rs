//! `linkspan network connect`.

use std::net::{Ipv4Addr, Ipv6Addr};

use linkspan_api::client::Client;
use linkspan_api::v1::ConnectRequest;

use super::named::named;
use crate::failure::Misuse;
use crate::pick::pick_one;
use crate::source;

/// Put a container on a network, without restarting it
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan network connect backend shop-web-1
  linkspan network connect --alias db --ip 10.20.0.7 office postgres

A container of a site forgets it at the next `up`; write it in the file to keep it.")]
pub(crate) struct Connect {
    /// Name of the network, also as in the site's file
    network: String,
    /// Name, id, or name in the site's file
    container: String,
    /// A further name of the container on this network
    #[arg(long = "alias", value_name = "NAME")]
    aliases: Vec<String>,
    /// Its IPv4 address, of a subnet that was written by somebody
    #[arg(long, value_name = "ADDRESS", value_parser = ipv4)]
    ip: Option<Ipv4Addr>,
    /// Its IPv6 address, of a subnet that was written by somebody
    #[arg(long, value_name = "ADDRESS", value_parser = ipv6)]
    ip6: Option<Ipv6Addr>,
    /// Its MAC address on this network
    #[arg(long, value_name = "MAC")]
    mac_address: Option<String>,
    /// The network with the highest has the default route [default: 0]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    gw_priority: Option<i32>,
    // === Docker's, in no help ===
    #[arg(long = "link", hide = true)]
    links: Vec<String>,
    #[arg(long = "link-local-ip", hide = true)]
    link_local: Vec<String>,
    #[arg(long = "driver-opt", hide = true)]
    driver_options: Vec<String>,
}

impl Connect {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        self.refuse()?;
        let networks = client.networks().await?;
        let containers = client.containers(true).await?;
        let project = source::project_here();
        let network = named(&networks, &self.network, project.as_deref())?;
        let container = pick_one(&containers, &self.container, project.as_deref())?;
        let request = ConnectRequest {
            container: container.id.clone(),
            aliases: self.aliases,
            ipv4_address: self.ip.map(|address| address.to_string()),
            ipv6_address: self.ip6.map(|address| address.to_string()),
            mac_address: self.mac_address,
            gateway_priority: self.gw_priority.unwrap_or(0),
        };
        client.connect_network(&network.name, &request).await?;
        Ok(())
    }

    /// What Docker has and Linkspan doesn't.
    fn refuse(&self) -> Result<(), Misuse> {
        let refused = [
            (
                &self.links,
                "--link",
                "containers find each other by name; `--alias` adds one",
            ),
            (
                &self.link_local,
                "--link-local-ip",
                "the kernel gives every link its own",
            ),
            (
                &self.driver_options,
                "--driver-opt",
                "no driver has options for a container",
            ),
        ];
        match refused.into_iter().find(|(values, ..)| !values.is_empty()) {
            Some((_, flag, why)) => Err(Misuse::new(format!("`{flag}` is not supported: {why}"))),
            None => Ok(()),
        }
    }
}

fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    text.parse().map_err(|_| match text.parse::<Ipv6Addr>() {
        Ok(_) => "that is an IPv6 address; write it with `--ip6`".to_owned(),
        Err(_) => "write an IPv4 address: `10.20.0.7`".to_owned(),
    })
}

fn ipv6(text: &str) -> Result<Ipv6Addr, String> {
    text.parse().map_err(|_| match text.parse::<Ipv4Addr>() {
        Ok(_) => "that is an IPv4 address; write it with `--ip`".to_owned(),
        Err(_) => "write an IPv6 address: `fd00:20::7`".to_owned(),
    })
}
