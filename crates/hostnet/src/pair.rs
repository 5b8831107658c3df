//! A veth pair from a bridge into another namespace: the resolver's legs and the containers' links alike.

use std::fs::File;
use std::net::Ipv6Addr;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rtnetlink::packet_route::link::{InfoData, InfoVeth};
use rtnetlink::{LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth};

use crate::link::{Kind, Link, Links};
use crate::{KernelError, sysctl};

/// Carrier, and IPv6 addresses, come within a few milliseconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);
/// Looks without a pause between them: mostly the first few suffice, and a pause is longer than all of them.
const EAGER_LOOKS: u32 = 10;
const PAUSE: Duration = Duration::from_millis(1);

/// What a pair is to be.
#[derive(Debug, Clone)]
pub(crate) struct Pair<'a> {
    /// Name of the end that is the bridge's port.
    pub(crate) host: &'a str,
    /// Name of the end inside.
    pub(crate) inside: &'a str,
    /// The pinned namespace.
    pub(crate) netns: &'a Path,
    /// Index of the bridge.
    pub(crate) bridge: u32,
    /// Bytes.
    pub(crate) mtu: u32,
    /// Of the end inside; any when absent.
    pub(crate) mac: Option<[u8; 6]>,
}

impl Pair<'_> {
    /// Makes it, or repairs what is there, and tells whether it was made anew. Then the end inside is left down, so that it
    /// can be given its addresses first.
    pub(crate) async fn ensure(&self, host: &Links, inside: &Links) -> Result<(Link, bool), KernelError> {
        let (outer, inner) = (host.find(self.host).await?, inside.find(self.inside).await?);
        let (inner, fresh) = match (outer, inner) {
            (Some(outer), Some(inner)) if self.fits(&inner) => {
                self.repair_outer(host, &outer).await?;
                (inner, false)
            }
            (outer, inner) => {
                // Either end takes the other with it.
                if outer.is_some() {
                    host.delete(self.host).await?;
                }
                if inner.is_some() {
                    inside.delete(self.inside).await?;
                }
                self.make(host).await?;
                let made = inside.find(self.inside).await?;
                (made.ok_or_else(|| self.vanished())?, true)
            }
        };
        if inner.mtu != self.mtu {
            inside
                .set(self.inside, change(&inner).mtu(self.mtu).build())
                .await?;
        }
        Ok((inner, fresh))
    }

    /// Lets frames out by the port that they came in by, where that is needed: when the kernel shows a bridge's frames to
    /// IP's hooks, a container's packet to a published port of its own is turned round inside the bridge.
    pub(crate) async fn allow_hairpin(&self, host: &Links) -> Result<(), KernelError> {
        if !sysctl::frames_are_shown() {
            return Ok(());
        }
        let outer = host.find(self.host).await?.ok_or_else(|| self.vanished())?;
        host.set_port(self.host, LinkBridgePort::new(outer.index).hairpin(true).build())
            .await
    }

    /// Keeps the port from others that are isolated as well, or lets it reach them again.
    pub(crate) async fn isolate(&self, host: &Links, isolated: bool) -> Result<(), KernelError> {
        let outer = host.find(self.host).await?.ok_or_else(|| self.vanished())?;
        if outer.isolated == isolated {
            return Ok(());
        }
        let change = LinkBridgePort::new(outer.index).isolated(isolated).build();
        host.set_port(self.host, change).await
    }

    fn fits(&self, inner: &Link) -> bool {
        inner.kind == Kind::Veth && self.mac.is_none_or(|mac| inner.mac == mac)
    }

    async fn repair_outer(&self, host: &Links, outer: &Link) -> Result<(), KernelError> {
        if outer.master == Some(self.bridge) && outer.up && outer.mtu == self.mtu {
            return Ok(());
        }
        host.set(
            self.host,
            change(outer).mtu(self.mtu).controller(self.bridge).up().build(),
        )
        .await
    }

    async fn make(&self, host: &Links) -> Result<(), KernelError> {
        let netns = File::open(self.netns).map_err(|source| KernelError {
            action: "find the namespace for link",
            object: self.host.to_owned(),
            source,
        })?;
        let mut peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(self.inside)
            .mtu(self.mtu)
            .setns_by_fd(netns.as_raw_fd());
        if let Some(mac) = self.mac {
            peer = peer.address(mac.to_vec());
        }
        let message = LinkVeth::new(self.host, self.inside)
            .mtu(self.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        host.add(self.host, message).await?;
        let outer = host.find(self.host).await?.ok_or_else(|| self.vanished())?;
        // A port has no address of its own; without this it would announce a link-local one to the container. Failing
        // here costs nothing but that noise.
        if let Err(error) = sysctl::set_if_there(&format!("net/ipv6/conf/{}/disable_ipv6", self.host), "1") {
            tracing::debug!(%error, link = self.host, "IPv6 stays on");
        }
        host.set(self.host, change(&outer).controller(self.bridge).up().build())
            .await
    }

    fn vanished(&self) -> KernelError {
        KernelError {
            action: "keep link",
            object: self.host.to_owned(),
            source: std::io::Error::other("it vanished right after it was made"),
        }
    }
}

/// Brings the end inside up.
pub(crate) async fn bring_up(inside: &Links, link: &Link) -> Result<(), KernelError> {
    if link.up {
        return Ok(());
    }
    inside.set(&link.name, change(link).up().build()).await
}

/// Waits until these links carry frames; false if [`PATIENCE`] ends before.
///
/// That both ends of a pair are up is not enough: the kernel turns a link's queue on, and a bridge its port, a moment
/// later in a task of its own, and what is sent until then is lost.
pub(crate) async fn carries(ends: &[(&Links, &str)]) -> Result<bool, KernelError> {
    let mut looks = Looks::default();
    for (links, name) in ends {
        while !links.find(name).await?.is_some_and(|link| link.running) {
            if !looks.again().await {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

/// Waits until this address is in force; false if [`PATIENCE`] ends before.
pub(crate) async fn in_force(links: &Links, address: Ipv6Addr) -> bool {
    let mut looks = Looks::default();
    while !links.takes(address).await {
        if !looks.again().await {
            return false;
        }
    }
    true
}

/// Somebody who looks until something has happened.
#[derive(Debug)]
struct Looks {
    since: Instant,
    count: u32,
}

impl Default for Looks {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            count: 0,
        }
    }
}

impl Looks {
    /// Waits for the next look; false when patience has ended.
    async fn again(&mut self) -> bool {
        self.count += 1;
        if self.count < EAGER_LOOKS {
            tokio::task::yield_now().await;
        } else {
            tokio::time::sleep(PAUSE).await;
        }
        self.since.elapsed() < PATIENCE
    }
}

/// The start of a message about an existing link.
pub(crate) fn change(link: &Link) -> LinkMessageBuilder<LinkUnspec> {
    LinkUnspec::new_with_index(link.index)
}
