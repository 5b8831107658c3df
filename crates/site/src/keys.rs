//! Every key that the file may have: one table feeds the parser, its hints and the JSON Schema.
//!
//! A key of Compose that we can't honour yet is in `later`, and refused by name: to ignore it would be to run
//! something other than what was asked for.

mod container;
mod route;
mod site;

use serde_json::Value as Json;

use crate::problem::{Report, quoted};
use crate::yaml::Entry;

pub(crate) use container::{
    ATTACHMENT, BIND, CONTAINER, DEPENDENCY, DEVICE, ENV_FILE, HEALTHCHECK, MOUNT, PORT, TMPFS, ULIMIT,
};
pub(crate) use route::{BASIC_AUTH, CORS, HEADER_RULES, HEADERS, RATE_LIMIT, SECURITY_HEADERS};
pub(crate) use site::{DRIVER_OPTIONS, IPAM, IPAM_CONFIG, NETWORK, ROUTE, SITE, VOLUME};

/// The keys of one kind of mapping.
#[derive(Debug)]
pub(crate) struct Table {
    /// In a message: `a container`.
    pub(crate) what: &'static str,
    pub(crate) keys: &'static [KeyInfo],
    /// Keys that are known but not supported yet, with what to do instead where there is something.
    pub(crate) later: &'static [(&'static str, &'static str)],
    /// Keys that begin with `x-` are left to other tools.
    pub(crate) extensions: bool,
}

#[derive(Debug)]
pub(crate) struct KeyInfo {
    pub(crate) name: &'static str,
    /// One sentence, shown by editors.
    pub(crate) about: &'static str,
    /// What may be written, as JSON Schema.
    pub(crate) form: fn() -> Json,
}

const fn key(name: &'static str, about: &'static str, form: fn() -> Json) -> KeyInfo {
    KeyInfo { name, about, form }
}

/// A key that is not supported yet, without advice.
const fn later(name: &'static str) -> (&'static str, &'static str) {
    (name, "")
}

impl Table {
    pub(crate) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.keys.iter().map(|key| key.name)
    }

    /// Notes a key that is not in the table.
    pub(crate) fn unknown(&self, entry: &Entry, report: &mut Report) {
        let name = entry.key.text.as_str();
        if let Some((name, advice)) = self.later.iter().find(|(later, _)| *later == name) {
            let problem = report.at(entry.key.span, format!("`{name}` is not supported yet"));
            if !advice.is_empty() {
                problem.hint(*advice);
            }
            return;
        }
        if name.is_empty() {
            report.at(
                entry.key.span,
                format!("a key of {} is missing before `:`", self.what),
            );
            return;
        }
        let later = self.later.iter().map(|(name, _)| *name);
        let nearest = report.nearest(name, self.names().chain(later));
        let problem = report.at(
            entry.key.span,
            format!("unknown key {} in {}", quoted(name), self.what),
        );
        match nearest {
            Some(nearest) => problem.hint(format!("did you mean `{nearest}`?")),
            None if self.keys.len() <= 12 => {
                let names: Vec<_> = self.names().map(|name| format!("`{name}`")).collect();
                problem.hint(format!("the keys of {} are {}", self.what, names.join(", ")))
            }
            None => problem,
        };
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};
    use std::path::Path;

    use super::*;
    use crate::{Problems, Sources, parse};

    /// For each table, a file with a mapping of its kind in the place of `@`.
    fn tables() -> Vec<(&'static Table, &'static str)> {
        vec![
            (&SITE, "@"),
            (&ROUTE, "routes: { a: { @ } }"),
            (&HEADERS, "routes: { a: { to: b:1, headers: { @ } } }"),
            (
                &HEADER_RULES,
                "routes: { a: { to: b:1, headers: { request: { @ } } } }",
            ),
            (
                &SECURITY_HEADERS,
                "routes: { a: { to: b:1, security_headers: { @ } } }",
            ),
            (&BASIC_AUTH, "routes: { a: { to: b:1, basic_auth: { @ } } }"),
            (&RATE_LIMIT, "routes: { a: { to: b:1, rate_limit: { @ } } }"),
            (&CORS, "routes: { a: { to: b:1, cors: { @ } } }"),
            (&NETWORK, "networks: { a: { @ } }"),
            (
                &DRIVER_OPTIONS,
                "networks: { a: { driver: macvlan, driver_opts: { @ } } }",
            ),
            (&IPAM, "networks: { a: { ipam: { @ } } }"),
            (&IPAM_CONFIG, "networks: { a: { ipam: { config: [{ @ }] } } }"),
            (&VOLUME, "volumes: { a: { @ } }"),
            (&CONTAINER, "containers: { a: { @ } }"),
            (&ENV_FILE, "containers: { a: { image: a, env_file: [{ @ }] } }"),
            (&PORT, "containers: { a: { image: a, ports: [{ @ }] } }"),
            (&MOUNT, "containers: { a: { image: a, volumes: [{ @ }] } }"),
            (
                &BIND,
                "containers: { a: { image: a, volumes: [{ type: bind, source: /a, target: /a, bind: { @ } }] } }",
            ),
            (
                &TMPFS,
                "containers: { a: { image: a, volumes: [{ type: tmpfs, target: /a, tmpfs: { @ } }] } }",
            ),
            (
                &ATTACHMENT,
                "containers: { a: { image: a, networks: { default: { @ } } } }",
            ),
            (
                &DEPENDENCY,
                "containers: { a: { image: a, depends_on: { b: { @ } } }, b: { image: b } }",
            ),
            (
                &HEALTHCHECK,
                "containers: { a: { image: a, healthcheck: { @ } } }",
            ),
            (
                &ULIMIT,
                "containers: { a: { image: a, ulimits: { core: { @ } } } }",
            ),
            (&DEVICE, "containers: { a: { image: a, devices: [{ @ }] } }"),
        ]
    }

    fn problems(text: &str) -> Problems {
        let none = BTreeMap::new();
        let file = Path::new("/srv/site/linkspan.yaml");
        match parse(&Sources {
            file,
            text: text.as_bytes(),
            variables: &none,
            files: &none,
        }) {
            Ok(_) => Problems(Vec::new()),
            Err(problems) => problems,
        }
    }

    fn place(template: &str, entry: &str) -> String {
        template.replace('@', entry)
    }

    #[test]
    fn no_known_key_is_ignored() {
        for (table, template) in tables() {
            for key in table
                .names()
                .filter(|key| !(table.what == "a site" && *key == "version"))
            {
                let text = place(template, &format!("{key}: [[[nonsense]]]"));
                let column = u32::try_from(text.find(key).unwrap()).unwrap();
                let found = problems(&text);
                assert!(
                    found.0.iter().any(|problem| problem.column > column),
                    "{text}\n{found}"
                );
            }
        }
    }

    #[test]
    fn every_key_that_is_not_supported_yet_is_refused_by_name() {
        for (table, template) in tables() {
            for (key, _) in table.later {
                let found = problems(&place(template, &format!("{key}: 1")));
                let message = format!("`{key}` is not supported yet");
                assert!(
                    found.0.iter().any(|problem| problem.message == message),
                    "{key}: {found}"
                );
            }
        }
    }

    #[test]
    fn every_unknown_key_is_refused() {
        for (table, template) in tables() {
            let found = problems(&place(template, "zzz: 1"));
            let message = format!("unknown key `zzz` in {}", table.what);
            assert!(
                found.0.iter().any(|problem| problem.message == message),
                "{found}"
            );
        }
    }

    #[test]
    fn a_key_is_either_known_or_not_supported_yet() {
        for (table, _) in tables() {
            let all: Vec<_> = table
                .names()
                .chain(table.later.iter().map(|(key, _)| *key))
                .collect();
            assert_eq!(
                all.iter().collect::<BTreeSet<_>>().len(),
                all.len(),
                "{}",
                table.what
            );
        }
    }
}
