//! Host paths that give the host away to whoever is inside the container.

use std::path::Path;

/// Whoever can write, and often who can read, below one of these has the host, or its secrets.
const TREES: &[&str] = &[
    "/etc",
    "/proc",
    "/sys",
    "/dev",
    "/boot",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/usr/bin",
    "/usr/sbin",
    "/usr/lib",
    "/usr/lib64",
    "/usr/libexec",
    "/run/systemd",
    "/run/dbus",
    "/run/user",
    "/var/spool/cron",
    "/var/lib/docker",
    "/var/lib/containerd",
    "/var/lib/containers",
    "/var/lib/kubelet",
    "/var/lib/linkspan",
];
/// Sockets and state of engines, below `/run` and `/var/run`.
const ENGINES: &[&str] = &[
    "docker",
    "docker.sock",
    "containerd",
    "podman",
    "crio",
    "linkspan",
    "libpod",
    "buildkit",
];
/// Below the trees, but everybody on the host may read them anyway.
const HARMLESS: &[&str] = &[
    "/etc/localtime",
    "/etc/timezone",
    "/etc/ssl/certs",
    "/etc/ca-certificates",
    "/dev/shm",
];

/// Why a path gives the host away, or none if it doesn't. The path is absolute, without `.` and `..`.
pub(super) fn danger(path: &Path) -> Option<&'static str> {
    if path == Path::new("/") {
        return Some("is the whole host");
    }
    if HARMLESS.iter().any(|harmless| path.starts_with(harmless)) {
        return None;
    }
    for run in ["/run", "/var/run"] {
        let socket = ENGINES
            .iter()
            .any(|engine| path.starts_with(Path::new(run).join(engine)));
        if socket || path == Path::new(run) {
            return Some("reaches a container engine, and with it the host");
        }
    }
    if path
        .file_name()
        .is_some_and(|name| name == "docker.sock" || name == "podman.sock" || name == "containerd.sock")
    {
        return Some("reaches a container engine, and with it the host");
    }
    if TREES.iter().any(|tree| path.starts_with(tree)) {
        return Some("gives the host away");
    }
    if TREES.iter().any(|tree| Path::new(tree).starts_with(path)) {
        return Some("holds paths that give the host away");
    }
    // People keep projects below root's home; what begins with a dot there are keys and settings.
    let below_root = path.strip_prefix("/root").ok()?;
    match below_root.components().next() {
        None => Some("is root's home"),
        Some(first) if first.as_os_str().as_encoded_bytes().starts_with(b".") => Some("is root's own"),
        Some(_) => None,
    }
}

/// The same for where a path led when its links were followed: `written` is what the file says, `resolved` the path
/// without links. What everybody may read may lie wherever the host has linked it to.
pub fn resolved_host_path_danger(written: &Path, resolved: &Path) -> Option<&'static str> {
    if HARMLESS.iter().any(|harmless| written.starts_with(harmless)) && resolved != Path::new("/") {
        return None;
    }
    danger(resolved)
}

/// Devices that give nothing away beyond what they are made for.
const HARMLESS_DEVICES: &[&str] = &[
    "/dev/null",
    "/dev/zero",
    "/dev/full",
    "/dev/random",
    "/dev/urandom",
    "/dev/fuse",
    "/dev/net/tun",
    "/dev/kvm",
    "/dev/dri",
    "/dev/snd",
];
const HARMLESS_PREFIXES: &[&str] = &["/dev/ttyUSB", "/dev/ttyACM", "/dev/video"];

/// Whether a device may be used without further ado.
pub(super) fn harmless_device(path: &Path) -> bool {
    HARMLESS_DEVICES.iter().any(|harmless| path.starts_with(harmless))
        || HARMLESS_PREFIXES
            .iter()
            .any(|prefix| path.as_os_str().as_encoded_bytes().starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_link_leads_is_judged_but_for_what_everybody_may_read() {
        let danger = |written: &str, resolved: &str| {
            resolved_host_path_danger(Path::new(written), Path::new(resolved)).is_some()
        };
        assert!(danger("/srv/site/uploads", "/etc/ssh") && danger("/srv/site/uploads", "/"));
        assert!(!danger("/srv/site/current", "/srv/site/releases/7"));
        assert!(!danger("/etc/ssl/certs", "/etc/pki/tls/certs"));
        assert!(danger("/etc/ssl/certs", "/"));
    }

    #[test]
    fn paths_that_give_the_host_away_are_known() {
        for path in [
            "/",
            "/etc",
            "/etc/shadow",
            "/proc",
            "/sys/kernel",
            "/dev",
            "/boot",
            "/root",
            "/root/.ssh",
            "/var",
            "/var/run/docker.sock",
            "/run/docker.sock",
            "/run/podman/podman.sock",
            "/run/containerd/containerd.sock",
            "/run/linkspan",
            "/run",
            "/var/lib",
            "/usr",
            "/run/user/1000/docker.sock",
            "/var/lib/linkspan/volumes",
        ] {
            assert!(danger(Path::new(path)).is_some(), "{path}");
        }
        for path in [
            "/srv",
            "/srv/site",
            "/home/a/shop",
            "/root/shop/site",
            "/etc/localtime",
            "/opt",
            "/var/www",
            "/usr/share/nginx",
            "/var/log/app",
            "/data/docker",
            "/etcetera",
        ] {
            assert!(danger(Path::new(path)).is_none(), "{path}");
        }
        assert!(harmless_device(Path::new("/dev/ttyUSB0")) && harmless_device(Path::new("/dev/dri/card0")));
        assert!(!harmless_device(Path::new("/dev/sda")) && !harmless_device(Path::new("/dev/mem")));
    }
}
