//! The three files of `/etc` that are ours: hosts, hostname, resolv.conf.
//!
//! Each is bind-mounted from the container's own folder, so the container sees an inode: a file is never replaced, only
//! written to. That is also how containers share them. One in another's network namespace has hard links to that one's
//! files: it sees what the other sees, also after a change, and keeps them when the other is gone.
//!
//! A container may write to them too, with nothing to lock against. At a start they are ours, as in other engines. While
//! it runs, `/etc/hosts` changes when the container's network moves; then only our lines are replaced, and those that
//! the container added stay, for whatever added them ran at its start and won't again. What it appends in that very
//! moment stays too (see [`replace_lines`]); an editor that read the file before and saves it after wins, as anywhere.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::net::IpAddr;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linkspan_plan::{ContainerId, ContainerSpec, NetworkNamespace, RESOLVER_ADDRESS};

use crate::layout::{Layout, make_dir};

/// Files in `/etc`, each bind-mounted from the container's own folder.
pub(crate) const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];
/// Of a file that is larger than this nothing is kept: it is no list of hosts any more.
const FILE_MAX: u64 = 1 << 20;

/// Why a container does not have them.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EtcError {
    #[error("container `{0}`, whose network is to be shared, is not there")]
    NoTarget(ContainerId),
    #[error("cannot write `{}`", .path.display())]
    Write {
        path: PathBuf,
        #[source]
        source: io::Error,
    },
}

/// Writes all three, owned by the container's root so that it may change them as in any other engine; or shares those of
/// the container whose network it joins.
pub(crate) fn write(layout: &Layout, spec: &ContainerSpec) -> Result<(), EtcError> {
    let folder = layout.etc(&spec.id);
    let written = |path: PathBuf| move |source| EtcError::Write { path, source };
    make_dir(&folder, 0o711).map_err(written(folder.clone()))?;
    if let NetworkNamespace::Container(target) = &spec.network {
        return share(&layout.etc(target), &folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => EtcError::NoTarget(target.clone()),
            _ => written(folder)(error),
        });
    }
    let texts = [
        hosts(spec),
        format!("{}\n", spec.hostname),
        match spec.network {
            NetworkNamespace::Host => hosts_resolv_conf(spec, &of_the_host("resolv.conf")),
            _ => resolv_conf(&spec.nameservers, &spec.search),
        },
    ];
    let owner = spec.ids.map_or(0, |ids| ids.first);
    for (file, text) in FILES.iter().zip(texts) {
        let path = folder.join(file);
        let attempt = || -> io::Result<()> {
            // Who shares it may be reading right now.
            let file = OpenOptions::new()
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)?;
            overwrite(&file, text.as_bytes())?;
            file.set_permissions(fs::Permissions::from_mode(0o644))?;
            std::os::unix::fs::fchown(&file, Some(owner), Some(owner))
        };
        attempt().map_err(written(path.clone()))?;
    }
    Ok(())
}

fn share(from: &Path, to: &Path) -> io::Result<()> {
    for file in FILES {
        match fs::remove_file(to.join(file)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::hard_link(from.join(file), to.join(file))?,
        }
    }
    Ok(())
}

/// Puts the container's present hosts in the place of those in `before`, which lists all texts that may still be there.
pub(crate) fn rewrite_hosts(layout: &Layout, spec: &ContainerSpec, before: &[String]) -> io::Result<()> {
    replace_lines(&layout.etc(&spec.id).join("hosts"), &hosts(spec), before)
}

/// Puts the lines of `text` in the place of those in `before`, without taking away a line that somebody appends meanwhile.
///
/// Only as many bytes as were read are written over, in one write. Lines that don't fit are appended before, so that a
/// reader finds all old ones or all new ones; room that is left is filled with blanks and not cut off.
fn replace_lines(path: &Path, text: &String, before: &[String]) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut now = Vec::new();
    // Who is half-way through a line will soon be at its end; who left one without an end has no more to say.
    for pause in [0, 1, 2, 4, 8] {
        std::thread::sleep(Duration::from_millis(pause));
        (&file)
            .take(FILE_MAX + 1 - now.len() as u64)
            .read_to_end(&mut now)?;
        if now.len() as u64 > FILE_MAX {
            return overwrite(&file, text.as_bytes());
        }
        if now.ends_with(b"\n") {
            break;
        }
    }
    let mut lines = text.clone().into_bytes();
    lines.extend(lines_of_others(&now, before.iter().chain([text])));
    if lines.len() > now.len() {
        let fit = lines[..now.len()].iter().rposition(|byte| *byte == b'\n');
        let mut rest = lines.split_off(fit.map_or(0, |end| end + 1));
        if !now.is_empty() && !now.ends_with(b"\n") {
            rest.insert(0, b'\n');
        }
        OpenOptions::new().append(true).open(path)?.write_all(&rest)?;
    }
    let room = now.len().saturating_sub(lines.len());
    // Blanks at the end of our last line are seen by nobody, as empty lines would be. Some programs don't find a line that
    // begins with blanks.
    match text.trim_end().len().min(lines.trim_ascii_end().len()) {
        0 => lines.resize(now.len(), b'\n'),
        end => drop(lines.splice(end..end, std::iter::repeat_n(b' ', room))),
    }
    file.write_all_at(&lines, 0)
}

/// Lines that are in none of our texts, each with its end.
fn lines_of_others<'a>(now: &[u8], ours: impl Iterator<Item = &'a String>) -> Vec<u8> {
    let ours: HashSet<&[u8]> = ours.flat_map(|text| text.lines()).map(str::as_bytes).collect();
    let others = now
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.trim_ascii().is_empty() && !ours.contains(line.trim_ascii_end()));
    others.flat_map(|line| [line, b"\n"].concat()).collect()
}

/// Replaces the whole text so that a reader sees the old one or the new one: one write, which covers what is longer of the
/// old with empty lines, and then they are cut off.
fn overwrite(file: &File, text: &[u8]) -> io::Result<()> {
    let mut before = file.metadata()?.len();
    if before > FILE_MAX {
        file.set_len(0)?;
        before = 0;
    }
    let mut bytes = text.to_vec();
    bytes.resize(text.len().max(before as usize), b'\n');
    file.write_all_at(&bytes, 0)?;
    file.set_len(text.len() as u64)
}

/// A file of the host's own `/etc`; empty if there is none, as a program on the host would take it.
fn of_the_host(file: &str) -> String {
    let mut bytes = Vec::new();
    // What could be read before an error is better than nothing.
    let _ = File::open(Path::new("/etc").join(file)).map(|file| file.take(FILE_MAX).read_to_end(&mut bytes));
    let mut text = String::from_utf8_lossy(&bytes).into_owned();
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    text
}

/// hosts(5).
pub(crate) fn hosts(spec: &ContainerSpec) -> String {
    let mut text = match spec.network {
        NetworkNamespace::Host => of_the_host("hosts"),
        _ => String::new(),
    };
    if text.is_empty() {
        text.push_str("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n");
    }
    for address in &spec.addresses {
        let _ = writeln!(text, "{address}\t{}", spec.hostname);
    }
    // Programs that look up their own name at the start want it to be there, whatever it leads to.
    if spec.addresses.is_empty() && !names(&text, &spec.hostname) {
        let _ = writeln!(text, "127.0.0.1\t{}", spec.hostname);
    }
    for (address, name) in &spec.hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

fn names(hosts: &str, name: &str) -> bool {
    hosts
        .lines()
        .filter_map(|line| line.split('#').next())
        .any(|line| line.split_whitespace().skip(1).any(|known| known == name))
}

/// resolv.conf(5). A search list of nothing but the root is none.
fn resolv_conf(nameservers: &[IpAddr], search: &[String]) -> String {
    let mut text = String::new();
    for address in nameservers {
        let _ = writeln!(text, "nameserver {address}");
    }
    text.push_str(&search_line(search));
    text.push_str("options ndots:0\n");
    text
}

fn search_line(search: &[String]) -> String {
    let domains: Vec<&str> = search
        .iter()
        .map(String::as_str)
        .filter(|one| *one != ".")
        .collect();
    if domains.is_empty() {
        String::new()
    } else {
        format!("search {}\n", domains.join(" "))
    }
}

/// The host's own, as of now, but for what the container has of its own. Our resolver is not reached from the host's
/// network, and never named there.
fn hosts_resolv_conf(spec: &ContainerSpec, host: &str) -> String {
    let own: Vec<&IpAddr> = spec
        .nameservers
        .iter()
        .filter(|address| **address != IpAddr::V4(RESOLVER_ADDRESS))
        .collect();
    let mut text = String::new();
    for line in host.lines() {
        let replaced = match line.split_whitespace().next() {
            Some("nameserver") => !own.is_empty(),
            Some("search" | "domain") => !spec.search.is_empty(),
            _ => false,
        };
        if !replaced {
            let _ = writeln!(text, "{line}");
        }
    }
    for address in own {
        let _ = writeln!(text, "nameserver {address}");
    }
    text.push_str(&search_line(&spec.search));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(lines: &[&str]) -> String {
        lines.iter().map(|line| format!("{line}\n")).collect()
    }

    #[test]
    fn a_search_list_is_a_line_and_none_is_no_line() {
        let servers = ["169.254.53.53".parse().unwrap()];
        assert_eq!(
            resolv_conf(&servers, &["corp.example".to_owned(), "example".to_owned()]),
            text(&[
                "nameserver 169.254.53.53",
                "search corp.example example",
                "options ndots:0"
            ])
        );
        for none in [vec![], vec![".".to_owned()]] {
            assert_eq!(
                resolv_conf(&servers, &none),
                text(&["nameserver 169.254.53.53", "options ndots:0"])
            );
        }
    }

    #[test]
    fn lines_that_are_not_ours_are_kept_in_order() {
        let before = [text(&["127.0.0.1\tlocalhost", "10.0.0.2\tbox"])];
        let now = b"127.0.0.1\tlocalhost\n# by hand\n10.0.0.2\tbox\n\n\n10.9.9.9 mine\n10.0.0.2 edited";
        assert_eq!(
            String::from_utf8(lines_of_others(now, before.iter())).unwrap(),
            text(&["# by hand", "10.9.9.9 mine", "10.0.0.2 edited"])
        );
    }

    #[test]
    fn a_shorter_text_leaves_nothing_of_the_longer_one() {
        let path = tempfile::NamedTempFile::new().unwrap();
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.path())
            .unwrap();
        for text in ["a long text\nof lines\n", "short\n", "", "longer again\n"] {
            overwrite(&file, text.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(path.path()).unwrap(), text);
        }
        file.set_len(FILE_MAX + 1).unwrap();
        overwrite(&file, b"was too large\n").unwrap();
        assert_eq!(fs::read_to_string(path.path()).unwrap(), "was too large\n");
    }

    #[test]
    fn room_that_is_left_shows_no_empty_lines_and_is_used_again() {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let texts = [
            text(&[
                "127.0.0.1\tlocalhost",
                "10.201.113.114\tbox",
                "10.201.113.115\tbox",
            ]),
            text(&["127.0.0.1\tlocalhost", "10.1.1.1\tbox"]),
        ];
        fs::write(&path, format!("{}10.9.9.9 mine\n", texts[0])).unwrap();
        for number in [1, 0, 1, 1, 0] {
            replace_lines(&path, &texts[number], &texts).unwrap();
            let now = fs::read_to_string(&path).unwrap();
            let lines: String = now.lines().map(|line| format!("{}\n", line.trim_end())).collect();
            assert_eq!(lines, format!("{}10.9.9.9 mine\n", texts[number]), "{now:?}");
        }
        // It neither grew nor shrank.
        assert_eq!(fs::metadata(&path).unwrap().len() as usize, texts[0].len() + 14);
    }

    #[test]
    fn nothing_that_is_appended_meanwhile_is_lost() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().to_owned();
        let texts = [
            "10.1.1.1\tbox\n".repeat(40),
            "10.2.2.2\tbox\n".to_owned(),
            "10.3.3.3\tbox\n".repeat(90),
        ];
        fs::write(&path, &texts[0]).unwrap();
        let writer = std::thread::spawn({
            let path = path.clone();
            move || {
                for number in 0..300 {
                    let mut file = OpenOptions::new().append(true).open(&path).unwrap();
                    // At once, as a shell does.
                    file.write_all(format!("10.9.9.9 mine-{number}\n").as_bytes())
                        .unwrap();
                }
            }
        });
        let mut number = 0;
        while !writer.is_finished() || number % 3 != 0 {
            number += 1;
            replace_lines(&path, &texts[number % 3], &texts).unwrap();
        }
        writer.join().unwrap();
        let now = fs::read_to_string(&path).unwrap();
        let lines: Vec<&str> = now.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(
            lines.iter().filter(|line| line.starts_with("10.1.1.1")).count(),
            40
        );
        let mine: HashSet<&str> = lines
            .iter()
            .copied()
            .filter(|line| line.contains("mine"))
            .collect();
        assert_eq!(
            (lines.len() - 40, mine.len()),
            (300, 300),
            "after {number} times: {now}"
        );
    }
}
