//! Whose network namespace a container has, and what that rules out.

use std::collections::BTreeMap;

use super::Draft;
use crate::container::Draft as ContainerDraft;
use crate::problem::Report;
use crate::{Action, Condition, ContainerName, Driver, MacvlanMode, NetworkMode, NetworkName, Span, Target};

type Containers = BTreeMap<ContainerName, ContainerDraft>;

pub(super) fn check(draft: &Draft, report: &mut Report) {
    for (name, parts) in &draft.containers {
        let (container, marks) = (&parts.container, &parts.marks);
        let whose = match &container.network_mode {
            NetworkMode::Networks | NetworkMode::None => continue,
            NetworkMode::Host => "the host",
            NetworkMode::Container(target) => {
                shared(name, parts, target, &draft.containers, report);
                "another container"
            }
        };
        if let Some(parameter) = container.sysctls.keys().find(|name| name.starts_with("net.")) {
            report
                .at(
                    marks.sysctls,
                    format!("kernel parameter `{parameter}` belongs to the network namespace, which is that of {whose}"),
                )
                .related(marks.network_mode, "by this");
        }
    }
    unreachable_routes(draft, report);
    passthru(draft, report);
}

/// A container in another's namespace starts after it.
pub(super) fn depend(containers: &mut Containers) {
    for parts in containers.values_mut() {
        if let NetworkMode::Container(target) = &parts.container.network_mode {
            parts
                .marks
                .depends_on
                .entry(target.clone())
                .or_insert(parts.marks.network_mode);
            parts
                .container
                .depends_on
                .entry(target.clone())
                .or_insert(Condition::Started);
        }
    }
}

fn shared(
    name: &ContainerName,
    parts: &ContainerDraft,
    target: &ContainerName,
    containers: &Containers,
    report: &mut Report,
) {
    let span = parts.marks.network_mode;
    // One that is missing, or itself, is told of where dependencies are checked.
    let Some(other) = containers.get(target).filter(|_| target != name) else {
        return;
    };
    match &other.container.network_mode {
        NetworkMode::Networks => {}
        NetworkMode::None => {
            report
                .at(span, format!("container `{target}` has no network to share"))
                .related(other.marks.network_mode, "written here")
                .hint("write `network_mode: none` here too");
        }
        NetworkMode::Host => {
            report
                .at(span, format!("container `{target}` has the network of the host"))
                .related(other.marks.network_mode, "written here")
                .hint("write `network_mode: host` here too");
        }
        NetworkMode::Container(third) => {
            report
                .at(span, format!("container `{target}` has the network of `{third}`"))
                .related(other.marks.network_mode, "written here")
                .hint(format!("write `network_mode: container:{third}` here too"));
        }
    }
    if other.container.replicas > 1 || parts.container.replicas > 1 {
        report.at(
            span,
            format!("`{name}` can't share the network of `{target}` when there are replicas of one of them"),
        );
    }
    if other.container.host_users {
        report.at(
            span,
            format!("`{name}` would have the host's ids too, as `{target}` has `userns_mode: host`"),
        );
    }
}

fn unreachable_routes(draft: &Draft, report: &mut Report) {
    for route in &draft.routes {
        let Action::Forward(targets) = &route.route.action else {
            continue;
        };
        for (target, span) in targets.iter().zip(&route.targets) {
            let Target::Container { name, .. } = target else {
                continue;
            };
            if let Some(parts) = draft.containers.get(name)
                && parts.container.network_mode == NetworkMode::None
            {
                report
                    .at(
                        *span,
                        format!("the route goes to container `{name}`, which has no network"),
                    )
                    .related(parts.marks.network_mode, "written here");
            }
        }
    }
}

/// A macvlan in mode `passthru` gives the whole link to one member.
fn passthru(draft: &Draft, report: &mut Report) {
    let mut members: BTreeMap<&NetworkName, (&ContainerName, Span)> = BTreeMap::new();
    for (name, parts) in &draft.containers {
        for (network, marks) in &parts.marks.networks {
            let alone = draft.networks.get(network).is_some_and(|known| {
                matches!(
                    known.network.driver,
                    Driver::Macvlan {
                        mode: MacvlanMode::Passthru,
                        ..
                    }
                )
            });
            if !alone {
                continue;
            }
            if parts.container.replicas > 1 {
                report.at(
                    marks.name,
                    format!("network `{network}` is `passthru` and has room for one replica only"),
                );
            }
            if let Some((other, earlier)) = members.insert(network, (name, marks.name)) {
                report
                    .at(
                        marks.name,
                        format!("network `{network}` is `passthru` and has room for one container only"),
                    )
                    .related(earlier, format!("`{other}` is on it"));
            }
        }
    }
}
