//! What can go wrong, one enum per operation; the texts tell a person what to do.

use std::io;
use std::net::Ipv4Addr;
use std::path::PathBuf;

/// A netlink request that the kernel refused.
#[derive(Debug, thiserror::Error)]
#[error("the kernel refused to {action} `{object}`")]
pub struct KernelError {
    /// `create bridge`, `add address to`, …
    pub action: &'static str,
    /// The link, address or route.
    pub object: String,
    /// Its answer.
    #[source]
    pub source: io::Error,
}

/// A namespace could not be made, pinned or entered.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The pin can't be made.
    #[error("cannot pin a namespace at `{path}`", path = path.display())]
    Pin {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pin can't be removed.
    #[error("cannot remove the namespace pinned at `{path}`", path = path.display())]
    Unpin {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It exists, but we can't work in it.
    #[error("cannot enter the network namespace `{path}`", path = path.display())]
    Enter {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A kernel parameter could not be set.
#[derive(Debug, thiserror::Error)]
#[error("cannot set `{path}` to `{value}`; is /proc/sys mounted read-only?")]
pub struct SysctlError {
    /// Below `/proc/sys`.
    pub path: String,
    /// What it should be.
    pub value: String,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// [`HostNet::open`](crate::HostNet::open) failed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Not root, or a container without the capabilities.
    #[error("networking needs CAP_NET_ADMIN and CAP_SYS_ADMIN; run the daemon as root")]
    Privilege,
    /// A netlink socket can't be had.
    #[error("cannot open a netlink socket for `{family}`")]
    Socket {
        /// `route` or `netfilter`.
        family: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The run folder can't be written.
    #[error("cannot create the folder `{path}`", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The resolver's namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The resolver's namespace.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The resolver's namespace.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// [`HostNet::observe`](crate::HostNet::observe) failed.
#[derive(Debug, thiserror::Error)]
pub enum ObserveError {
    /// A listing failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The resolver's namespace is gone.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Our table can't be read.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The folder of pins can't be read.
    #[error("cannot list the folder `{path}`", path = path.display())]
    Folder {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A network could not be made or removed.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// Another program made a link with a name of ours.
    #[error("link `{link}` exists and is not a {expected}; remove it with `ip link del {link}`")]
    Foreign {
        /// Which.
        link: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A request failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The resolver's namespace is gone.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// Forwarding can't be turned on.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

/// A container's namespaces could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The role `sandbox` of our binary doesn't start.
    #[error("cannot start `{binary} sandbox`", binary = binary.display())]
    Spawn {
        /// Our own executable.
        binary: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It started and could not make the namespaces.
    #[error("namespaces for `{name}` could not be made: {reason}")]
    Clone {
        /// Which sandbox.
        name: String,
        /// What the helper said.
        reason: String,
    },
    /// Its ids could not be mapped.
    #[error("cannot map ids of `{name}` with `{map}`")]
    Map {
        /// Which sandbox.
        name: String,
        /// The line for `uid_map` and `gid_map`.
        map: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The pins.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// A container could not be put on a network.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The network isn't there (any more).
    #[error("bridge `{bridge}` for `{link}` does not exist")]
    NoBridge {
        /// Its link name.
        bridge: String,
        /// The container's host link.
        link: String,
    },
    /// The host's link that it should lie on isn't there.
    #[error("link `{parent}`, on which `{link}` should lie, does not exist; `ip link` shows those that do")]
    NoParent {
        /// The host's link.
        parent: String,
        /// The container's link.
        link: String,
    },
    /// The host's link that it should lie on can't carry it.
    #[error("link `{parent}` cannot carry {driver} `{link}`: {reason}")]
    Parent {
        /// The host's link.
        parent: String,
        /// `macvlan` or `ipvlan`.
        driver: &'static str,
        /// The container's link.
        link: String,
        /// What may be wrong, and what to do.
        reason: &'static str,
        /// The kernel's answer.
        #[source]
        source: io::Error,
    },
    /// Somebody else on the LAN has the address.
    #[error("address {address} for `{link}` is in use on the LAN: {mac} answers for it")]
    Answered {
        /// The container's.
        address: Ipv4Addr,
        /// The container's link.
        link: String,
        /// Who answers.
        mac: String,
    },
    /// A second passed without carrier.
    #[error("link `{link}` got no carrier within {waited_ms} ms")]
    NoCarrier {
        /// The container's link.
        link: String,
        /// How long was waited.
        waited_ms: u64,
    },
    /// A request failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The sandbox isn't there.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// A sandbox could not be looked into.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// A listing failed.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// The sandbox isn't there.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
}

/// The table could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FirewallError {
    /// Another process holds the table.
    #[error(
        "nftables table `inet linkspan` belongs to another running process; stop the other linkspan daemon"
    )]
    Owned,
    /// The kernel lacks something that our rules need.
    #[error("this kernel has no nftables support for {what}; load the module or use a kernel that has it")]
    Unsupported {
        /// Which part of the batch.
        what: String,
    },
    /// It refused part of a batch; nothing of the batch happened.
    #[error("the kernel refused to change nftables table `inet linkspan` at {what}")]
    Refused {
        /// Which part of the batch.
        what: String,
        /// Its answer.
        #[source]
        source: io::Error,
    },
    /// The socket failed.
    #[error("nftables table `inet linkspan` cannot be {action}")]
    Socket {
        /// `read` or `written`.
        action: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A published port that makes no sense in the kernel.
    #[error("port `{port}` cannot be published by NAT: {reason}")]
    Port {
        /// As in the desired state.
        port: String,
        /// What is wrong.
        reason: &'static str,
    },
}

/// Other firewalls could not be looked at, or told of our bridges.
#[derive(Debug, thiserror::Error)]
pub enum CoexistError {
    /// The kernel doesn't say what is there.
    #[error("cannot read the rules of other firewalls")]
    Read {
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The accept can't be made or removed.
    #[error("cannot change `{place}`; do it by hand with `{command}`")]
    Refused {
        /// The chain or zone.
        place: String,
        /// What does it.
        command: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The way to the outside is not known.
    #[error(transparent)]
    Kernel(#[from] KernelError),
}

/// Connection tracking could not be cleaned.
#[derive(Debug, thiserror::Error)]
#[error("stale connections cannot be removed from connection tracking")]
pub struct FlowError {
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Something of ours could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// A link.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The table.
    #[error(transparent)]
    Firewall(#[from] FirewallError),
    /// The accept in another firewall's rules.
    #[error(transparent)]
    Coexist(#[from] CoexistError),
}
