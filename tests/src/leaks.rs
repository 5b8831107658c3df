//! What is on a host, to be compared before and after: links, mounts, cgroups, firewall tables, processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use crate::Host;

/// One line for each thing that Linkspan could leave behind.
pub(crate) fn inventory(host: &Host) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for line in host.run(&["ip", "-o", "link"]).ok().lines() {
        let name = line.split(": ").nth(1).unwrap_or(line);
        found.insert(format!("link {}", name.split('@').next().unwrap_or(name)));
    }
    for table in host.run(&["nft", "list", "tables"]).ok().lines() {
        found.insert(format!("firewall {table}"));
    }
    for rule in host.run(&["ip", "rule"]).ok().lines() {
        found.insert(format!("rule {rule}"));
    }
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", host.init())).unwrap_or_default();
    for line in mounts.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let kind = line
            .split(" - ")
            .nth(1)
            .and_then(|rest| rest.split(' ').next())
            .unwrap_or_default();
        found.insert(format!("mount {kind} {}", fields.get(4).unwrap_or(&line)));
    }
    for folder in host.cgroups() {
        cgroups_below(&folder, &mut found);
    }
    for (_, line) in host.processes() {
        found.insert(format!("process {line}"));
    }
    found
}

fn cgroups_below(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.insert(format!("cgroup {}", path.display()));
            cgroups_below(&path, found);
        }
    }
}
