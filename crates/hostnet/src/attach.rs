//! Puts a sandbox on a network.

mod announce;

use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use linkspan_plan::{Attachment, RESOLVER_ADDRESS};

use crate::link::{Links, route_socket};
use crate::pair::{self, Pair};
use crate::{AttachError, netns, sysctl};

/// Makes the link with all that is on it, or repairs it. Returns when it carries frames and its neighbours know of it.
pub(crate) async fn attach(host: &Links, netns: &Path, attachment: &Attachment) -> Result<(), AttachError> {
    let Some(bridge) = host.find(&attachment.bridge).await? else {
        return Err(AttachError::NoBridge {
            bridge: attachment.bridge.clone(),
            link: attachment.host_link.clone(),
        });
    };
    let (socket, announcer) = netns::within(netns, || Ok((route_socket()?, announce::socket()?))).await?;
    let inside = Links::over(socket);
    let pair = Pair {
        host: &attachment.host_link,
        inside: &attachment.link,
        netns,
        bridge: bridge.index,
        mtu: attachment.mtu,
        mac: Some(attachment.mac),
    };
    let link = pair.ensure(host, &inside).await?;
    pair.allow_hairpin(host).await?;
    inside.add_address(&link, attachment.v4.into()).await?;
    if let Some(v6) = attachment.v6 {
        inside.add_address(&link, v6.into()).await?;
    }
    pair::bring_up(&inside, &link).await?;
    if attachment.resolver {
        inside.neighbour_route(&link, RESOLVER_ADDRESS).await?;
    }
    let gateways = [
        attachment.gateway4.map(IpAddr::from),
        attachment.gateway6.map(IpAddr::from),
    ];
    for gateway in gateways.into_iter().flatten() {
        inside.default_route(&link, gateway).await?;
    }
    let ends = (
        (host, attachment.host_link.as_str()),
        (&inside, attachment.link.as_str()),
    );
    if !pair::carries(ends.0, ends.1).await? {
        return Err(AttachError::NoCarrier {
            link: attachment.host_link.clone(),
            waited_ms: pair::PATIENCE.as_millis() as u64,
        });
    }
    if let Some(v6) = attachment.v6.filter(|_| sysctl::has_ipv6())
        && !pair::in_force(&inside, v6.ip()).await
    {
        tracing::warn!(link = attachment.host_link, address = %v6, "the address is slow to come into force");
    }
    let addresses: Vec<IpNetwork> = std::iter::once(attachment.v4.into())
        .chain(attachment.v6.map(IpNetwork::from))
        .collect();
    for address in addresses {
        // Neighbours that don't hear it ask, a little later, as they would have without.
        if let Err(error) = announce::announce(&announcer, link.index, attachment.mac, address.ip()) {
            tracing::debug!(%error, link = attachment.host_link, %address, "not announced");
        }
    }
    // The kernel lets the closer of such a socket wait until all its processors have seen it go: ten milliseconds that
    // nobody here needs to wait for.
    drop(tokio::task::spawn_blocking(move || drop(announcer)));
    Ok(())
}
