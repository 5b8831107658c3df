//! Which files are looked at.

use std::io;
use std::path::{Path, PathBuf};

use super::page::Reader;
use super::{
    cni, docker, ifupdown, libvirt, name_servers, netplan, network_manager, networkd, openvpn, podman,
    strongswan, wireguard,
};

/// Files that count in one folder, and entries that are looked through for them.
pub(super) const MOST_FILES: usize = 256;
const MOST_ENTRIES: usize = 65_536;
pub(super) const RESOLV_CONF: &str = "/etc/resolv.conf";
pub(super) const DROP_INS: &str = ".d";

/// Files of one program.
pub(super) struct Source {
    /// A file hides those of its name in later ones.
    pub(super) folders: &'static [&'static str],
    pub(super) names: Names,
    pub(super) read: Reader,
}

#[derive(Clone, Copy)]
pub(super) enum Names {
    /// These, if they are there.
    Exactly(&'static [&'static str]),
    /// All that end so.
    Ending(&'static [&'static str]),
    /// All that end so, and in folders that end so and `.d` all that end in `.conf`.
    WithDropIns(&'static [&'static str]),
}

pub(super) const SOURCES: [Source; 18] = {
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

pub(super) fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
}

/// What is in a folder.
#[derive(Debug, Clone, Default)]
pub(super) struct Listing {
    pub(super) names: Vec<String>,
    /// There were more than are looked at.
    pub(super) more: bool,
}

/// The files of a folder that count, in order.
pub(super) fn list(folder: &Path, names: Names) -> io::Result<Listing> {
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
