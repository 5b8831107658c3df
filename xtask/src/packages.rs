//! Debian packages that the suite and the demo use; what is missing is installed.

use std::process::Command;

use crate::{Outcome, program};

/// A program, and the package that brings it.
pub(crate) type Need = (&'static str, &'static str);

/// What running Linkspan and its demo takes.
pub(crate) const DEMO: &[Need] = &[
    ("cc", "build-essential"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("curl", "curl"),
    ("tar", "tar"),
];

/// What the whole suite takes: the peers and tools that make its input real.
pub(crate) const TEST: &[Need] = &[
    ("cc", "build-essential"),
    ("nft", "nftables"),
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("conntrack", "conntrack"),
    ("iptables-nft", "iptables"),
    ("musl-gcc", "musl-tools"),
    ("busybox", "busybox-static"),
    ("mmdebstrap", "mmdebstrap"),
    ("umoci", "umoci"),
    ("skopeo", "skopeo"),
    ("buildah", "buildah"),
    ("runc", "runc"),
    ("nghttp", "nghttp2-client"),
    ("h2load", "nghttp2-client"),
    ("wrk", "wrk"),
    ("curl", "curl"),
    ("dig", "dnsutils"),
    ("python3", "python3"),
    ("openssl", "openssl"),
    ("xz", "xz-utils"),
    ("zstd", "zstd"),
    ("ufw", "ufw"),
    ("firewalld", "firewalld"),
    ("dbus-daemon", "dbus"),
    ("chromium", "chromium"),
    ("certutil", "libnss3-tools"),
];

/// Installs the packages of those programs that aren't there, and says which.
pub(crate) fn install(needs: &[Need]) -> Outcome {
    let mut missing: Vec<&str> = needs
        .iter()
        .filter(|(tool, _)| program::find(tool).is_none())
        .map(|(_, package)| *package)
        .collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    let list = missing.join(" ");
    if !program::is_root() {
        return Err(format!("missing Debian packages, and only root may install them: {list}").into());
    }
    if program::find("apt-get").is_none() {
        return Err(format!("no `apt-get` here; install what your system calls: {list}").into());
    }
    println!("installing Debian packages: {list}");
    let apt = |args: &[&str]| {
        // Services that a package would start (nginx, haproxy) take the ports that we need.
        program::run(
            Command::new("apt-get")
                .args(args)
                .env("DEBIAN_FRONTEND", "noninteractive")
                .env("RUNLEVEL", "1"),
        )
    };
    apt(&["update", "-qq"])?;
    let mut args = vec!["install", "-qq", "-y", "--no-install-recommends"];
    args.extend(&missing);
    apt(&args)
}
