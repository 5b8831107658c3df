//! Networks made by hand, and containers put on networks by hand.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;

use linkspan_api::v1::{ConnectRequest, NetworkRequest};
use linkspan_plan::{ContainerId, Desired, NetworkId, Slot, admit_connection, admit_network};
use linkspan_site::{Attachment, MOST_ALIASES, MacAddress, Network, NetworkMode, NetworkName, Sources};
use serde_json::{Map, Value, json};

use super::{Rejection, Reply};
use crate::reconcile::Reconciler;

/// Words that stand for something else where a network could be named.
const MODES: [&str; 4] = ["bridge", "default", "host", "none"];

/// A request about networks.
#[derive(Debug)]
pub(crate) enum NetworkOrder {
    /// `network create`.
    Create {
        request: Box<NetworkRequest>,
        reply: Reply<()>,
    },
    /// `network rm`.
    Remove { name: String, reply: Reply<()> },
    /// `network prune`. Answers which.
    Prune { reply: Reply<Vec<String>> },
    /// `network connect`.
    Connect {
        network: String,
        request: Box<ConnectRequest>,
        reply: Reply<()>,
    },
    /// `network disconnect`.
    Disconnect {
        network: String,
        container: String,
        reply: Reply<()>,
    },
}

impl Reconciler {
    pub(crate) async fn serve_network(&mut self, order: NetworkOrder) {
        // Whoever asked may have gone away; what was done stays done.
        match order {
            NetworkOrder::Create { request, reply } => drop(reply.send(self.create_network(&request).await)),
            NetworkOrder::Remove { name, reply } => drop(reply.send(self.remove_network(&name).await)),
            NetworkOrder::Prune { reply } => drop(reply.send(self.prune_networks().await)),
            NetworkOrder::Connect {
                network,
                request,
                reply,
            } => drop(reply.send(self.connect(&network, &request).await)),
            NetworkOrder::Disconnect {
                network,
                container,
                reply,
            } => drop(reply.send(self.disconnect(&network, &container).await)),
        }
    }

    async fn create_network(&mut self, request: &NetworkRequest) -> Result<(), Rejection> {
        let (name, network) = read(request)?;
        // A claim that is a second old may be the one that matters.
        self.look_at_host(false).await;
        let observed = self.observed();
        let world = self.world(&observed);
        admit_network(&name, &network, &world).map_err(|refusal| match refusal {
            linkspan_plan::Refusal::Network(error) => malformed(&name, vec![error.to_string()]),
            other => Rejection::Conflict(vec![other.to_string()]),
        })?;
        let mut desired = Desired::clone(&self.desired);
        desired.networks.insert(name, network);
        self.replace_desired(desired).await
    }

    async fn remove_network(&mut self, word: &str) -> Result<(), Rejection> {
        let id = self.network(word)?;
        let name: NetworkName = self.by_hand(&id)?;
        if let Some(users) = self.users(&id) {
            return Err(Rejection::Conflict(vec![format!(
                "network `{id}` is in use by {users}; take them off it or down first"
            )]));
        }
        let mut desired = Desired::clone(&self.desired);
        desired.networks.remove(&name);
        for wishes in desired.connections.values_mut() {
            wishes.remove(&id);
        }
        desired.connections.retain(|_, wishes| !wishes.is_empty());
        self.replace_desired(desired).await
    }

    async fn prune_networks(&mut self) -> Result<Vec<String>, Rejection> {
        let mut desired = Desired::clone(&self.desired);
        let unused = |name: &NetworkName| self.users(&NetworkId(name.to_string())).is_none();
        let gone: Vec<NetworkName> = desired
            .networks
            .keys()
            .filter(|name| unused(name))
            .cloned()
            .collect();
        desired.networks.retain(|name, _| !gone.contains(name));
        self.replace_desired(desired).await?;
        Ok(gone.iter().map(ToString::to_string).collect())
    }

    async fn connect(&mut self, word: &str, request: &ConnectRequest) -> Result<(), Rejection> {
        let id = self.network(word)?;
        let wish = wish(request)?;
        let slots = self.slots(&request.container)?;
        for slot in &slots {
            self.has_networks(slot)?;
        }
        self.look_at_lans(None).await;
        let observed = self.observed();
        let world = self.world(&observed);
        admit_connection(&id, &slots, &wish, &world)
            .map_err(|refusal| malformed_wish(refusal.to_string()))?;
        let mut desired = Desired::clone(&self.desired);
        for slot in slots {
            desired
                .connections
                .entry(slot)
                .or_default()
                .insert(id.clone(), Some(wish.clone()));
        }
        self.replace_desired(desired).await
    }

    async fn disconnect(&mut self, word: &str, container: &str) -> Result<(), Rejection> {
        let id = self.network(word)?;
        let mut desired = Desired::clone(&self.desired);
        for slot in self.slots(container)? {
            let is_on_it = self.seen.values().any(|seen| {
                let mut links = seen.record.spec.attachments.iter();
                seen.record.slot == slot && links.any(|link| link.network == id)
            });
            let wanted = desired
                .connections
                .get(&slot)
                .and_then(|wishes| wishes.get(&id))
                .is_some_and(Option::is_some);
            if !is_on_it && !wanted {
                return Err(Rejection::Conflict(vec![format!(
                    "container `{}` is not on network `{id}`",
                    slot.display_name()
                )]));
            }
            desired
                .connections
                .entry(slot)
                .or_default()
                .insert(id.clone(), None);
        }
        self.replace_desired(desired).await
    }

    /// The network that a word means: its name on this host.
    fn network(&self, word: &str) -> Result<NetworkId, Rejection> {
        let promised = self.leases.networks.values().map(|lease| lease.id.clone());
        let by_hand = self
            .desired
            .networks
            .keys()
            .map(|name| NetworkId(name.to_string()));
        promised.chain(by_hand).find(|id| id.0 == word).ok_or_else(|| {
            Rejection::NotFound(format!("no network `{word}`; `linkspan network ls` lists all"))
        })
    }

    fn by_hand(&self, id: &NetworkId) -> Result<NetworkName, Rejection> {
        let mut names = self.desired.networks.keys();
        names
            .find(|name| name.to_string() == id.0)
            .cloned()
            .ok_or_else(|| {
                Rejection::Conflict(vec![format!(
                    "network `{id}` belongs to a site; it goes when no container of the site's file is on it"
                )])
            })
    }

    /// Who uses a network, for people; nobody gives nothing.
    fn users(&self, id: &NetworkId) -> Option<String> {
        let on_it = self.seen.values().filter(|seen| {
            let mut links = seen.record.spec.attachments.iter();
            links.any(|link| link.network == *id)
        });
        let mut users: Vec<String> = on_it
            .map(|seen| format!("container `{}`", seen.record.spec.name))
            .collect();
        let sites = self.desired.projects.values().filter(|site| {
            let mut networks = site.networks.iter();
            networks.any(|(name, network)| linkspan_plan::network_id(&site.name, name, network) == *id)
        });
        users.sort();
        users.extend(sites.map(|site| format!("site `{}`", site.name)));
        (!users.is_empty()).then(|| users.join(", "))
    }

    fn slots(&self, word: &str) -> Result<Vec<Slot>, Rejection> {
        let ids: Vec<ContainerId> = self.named(word)?;
        let mut slots: Vec<Slot> = ids
            .iter()
            .filter_map(|id| self.seen.get(id).map(|seen| seen.record.slot.clone()))
            .collect();
        slots.sort();
        slots.dedup();
        Ok(slots)
    }

    /// Only who has a network namespace of its own can be put on networks.
    fn has_networks(&self, slot: &Slot) -> Result<(), Rejection> {
        let declared = self
            .desired
            .projects
            .get(&slot.project)
            .and_then(|site| site.containers.get(&slot.container));
        let refuse = |why: String| {
            Err(Rejection::Conflict(vec![format!(
                "container `{}` can't be put on a network: {why}; leave `network_mode` out of its file to have it on networks",
                slot.display_name()
            )]))
        };
        match declared.map(|container| &container.network_mode) {
            Some(NetworkMode::Host) => refuse("it has the host's (`network_mode: host`)".to_owned()),
            Some(NetworkMode::None) => refuse("its file wants none (`network_mode: none`)".to_owned()),
            Some(NetworkMode::Container(target)) => refuse(format!(
                "it has that of `{target}` (`network_mode: container:{target}`)"
            )),
            Some(NetworkMode::Networks) | None => Ok(()),
        }
    }
}

/// What is asked for, checked by the same rules as a network of a site file.
fn read(request: &NetworkRequest) -> Result<(NetworkName, Network), Rejection> {
    if MODES.contains(&request.name.as_str()) {
        let problem = format!(
            "`{}` is a `network_mode`, and as a network's name would be taken for it",
            request.name
        );
        return Err(heading(&request.name, vec![problem]));
    }
    let mut written = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            written.insert(key.to_owned(), value);
        }
    };
    let subnets: Vec<Value> = request
        .subnets
        .iter()
        .map(|subnet| json!({ "subnet": subnet }))
        .collect();
    let ipam = (!subnets.is_empty()).then(|| {
        let mut config = subnets;
        if let (Some(first), Some(gateway)) = (
            config.first_mut().and_then(Value::as_object_mut),
            &request.gateway,
        ) {
            first.insert("gateway".to_owned(), json!(gateway));
        }
        json!({ "config": config })
    });
    let gateway = request.gateway.as_ref().filter(|_| ipam.is_none());
    put("gateway", gateway.map(|gateway| json!(gateway)));
    put("ipam", ipam);
    put("driver", request.driver.as_ref().map(|driver| json!(driver)));
    put("internal", request.internal.then_some(json!(true)));
    put("isolated", request.isolated.then_some(json!(true)));
    put("ipv6", request.ipv6.map(|ipv6| json!(ipv6)));
    put("mtu", request.mtu.map(|mtu| json!(mtu)));
    put(
        "on_conflict",
        request.on_conflict.as_ref().map(|word| json!(word)),
    );
    put(
        "driver_opts",
        (!request.options.is_empty()).then(|| json!(request.options)),
    );
    put(
        "labels",
        (!request.labels.is_empty()).then(|| json!(request.labels)),
    );
    // JSON is YAML. A network counts when somebody is on it.
    let member = json!({ "image": "nobody", "networks": [&request.name] });
    let file = json!({
        "name": "by-hand",
        "networks": { &request.name: written },
        "containers": { "nobody": member },
    });
    let file = file.to_string();
    let none = std::collections::BTreeMap::new();
    // Nothing is interpolated: what would be is written so that it stays.
    let text = file.replace('$', "$$");
    let sources = Sources {
        file: Path::new("/by-hand.yaml"),
        text: text.as_bytes(),
        variables: &none,
        files: &none,
    };
    let site = linkspan_site::parse(&sources).map_err(|problems| {
        let told = problems.0.iter().map(|problem| match &problem.hint {
            Some(hint) => format!("{} ({})", problem.message, by_hand(hint)),
            None => problem.message.clone(),
        });
        // A name is written twice in a file that was made up, and may be wrong once only.
        let mut told: Vec<String> = told.collect();
        let mut known = BTreeSet::new();
        told.retain(|problem| known.insert(problem.clone()));
        heading(&request.name, told)
    })?;
    let mut networks = site.networks.into_iter();
    networks
        .find(|(name, _)| name.to_string() == request.name)
        .ok_or_else(|| heading(&request.name, vec!["it has no name".to_owned()]))
}

/// A hint about a file, for the command line.
fn by_hand(hint: &str) -> String {
    hint.replace("`driver_opts: { parent: eth0 }`", "`-o parent=eth0`")
        .replace("and a `gateway`", "`--subnet`, and `--gateway`")
}

fn wish(request: &ConnectRequest) -> Result<Attachment, Rejection> {
    let address4 = request.ipv4_address.as_ref().map(|text| {
        text.parse::<Ipv4Addr>()
            .map_err(|_| malformed_wish(format!("`{text}` is not an IPv4 address")))
    });
    let address6 = request.ipv6_address.as_ref().map(|text| {
        text.parse::<Ipv6Addr>()
            .map_err(|_| malformed_wish(format!("`{text}` is not an IPv6 address")))
    });
    let mac = request.mac_address.as_ref().map(|text| {
        let mac = text.parse::<MacAddress>();
        mac.map_err(|error| malformed_wish(format!("the hardware address {error}")))
    });
    let aliases: Result<BTreeSet<String>, Rejection> = request
        .aliases
        .iter()
        .map(|alias| {
            linkspan_site::alias(alias).map_err(|error| malformed_wish(format!("an alias is wrong: {error}")))
        })
        .collect();
    let aliases = aliases?;
    if aliases.len() > MOST_ALIASES {
        let count = aliases.len();
        return Err(malformed_wish(format!(
            "{count} aliases are too many: there may be {MOST_ALIASES}"
        )));
    }
    Ok(Attachment {
        aliases: aliases.into_iter().collect(),
        ipv4_address: address4.transpose()?,
        ipv6_address: address6.transpose()?,
        mac_address: mac.transpose()?,
        gateway_priority: request.gateway_priority,
    })
}

fn heading(name: &str, problems: Vec<String>) -> Rejection {
    Rejection::Malformed {
        heading: format!("network `{name}` can't be made; nothing was changed"),
        problems,
    }
}

fn malformed(name: &NetworkName, problems: Vec<String>) -> Rejection {
    heading(name.as_str(), problems)
}

fn malformed_wish(problem: String) -> Rejection {
    Rejection::Malformed {
        heading: "the container can't be put on the network; nothing was changed".to_owned(),
        problems: vec![problem],
    }
}

#[cfg(test)]
mod tests {
    use linkspan_site::{Driver, OnConflict};

    use super::*;

    fn problems(request: &NetworkRequest) -> String {
        match read(request) {
            Err(Rejection::Malformed { problems, .. }) => problems.join("\n"),
            other => panic!("{other:?}"),
        }
    }

    fn request(name: &str) -> NetworkRequest {
        NetworkRequest {
            name: name.to_owned(),
            ..NetworkRequest::default()
        }
    }

    #[test]
    fn what_is_asked_for_is_read_as_in_a_file() {
        let (name, network) = read(&NetworkRequest {
            subnets: vec!["10.20.0.0/24".to_owned(), "fd00:20::/64".to_owned()],
            gateway: Some("10.20.0.254".to_owned()),
            isolated: true,
            mtu: Some(1400),
            on_conflict: Some("report".to_owned()),
            labels: [("a".to_owned(), "$b".to_owned())].into(),
            ..request("office")
        })
        .unwrap();
        assert_eq!(name.as_str(), "office");
        assert_eq!(network.gateway, Some("10.20.0.254".parse().unwrap()));
        assert_eq!(network.subnet6.unwrap().to_string(), "fd00:20::/64");
        assert!(network.isolated && !network.internal);
        assert_eq!(
            (network.mtu, network.on_conflict),
            (Some(1400), OnConflict::Report)
        );
        assert_eq!(network.labels["a"], "$b");
        let (_, lan) = read(&NetworkRequest {
            driver: Some("macvlan".to_owned()),
            options: [("parent".to_owned(), "eth0".to_owned())].into(),
            subnets: vec!["192.0.2.0/24".to_owned()],
            ..request("lan")
        })
        .unwrap();
        assert!(matches!(lan.driver, Driver::Macvlan { parent, .. } if parent == "eth0"));
    }

    #[test]
    fn what_is_wrong_is_told_as_of_a_file() {
        let wrong = problems(&NetworkRequest {
            subnets: vec!["10.20.0.0/33".to_owned()],
            mtu: Some(12),
            driver: Some("bridg".to_owned()),
            ..request("office")
        });
        assert!(
            wrong.contains("10.20.0.0/33") && wrong.contains("1280") && wrong.contains("bridge"),
            "{wrong}"
        );
        assert_eq!(
            problems(&request("a/b")),
            "network name `a/b` may hold only a-z, 0-9, `-`, `_` and `.`"
        );
        assert!(problems(&request("host")).contains("network_mode"));
        let lan = problems(&NetworkRequest {
            driver: Some("macvlan".to_owned()),
            ..request("lan")
        });
        assert_eq!(
            lan,
            "a macvlan network needs the `subnet` of the LAN that it joins (`--subnet`, and `--gateway`, if that is not its \
             first address)\na macvlan network needs a `parent`, the link of the host that it is put on (`-o parent=eth0`)"
        );
        let gateway = problems(&NetworkRequest {
            subnets: vec!["10.20.0.0/24".to_owned()],
            gateway: Some("10.21.0.1".to_owned()),
            ..request("office")
        });
        assert!(gateway.contains("10.21.0.1"), "{gateway}");
    }
}
