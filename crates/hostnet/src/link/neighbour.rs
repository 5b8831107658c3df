//! The neighbours that the kernel knows on a link.

use std::net::IpAddr;

use futures_util::TryStreamExt;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};

use super::{Links, refused};
use crate::KernelError;

impl Links {
    /// Addresses on a link at which somebody has answered, with the hardware addresses from which.
    pub(crate) async fn neighbours(&self, link: u32) -> Result<Vec<(IpAddr, String)>, KernelError> {
        let mut request = self.handle.neighbours().get();
        // Containers are neighbours too, on bridges, and there may be many of them.
        let only = NeighbourAttribute::IfIndex(link);
        request.message_mut().attributes.push(only);
        let all: Result<Vec<_>, _> = request.execute().try_collect().await;
        let all = all.map_err(refused("list", "neighbours"))?;
        let on_link = all.iter().filter(|one| one.header.ifindex == link);
        Ok(on_link.filter_map(read).collect())
    }
}

/// Absent for one that was asked for and has not answered, and for what is no address of a host.
fn read(message: &NeighbourMessage) -> Option<(IpAddr, String)> {
    let answered = matches!(
        message.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Permanent
    );
    let (mut ip, mut mac) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::Destination(NeighbourAddress::Inet(found)) => ip = Some(IpAddr::V4(*found)),
            NeighbourAttribute::Destination(NeighbourAddress::Inet6(found)) => ip = Some(IpAddr::V6(*found)),
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = Some(hex(bytes)),
            _ => {}
        }
    }
    let ip = ip.filter(|ip| answered && !ip.is_multicast())?;
    Some((ip, mac?))
}

/// As people write hardware addresses.
pub(crate) fn hex(bytes: &[u8]) -> String {
    let parts: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    parts.join(":")
}
