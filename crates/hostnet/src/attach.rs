//! Puts a sandbox on a network, and takes it off.

mod announce;
mod lan;
mod placing;
mod probe;

use std::os::fd::OwnedFd;
use std::path::Path;

use ipnetwork::IpNetwork;
use linkspan_plan::Attachment;
use linkspan_site::Driver;

use crate::link::{Link, Links, hex, route_socket};
use crate::pair::{self, Pair};
use crate::{AttachError, netns};

use lan::LanLink;
use placing::Placing;

/// A link that ends in a sandbox.
struct Laid<'a> {
    inner: Link,
    /// Was it made just now, with nothing on it yet?
    fresh: bool,
    /// Those that must carry frames before it is of use.
    ends: Vec<(&'a Links, &'a str)>,
}

/// Makes the link with all that is on it, or repairs it. Returns when it carries frames and its neighbours know of it.
pub(crate) async fn attach(host: &Links, netns: &Path, attachment: &Attachment) -> Result<(), AttachError> {
    let lan = LanLink::of(attachment);
    let probes = lan.as_ref().is_some_and(LanLink::has_own_mac);
    let (socket, announcer, prober) = netns::within(netns, move || {
        let prober = probes.then(probe::socket).transpose()?;
        Ok((route_socket()?, announce::socket()?, prober))
    })
    .await?;
    let inside = Links::over(socket);
    let laid = match &lan {
        Some(lan) => lan.lay(host, &inside, netns).await?,
        None => lay_veth(host, &inside, netns, attachment).await?,
    };
    if let (Some(prober), Some(lan)) = (prober, &lan) {
        make_sure(prober, &inside, &laid, lan, attachment).await?;
    }
    let placing = Placing::new(attachment, &laid.inner);
    placing.give(&inside, &laid.inner, laid.fresh).await?;
    let up = pair::bring_up(&inside, &laid.inner).await;
    up.map_err(|error| match &lan {
        Some(lan) => lan.refused(error.source),
        None => error.into(),
    })?;
    placing.complete(&inside, &laid.inner, laid.fresh).await?;
    if !pair::carries(&laid.ends).await? {
        return Err(AttachError::NoCarrier {
            link: attachment.link.clone(),
            waited_ms: pair::PATIENCE.as_millis() as u64,
        });
    }
    if let Some(v6) = attachment
        .v6
        .filter(|_| laid.inner.speaks6 && !laid.ends.is_empty())
        && !pair::in_force(&inside, v6.ip()).await
    {
        tracing::warn!(link = attachment.link, address = %v6, "the address is slow to come into force");
    }
    announce(&announcer, &laid.inner, attachment);
    // The kernel lets the closer of such a socket wait until all its processors have seen it go: ten milliseconds that
    // nobody here needs to wait for.
    drop(tokio::task::spawn_blocking(move || drop(announcer)));
    Ok(())
}

/// A veth, whose other end is a port of the network's bridge.
async fn lay_veth<'a>(
    host: &'a Links,
    inside: &'a Links,
    netns: &Path,
    attachment: &'a Attachment,
) -> Result<Laid<'a>, AttachError> {
    let Some(bridge) = host.find(&attachment.bridge).await? else {
        return Err(AttachError::NoBridge {
            bridge: attachment.bridge.clone(),
            link: attachment.host_link.clone(),
        });
    };
    let pair = Pair {
        host: &attachment.host_link,
        inside: &attachment.link,
        netns,
        bridge: bridge.index,
        mtu: attachment.mtu,
        mac: Some(attachment.mac),
    };
    let (inner, fresh) = pair.ensure(host, inside).await?;
    pair.allow_hairpin(host).await?;
    pair.isolate(host, attachment.isolated).await?;
    let ends = vec![
        (inside, attachment.link.as_str()),
        (host, attachment.host_link.as_str()),
    ];
    Ok(Laid { inner, fresh, ends })
}

/// Takes a sandbox off a network: by the host end of its link, or inside where there is none.
pub(crate) async fn detach(host: &Links, netns: &Path, attachment: &Attachment) -> Result<(), AttachError> {
    if attachment.driver == Driver::Bridge {
        return Ok(host.delete(&attachment.host_link).await?);
    }
    // With the sandbox its links have gone.
    if netns::is_pinned(netns) {
        lan::remove(&Links::within(netns).await?, &attachment.link).await?;
    }
    Ok(())
}

/// Nobody on the LAN may have the address that a new link is about to get. While the link carries nothing there is nobody to
/// ask.
async fn make_sure(
    prober: OwnedFd,
    inside: &Links,
    laid: &Laid<'_>,
    lan: &LanLink<'_>,
    attachment: &Attachment,
) -> Result<(), AttachError> {
    if !laid.fresh || laid.ends.is_empty() {
        return Ok(());
    }
    let (name, ip) = (&attachment.link, attachment.v4.ip());
    let up = pair::bring_up(inside, &laid.inner).await;
    up.map_err(|error| lan.refused(error.source))?;
    pair::carries(&laid.ends).await?;
    let answer = match probe::register(prober) {
        Ok(prober) => {
            let answer = probe::who_has(&prober, laid.inner.index, attachment.mac, ip).await;
            // As with the announcer below.
            drop(tokio::task::spawn_blocking(move || drop(prober)));
            answer
        }
        Err(error) => Err(error),
    };
    match answer {
        Ok(None) => Ok(()),
        Ok(Some(mac)) => {
            self::lan::remove(inside, name).await?;
            Err(AttachError::Answered {
                address: ip,
                link: name.clone(),
                mac: hex(&mac),
            })
        }
        Err(error) => {
            // It is only a question; the address may well be free.
            tracing::warn!(%error, link = name, "the LAN can't be asked whether somebody has its address");
            Ok(())
        }
    }
}

/// Tells the neighbours of the current addresses. Those that don't hear it ask, a little later, as they would have
/// without.
fn announce(announcer: &OwnedFd, link: &Link, attachment: &Attachment) {
    let Ok(mac) = <[u8; 6]>::try_from(link.mac.as_slice()) else {
        return;
    };
    let v4 = IpNetwork::from(attachment.v4);
    for address in std::iter::once(v4).chain(attachment.v6.map(IpNetwork::from)) {
        if let Err(error) = announce::announce(announcer, link.index, mac, address.ip()) {
            tracing::debug!(%error, link = attachment.link, %address, "not announced");
        }
    }
}
