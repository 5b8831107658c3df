//! A network: its bridge, and the resolver's leg on it.

mod addressing;

use std::net::Ipv4Addr;
use std::path::Path;

use linkspan_plan::NetworkSpec;
use linkspan_site::Driver;
use rtnetlink::LinkBridge;

use crate::link::{Kind, Link, Links};
use crate::pair::{Pair, bring_up, carries, change, in_force};
use crate::{NetworkError, sysctl};

pub(crate) use addressing::Addressing;

/// Makes it, or repairs it. One whose members are on a LAN of their own takes nothing here.
pub(crate) async fn ensure(
    host: &Links,
    (resolver, netns): (&Links, &Path),
    spec: &NetworkSpec,
) -> Result<(), NetworkError> {
    if spec.driver != Driver::Bridge {
        return Ok(());
    }
    sysctl::forward()?;
    let bridge = ensure_bridge(host, spec).await?;
    let pair = Pair {
        host: &spec.leg,
        inside: &spec.leg,
        netns,
        bridge: bridge.index,
        mtu: spec.mtu,
        mac: None,
    };
    let (leg, fresh) = pair.ensure(host, resolver).await?;
    let addressing = Addressing::leg(spec);
    addressing.give(resolver, &leg, fresh).await?;
    bring_up(resolver, &leg).await?;
    addressing.complete(resolver, &leg, fresh).await?;
    // A leg's port is the bridge's only when its end on the host has been found to work, too.
    let ends: [(&Links, &str); 3] = [(resolver, &spec.leg), (host, &spec.leg), (host, &spec.bridge)];
    if !carries(&ends).await? {
        tracing::warn!(network = %spec.id, "the bridge is slow to carry frames");
    }
    if let Some(v6) = spec.v6.as_ref().filter(|_| sysctl::has_ipv6()) {
        // Whoever asks for one of these too early asks again only after a second.
        for (links, address) in [(host, v6.gateway), (resolver, v6.resolver)] {
            if !in_force(links, address).await {
                tracing::warn!(network = %spec.id, %address, "the address is slow to come into force");
            }
        }
    }
    Ok(())
}

/// Removes it, if it is there.
pub(crate) async fn remove(host: &Links, bridge: &str, leg: &str) -> Result<(), NetworkError> {
    host.delete(leg).await?;
    host.delete(bridge).await?;
    Ok(())
}

async fn ensure_bridge(host: &Links, spec: &NetworkSpec) -> Result<Link, NetworkError> {
    let foreign = || NetworkError::Foreign {
        link: spec.bridge.clone(),
        expected: "bridge",
    };
    let mac = mac(spec.gateway);
    let message = LinkBridge::new(&spec.bridge)
        .down()
        .mtu(spec.mtu)
        .address(mac.to_vec())
        .build();
    let (found, fresh) = match host.find(&spec.bridge).await? {
        Some(found) => (found, false),
        None => {
            let made = host.add(&spec.bridge, message).await?;
            (host.find(&spec.bridge).await?.ok_or_else(foreign)?, made)
        }
    };
    if found.kind != Kind::Bridge {
        return Err(foreign());
    }
    sysctl::prepare_bridge(&spec.bridge, spec.v6.is_some())?;
    if !found.up || found.mtu != spec.mtu {
        host.set(&spec.bridge, change(&found).mtu(spec.mtu).up().build())
            .await?;
    }
    let addressing = Addressing::bridge(spec);
    addressing.give(host, &found, fresh).await?;
    addressing.complete(host, &found, fresh).await?;
    Ok(found)
}

/// A bridge's hardware address, from its gateway address: without one of its own it would take over that of a port,
/// and change it whenever ports come and go, under the feet of every container's neighbour table.
fn mac(gateway: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = gateway.octets();
    // Bit 1 of the first byte: locally administered (RFC 7042 §2.1).
    [0x02, 0x1b, a, b, c, d]
}
