//! `linkspan network create`.

use std::net::Ipv4Addr;

use clap::ValueEnum;
use linkspan_api::client::Client;
use linkspan_api::v1::NetworkRequest;
use linkspan_site::nearest;

use super::foreign::Foreign;
use crate::failure::Misuse;
use crate::terminal::{clean, print};

/// Make a network; what isn't said is chosen
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  linkspan network create backend --internal
  linkspan network create office --subnet 10.20.0.0/24 --gateway 10.20.0.254
  linkspan network create lan -d macvlan -o parent=eth0 --subnet 192.168.1.0/24

Without `--subnet` it gets a range that nobody uses, and moves if somebody claims that later.")]
pub(crate) struct Create {
    /// How it is to be called
    name: String,
    /// What joins its members: a bridge, or a link of this host's [default: bridge]
    #[arg(short, long, value_enum)]
    driver: Option<Driver>,
    /// Its range, which then never moves; one for each of IPv4 and IPv6
    #[arg(long = "subnet", value_name = "RANGE")]
    subnets: Vec<String>,
    /// Its IPv4 gateway [default: the first address of the subnet]
    #[arg(long, value_name = "ADDRESS", value_parser = ipv4)]
    gateway: Option<Ipv4Addr>,
    /// No way out of it
    #[arg(long)]
    internal: bool,
    /// Its members don't reach each other
    #[arg(long)]
    isolated: bool,
    /// With IPv6, or without [default: as this host has it]
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_parser = boolean
    )]
    ipv6: Option<bool>,
    /// Longest packet, in bytes [default: that of the way out]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u32>,
    /// When somebody else claims its range: move out of the way, or say so only [default: move]
    #[arg(long, value_enum, value_name = "WHAT")]
    on_conflict: Option<OnConflict>,
    /// A label
    #[arg(long = "label", value_name = "KEY=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,
    /// An option of the driver: parent, macvlan_mode, ipvlan_mode
    #[arg(short, long = "opt", value_name = "KEY=VALUE", value_parser = option)]
    options: Vec<Opt>,
    #[command(flatten)]
    foreign: Foreign,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Driver {
    /// A switch inside of this host
    Bridge,
    /// Straight on the LAN, with a MAC address for each container
    Macvlan,
    /// Straight on the LAN, with this host's MAC address
    Ipvlan,
}

impl Driver {
    fn word(self) -> &'static str {
        match self {
            Self::Bridge => "bridge",
            Self::Macvlan => "macvlan",
            Self::Ipvlan => "ipvlan",
        }
    }
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum OnConflict {
    /// To a free range, with its containers
    Move,
    /// In `linkspan status`
    Report,
}

/// What an `--opt` means here.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Opt {
    /// For the driver, as it is.
    Driver(&'static str, String),
    Mtu(u32),
    Isolated(bool),
    /// What we do anyhow.
    Nothing,
}

impl Create {
    pub(crate) async fn run(self, client: &Client) -> anyhow::Result<()> {
        let made = client.create_network(&self.request()?).await?;
        print(&format!("{}\n", clean(&made.name)))
    }

    fn request(self) -> Result<NetworkRequest, Misuse> {
        self.foreign.refuse()?;
        let mut request = NetworkRequest {
            name: self.name,
            driver: self.driver.map(|driver| driver.word().to_owned()),
            subnets: self.subnets,
            gateway: self.gateway.map(|address| address.to_string()),
            internal: self.internal,
            isolated: self.isolated,
            ipv6: self.ipv6,
            mtu: self.mtu,
            on_conflict: self.on_conflict.map(|what| match what {
                OnConflict::Move => "move".to_owned(),
                OnConflict::Report => "report".to_owned(),
            }),
            labels: self.labels.into_iter().collect(),
            ..NetworkRequest::default()
        };
        for option in self.options {
            match option {
                Opt::Driver(key, value) => {
                    request.options.insert(key.to_owned(), value);
                }
                Opt::Mtu(mtu) => match request.mtu.replace(mtu) {
                    Some(other) if other != mtu => {
                        return Err(Misuse::new(format!(
                            "the MTU is given twice, as {other} and as {mtu}; write one of them"
                        )));
                    }
                    _ => {}
                },
                Opt::Isolated(isolated) => request.isolated |= isolated,
                Opt::Nothing => {}
            }
        }
        Ok(request)
    }
}

fn ipv4(text: &str) -> Result<Ipv4Addr, String> {
    match text.parse() {
        Ok(std::net::IpAddr::V4(address)) => Ok(address),
        Ok(std::net::IpAddr::V6(_)) => {
            Err("the IPv6 gateway is always the first address of the subnet; leave it away".to_owned())
        }
        Err(_) => Err("write an IPv4 address: `10.20.0.254`".to_owned()),
    }
}

/// As Go reads its flags, and so Docker.
pub(super) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(true),
        "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(false),
        _ => Err("write `true` or `false`".to_owned()),
    }
}

/// A label without a value has an empty one, as Docker has it.
fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    if key.is_empty() {
        return Err("write it as KEY=VALUE".to_owned());
    }
    Ok((key.to_owned(), value.to_owned()))
}

/// What the drivers take, and what of Docker's own can be said here in another way.
fn option(text: &str) -> Result<Opt, String> {
    const DRIVERS: [&str; 3] = ["parent", "macvlan_mode", "ipvlan_mode"];
    const DOCKER: &str = "com.docker.network.";
    let (key, value) = text
        .split_once('=')
        .ok_or_else(|| "write it as KEY=VALUE".to_owned())?;
    if let Some(known) = DRIVERS.into_iter().find(|known| *known == key) {
        return Ok(Opt::Driver(known, value.to_owned()));
    }
    match key.strip_prefix(DOCKER).unwrap_or(key) {
        "driver.mtu" | "mtu" => value
            .parse()
            .map(Opt::Mtu)
            .map_err(|_| "write the MTU in bytes".to_owned()),
        "bridge.enable_icc" => boolean(value).map(|reach| Opt::Isolated(!reach)),
        "bridge.enable_ip_masquerade" if boolean(value)? => Ok(Opt::Nothing),
        "bridge.enable_ip_masquerade" => {
            Err("what leaves a bridge is always masqueraded; `--internal` lets nothing out".to_owned())
        }
        "bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6" if value == "nat" => Ok(Opt::Nothing),
        "bridge.gateway_mode_ipv4" | "bridge.gateway_mode_ipv6" => {
            Err("the mode is always `nat`; `--internal` and `--isolated` close a network".to_owned())
        }
        "bridge.host_binding_ipv4" | "bridge.host_binding_ipv6" => Err(
            "a port binds the address that is written before it: `ports: [\"192.0.2.1:80:80\"]`".to_owned(),
        ),
        "bridge.name" | "container_iface_prefix" | "container_interface_prefix" => {
            Err("Linkspan names its links itself; `linkspan network inspect` shows the bridge".to_owned())
        }
        _ => Err(match nearest(key, DRIVERS) {
            Some(near) => format!("no option `{key}`; did you mean `{near}`?"),
            None => format!("no option `{key}`; there are {}", DRIVERS.join(", ")),
        }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        create: Create,
    }

    fn request(line: &str) -> Result<NetworkRequest, String> {
        let words = std::iter::once("create").chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.create.request().map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_not_said_is_left_to_the_daemon() {
        let expected = NetworkRequest {
            name: "back".to_owned(),
            ..NetworkRequest::default()
        };
        assert_eq!(request("back").unwrap(), expected);
        // Harmless words of Docker's change nothing.
        let harmless = "back --attachable --scope local --ipam-driver default --ipv4 \
             -o com.docker.network.bridge.enable_ip_masquerade=true -o com.docker.network.bridge.enable_icc=true";
        assert_eq!(request(harmless).unwrap(), expected);
    }

    #[test]
    fn everything_that_is_said_reaches_the_daemon() {
        let line = "-d macvlan --subnet 10.20.0.0/24 --subnet fd00:20::/64 --gateway 10.20.0.9 --internal --isolated \
             --ipv6=false --on-conflict report --label a=b=c --label d -o parent=eth0 --opt macvlan_mode=private \
             -o com.docker.network.driver.mtu=1400 lan";
        let pairs = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
            pairs.collect()
        };
        assert_eq!(
            request(line).unwrap(),
            NetworkRequest {
                name: "lan".to_owned(),
                driver: Some("macvlan".to_owned()),
                subnets: vec!["10.20.0.0/24".to_owned(), "fd00:20::/64".to_owned()],
                gateway: Some("10.20.0.9".to_owned()),
                internal: true,
                isolated: true,
                ipv6: Some(false),
                mtu: Some(1_400),
                on_conflict: Some("report".to_owned()),
                options: pairs(&[("parent", "eth0"), ("macvlan_mode", "private")]),
                labels: pairs(&[("a", "b=c"), ("d", "")]),
            }
        );
        assert_eq!(request("--ipv6 lan").unwrap().ipv6, Some(true));
        assert!(
            request("lan -o com.docker.network.bridge.enable_icc=false")
                .unwrap()
                .isolated
        );
        assert_eq!(request("lan --mtu 1400 -o mtu=1400").unwrap().mtu, Some(1_400));
    }

    #[test]
    fn what_cannot_be_is_refused_with_the_reason() {
        let cases = [
            ("lan --mtu 1300 -o mtu=1400", "given twice, as 1300 and as 1400"),
            ("lan -o paretn=eth0", "did you mean `parent`?"),
            ("lan -o colour=red", "there are parent, macvlan_mode, ipvlan_mode"),
            ("lan -o parent", "write it as KEY=VALUE"),
            ("lan --gateway fd00::1", "the IPv6 gateway is always the first"),
            ("lan --gateway 10.0.0", "write an IPv4 address"),
            ("lan --ipv6=maybe", "write `true` or `false`"),
            ("lan -d bridgee", "a similar value exists: 'bridge'"),
            (
                "lan -o com.docker.network.bridge.name=br0",
                "names its links itself",
            ),
            (
                "lan -o com.docker.network.bridge.enable_ip_masquerade=0",
                "always masqueraded",
            ),
            ("lan --ip-range 10.0.0.0/28", "write a smaller `--subnet`"),
            ("lan --aux-address a=10.0.0.7", "`--aux-address`"),
            ("lan --scope swarm", "swarm"),
            ("lan --ingress", "swarm"),
            ("lan --ipv4=false", "IPv4"),
        ];
        for (line, reason) in cases {
            let refused = request(line).expect_err(line);
            assert!(refused.contains(reason), "{line}: {refused}");
        }
    }
}
