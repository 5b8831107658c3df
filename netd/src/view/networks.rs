//! Networks as people see them.

use std::collections::BTreeMap;
use std::sync::Arc;

use ipnetwork::{IpNetwork, Ipv4Network};
use linkspan_api::v1::{
    ChoiceView, ClaimView, NetworkDetail, NetworkMember, NetworkReport, NetworkView, PoolHolder, PoolView,
};
use linkspan_hostnet::Claims;
use linkspan_plan::{Claim, Conflict, Leases, NetworkId, NetworkLease, network_id, pool_uses};
use linkspan_site::{Driver, Network, OnConflict, ProjectName};

use crate::events::now_ms;
use crate::observe::plan_claim;
use crate::reconcile::View;

/// What is known of networks beside what is desired.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ground {
    pub(crate) leases: Arc<Leases>,
    pub(crate) conflicts: Vec<Conflict>,
    /// Ranges of others.
    pub(crate) claims: Vec<Claim>,
    pub(crate) settings: Option<linkspan_plan::Settings>,
    /// The bridge that each network has now.
    pub(crate) bridges: Arc<BTreeMap<NetworkId, String>>,
}

impl Ground {
    /// What a person should know of networks.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let stays = self.conflicts.iter().filter(|conflict| conflict.stays.is_some());
        let stays = stays.map(|conflict| format!("network {}: {}", conflict.network, conflict.words()));
        let moving = self
            .leases
            .networks
            .values()
            .flat_map(|lease| lease.retiring.iter().map(move |left| (lease, left)))
            .map(|(lease, left)| {
                let to = match left.range {
                    IpNetwork::V4(_) => lease.v4.to_string(),
                    IpNetwork::V6(_) => lease.v6.map(|v6| v6.to_string()).unwrap_or_default(),
                };
                format!(
                    "network {}: moved from {}, which somebody else uses, to {to}",
                    lease.id, left.range
                )
            });
        stays.chain(moving).collect()
    }
}

impl View {
    pub(crate) fn network_views(&self) -> Vec<NetworkView> {
        let mut views: Vec<NetworkView> = self
            .ground
            .leases
            .networks
            .iter()
            .map(|(bridge, lease)| self.network_view(bridge, lease))
            .collect();
        views.sort_by(|a, b| a.name.cmp(&b.name));
        views
    }

    /// Is it the one that its network is on now? One whose file says another range has a former bridge for a while.
    fn is_current(&self, bridge: &str, lease: &NetworkLease) -> bool {
        let current = self.ground.bridges.get(&lease.id);
        current.is_none_or(|current| current == bridge)
    }

    fn network_view(&self, bridge: &str, lease: &NetworkLease) -> NetworkView {
        let conflict = self
            .ground
            .conflicts
            .iter()
            .find(|conflict| conflict.network == lease.id);
        let v6 = lease.v6.map(|v6| v6.to_string());
        NetworkView {
            name: lease.id.to_string(),
            project: self
                .declared(&lease.id)
                .and_then(|(project, _)| project.map(ToString::to_string)),
            driver: driver(&lease.driver).to_owned(),
            subnets: std::iter::once(lease.v4.to_string()).chain(v6).collect(),
            internal: lease.internal,
            isolated: lease.isolated,
            containers: u32::try_from(self.members(bridge).count()).unwrap_or(u32::MAX),
            state: match conflict {
                _ if !lease.retiring.is_empty() => "moving".to_owned(),
                _ if !self.is_current(bridge, lease) => {
                    "replaced by one of the same name; it goes when nobody is on it".to_owned()
                }
                Some(conflict) => conflict.words(),
                None => "ok".to_owned(),
            },
            labels: self
                .declared(&lease.id)
                .map(|(_, network)| network.labels.clone())
                .unwrap_or_default(),
        }
    }

    pub(crate) fn network_detail(&self, name: &str) -> Option<NetworkDetail> {
        let networks = self.ground.leases.networks.iter();
        let mut named = networks.filter(|(_, lease)| lease.id.0 == name);
        let first = named.clone().next();
        // Of one that is wanted no more, any will do.
        let (bridge, lease) = named
            .find(|(bridge, lease)| self.is_current(bridge, lease))
            .or(first)?;
        let declared = self.declared(&lease.id).map(|(_, network)| network);
        let link = match &lease.driver {
            Driver::Bridge => bridge.clone(),
            Driver::Macvlan { parent, .. } | Driver::Ipvlan { parent, .. } => parent.clone(),
        };
        let spec = linkspan_plan::network_spec(bridge, lease, &self.containers);
        let gateway6 = spec.v6.map(|v6| v6.gateway.to_string());
        let now_ms = now_ms();
        let mut members: Vec<NetworkMember> = self.members(bridge).collect();
        members.sort_by(|a, b| (&a.container, &a.id, &a.link).cmp(&(&b.container, &b.id, &b.link)));
        Some(NetworkDetail {
            view: self.network_view(bridge, lease),
            bridge: link,
            gateways: std::iter::once(lease.gateway.to_string())
                .chain(gateway6)
                .collect(),
            mtu: lease.mtu,
            written: lease.fixed,
            on_conflict: match declared.map(|network| network.on_conflict).unwrap_or_default() {
                OnConflict::Move => "move".to_owned(),
                OnConflict::Report => "report".to_owned(),
            },
            retiring: lease
                .retiring
                .iter()
                .map(|left| {
                    (
                        left.range.to_string(),
                        left.until_ms.saturating_sub(now_ms) / 1_000,
                    )
                })
                .collect(),
            members,
        })
    }

    /// Are all containers that a word means on a network, or all of them off it?
    pub(crate) fn is_placed(&self, word: &str, network: &str, on: bool) -> bool {
        let named = linkspan_plan::named(&self.containers, word);
        named
            .iter()
            .filter_map(|id| self.containers.get(*id))
            .all(|seen| {
                let mut links = seen.record.spec.attachments.iter();
                links.any(|link| link.network.0 == network) == on && seen.busy.is_none()
            })
    }

    fn members(&self, bridge: &str) -> impl Iterator<Item = NetworkMember> {
        let bridge = bridge.to_owned();
        self.containers.values().flat_map(move |seen| {
            let spec = &seen.record.spec;
            let links: Vec<_> = spec
                .attachments
                .iter()
                .filter(|link| link.bridge == bridge)
                .collect();
            links.into_iter().map(|link| {
                let v6 = link.v6.map(|v6| v6.to_string());
                let mac: Vec<String> = link.mac.iter().map(|byte| format!("{byte:02x}")).collect();
                NetworkMember {
                    container: spec.name.clone(),
                    id: spec.id.to_string(),
                    link: link.link.clone(),
                    mac: mac.join(":"),
                    addresses: std::iter::once(link.v4.to_string()).chain(v6).collect(),
                    retiring: link.retiring.iter().map(|left| left.ip().to_string()).collect(),
                    default_route: link.gateway4.is_some() || link.gateway6.is_some(),
                }
            })
        })
    }

    /// A network as somebody wrote it: in the file of a project, or by hand.
    fn declared(&self, id: &NetworkId) -> Option<(Option<&ProjectName>, &Network)> {
        let mut by_hand = self.desired.networks.iter();
        if let Some((_, network)) = by_hand.find(|(name, _)| name.as_str() == id.0) {
            return Some((None, network));
        }
        self.desired.projects.values().find_map(|site| {
            let mut networks = site.networks.iter();
            let (_, network) =
                networks.find(|(name, network)| network_id(&site.name, name, network) == *id)?;
            Some((Some(&site.name), network))
        })
    }

    pub(crate) fn pool_views(&self) -> Vec<PoolView> {
        let ground = &self.ground;
        let Some(settings) = &ground.settings else {
            return Vec::new();
        };
        pool_uses(&ground.leases, &ground.claims, settings)
            .into_iter()
            .map(|one| {
                let alone = linkspan_plan::Settings {
                    pools: vec![one.pool],
                    ..settings.clone()
                };
                (ground.leases.next_subnet(&ground.claims, &alone), one)
            })
            .map(|(next, one)| PoolView {
                base: one.pool.base.to_string(),
                size: one.pool.size,
                blocks: one.blocks,
                free: one.free,
                next: next.map(|next| next.to_string()),
                held: one
                    .holders
                    .into_iter()
                    .map(|holder| PoolHolder {
                        range: holder.range.to_string(),
                        holder: holder.who,
                        ours: holder.ours,
                        blocks: holder.blocks,
                    })
                    .collect(),
            })
            .collect()
    }

    pub(crate) fn network_report(&self, claims: Claims) -> NetworkReport {
        let ground = &self.ground;
        let counts = claims.counting.iter();
        let counts = counts.map(|claim| claim_view(&plan_claim(claim), None));
        let others = claims
            .disregarded
            .iter()
            .map(|(claim, why)| claim_view(&plan_claim(claim), Some((*why).to_owned())));
        let mut leases: Vec<&NetworkLease> = ground.leases.networks.values().collect();
        leases.sort_by(|a, b| (&a.id, a.v4).cmp(&(&b.id, b.v4)));
        let ranges = leases.into_iter().flat_map(|lease| {
            let v6 = lease.v6.map(IpNetwork::V6);
            let both = std::iter::once(IpNetwork::V4(lease.v4)).chain(v6);
            both.map(move |range| (lease, range))
        });
        NetworkReport {
            claims: counts.chain(others).collect(),
            networks: ranges.map(|(lease, range)| self.choice(lease, range)).collect(),
            notes: claims.notes,
        }
    }

    fn choice(&self, lease: &NetworkLease, range: IpNetwork) -> ChoiceView {
        let declared = self.declared(&lease.id).map(|(_, network)| network);
        let written = match range {
            IpNetwork::V4(_) => lease.fixed,
            IpNetwork::V6(_) => declared.is_some_and(|network| network.subnet6.is_some()),
        };
        let conflict = self
            .ground
            .conflicts
            .iter()
            .find(|conflict| conflict.network == lease.id && conflict.range == range);
        let left: Vec<String> = lease
            .retiring
            .iter()
            .filter(|left| left.range.is_ipv4() == range.is_ipv4())
            .map(|left| left.range.to_string())
            .collect();
        ChoiceView {
            network: lease.id.to_string(),
            range: range.to_string(),
            reason: self.reason(range, written),
            conflict: conflict.map(Conflict::words),
            left,
        }
    }

    fn reason(&self, range: IpNetwork, written: bool) -> String {
        if written {
            return "written down".to_owned();
        }
        let settings = self.ground.settings.as_ref();
        match range {
            IpNetwork::V4(v4) => {
                let within = |pool: &&linkspan_plan::Pool| pool.base.contains(v4.ip());
                let pool: Option<Ipv4Network> = settings
                    .and_then(|settings| settings.pools.iter().find(within))
                    .map(|pool| pool.base);
                match pool {
                    Some(pool) => {
                        format!("the first free block of pool {pool}, from where this machine begins")
                    }
                    None => "chosen from a pool that the settings no longer have".to_owned(),
                }
            }
            IpNetwork::V6(_) => match settings.and_then(|settings| settings.prefix6) {
                Some(prefix) => format!("of this host's own prefix {prefix}"),
                None => "chosen".to_owned(),
            },
        }
    }
}

fn claim_view(claim: &Claim, disregarded: Option<String>) -> ClaimView {
    ClaimView {
        range: claim.range.to_string(),
        source: claim.source.clone(),
        disregarded,
    }
}

fn driver(driver: &Driver) -> &'static str {
    match driver {
        Driver::Bridge => "bridge",
        Driver::Macvlan { .. } => "macvlan",
        Driver::Ipvlan { .. } => "ipvlan",
    }
}
