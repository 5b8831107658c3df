//! Kernel parameters below `/proc/sys`, of the network namespace of the calling thread.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use crate::SysctlError;

/// Sets a parameter unless it has that value.
pub(crate) fn set(path: &str, value: &str) -> Result<(), SysctlError> {
    if get(path).as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(file(path), value).map_err(|source| SysctlError {
        path: path.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Sets a parameter that not every kernel has; one that isn't there is left alone.
pub(crate) fn set_if_there(path: &str, value: &str) -> Result<(), SysctlError> {
    match set(path, value) {
        Err(error) if error.source.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}

/// A parameter's value; absent when it isn't there.
pub(crate) fn get(path: &str) -> Option<String> {
    fs::read_to_string(file(path))
        .ok()
        .map(|text| text.trim().to_owned())
}

/// Does the kernel speak IPv6, and has nobody turned it off?
pub(crate) fn has_ipv6() -> bool {
    get("net/ipv6/conf/all/disable_ipv6").as_deref() == Some("0")
}

/// Do bridges show the frames that they pass on to the hooks of IP? Docker asks for that, and so does the kernel's module by
/// default.
pub(crate) fn frames_are_shown() -> bool {
    let shown = |family| get(&format!("net/bridge/bridge-nf-call-{family}")).as_deref() == Some("1");
    shown("iptables") || shown("ip6tables")
}

/// Lets the host pass packets on. IPv6 hosts that do so stop listening to router advertisements (`accept_ra` 1 means
/// *unless forwarding*), so links that listened are told to go on (2): else the host would lose its own default route.
pub(crate) fn forward() -> Result<(), SysctlError> {
    set("net/ipv4/ip_forward", "1")?;
    if !has_ipv6() || get("net/ipv6/conf/all/forwarding").as_deref() == Some("1") {
        return Ok(());
    }
    for entry in fs::read_dir("/proc/sys/net/ipv6/conf")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        let listens = format!("net/ipv6/conf/{name}/accept_ra");
        if !matches!(name.as_str(), "all" | "default" | "lo") && get(&listens).as_deref() == Some("1") {
            set_if_there(&listens, "2")?;
        }
    }
    set("net/ipv6/conf/all/forwarding", "1")
}

/// The parameters of a whole namespace that are looked at again and again. To open one costs the kernel a search among
/// those of all namespaces, so they are kept open; they stay those of the namespace in which they were opened.
#[derive(Debug)]
pub(crate) struct Parameters {
    forward4: Option<File>,
    forward6: Option<File>,
    disable6: Option<File>,
}

impl Parameters {
    /// Those of the calling thread's namespace.
    pub(crate) fn here() -> Self {
        let open = |path| File::open(file(path)).ok();
        Self {
            forward4: open("net/ipv4/ip_forward"),
            forward6: open("net/ipv6/conf/all/forwarding"),
            disable6: open("net/ipv6/conf/all/disable_ipv6"),
        }
    }

    /// The kernel's module may be loaded later.
    pub(crate) fn look_for_ipv6(&mut self) {
        if self.disable6.is_none() {
            *self = Self::here();
        }
    }

    /// As [`has_ipv6`].
    pub(crate) fn has_ipv6(&self) -> bool {
        first(self.disable6.as_ref()) == Some(b'0')
    }

    /// Does the host pass packets on, IPv4's and IPv6's? Absent where there is no IPv6.
    pub(crate) fn forwards(&self) -> (bool, Option<bool>) {
        let is_on = |file: &Option<File>| first(file.as_ref()) == Some(b'1');
        (
            is_on(&self.forward4),
            self.has_ipv6().then(|| is_on(&self.forward6)),
        )
    }
}

fn first(file: Option<&File>) -> Option<u8> {
    let mut byte = [0];
    (file?.read_at(&mut byte, 0).ok()? == 1).then_some(byte[0])
}

/// For namespaces of containers and of the resolver: nothing is passed on, whatever was inherited from the host, and
/// addresses come from us alone, usable at once; when one goes, others of its range stay.
pub(crate) fn isolate() -> Result<(), SysctlError> {
    set_if_there("net/ipv4/conf/all/promote_secondaries", "1")?;
    set_if_there("net/ipv4/ip_forward", "0")?;
    for parameter in ["all/forwarding", "default/forwarding"] {
        set_if_there(&format!("net/ipv4/conf/{parameter}"), "0")?;
        set_if_there(&format!("net/ipv6/conf/{parameter}"), "0")?;
    }
    for parameter in ["accept_ra", "autoconf", "accept_dad"] {
        set_if_there(&format!("net/ipv6/conf/default/{parameter}"), "0")?;
    }
    Ok(())
}

/// For the namespace of the resolver: what it sends has the largest time to live, so that whoever sees it knows that it
/// was not routed (RFC 5082).
pub(crate) fn live_longest() -> Result<(), SysctlError> {
    set_if_there("net/ipv4/ip_default_ttl", "255")?;
    for entry in fs::read_dir(file("net/ipv6/conf"))
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = entry.file_name().to_string_lossy().into_owned();
        set_if_there(&format!("net/ipv6/conf/{name}/hop_limit"), "255")?;
    }
    Ok(())
}

/// For a bridge on the host.
pub(crate) fn prepare_bridge(link: &str, ipv6: bool) -> Result<(), SysctlError> {
    set_if_there(&format!("net/ipv4/conf/{link}/promote_secondaries"), "1")?;
    set_if_there(&format!("net/ipv4/conf/{link}/forwarding"), "1")?;
    for parameter in ["accept_ra", "autoconf", "accept_dad"] {
        set_if_there(&format!("net/ipv6/conf/{link}/{parameter}"), "0")?;
    }
    set_if_there(
        &format!("net/ipv6/conf/{link}/disable_ipv6"),
        if ipv6 { "0" } else { "1" },
    )?;
    if ipv6 && has_ipv6() {
        set_if_there(&format!("net/ipv6/conf/{link}/forwarding"), "1")?;
    }
    Ok(())
}

fn file(path: &str) -> std::path::PathBuf {
    Path::new("/proc/sys").join(path)
}
