//! `depends_on` names containers of the file, what it waits for can happen, and nothing waits for itself.

use std::collections::BTreeMap;

use crate::container::Draft;
use crate::problem::Report;
use crate::{Condition, ContainerName, Restart, Span};

type Containers = BTreeMap<ContainerName, Draft>;

pub(super) fn check(containers: &Containers, report: &mut Report) {
    for (name, draft) in containers {
        for (dependency, condition) in &draft.container.depends_on {
            let span = draft
                .marks
                .depends_on
                .get(dependency)
                .copied()
                .unwrap_or_default();
            match containers.get(dependency) {
                Some(target) => possible(dependency, target, *condition, span, report),
                None => {
                    let nearest = super::nearest(
                        dependency.as_str(),
                        containers
                            .keys()
                            .filter(|other| *other != name)
                            .map(ContainerName::as_str),
                        report,
                    );
                    let problem = report.at(
                        span,
                        format!("container `{name}` depends on `{dependency}`, which isn't in this file"),
                    );
                    if let Some(nearest) = nearest {
                        problem.hint(format!("did you mean `{nearest}`?"));
                    }
                }
            }
        }
    }
    cycles(containers, report);
}

/// What is waited for must be able to happen.
fn possible(name: &ContainerName, target: &Draft, condition: Condition, span: Span, report: &mut Report) {
    let container = &target.container;
    match condition {
        Condition::Healthy
            if container
                .healthcheck
                .as_ref()
                .is_some_and(|check| check.test.is_empty()) =>
        {
            report.at(
                span,
                format!("`{name}` never becomes healthy: its health check is turned off"),
            );
        }
        Condition::CompletedSuccessfully => {
            let policy = match container.restart {
                Restart::Always => "always",
                Restart::UnlessStopped => "unless-stopped",
                Restart::No | Restart::OnFailure { .. } => return,
            };
            report
                .at(
                    span,
                    format!("`{name}` never completes: it is restarted whenever it ends"),
                )
                .hint(format!(
                    "write `restart: \"no\"` or `restart: on-failure` in `{name}`"
                ))
                .related(target.marks.restart, format!("its restart is `{policy}`"));
        }
        _ => {}
    }
}

/// Takes away containers that nothing in question depends on until only cycles are left, then walks each once.
fn cycles(containers: &Containers, report: &mut Report) {
    let mut waiting: BTreeMap<&ContainerName, usize> = BTreeMap::new();
    let mut dependents: BTreeMap<&ContainerName, Vec<&ContainerName>> = BTreeMap::new();
    for (name, draft) in containers {
        let known = draft
            .container
            .depends_on
            .keys()
            .filter(|dependency| containers.contains_key(*dependency));
        waiting.insert(name, known.clone().count());
        known.for_each(|dependency| dependents.entry(dependency).or_default().push(name));
    }
    let mut ready: Vec<&ContainerName> = waiting
        .iter()
        .filter(|(_, count)| **count == 0)
        .map(|(name, _)| *name)
        .collect();
    while let Some(name) = ready.pop() {
        waiting.remove(name);
        for dependent in dependents.get(name).into_iter().flatten() {
            if let Some(count) = waiting.get_mut(*dependent) {
                *count -= 1;
                if *count == 0 {
                    ready.push(dependent);
                }
            }
        }
    }
    // Everyone left waits for somebody left, so that each walk ends in a cycle, or where an earlier walk has been.
    while let Some((&start, _)) = waiting.first_key_value() {
        let mut path: Vec<&ContainerName> = Vec::new();
        let mut seen: BTreeMap<&ContainerName, usize> = BTreeMap::new();
        let mut at = start;
        let cycle = loop {
            if let Some(index) = seen.get(at) {
                break Some(*index);
            }
            seen.insert(at, path.len());
            path.push(at);
            let next = containers.get(at).and_then(|draft| {
                draft
                    .container
                    .depends_on
                    .keys()
                    .find(|dependency| waiting.contains_key(*dependency))
            });
            match next {
                Some(next) => at = next,
                None => break None,
            }
        };
        if let Some(from) = cycle {
            tell(&path[from..], containers, report);
        }
        for name in path {
            waiting.remove(name);
        }
    }
}

fn tell(cycle: &[&ContainerName], containers: &Containers, report: &mut Report) {
    let (Some(first), Some(second)) = (cycle.first(), cycle.get(1).or(cycle.first())) else {
        return;
    };
    let span = containers
        .get(*first)
        .and_then(|draft| draft.marks.depends_on.get(*second))
        .copied()
        .unwrap_or_default();
    if cycle.len() == 1 {
        report.at(span, format!("container `{first}` depends on itself"));
        return;
    }
    let mut names: Vec<String> = cycle.iter().take(10).map(|name| format!("`{name}`")).collect();
    if cycle.len() > 10 {
        names.push("…".to_owned());
    }
    names.push(format!("`{first}`"));
    report.at(
        span,
        format!(
            "containers depend on each other in a circle: {}",
            names.join(" → ")
        ),
    );
}
