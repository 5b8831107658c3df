//! Addresses of links.
//!
//! What we add bears our [`MARK`] (`IFA_PROTO`, from Linux 5.18 on), so that we know it again beside what root of a
//! container, or somebody on the host, has added. An older kernel ignores the mark; there, an address that is
//! deprecated and for ever counts as ours, since nobody else makes such a thing.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};

use super::{Link, Links, MARK, errno, into_io, refused};
use crate::KernelError;

/// `INFINITY_LIFE_TIME` of `linux/if_addr.h` and `net/addrconf.h`.
const FOR_EVER: u32 = u32::MAX;

/// An address of a link. IPv6's link-local ones don't appear: the kernel makes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    /// Index of the link.
    pub(crate) link: u32,
    /// With the prefix that it was given.
    pub(crate) ip: IpNetwork,
    /// Nothing new is begun from it.
    pub(crate) deprecated: bool,
    /// Does it bear our mark?
    pub(crate) marked: bool,
    message: AddressMessage,
}

impl Address {
    /// Does it stay until somebody takes it away?
    pub(crate) fn is_for_ever(&self) -> bool {
        let permanent = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::CacheInfo(life) if life.ifa_valid == FOR_EVER);
        self.message.attributes.iter().any(permanent)
    }

    pub(crate) fn read(message: AddressMessage) -> Option<Self> {
        let mut flags = AddressFlags::from_bits_retain(u32::from(message.header.flags.bits()));
        let (mut local, mut any, mut marked) = (None, None, false);
        for attribute in &message.attributes {
            match attribute {
                // On point-to-point links `Address` is the other end, `Local` is ours.
                AddressAttribute::Local(ip) => local = Some(*ip),
                AddressAttribute::Address(ip) => any = Some(*ip),
                AddressAttribute::Flags(all) => flags = *all,
                AddressAttribute::Protocol(protocol) => marked = u8::from(*protocol) == MARK,
                _ => {}
            }
        }
        let ip = local.or(any)?;
        if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
            return None;
        }
        Some(Self {
            link: message.header.index,
            ip: IpNetwork::new(ip, message.header.prefix_len).ok()?,
            deprecated: flags.contains(AddressFlags::Deprecated),
            marked,
            message,
        })
    }
}

/// How an address is to be held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holding {
    pub(crate) ip: IpNetwork,
    /// Nothing new is begun from it.
    pub(crate) deprecated: bool,
}

impl Holding {
    pub(crate) fn current(ip: impl Into<IpNetwork>) -> Self {
        Self {
            ip: ip.into(),
            deprecated: false,
        }
    }

    pub(crate) fn deprecated(ip: impl Into<IpNetwork>) -> Self {
        Self {
            ip: ip.into(),
            deprecated: true,
        }
    }

    /// Is it held so? The prefix of a deprecated one doesn't matter: what it reached is for routes to say.
    pub(crate) fn is(&self, found: &Address) -> bool {
        match self.deprecated {
            true => self.ip.ip() == found.ip.ip() && found.deprecated,
            false => self.ip == found.ip && !found.deprecated,
        }
    }
}

impl Links {
    /// All addresses of all links.
    pub(crate) async fn addresses(&self) -> Result<Vec<Address>, KernelError> {
        let all: Result<Vec<_>, _> = self.handle.address().get().execute().try_collect().await;
        let all = all.map_err(refused("list", "addresses"))?;
        Ok(all.into_iter().filter_map(Address::read).collect())
    }

    /// All addresses of one link.
    pub(crate) async fn addresses_of(&self, link: &Link) -> Result<Vec<Address>, KernelError> {
        let mut all = self.addresses().await?;
        all.retain(|address| address.link == link.index);
        Ok(all)
    }

    /// Gives a link an address, usable at once, or changes how the link holds it.
    pub(crate) async fn give(&self, link: &Link, holding: Holding) -> Result<(), KernelError> {
        let Holding { ip, deprecated } = holding;
        let mut request = self
            .handle
            .address()
            .add(link.index, ip.ip(), ip.prefix())
            .replace();
        // No duplicate address detection: we give the addresses out, and a second of waiting is a second of outage.
        let flags = match ip {
            IpNetwork::V4(_) => AddressFlags::empty(),
            IpNetwork::V6(_) => AddressFlags::Nodad,
        };
        let mut lifetime = CacheInfo::default();
        lifetime.ifa_valid = FOR_EVER;
        lifetime.ifa_preferred = if deprecated { 0 } else { FOR_EVER };
        request.message_mut().attributes.extend([
            AddressAttribute::Flags(flags),
            AddressAttribute::CacheInfo(lifetime),
            AddressAttribute::Protocol(AddressProtocol::Other(MARK)),
        ]);
        match request.execute().await {
            Err(error) if errno(&error) != Some(Errno::EEXIST) => {
                Err(refusal("add an address to link", link, ip, error))
            }
            _ => Ok(()),
        }
    }

    /// Takes an address away, if it is there.
    pub(crate) async fn take(&self, link: &Link, address: Address) -> Result<(), KernelError> {
        let ip = address.ip;
        match self.handle.address().del(address.message).execute().await {
            Err(error) if !matches!(errno(&error), Some(Errno::EADDRNOTAVAIL | Errno::ENODEV)) => {
                Err(refusal("take an address from link", link, ip, error))
            }
            _ => Ok(()),
        }
    }

    /// Makes sure that a link has all these addresses. One that is there may be held otherwise still; [`Links::settle`]
    /// changes that, once nothing depends on it any more.
    pub(crate) async fn give_missing(&self, link: &Link, wanted: &[Holding]) -> Result<(), KernelError> {
        let found = self.addresses_of(link).await?;
        for holding in wanted {
            // An IPv4 address may be there with several prefixes, an IPv6 one may not.
            let there = found.iter().any(|address| {
                holding.ip == address.ip
                    || holding.ip.ip() == address.ip.ip() && (holding.deprecated || address.ip.is_ipv6())
            });
            if !there {
                self.give(link, *holding).await?;
            }
        }
        Ok(())
    }

    /// Makes a link hold exactly these addresses; link-local ones are left alone.
    ///
    /// One that becomes deprecated keeps its prefix, though nothing may be routed by it any more: a change of prefix is a
    /// removal to the kernel, which would forget connections that were masqueraded with the address.
    pub(crate) async fn settle(&self, link: &Link, wanted: &[Holding]) -> Result<(), KernelError> {
        let mut found = self.addresses_of(link).await?;
        found.retain(|address| !matches!(address.ip.ip(), IpAddr::V4(ip) if ip.is_link_local()));
        found.retain(|address| !wanted.iter().any(|holding| holding.is(address)));
        for address in found {
            let again = wanted.iter().find(|holding| {
                holding.ip == address.ip || holding.deprecated && holding.ip.ip() == address.ip.ip()
            });
            match again {
                Some(holding) => {
                    let ip = address.ip;
                    self.give(link, Holding { ip, ..*holding }).await?;
                }
                None => self.take(link, address).await?,
            }
        }
        // What has just been taken may have had others in its wake: an IPv4 address of the same range, where the kernel
        // doesn't promote those, and an IPv6 one that had the wrong prefix.
        self.give_missing(link, wanted).await
    }
}

fn refusal(action: &'static str, link: &Link, ip: IpNetwork, error: rtnetlink::Error) -> KernelError {
    KernelError {
        action,
        object: format!("{}` for `{ip}", link.name),
        source: into_io(error),
    }
}
