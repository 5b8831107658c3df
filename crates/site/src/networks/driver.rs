//! What joins the members of a network: a bridge, or a link of the host's.

use super::Draft;
use crate::fields::Fields;
use crate::keys::DRIVER_OPTIONS;
use crate::problem::{Report, quoted};
use crate::yaml::Node;
use crate::{Driver, IpvlanMode, MacvlanMode};

/// The longest name of a link that Linux knows.
const LINK_NAME: usize = 15;

pub(super) fn read(network: &Node, fields: &Fields<'_>, report: &mut Report) -> Driver {
    let written = fields.get("driver", report).and_then(|node| {
        let words = [("bridge", "bridge"), ("macvlan", "macvlan"), ("ipvlan", "ipvlan")];
        report.word("driver", node, &words)
    });
    let kind = written.unwrap_or("bridge");
    let options = fields
        .get("driver_opts", report)
        .and_then(|node| Fields::read(node, &DRIVER_OPTIONS, report));
    let mut refuse = |key: &str, kind: &str| {
        if let Some(entry) = options.as_ref().and_then(|options| options.entry(key)) {
            report.at(entry.key.span, format!("{} network has no `{key}`", a(kind)));
        }
    };
    match kind {
        "macvlan" => refuse("ipvlan_mode", kind),
        "ipvlan" => refuse("macvlan_mode", kind),
        _ => {
            for key in ["parent", "macvlan_mode", "ipvlan_mode"] {
                refuse(key, kind);
            }
            return Driver::Bridge;
        }
    }
    let parent = options
        .as_ref()
        .and_then(|options| options.parsed("parent", report, link_name));
    if parent.is_none()
        && options
            .as_ref()
            .is_none_or(|options| options.entry("parent").is_none())
    {
        report
            .at(
                network.span,
                format!(
                    "{} network needs a `parent`, the link of the host that it is put on",
                    a(kind)
                ),
            )
            .hint("`driver_opts: { parent: eth0 }`");
    }
    let parent = parent.unwrap_or_default();
    let mut mode = |key: &str| options.as_ref().and_then(|options| options.get(key, report));
    if kind == "macvlan" {
        let node = mode("macvlan_mode");
        let words = [
            ("bridge", MacvlanMode::Bridge),
            ("private", MacvlanMode::Private),
            ("vepa", MacvlanMode::Vepa),
            ("passthru", MacvlanMode::Passthru),
        ];
        let mode = node.and_then(|node| report.word("macvlan_mode", node, &words));
        return Driver::Macvlan {
            parent,
            mode: mode.unwrap_or_default(),
        };
    }
    let node = mode("ipvlan_mode");
    let words = [("l2", IpvlanMode::L2), ("l3", IpvlanMode::L3)];
    let mode = node.and_then(|node| report.word("ipvlan_mode", node, &words));
    Driver::Ipvlan {
        parent,
        mode: mode.unwrap_or_default(),
    }
}

/// What a network on a link of the host's needs, and what only a bridge can do.
pub(super) fn check(fields: &Fields<'_>, draft: &Draft, report: &mut Report) {
    let kind = match &draft.network.driver {
        Driver::Bridge => return,
        Driver::Macvlan { .. } => "macvlan",
        Driver::Ipvlan { .. } => "ipvlan",
    };
    for key in ["internal", "isolated", "on_conflict"] {
        if let Some(entry) = fields.entry(key) {
            report
                .at(entry.key.span, format!("{} network has no `{key}`", a(kind)))
                .hint("only a bridge has");
        }
    }
    if draft.network.subnet.is_none() {
        report
            .at(
                draft.name,
                format!("{} network needs the `subnet` of the LAN that it joins", a(kind)),
            )
            .hint("and a `gateway`, if that is not its first address");
    }
}

/// With its article.
fn a(kind: &str) -> String {
    let article = if kind.starts_with('i') { "an" } else { "a" };
    format!("{article} {kind}")
}

fn link_name(text: &str) -> Result<String, String> {
    let fine = !text.is_empty()
        && text.len() <= LINK_NAME
        && !matches!(text, "." | "..")
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'/' && byte != b':');
    match fine {
        true => Ok(text.to_owned()),
        false => Err(format!(
            "must be the name of a link, at most {LINK_NAME} characters, not {}",
            quoted(text)
        )),
    }
}
