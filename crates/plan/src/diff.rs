//! What would an `up` change? Lines for people; the plan itself is made step by step as the world follows.

mod forgotten;
mod network;
mod replaced;

use std::collections::{BTreeMap, BTreeSet};

use linkspan_site::{Action, Container, Site, Target};
use serde::{Deserialize, Serialize};

use crate::admit::host_text;

pub use forgotten::forgotten;
pub use replaced::tell_replaced;

/// What happens to a thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sign {
    /// Made.
    Add,
    /// Changed or replaced.
    Change,
    /// Removed.
    Remove,
}

/// One line of a diff.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// What happens.
    pub sign: Sign,
    /// `container`, `network`, `route`, `volume`.
    pub kind: String,
    /// Which.
    pub name: String,
    /// What about it.
    pub detail: String,
}

/// Compares a site with what is up now under its name.
pub fn diff(old: Option<&Site>, new: Option<&Site>) -> Vec<Change> {
    let mut changes = Vec::new();
    let name = new.or(old).map(|site| site.name.to_string()).unwrap_or_default();
    keyed(
        &mut changes,
        "network",
        old.map(|site| &site.networks),
        new.map(|site| &site.networks),
        |net| net.to_string(),
        network::about,
        network::change,
    );
    keyed(
        &mut changes,
        "volume",
        // A volume that is no longer named keeps its data; only `down --volumes` removes it.
        old.map(|site| &site.volumes).filter(|_| new.is_some()),
        new.map(|site| &site.volumes),
        |volume| format!("{name}_{volume}"),
        |_| String::new(),
        |_, _| String::new(),
    );
    changes.retain(|change| change.kind != "volume" || change.sign == Sign::Add);
    keyed(
        &mut changes,
        "container",
        old.map(|site| &site.containers),
        new.map(|site| &site.containers),
        |container| container.to_string(),
        |container| format!("{} × {}", container.replicas, container.image),
        container_change,
    );
    let routes = |site: &Site| -> BTreeMap<String, String> {
        site.routes
            .iter()
            .map(|route| {
                let path = if route.path == "/" { "" } else { &route.path };
                (
                    format!("{}{path}", host_text(&route.host)),
                    action_text(&route.action),
                )
            })
            .collect()
    };
    let (old_routes, new_routes) = (old.map(routes), new.map(routes));
    keyed(
        &mut changes,
        "route",
        old_routes.as_ref(),
        new_routes.as_ref(),
        Clone::clone,
        |to| format!("→ {to}"),
        |was, is| format!("{was} → {is}"),
    );
    changes
}

fn keyed<K: Ord, V: PartialEq>(
    changes: &mut Vec<Change>,
    kind: &str,
    old: Option<&BTreeMap<K, V>>,
    new: Option<&BTreeMap<K, V>>,
    name: impl Fn(&K) -> String,
    about: impl Fn(&V) -> String,
    difference: impl Fn(&V, &V) -> String,
) {
    let keys: BTreeSet<&K> = old.into_iter().chain(new).flat_map(BTreeMap::keys).collect();
    for key in keys {
        let (was, is) = (old.and_then(|all| all.get(key)), new.and_then(|all| all.get(key)));
        let (sign, detail) = match (was, is) {
            (None, Some(is)) => (Sign::Add, about(is)),
            (Some(_), None) => (Sign::Remove, String::new()),
            (Some(was), Some(is)) if was != is => (Sign::Change, difference(was, is)),
            _ => continue,
        };
        changes.push(Change {
            sign,
            kind: kind.to_owned(),
            name: name(key),
            detail,
        });
    }
}

fn container_change(was: &Container, is: &Container) -> String {
    let mut what = Vec::new();
    push_if(&mut what, was.image != is.image, || {
        format!("image: {} → {}", was.image, is.image)
    });
    push_if(&mut what, was.replicas != is.replicas, || {
        format!("replicas: {} → {}", was.replicas, is.replicas)
    });
    let mut rest = was.clone();
    rest.image.clone_from(&is.image);
    rest.replicas = is.replicas;
    // Values may be secret; the names of what changed are enough.
    let keys = changed_keys(&rest, is);
    push_if(&mut what, !keys.is_empty(), || {
        format!("changed: {}", keys.join(", "))
    });
    what.join("; ")
}

fn changed_keys(was: &Container, is: &Container) -> Vec<String> {
    let fields = |container: &Container| serde_json::to_value(container).unwrap_or_default();
    let (was, is) = (fields(was), fields(is));
    let (Some(was), Some(is)) = (was.as_object(), is.as_object()) else {
        return Vec::new();
    };
    is.iter()
        .filter(|(key, value)| was.get(*key) != Some(value))
        .map(|(key, _)| key.clone())
        .collect()
}

fn action_text(action: &Action) -> String {
    match action {
        Action::Redirect { to, status } => format!("{status} {to}"),
        Action::Forward(targets) => targets.iter().map(target_text).collect::<Vec<_>>().join(", "),
    }
}

fn target_text(target: &Target) -> String {
    match target {
        Target::Container { name, port } => format!("{name}:{port}"),
        Target::Url { tls, host, port } => format!("{}://{host}:{port}", if *tls { "https" } else { "http" }),
    }
}

fn push_if(what: &mut Vec<String>, condition: bool, text: impl FnOnce() -> String) {
    if condition {
        what.push(text());
    }
}
