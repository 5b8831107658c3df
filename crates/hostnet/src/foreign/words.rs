//! What a foreign chain does, and what to do about it, in words.

use std::collections::BTreeSet;

use linkspan_plan::LINK_PREFIX;

use super::rules::Base;
use super::{Backend, FORWARD, ForeignEffect, INPUT, Outcome, Owner, PREROUTING};

/// Where a chain is.
pub(super) struct Place<'a> {
    pub(super) family: &'static str,
    pub(super) table: &'a str,
    pub(super) name: &'a str,
    pub(super) backend: Backend,
}

/// Our own chains for published ports run before this customary one.
const DSTNAT: i32 = -110;

/// Whose a chain is, from the table's name and the names of all chains that it leads to.
pub(super) fn owners(table: &str, chains: &BTreeSet<&str>) -> BTreeSet<Owner> {
    let by_table = [
        ("firewalld", Owner::Firewalld),
        ("docker-bridges", Owner::Docker),
        ("netavark", Owner::Podman),
        ("libvirt_network", Owner::Libvirt),
        ("f2b-", Owner::Fail2ban),
        ("kube-", Owner::Kubernetes),
    ];
    let by_chain = [
        ("DOCKER", Owner::Docker),
        ("NETAVARK", Owner::Podman),
        ("CNI-", Owner::Podman),
        ("ufw", Owner::Ufw),
        ("LIBVIRT_", Owner::Libvirt),
        ("f2b-", Owner::Fail2ban),
        ("KUBE-", Owner::Kubernetes),
        ("cali-", Owner::Kubernetes),
        ("CILIUM_", Owner::Kubernetes),
        ("ts-", Owner::Tailscale),
    ];
    let tables = by_table.iter().filter(|(name, _)| table.starts_with(name));
    let chains = by_chain
        .iter()
        .filter(|(name, _)| chains.iter().any(|chain| chain.starts_with(name)));
    tables.chain(chains).map(|(_, owner)| *owner).collect()
}

/// What the chain does to us.
pub(super) fn effect(base: &Base, effects: &[ForeignEffect], accepts_ours: bool) -> String {
    if base.kind == "nat" {
        return translation(base).to_owned();
    }
    let with = |outcome| -> Vec<&ForeignEffect> {
        effects
            .iter()
            .filter(|effect| effect.outcome == outcome)
            .collect()
    };
    let (dropped, depends) = (with(Outcome::Dropped), with(Outcome::Depends));
    let mut sentences = Vec::new();
    if !dropped.is_empty() {
        sentences.push(format!("drops {}", listed(&dropped)));
    }
    if !depends.is_empty() {
        sentences.push(format!(
            "may drop, depending on addresses, ports or marks, {}",
            listed(&depends)
        ));
    }
    if sentences.is_empty() {
        sentences.push(if accepts_ours {
            "lets our traffic through, by rules that name our bridges".to_owned()
        } else {
            "lets our traffic through".to_owned()
        });
    }
    sentences.join("; ")
}

fn listed(effects: &[&ForeignEffect]) -> String {
    let mut groups: Vec<(&str, Vec<String>)> = Vec::new();
    for effect in effects {
        let by = effect.by.as_deref().unwrap_or_default();
        match groups.iter_mut().find(|(known, _)| *known == by) {
            Some((_, flows)) => flows.push(effect.flow.to_string()),
            None => groups.push((by, vec![effect.flow.to_string()])),
        }
    }
    groups
        .iter()
        .map(|(by, flows)| format!("{} (by {by})", flows.join(", ")))
        .collect::<Vec<_>>()
        .join(", ")
}

/// Of several chains that could translate a connection, the first that matches decides.
fn translation(base: &Base) -> &'static str {
    match base.hook {
        PREROUTING | 3 if base.priority < DSTNAT => {
            "translates destinations before us: a port that it takes does not reach our published ports"
        }
        PREROUTING | 3 => "translates destinations after us: it sees no connection to a port that we publish",
        _ => "translates sources; we have decided about our containers before it",
    }
}

/// A command that lets our traffic through.
pub(super) fn remedy(
    place: &Place<'_>,
    base: &Base,
    owners: &BTreeSet<Owner>,
    chains: &BTreeSet<&str>,
    effects: &[ForeignEffect],
) -> Option<String> {
    let is_bad = effects.iter().any(|effect| effect.outcome == Outcome::Dropped);
    if !is_bad || base.hook == INPUT {
        // What containers may ask of the host itself is for its owner to say: published ports don't depend on it.
        return None;
    }
    if place.table == "firewalld" {
        return Some(format!(
            "firewall-cmd --permanent --zone=trusted --add-interface={LINK_PREFIX}b+ && firewall-cmd --reload"
        ));
    }
    let is_of_iptables = place.table == "filter" && place.family != "inet" && base.hook == FORWARD;
    if is_of_iptables {
        let program = match (place.family, place.backend) {
            ("ip6", Backend::Nftables) => "ip6tables",
            ("ip6", Backend::Legacy) => "ip6tables-legacy",
            (_, Backend::Nftables) => "iptables",
            (_, Backend::Legacy) => "iptables-legacy",
        };
        let own = ["DOCKER-USER", "ufw-user-forward", "ufw6-user-forward"];
        let chain = own.into_iter().find(|name| chains.contains(name));
        return Some(accept_command(program, chain.unwrap_or(place.name)));
    }
    if owners.contains(&Owner::Docker) && base.hook == PREROUTING {
        return None;
    }
    let Place {
        family, table, name, ..
    } = place;
    let insert = |rule: &str| format!("nft insert rule {family} {table} {name} {rule} accept");
    let incoming = insert(&format!("iifname '\"{LINK_PREFIX}b*\"'"));
    if base.hook != FORWARD {
        return Some(incoming);
    }
    Some(format!(
        "{incoming} && {}",
        insert(&format!("oifname '\"{LINK_PREFIX}b*\"'"))
    ))
}

/// The accept that coexistence needs, with a program of the `iptables` kind.
pub(crate) fn accept_command(program: &str, chain: &str) -> String {
    let accept = |option: &str| {
        format!("{program} -I {chain} {option} {LINK_PREFIX}b+ -m comment --comment linkspan -j ACCEPT")
    };
    format!("{} && {}", accept("-i"), accept("-o"))
}
