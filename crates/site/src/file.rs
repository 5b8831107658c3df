//! The whole file: its top level, and the order in which the rest is read.

use std::collections::BTreeMap;
use std::path::Path;

use crate::container::{self, Context};
use crate::fields::Fields;
use crate::keys::SITE;
use crate::networks;
use crate::problem::{Report, quoted};
use crate::yaml::{Entry, Node, Value};
use crate::{ContainerName, Problems, ProjectName, Site, Sources, Span, check, interpolate, routes, yaml};

/// Reads a file into a [`Site`], or tells everything that is wrong with it.
pub(crate) fn read(sources: &Sources<'_>) -> Result<Site, Problems> {
    let mut root = yaml::read(sources.text)?;
    let mut report = Report::default();
    interpolate::apply(&mut root, sources.variables, &mut report);
    let site = site(&root, sources, &mut report);
    match site {
        Some(site) if report.is_empty() => Ok(site),
        _ => Err(report.finish()),
    }
}

fn site(root: &Node, sources: &Sources<'_>, report: &mut Report) -> Option<Site> {
    let root = &renamed(root, report);
    let fields = Fields::read(root, &SITE, report)?;
    let name = match fields.get("name", report) {
        Some(node) => {
            let text = report.text("name", node)?;
            networks::name::<ProjectName>(text, node.span, report)
        }
        None if fields.entry("name").is_some() => None,
        None => default_name(sources.file, report),
    };
    let routes = fields
        .get("routes", report)
        .map(|node| routes::read(node, sources, report))
        .unwrap_or_default();
    let networks = fields
        .get("networks", report)
        .map(|node| networks::read(node, report))
        .unwrap_or_default();
    let volumes = fields
        .get("volumes", report)
        .map(|node| networks::read_volumes(node, report))
        .unwrap_or_default();
    let mut context = Context::new(sources);
    let containers = fields
        .get("containers", report)
        .map(|node| containers(node, &mut context, report))
        .unwrap_or_default();
    let draft = check::Draft {
        routes,
        containers,
        networks,
        volumes,
    };
    let (routes, containers, networks, volumes) = check::resolve(draft, report);
    Some(Site {
        name: name?,
        routes,
        containers,
        networks,
        volumes,
    })
}

/// `services` is what Compose calls containers: one problem about the word, and the rest is read as if it were right.
fn renamed(root: &Node, report: &mut Report) -> Node {
    let mut root = root.clone();
    let Value::Map(entries) = &mut root.value else {
        return root;
    };
    let both = entries.iter().any(|entry| entry.key.text == "containers");
    if let Some(entry) = entries.iter_mut().find(|entry| entry.key.text == "services") {
        report
            .at(entry.key.span, "unknown key `services` in a site")
            .hint("did you mean `containers`? Its keys are those of Compose's services");
        entry.key.text = if both {
            "x-services".to_owned()
        } else {
            "containers".to_owned()
        };
    }
    root
}

fn containers(
    node: &Node,
    context: &mut Context<'_>,
    report: &mut Report,
) -> BTreeMap<ContainerName, container::Draft> {
    let Value::Map(entries) = &node.value else {
        report
            .at(
                node.span,
                format!("`containers` must be a mapping, not {}", node.kind()),
            )
            .hint("`containers: { web: { image: nginx } }`");
        return BTreeMap::new();
    };
    let mut containers = BTreeMap::new();
    for Entry { key, value } in entries {
        let name = networks::name::<ContainerName>(&key.text, key.span, report);
        let draft = container::read(key, value, context, report);
        if let Some(name) = name {
            containers.insert(name, draft);
        }
    }
    containers
}

/// The folder's name with everything dropped that a name may not hold.
fn default_name(file: &Path, report: &mut Report) -> Option<ProjectName> {
    let folder = file
        .parent()
        .and_then(Path::file_name)
        .map(|name| name.to_string_lossy())
        .unwrap_or_default();
    let kept: String = folder
        .to_lowercase()
        .replace('_', "-")
        .chars()
        .filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.'))
        .skip_while(|c| !c.is_ascii_alphanumeric())
        .take(crate::NAME_MAX)
        .collect();
    let name = kept.parse().ok();
    if name.is_none() {
        report
            .at(
                Span {
                    line: 1,
                    column: 1,
                    length: 1,
                },
                format!("no name can be made of the folder's, {}", quoted(&folder)),
            )
            .hint("write `name: shop`");
    }
    name
}
