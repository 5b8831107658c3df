//! `basic_auth`: a file of users and hashes of their passwords.

use std::collections::BTreeMap;

use super::attached;
use crate::fields::Fields;
use crate::htpasswd::parse_htpasswd;
use crate::keys::BASIC_AUTH;
use crate::problem::{Report, quoted};
use crate::yaml::{Node, Value};
use crate::{BasicAuth, PasswordHash, Sources};

/// Lines that are told of one file.
const MOST_TOLD: usize = 10;

pub(super) fn read(fields: &Fields<'_>, sources: &Sources<'_>, report: &mut Report) -> Option<BasicAuth> {
    let node = fields.get("basic_auth", report)?;
    let mut auth = BasicAuth {
        realm: "restricted".to_owned(),
        users: BTreeMap::new(),
        forward_authorization: false,
    };
    let file = match &node.value {
        Value::Map(_) => {
            let fields = Fields::read(node, &BASIC_AUTH, report)?;
            if let Some(realm) = fields.parsed("realm", report, realm) {
                auth.realm = realm;
            }
            auth.forward_authorization = fields.flag("forward_authorization", report).unwrap_or_default();
            fields.required(
                "file",
                node.span,
                "the path of a file that `htpasswd -B` wrote",
                report,
            )?
        }
        _ => node,
    };
    auth.users = users(file, sources, report)?;
    Some(auth)
}

fn users(node: &Node, sources: &Sources<'_>, report: &mut Report) -> Option<BTreeMap<String, PasswordHash>> {
    let text = attached::text("basic_auth", node, sources, report)?;
    match parse_htpasswd(text) {
        Ok(users) => Some(users),
        Err(problems) => {
            let path = report.text("basic_auth", node)?;
            for problem in problems.iter().take(MOST_TOLD) {
                let message = format!(
                    "`basic_auth` {}, line {}: {}",
                    quoted(path),
                    problem.line,
                    problem.message
                );
                report.at(node.span, message);
            }
            None
        }
    }
}

fn realm(text: &str) -> Result<String, &'static str> {
    if text.is_empty() || text.len() > 200 || !text.bytes().all(|b| (b' '..=b'~').contains(&b)) {
        return Err("must be a line of ASCII");
    }
    Ok(text.to_owned())
}
