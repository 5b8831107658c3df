//! What must hold between the parts of a file, once each part is right by itself.

mod addresses;
mod dependencies;
mod namespaces;
mod ports;

use std::collections::{BTreeMap, HashMap};

use crate::container::Draft as ContainerDraft;
use crate::networks::Draft as NetworkDraft;
use crate::problem::{Report, quoted};
use crate::routes::Draft as RouteDraft;
use crate::{
    Action, Container, ContainerName, DEFAULT_NETWORK, HostPattern, MountSource, Network, NetworkName, Route,
    Span, Target, Volume, VolumeName,
};

/// Everything that was read.
pub(crate) struct Draft {
    pub(crate) routes: Vec<RouteDraft>,
    pub(crate) containers: BTreeMap<ContainerName, ContainerDraft>,
    pub(crate) networks: BTreeMap<NetworkName, NetworkDraft>,
    pub(crate) volumes: BTreeMap<VolumeName, Volume>,
}

type Resolved = (
    Vec<Route>,
    BTreeMap<ContainerName, Container>,
    BTreeMap<NetworkName, Network>,
    BTreeMap<VolumeName, Volume>,
);

/// Checks it, and keeps of networks and volumes what is in use.
pub(crate) fn resolve(mut draft: Draft, report: &mut Report) -> Resolved {
    routes(&draft, report);
    namespaces::check(&draft, report);
    namespaces::depend(&mut draft.containers);
    dependencies::check(&draft.containers, report);
    ports::check(&draft.containers, report);
    if let Ok(default) = DEFAULT_NETWORK.parse() {
        draft.networks.entry(default).or_default();
    }
    addresses::check(&draft, report);
    mount_targets(&draft.containers, report);
    let networks = used_networks(&draft, report);
    let volumes = used_volumes(&draft, report);
    let containers = draft
        .containers
        .into_iter()
        .map(|(name, draft)| (name, draft.container))
        .collect();
    (
        draft.routes.into_iter().map(|draft| draft.route).collect(),
        containers,
        networks,
        volumes,
    )
}

fn routes(draft: &Draft, report: &mut Report) {
    let mut first: HashMap<(&HostPattern, &str), Span> = HashMap::new();
    for RouteDraft { route, span, targets } in &draft.routes {
        if let Some(earlier) = first.insert((&route.host, &route.path), *span) {
            report
                .at(*span, "the same host and path as another route")
                .related(earlier, "the other one");
        }
        let Action::Forward(wanted) = &route.action else {
            continue;
        };
        for (target, span) in wanted.iter().zip(targets) {
            let Target::Container { name, port } = target else {
                continue;
            };
            if draft.containers.contains_key(name) {
                continue;
            }
            let nearest = nearest(
                name.as_str(),
                draft.containers.keys().map(ContainerName::as_str),
                report,
            );
            let problem = report.at(
                *span,
                format!("the route goes to container `{name}`, which isn't in this file"),
            );
            if name.as_str().parse::<std::net::IpAddr>().is_ok() {
                problem.hint(format!(
                    "a server that is no container is written `http://{name}:{port}`"
                ));
            } else if let Some(nearest) = nearest {
                problem.hint(format!("did you mean `{nearest}:{port}`?"));
            } else if draft.containers.is_empty() {
                problem.hint(format!(
                    "list it under `containers:`, or write `http://{name}:{port}` for another server"
                ));
            } else {
                problem.hint(format!("the containers are {}", some(draft.containers.keys())));
            }
        }
    }
}

fn used_networks(draft: &Draft, report: &mut Report) -> BTreeMap<NetworkName, Network> {
    let mut used = BTreeMap::new();
    for container in draft.containers.values() {
        for (name, marks) in &container.marks.networks {
            if let Some(known) = draft.networks.get(name) {
                used.insert(name.clone(), known.network.clone());
                continue;
            }
            let nearest = nearest(
                name.as_str(),
                draft.networks.keys().map(NetworkName::as_str),
                report,
            );
            let problem = report.at(marks.name, format!("network `{name}` isn't in this file"));
            match nearest {
                Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                None => problem.hint(format!("add it: `networks: {{ {name}: {{}} }}` at the top level")),
            };
        }
    }
    used
}

fn used_volumes(draft: &Draft, report: &mut Report) -> BTreeMap<VolumeName, Volume> {
    let mut used = BTreeMap::new();
    for container in draft.containers.values() {
        for (mount, span) in container.container.mounts.iter().zip(&container.marks.mounts) {
            let MountSource::Volume(name) = &mount.source else {
                continue;
            };
            if let Some(known) = draft.volumes.get(name) {
                used.insert(name.clone(), known.clone());
                continue;
            }
            let nearest = nearest(
                name.as_str(),
                draft.volumes.keys().map(VolumeName::as_str),
                report,
            );
            let problem = report.at(*span, format!("volume `{name}` isn't in this file"));
            match nearest {
                Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
                None => problem.hint(format!(
                    "add it: `volumes: {{ {name}: {{}} }}` at the top level; a folder is written `./{name}`"
                )),
            };
        }
    }
    used
}

fn mount_targets(containers: &BTreeMap<ContainerName, ContainerDraft>, report: &mut Report) {
    for ContainerDraft { container, marks } in containers.values() {
        let mut first = HashMap::new();
        for (mount, span) in container.mounts.iter().zip(&marks.mounts) {
            if let Some(earlier) = first.insert(mount.target.as_str(), *span) {
                report
                    .at(*span, format!("{} is mounted twice", quoted(&mount.target)))
                    .related(earlier, "here first");
            }
        }
    }
}

fn nearest(name: &str, candidates: impl Iterator<Item = impl AsRef<str>>, report: &Report) -> Option<String> {
    let candidates: Vec<_> = candidates.take(500).collect();
    report
        .nearest(name, candidates.iter().map(AsRef::as_ref))
        .map(str::to_owned)
}

/// A few names in backticks.
fn some<'n>(names: impl ExactSizeIterator<Item = &'n ContainerName>) -> String {
    let more = names.len().saturating_sub(8);
    let mut shown: Vec<_> = names.take(8).map(|name| format!("`{name}`")).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}
