//! The rules of the house that the compiler doesn't know: who may import whom, how things are named, where `unsafe` may be.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use linkspan_tests::root;

/// Rows of the import table, bottom first. A crate may import from the rows below its own, never from its own.
const ROWS: &[&[&str]] = &[
    &["site"],
    &["plan"],
    &["hostnet", "containers", "images", "dns"],
    &["api", "telemetry"],
    &["cli", "proxy", "netd"],
    &["linkspan"],
];

/// Those who may see less than their row allows.
const NARROWER: &[(&str, &[&str])] = &[
    ("cli", &["api", "site"]),
    ("proxy", &["api", "dns", "site", "telemetry"]),
    ("api", &["dns", "site"]),
    ("telemetry", &[]),
    ("dns", &[]),
];

/// Where `unsafe` may be written.
const UNSAFE_ROOMS: &[&str] = &["crates/hostnet/", "crates/containers/"];

/// Names that say nothing.
const EMPTY_NAMES: &[&str] = &[
    "util", "utils", "common", "helper", "helpers", "misc", "core", "types", "mod",
];

/// Lines of a file before its tests.
const LONGEST_FILE: usize = 600;

#[test]
fn imports_point_down_only() {
    let row = |name: &str| ROWS.iter().position(|row| row.contains(&name));
    let mut wrong = Vec::new();
    for (name, manifest) in manifests() {
        let Some(own) = row(&name) else { continue };
        for import in imports(&manifest) {
            let allowed = match NARROWER.iter().find(|(narrow, _)| *narrow == name) {
                Some((_, allowed)) => allowed.contains(&import.as_str()),
                None => row(&import).is_some_and(|other| other < own),
            };
            if !allowed {
                wrong.push(format!("{name} imports {import}"));
            }
        }
    }
    none(&wrong, "the import table in ARCHITECTURE.md forbids");
}

#[test]
fn the_table_names_every_crate() {
    let known: BTreeSet<&str> = ROWS
        .iter()
        .flat_map(|row| row.iter().copied())
        .chain(["tests", "xtask"])
        .collect();
    let found: Vec<String> = manifests().into_iter().map(|(name, _)| name).collect();
    let strangers: Vec<&String> = found
        .iter()
        .filter(|name| !known.contains(name.as_str()))
        .collect();
    none(&strangers, "crates that have no place in the import table");
    assert_eq!(
        found.len(),
        known.len(),
        "the table names crates that aren't there: {known:?} and {found:?}"
    );
}

#[test]
fn versions_are_in_the_workspace_manifest_only() {
    let mut wrong = Vec::new();
    for (name, manifest) in manifests() {
        for line in dependency_lines(&manifest) {
            if !line.contains("workspace") {
                wrong.push(format!("{name}: {line}"));
            }
        }
        if !manifest.contains("[lints]\nworkspace = true") {
            wrong.push(format!("{name}: no `[lints] workspace = true`"));
        }
    }
    none(&wrong, "manifests that don't inherit from the workspace");
}

#[test]
fn names_say_something() {
    let mut wrong = Vec::new();
    for source in sources() {
        let stem = source
            .path
            .file_stem()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let folder = source
            .path
            .parent()
            .and_then(Path::file_name)
            .unwrap_or_default()
            .to_string_lossy();
        if EMPTY_NAMES.contains(&stem.as_str()) || EMPTY_NAMES.contains(&&*folder) {
            wrong.push(source.shown.clone());
        }
        for line in source.code().lines() {
            let line = line.trim_start();
            let module = line
                .strip_prefix("pub mod ")
                .or_else(|| line.strip_prefix("mod "));
            if let Some(name) = module.map(|rest| rest.trim_end_matches([' ', '{', ';']))
                && EMPTY_NAMES.contains(&name)
            {
                wrong.push(format!("{}: mod {name}", source.shown));
            }
        }
    }
    none(
        &wrong,
        "files, folders or modules named for nothing in particular",
    );
}

#[test]
fn unsafe_has_its_rooms() {
    let mut wrong = Vec::new();
    for source in sources() {
        // A program for a container, built by `rustc` alone: it has nobody to ask for a safe wrapper.
        if source.shown.starts_with("configs/demo/")
            || UNSAFE_ROOMS.iter().any(|room| source.shown.starts_with(room))
        {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            let code = without_text(line);
            if words(&code).any(|word| word == "unsafe" || word == "unsafe_code") {
                wrong.push(format!("{}:{}: {}", source.shown, number + 1, line.trim()));
            }
        }
    }
    none(&wrong, "`unsafe` outside of hostnet and containers");
}

#[test]
fn every_file_says_what_it_is_for() {
    let wrong: Vec<String> = sources()
        .into_iter()
        .filter(|source| !source.text.starts_with("//! "))
        .map(|source| source.shown)
        .collect();
    none(&wrong, "files that don't open with `//!` and a sentence");
}

#[test]
fn files_are_short_enough_to_be_read() {
    let mut wrong = Vec::new();
    for source in sources() {
        let lines = source.code().lines().count();
        if lines > LONGEST_FILE && !source.is_test() {
            wrong.push(format!("{}: {lines} lines", source.shown));
        }
    }
    none(&wrong, "files over 600 lines before their tests: find the seam");
}

#[test]
fn errors_are_handled_outside_of_tests() {
    let mut wrong = Vec::new();
    for source in sources() {
        if source.is_test() {
            continue;
        }
        for (number, line) in source.code().lines().enumerate() {
            let code = without_text(line);
            if [".unwrap()", ".expect(", "todo!(", "unimplemented!(", "dbg!("]
                .iter()
                .any(|bad| code.contains(bad))
            {
                wrong.push(format!("{}:{}: {}", source.shown, number + 1, line.trim()));
            }
        }
    }
    none(&wrong, "panics that a user could meet");
}

#[test]
fn anyhow_is_for_the_edge() {
    let wrong: Vec<String> = manifests()
        .into_iter()
        .filter(|(name, _)| !["cli", "linkspan", "tests"].contains(&name.as_str()))
        .filter(|(_, manifest)| dependency_lines(manifest).any(|line| line.starts_with("anyhow")))
        .map(|(name, _)| name)
        .collect();
    none(&wrong, "crates whose callers can't tell one error from another");
}

#[test]
fn nothing_depends_on_one_machine() {
    let mut wrong = Vec::new();
    for source in texts() {
        for (number, line) in source.text.lines().enumerate() {
            let lower = line.to_ascii_lowercase();
            // Spelled in halves, so that this file passes.
            let paths = [
                concat!("/wo", "rk/"),
                concat!("/ro", "ot/.pyenv"),
                concat!("/tmp/", "brief"),
            ];
            if paths.iter().any(|path| lower.contains(path)) {
                wrong.push(format!("{}:{}: {}", source.shown, number + 1, line.trim()));
            }
        }
    }
    none(&wrong, "paths of somebody's machine");
}

// === What is looked at ===

/// A file of the repository.
struct Source {
    path: PathBuf,
    /// From the top of the repository, with `/`.
    shown: String,
    text: String,
}

impl Source {
    /// The text before the tests at its end.
    fn code(&self) -> &str {
        const GATE: &str = "\n#[cfg(test)]\n";
        let gates = self
            .text
            .match_indices(GATE)
            .map(|(start, gate)| (start, &self.text[start + gate.len()..]));
        let mut tests = gates.filter(|(_, rest)| {
            let line = rest.lines().next().unwrap_or_default();
            line.contains("mod ") && line.ends_with('{')
        });
        tests.next().map_or(&self.text, |(start, _)| &self.text[..start])
    }

    /// The whole file is for tests.
    fn is_test(&self) -> bool {
        self.shown.starts_with("tests/")
            || self.shown.starts_with("fuzz/")
            || self.shown.contains("/tests/")
            || self.shown.ends_with("/tests.rs")
            || self.shown.contains("/benches/")
    }
}

fn sources() -> Vec<Source> {
    let found: Vec<Source> = texts()
        .into_iter()
        .filter(|source| source.shown.ends_with(".rs"))
        .collect();
    assert!(
        found.len() > 20,
        "only {} sources below {}: is this the right folder?",
        found.len(),
        root().display()
    );
    found
}

fn texts() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            if path.is_dir() {
                if !matches!(name.as_str(), "target" | ".git" | "corpus" | "artifacts") {
                    folders.push(path);
                }
            } else if [".rs", ".toml", ".yaml", ".md", ".service", ".json"]
                .iter()
                .any(|end| name.ends_with(end))
            {
                let text = fs::read_to_string(&path).unwrap();
                let shown = path.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
                found.push(Source { path, shown, text });
            }
        }
    }
    found.sort_by(|a, b| a.shown.cmp(&b.shown));
    found
}

/// Name (without the prefix) and manifest of every crate of the workspace.
fn manifests() -> Vec<(String, String)> {
    let manifests = texts()
        .into_iter()
        .filter(|source| source.shown.ends_with("/Cargo.toml"));
    manifests
        .filter(|source| !source.shown.starts_with("fuzz/"))
        .map(|source| {
            let name = source
                .text
                .lines()
                .find_map(|line| line.strip_prefix("name = "))
                .unwrap()
                .trim_matches('"');
            (
                name.strip_prefix("linkspan-").unwrap_or(name).to_owned(),
                source.text,
            )
        })
        .collect()
}

/// The crates of this workspace that a manifest imports, tests' imports included.
fn imports(manifest: &str) -> Vec<String> {
    dependency_lines(manifest)
        .filter_map(|line| line.strip_prefix("linkspan-"))
        .map(|rest| rest.split(['.', ' ', '=']).next().unwrap_or_default().to_owned())
        .collect()
}

fn dependency_lines(manifest: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    manifest.lines().filter(move |line| {
        if line.starts_with('[') {
            inside = line.contains("dependencies");
            return false;
        }
        inside && !line.is_empty() && !line.starts_with('#')
    })
}

/// The line without comments and without what stands in quotes.
fn without_text(line: &str) -> String {
    let mut code = String::new();
    let mut quoted = false;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\\' if quoted => drop(chars.next()),
            '\'' if !quoted && chars.peek() == Some(&'"') => drop(chars.next()),
            '"' => quoted = !quoted,
            '/' if !quoted && chars.peek() == Some(&'/') => break,
            _ if quoted => {}
            _ => code.push(c),
        }
    }
    code
}

fn words(code: &str) -> impl Iterator<Item = &str> {
    code.split(|c: char| !c.is_alphanumeric() && c != '_')
}

/// Fails with the whole list.
fn none<T: std::fmt::Display>(wrong: &[T], rule: &str) {
    let list: String = wrong.iter().map(|line| format!("\n  {line}")).collect();
    assert!(wrong.is_empty(), "{rule}:{list}");
}

#[test]
fn the_rules_can_fail() {
    let manifest =
        "[dependencies]\nlinkspan-netd.workspace = true\nserde = \"1\"\n\n[lints]\nworkspace = true\n";
    assert_eq!(imports(manifest), ["netd"]);
    assert_eq!(dependency_lines(manifest).count(), 2);
    assert_eq!(without_text("let a = \"quoted\"; // commented"), "let a = ; ");
    assert_eq!(
        words("call(one) { two }")
            .filter(|word| !word.is_empty())
            .collect::<Vec<_>>(),
        ["call", "one", "two"]
    );
}
