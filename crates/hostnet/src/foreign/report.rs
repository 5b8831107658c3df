//! What is told of other firewalls' chains.

use std::collections::BTreeSet;
use std::fmt;

/// A chain of somebody else that the kernel shows our packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignChain {
    /// `ip`, `ip6` or `inet`.
    pub family: &'static str,
    /// Its table's name.
    pub table: String,
    /// Its name.
    pub name: String,
    /// Which packet filter of the kernel it is in.
    pub backend: Backend,
    /// `prerouting`, `input`, `forward`, `output` or `postrouting`.
    pub hook: &'static str,
    /// Chains of one hook run in this order; ours are at -300, -110, 0 and 90.
    pub priority: i32,
    /// Does it accept what none of its rules decides?
    pub accepts_by_policy: bool,
    /// Whose it seems to be; empty when nothing tells.
    pub owners: BTreeSet<Owner>,
    /// What becomes of our traffic in it. Empty where it can do nothing to it.
    pub effects: Vec<ForeignEffect>,
    /// Is there a rule in it that accepts what comes from or goes to our bridges?
    pub accepts_ours: bool,
    /// The effect, for people.
    pub words: String,
    /// What to do about it, as a command for a root shell. Absent when there is nothing to do.
    pub remedy: Option<String>,
}

/// Which packet filter of the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// nf_tables: `nft`, and the usual `iptables`.
    Nftables,
    /// The older one, of `iptables-legacy`.
    Legacy,
}

/// Programs that make firewall rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Owner {
    /// dockerd.
    Docker,
    /// Podman's netavark, or CNI.
    Podman,
    /// Ubuntu's front end.
    Ufw,
    /// Fedora's front end.
    Firewalld,
    /// libvirtd, for virtual machines.
    Libvirt,
    /// Bans after failed logins.
    Fail2ban,
    /// kube-proxy, Calico, Cilium and the like.
    Kubernetes,
    /// A VPN.
    Tailscale,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "Docker",
            Self::Podman => "Podman",
            Self::Ufw => "ufw",
            Self::Firewalld => "firewalld",
            Self::Libvirt => "libvirt",
            Self::Fail2ban => "fail2ban",
            Self::Kubernetes => "Kubernetes",
            Self::Tailscale => "Tailscale",
        })
    }
}

/// What becomes of one kind of traffic in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ForeignEffect {
    /// Which packets.
    pub flow: Flow,
    /// What becomes of them.
    pub outcome: Outcome,
    /// What drops them, or may: ``the policy of chain `FORWARD` ``.
    pub by: Option<String>,
}

/// Kinds of packets that matter to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Flow {
    /// New connections of containers to the outside.
    Outward,
    /// New connections from outside to published ports.
    Published,
    /// Answers, both ways.
    Answers,
    /// Between containers of one network, where bridges show their frames to IP's hooks.
    Within,
    /// From containers to the host's own sockets.
    ToHost,
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Outward => "connections of containers to the outside",
            Self::Published => "connections from outside to published ports",
            Self::Answers => "answers of and to containers",
            Self::Within => "traffic between containers of one network",
            Self::ToHost => "connections of containers to the host itself",
        })
    }
}

/// What becomes of packets in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// The chain lets them through.
    Passes,
    /// It depends on addresses, ports or marks.
    Depends,
    /// All are dropped.
    Dropped,
}
