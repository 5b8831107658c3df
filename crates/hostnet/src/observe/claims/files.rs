//! Which files are looked at, and what they said when they were last read.
//!
//! Every observation asks for all of them. One that is as it was isn't read again, nor is a folder listed again: then the
//! whole round is a `stat` for each.

use std::collections::BTreeMap;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::page::{Page, Reader};
use super::{
    Found, cni, docker, ifupdown, libvirt, name_servers, netplan, network_manager, networkd, openvpn, podman,
    strongswan, wireguard,
};

/// Nobody's configuration is larger.
const LARGEST: u64 = 1024 * 1024;
/// Files that count in one folder, and entries that are looked through for them.
const MOST_FILES: usize = 256;
const MOST_ENTRIES: usize = 65_536;
/// The kernel's clock for files is coarse: what changed less than this ago may change again and look the same.
const SETTLED: Duration = Duration::from_secs(1);
const RESOLV_CONF: &str = "/etc/resolv.conf";
const DROP_INS: &str = ".d";

/// Files of one program.
struct Source {
    /// A file hides those of its name in later ones.
    folders: &'static [&'static str],
    names: Names,
    read: Reader,
}

#[derive(Clone, Copy)]
enum Names {
    /// These, if they are there.
    Exactly(&'static [&'static str]),
    /// All that end so.
    Ending(&'static [&'static str]),
    /// All that end so, and in folders that end so and `.d` all that end in `.conf`.
    WithDropIns(&'static [&'static str]),
}

const SOURCES: [Source; 18] = {
    use Names::{Ending, Exactly, WithDropIns};
    const fn source(folders: &'static [&'static str], names: Names, read: Reader) -> Source {
        Source { folders, names, read }
    }
    const OPENVPN: Names = Ending(&[".conf", ".ovpn"]);
    [
        source(&["/etc/docker"], Exactly(&["daemon.json"]), docker::read),
        source(&["/etc/containers/networks"], Ending(&[".json"]), podman::read),
        source(
            &["/etc/cni/net.d"],
            Ending(&[".conf", ".conflist", ".json"]),
            cni::read,
        ),
        source(&["/etc/libvirt/qemu/networks"], Ending(&[".xml"]), libvirt::read),
        source(&["/etc/wireguard"], Ending(&[".conf"]), wireguard::read),
        source(&["/etc/openvpn"], OPENVPN, openvpn::read),
        source(&["/etc/openvpn/client"], OPENVPN, openvpn::read),
        source(&["/etc/openvpn/server"], OPENVPN, openvpn::read),
        source(
            &[
                "/etc/systemd/network",
                "/run/systemd/network",
                "/usr/local/lib/systemd/network",
                "/usr/lib/systemd/network",
            ],
            WithDropIns(&[".network", ".netdev"]),
            networkd::read,
        ),
        source(
            &["/run/netplan", "/etc/netplan", "/usr/lib/netplan"],
            Ending(&[".yaml"]),
            netplan::read,
        ),
        source(&["/etc/network"], Exactly(&["interfaces"]), ifupdown::read),
        source(&["/etc/network/interfaces.d"], Ending(&[""]), ifupdown::read),
        source(
            &[
                "/run/NetworkManager/system-connections",
                "/etc/NetworkManager/system-connections",
                "/usr/lib/NetworkManager/system-connections",
            ],
            Ending(&[""]),
            network_manager::read,
        ),
        source(&["/etc"], Exactly(&["ipsec.conf"]), strongswan::read),
        source(&["/etc/ipsec.d"], Ending(&[".conf"]), strongswan::read),
        source(&["/etc/swanctl"], Exactly(&["swanctl.conf"]), strongswan::read),
        source(&["/etc/swanctl/conf.d"], Ending(&[".conf"]), strongswan::read),
        source(
            &["/etc/strongswan/swanctl/conf.d", "/etc/strongswan/ipsec.d"],
            Ending(&[".conf"]),
            strongswan::read,
        ),
    ]
};

impl Names {
    fn fits(self, name: &str) -> bool {
        match self {
            Self::Exactly(names) => names.contains(&name),
            Self::Ending(endings) => !is_leftover(name) && ends(name, endings),
            Self::WithDropIns(endings) => {
                let stem = name.strip_suffix(DROP_INS);
                !is_leftover(name) && ends(stem.unwrap_or(name), endings)
            }
        }
    }
}

fn ends(name: &str, endings: &[&str]) -> bool {
    endings.iter().any(|ending| name.ends_with(ending))
}

/// What editors and package managers leave behind, and no program reads.
fn is_leftover(name: &str) -> bool {
    name.starts_with('.')
        || ends(name, &["~", ".bak", ".orig"])
        || name.contains(".dpkg-")
        || name.contains(".rpm")
}

// === What to watch ===

/// Something whose changes are worth a look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub(crate) folder: PathBuf,
    /// Only these of its files; absent when all of them count.
    pub(crate) names: Option<Vec<&'static str>>,
}

/// What to watch below `root`.
pub(crate) fn wanted(root: &Path) -> Vec<Wanted> {
    let mut wanted = Vec::new();
    for source in &SOURCES {
        for folder in source.folders.iter().map(|folder| below(root, folder)) {
            if let Names::WithDropIns(_) = source.names {
                let found = list(&folder, source.names).unwrap_or_default();
                let drop_ins = found.names.iter().filter(|name| name.ends_with(DROP_INS));
                wanted.extend(drop_ins.map(|name| Wanted {
                    folder: folder.join(name),
                    names: None,
                }));
            }
            wanted.push(Wanted {
                folder,
                names: match source.names {
                    Names::Exactly(names) => Some(names.to_vec()),
                    Names::Ending(_) | Names::WithDropIns(_) => None,
                },
            });
        }
    }
    for path in name_servers::BEHIND_STUB.into_iter().chain([RESOLV_CONF]) {
        if let Some((folder, name)) = path.rsplit_once('/') {
            wanted.push(Wanted {
                folder: below(root, folder),
                names: Some(vec![name]),
            });
        }
    }
    wanted
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

// === Reading ===

/// All files that may claim ranges, and what is known of them. Paths are as people know them, without the root.
#[derive(Debug)]
pub(crate) struct Files {
    root: PathBuf,
    folders: BTreeMap<String, Known<Listing>>,
    pages: BTreeMap<String, Known<Found>>,
    round: u64,
    #[cfg(test)]
    opened: usize,
}

#[derive(Debug)]
struct Known<T> {
    /// Absent when it must be looked at again in any case.
    stamp: Option<Stamp>,
    value: T,
    round: u64,
}

#[derive(Debug, Clone, Default)]
struct Listing {
    names: Vec<String>,
    /// There were more than are looked at.
    more: bool,
}

/// By what a file is known to be as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Files {
    pub(crate) fn below(root: &Path) -> Self {
        Self {
            root: root.to_owned(),
            folders: BTreeMap::new(),
            pages: BTreeMap::new(),
            round: 0,
            #[cfg(test)]
            opened: 0,
        }
    }

    /// What they say now.
    pub(crate) fn read(&mut self) -> Found {
        self.round += 1;
        let mut found = Found::default();
        self.page(RESOLV_CONF, name_servers::read, &mut found);
        if found
            .disregarded
            .iter()
            .any(|(claim, _)| claim.range.ip().is_loopback())
        {
            for path in name_servers::BEHIND_STUB {
                self.page(path, name_servers::read, &mut found);
            }
        }
        for source in &SOURCES {
            self.source(source, &mut found);
        }
        let round = self.round;
        self.folders.retain(|_, known| known.round == round);
        self.pages.retain(|_, known| known.round == round);
        found
    }

    fn source(&mut self, source: &Source, found: &mut Found) {
        let mut seen = BTreeMap::new();
        for folder in source.folders {
            for name in self.names(folder, source.names, found) {
                seen.entry(name).or_insert(*folder);
            }
        }
        for (name, folder) in seen {
            self.page(&format!("{folder}/{name}"), source.read, found);
        }
        if let Names::WithDropIns(_) = source.names {
            for folder in source.folders {
                let names = self.names(folder, source.names, found);
                for drop_ins in names.iter().filter(|name| name.ends_with(DROP_INS)) {
                    let folder = format!("{folder}/{drop_ins}");
                    for name in self.names(&folder, Names::Ending(&[".conf"]), found) {
                        self.page(&format!("{folder}/{name}"), source.read, found);
                    }
                }
            }
        }
    }

    /// The files of a folder that count, in order.
    fn names(&mut self, folder: &str, names: Names, found: &mut Found) -> Vec<String> {
        if let Names::Exactly(names) = names {
            return names.iter().map(|name| (*name).to_owned()).collect();
        }
        let path = below(&self.root, folder);
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) => metadata,
            Err(error) => {
                note(found, folder, &error);
                return Vec::new();
            }
        };
        let stamp = Stamp::of(&metadata);
        let known = self
            .folders
            .get_mut(folder)
            .filter(|known| known.stamp == Some(stamp));
        let listing = match known {
            Some(known) => {
                known.round = self.round;
                known.value.clone()
            }
            None => match list(&path, names) {
                Ok(listing) => {
                    let known = Known::new(&metadata, listing.clone(), self.round);
                    self.folders.insert(folder.to_owned(), known);
                    listing
                }
                Err(error) => {
                    note(found, folder, &error);
                    return Vec::new();
                }
            },
        };
        let note = format!("{folder}: only {MOST_FILES} of its files are looked at");
        if listing.more && !found.notes.contains(&note) {
            found.notes.push(note);
        }
        listing.names
    }

    /// What a file says, if it is there.
    fn page(&mut self, path: &str, reader: Reader, found: &mut Found) {
        let file = below(&self.root, path);
        let metadata = match std::fs::metadata(&file) {
            Ok(metadata) => metadata,
            Err(error) => return note(found, path, &error),
        };
        // A folder of drop-ins, or a link to /dev/null, by which people switch a file off.
        if !metadata.is_file() {
            return;
        }
        let stamp = Stamp::of(&metadata);
        if let Some(known) = self.pages.get_mut(path) {
            if known.stamp == Some(stamp) {
                known.round = self.round;
                return found.extend(known.value.clone());
            }
        }
        #[cfg(test)]
        {
            self.opened += 1;
        }
        let mut page = Found::default();
        match contents(&file) {
            Ok(Some(text)) => page = Page::read(path, &text, reader),
            Ok(None) => page
                .notes
                .push(format!("{path} is larger than 1 MiB and not looked at")),
            Err(error) => note(&mut page, path, &error),
        }
        let before = self.pages.get(path).map(|known| &known.value.notes);
        if !page.notes.is_empty() && before != Some(&page.notes) {
            tracing::warn!(
                path,
                notes = page.notes.join("; "),
                "ranges that others use may be missed"
            );
        }
        found.extend(page.clone());
        let known = Known::new(&metadata, page, self.round);
        self.pages.insert(path.to_owned(), known);
    }
}

/// Tells what can't be read. That something isn't there is no news.
fn note(found: &mut Found, path: &str, error: &io::Error) {
    if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
        found.notes.push(format!("{path} can't be read: {error}"));
    }
}

fn list(folder: &Path, names: Names) -> io::Result<Listing> {
    let mut found: Vec<String> = std::fs::read_dir(folder)?
        .take(MOST_ENTRIES)
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter(|name| names.fits(name))
        .collect();
    found.sort_unstable();
    let more = found.len() > MOST_FILES;
    found.truncate(MOST_FILES);
    Ok(Listing { names: found, more })
}

/// All of a file; nothing if it is too large. What is not UTF-8 can only be in a comment or a name.
fn contents(path: &Path) -> io::Result<Option<String>> {
    // Not to wait, in case it was replaced by a pipe.
    let file: File = OpenOptions::new()
        .read(true)
        .custom_flags(nix::libc::O_NONBLOCK)
        .open(path)?;
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    Ok((bytes.len() as u64 <= LARGEST).then(|| String::from_utf8_lossy(&bytes).into_owned()))
}

impl<T> Known<T> {
    fn new(metadata: &Metadata, value: T, round: u64) -> Self {
        let stamp = Stamp::of(metadata);
        Self {
            stamp: stamp.is_settled(SystemTime::now()).then_some(stamp),
            value,
            round,
        }
    }
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn is_settled(&self, now: SystemTime) -> bool {
        let changed = Duration::new(
            self.changed.0.try_into().unwrap_or_default(),
            self.changed.1.try_into().unwrap_or_default(),
        );
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        changed + SETTLED <= now
    }
}

#[cfg(test)]
mod tests;
