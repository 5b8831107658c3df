//! Puts a sandbox on a network.

mod announce;
mod placing;

use std::path::Path;

use ipnetwork::IpNetwork;
use linkspan_plan::Attachment;

use crate::link::{Links, route_socket};
use crate::pair::{self, Pair};
use crate::{AttachError, netns, sysctl};

use placing::Placing;

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
    let (link, fresh) = pair.ensure(host, &inside).await?;
    pair.allow_hairpin(host).await?;
    pair.isolate(host, attachment.isolated).await?;
    let placing = Placing::new(attachment);
    placing.give(&inside, &link, fresh).await?;
    pair::bring_up(&inside, &link).await?;
    placing.complete(&inside, &link, fresh).await?;
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
    let v4 = IpNetwork::from(attachment.v4);
    let addresses = std::iter::once(v4).chain(attachment.v6.map(IpNetwork::from));
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
