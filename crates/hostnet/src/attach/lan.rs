//! A container's link on the LAN itself: a macvlan or an ipvlan on top of one of the host's links. There is no bridge, no
//! end on the host, and no way from it to the resolver's leg.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use linkspan_plan::Attachment;
use linkspan_site::{Driver, IpvlanMode, MacvlanMode};
use nix::errno::Errno;
use rtnetlink::packet_route::link::{IpVlanMode, LinkMessage, MacVlanMode};
use rtnetlink::{LinkIpVlan, LinkMacVlan};

use super::Laid;
use crate::link::{Kind, Link, Links};
use crate::pair::change;
use crate::{AttachError, KernelError};

/// What the link is to be.
#[derive(Debug)]
pub(super) struct LanLink<'a> {
    attachment: &'a Attachment,
    parent_name: &'a str,
    kind: Kind,
}

impl<'a> LanLink<'a> {
    /// Absent when the attachment is one to a bridge.
    pub(super) fn of(attachment: &'a Attachment) -> Option<Self> {
        let (parent_name, kind) = match &attachment.driver {
            Driver::Bridge => return None,
            Driver::Macvlan { parent, mode } => (parent, Kind::Macvlan(*mode)),
            Driver::Ipvlan { parent, mode } => (parent, Kind::Ipvlan(*mode)),
        };
        Some(Self {
            attachment,
            parent_name,
            kind,
        })
    }

    /// Makes it, or finds it.
    pub(super) async fn lay(
        &self,
        host: &'a Links,
        inside: &'a Links,
        netns: &Path,
    ) -> Result<Laid<'a>, AttachError> {
        let name = &self.attachment.link;
        let Some(parent) = host.find(self.parent_name).await? else {
            return Err(AttachError::NoParent {
                parent: self.parent_name.to_owned(),
                link: name.clone(),
            });
        };
        // While its parent has no carrier, neither has the link: that is as it is with a cable unplugged.
        let ends = if parent.running {
            vec![(inside, name.as_str())]
        } else {
            Vec::new()
        };
        let found = inside.find(name).await?;
        if let Some(inner) = found.as_ref().filter(|found| self.fits(found, &parent)) {
            self.set_mtu(inside, inner, &parent).await?;
            let (inner, fresh) = (inner.clone(), false);
            return Ok(Laid { inner, fresh, ends });
        }
        if found.is_some() {
            inside.delete(name).await?;
        }
        self.make(host, netns, &parent).await?;
        let inner = inside.find(name).await?.ok_or_else(|| KernelError {
            action: "keep link",
            object: name.clone(),
            source: io::Error::other("it vanished right after it was made"),
        })?;
        let fresh = true;
        Ok(Laid { inner, fresh, ends })
    }

    /// Does it carry its own hardware address? Else it has its parent's.
    pub(super) fn has_own_mac(&self) -> bool {
        matches!(self.kind, Kind::Macvlan(mode) if mode != MacvlanMode::Passthru)
    }

    fn fits(&self, found: &Link, parent: &Link) -> bool {
        let mac = !self.has_own_mac() || found.mac == self.attachment.mac;
        found.kind == self.kind && found.parent == Some(parent.index) && mac
    }

    /// Larger frames than its parent's can't be.
    fn mtu(&self, parent: &Link) -> u32 {
        self.attachment.mtu.min(parent.mtu)
    }

    async fn set_mtu(&self, inside: &Links, found: &Link, parent: &Link) -> Result<(), KernelError> {
        let mtu = self.mtu(parent);
        if found.mtu == mtu {
            return Ok(());
        }
        inside.set(&found.name, change(found).mtu(mtu).build()).await
    }

    async fn make(&self, host: &Links, netns: &Path, parent: &Link) -> Result<(), AttachError> {
        let netns = File::open(netns).map_err(|source| KernelError {
            action: "find the namespace for link",
            object: self.attachment.link.clone(),
            source,
        })?;
        let message = self.message(parent, &netns);
        match host.add(&self.attachment.link, message).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.refused(error.source)),
        }
    }

    fn message(&self, parent: &Link, netns: &File) -> LinkMessage {
        let (name, mtu) = (&self.attachment.link, self.mtu(parent));
        match self.kind {
            Kind::Ipvlan(mode) => LinkIpVlan::new(name, parent.index, ipvlan_mode(mode))
                .mtu(mtu)
                .setns_by_fd(netns.as_raw_fd())
                .build(),
            kind => {
                let mode = match kind {
                    Kind::Macvlan(mode) => mode,
                    _ => MacvlanMode::default(),
                };
                let mut message = LinkMacVlan::new(name, parent.index, macvlan_mode(mode))
                    .mtu(mtu)
                    .setns_by_fd(netns.as_raw_fd());
                if self.has_own_mac() {
                    message = message.address(self.attachment.mac.to_vec());
                }
                message.build()
            }
        }
    }

    /// Why the kernel doesn't put such a link on this parent.
    pub(super) fn refused(&self, source: io::Error) -> AttachError {
        let driver = match self.kind {
            Kind::Ipvlan(_) => "ipvlan",
            _ => "macvlan",
        };
        let reason = match source.raw_os_error().map(Errno::from_raw) {
            Some(Errno::EOPNOTSUPP) => {
                "this kernel has no such links; load the module or use one that has it"
            }
            Some(Errno::EBUSY) => {
                "it is a port of a bridge or a bond, or carries links of another kind; choose another"
            }
            Some(Errno::EINVAL) => {
                "it is no Ethernet link, or one in mode passthru has it, or would have it, to itself; choose another"
            }
            Some(Errno::EADDRINUSE) => {
                "another link on it has the same hardware address; give the container one of its own"
            }
            _ => "the kernel refuses it",
        };
        AttachError::Parent {
            parent: self.parent_name.to_owned(),
            driver,
            link: self.attachment.link.clone(),
            reason,
            source,
        }
    }
}

/// Removes a container's link on the LAN, if it is there.
pub(super) async fn remove(inside: &Links, name: &str) -> Result<(), KernelError> {
    match inside.find(name).await? {
        Some(found) if matches!(found.kind, Kind::Macvlan(_) | Kind::Ipvlan(_)) => inside.delete(name).await,
        _ => Ok(()),
    }
}

fn macvlan_mode(mode: MacvlanMode) -> MacVlanMode {
    match mode {
        MacvlanMode::Bridge => MacVlanMode::Bridge,
        MacvlanMode::Private => MacVlanMode::Private,
        MacvlanMode::Vepa => MacVlanMode::Vepa,
        MacvlanMode::Passthru => MacVlanMode::Passthrough,
    }
}

fn ipvlan_mode(mode: IpvlanMode) -> IpVlanMode {
    match mode {
        IpvlanMode::L2 => IpVlanMode::L2,
        IpvlanMode::L3 => IpVlanMode::L3,
    }
}
