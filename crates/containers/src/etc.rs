//! The three files of `/etc` that are ours: hosts, hostname, resolv.conf.

use std::fmt::Write as _;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use linkspan_plan::ContainerSpec;

use crate::layout::{Layout, make_dir};

/// Files in `/etc`, each bind-mounted from the container's own folder.
pub(crate) const FILES: [&str; 3] = ["hosts", "hostname", "resolv.conf"];

/// Writes all three, owned by the container's root so that it may change them as in any other engine.
pub(crate) fn write(layout: &Layout, spec: &ContainerSpec) -> io::Result<()> {
    let folder = layout.etc(&spec.id);
    make_dir(&folder, 0o711)?;
    let owner = spec.ids.map_or(0, |ids| ids.first);
    let texts = [
        hosts(spec),
        format!("{}\n", spec.hostname),
        resolv_conf(&spec.nameservers),
    ];
    for (file, text) in FILES.iter().zip(texts) {
        write_in_place(&folder.join(file), &text)?;
        std::os::unix::fs::chown(folder.join(file), Some(owner), Some(owner))?;
    }
    Ok(())
}

/// The container sees the same inode, so the file is never replaced.
pub(crate) fn write_in_place(file: &Path, text: &str) -> io::Result<()> {
    std::fs::write(file, text)
}

pub(crate) fn hosts_file(layout: &Layout, spec: &ContainerSpec) -> PathBuf {
    layout.etc(&spec.id).join("hosts")
}

/// hosts(5).
pub(crate) fn hosts(spec: &ContainerSpec) -> String {
    let mut text = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n".to_owned();
    for address in &spec.addresses {
        let _ = writeln!(text, "{address}\t{}", spec.hostname);
    }
    for (address, name) in &spec.hosts {
        let _ = writeln!(text, "{address}\t{name}");
    }
    text
}

/// resolv.conf(5).
fn resolv_conf(nameservers: &[IpAddr]) -> String {
    let mut text = String::new();
    for address in nameservers {
        let _ = writeln!(text, "nameserver {address}");
    }
    text.push_str("options ndots:0\n");
    text
}
