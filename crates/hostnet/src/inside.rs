//! Looks at a container's links from inside its own namespace.
//!
//! Root of a container may do there as it likes, and some do so for good reasons: a VPN that takes over the default route,
//! a virtual machine whose bridge takes over the address. So what was put in the place of ours counts as there; only
//! what is merely gone is missing. What else there is doesn't matter.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;

use ipnetwork::IpNetwork;
use linkspan_plan::{Attachment, RESOLVER_ADDRESS};
use linkspan_site::{Driver, MacvlanMode};

use crate::LookError;
use crate::link::{Address, Kind, Link, Links};

/// What is missing of each link, by the name of its host end, each in a few words that a person understands: ``address
/// 10.0.2.5/24 of `eth0` ``. Links that lack nothing don't appear.
pub(crate) async fn missing(
    netns: &Path,
    attachments: &[Attachment],
) -> Result<BTreeMap<String, Vec<String>>, LookError> {
    let links = Links::within(netns).await?;
    let inside = Inside {
        links: links.list().await?,
        addresses: links.addresses().await?,
        routes: links.routes().await?.0.iter().map(|route| route.to).collect(),
    };
    let missing = attachments
        .iter()
        .map(|one| (one.host_link.clone(), inside.missing(one)));
    Ok(missing.filter(|(_, missing)| !missing.is_empty()).collect())
}

/// What is there.
struct Inside {
    links: Vec<Link>,
    addresses: Vec<Address>,
    /// Where somebody's routes lead, over whatever link and in whatever table.
    routes: BTreeSet<IpNetwork>,
}

impl Inside {
    fn missing(&self, attachment: &Attachment) -> Vec<String> {
        let name = &attachment.link;
        let found = self.links.iter().find(|link| link.name == *name);
        let Some(link) = found.filter(|link| fits(link, attachment)) else {
            return vec![format!("link `{name}`")];
        };
        let mut missing = Vec::new();
        missing.extend((!link.up).then(|| format!("link `{name}`, which was down")));
        // A link on the LAN can't carry larger frames than the host's that it lies on.
        let is_bridged = attachment.driver == Driver::Bridge;
        let other_mtu = is_bridged && link.mtu != attachment.mtu;
        missing.extend(other_mtu.then(|| format!("mtu {} of `{name}`", attachment.mtu)));
        let v6 = attachment.v6.filter(|_| link.speaks6).map(IpNetwork::from);
        let ours = std::iter::once(IpNetwork::from(attachment.v4)).chain(v6);
        for address in ours {
            if !self.addresses.iter().any(|found| found.ip.ip() == address.ip()) {
                missing.push(format!("address {address} of `{name}`"));
            }
            missing.extend(self.cut(range(address), "the route to"));
        }
        if attachment.resolver && is_bridged {
            let resolver = IpNetwork::from(IpAddr::from(RESOLVER_ADDRESS));
            missing.extend(self.cut(Some(resolver), "the route to the resolver,"));
        }
        let gateway6 = attachment.gateway6.filter(|_| link.speaks6);
        let gateways = [
            (attachment.gateway4.map(IpAddr::from), "0.0.0.0/0"),
            (gateway6.map(IpAddr::from), "::/0"),
        ];
        for (gateway, everywhere) in gateways {
            let Some(gateway) = gateway else { continue };
            if !self.leads(everywhere.parse().ok()) {
                missing.push(format!("the default route by {gateway}"));
            }
        }
        missing
    }

    fn cut(&self, to: Option<IpNetwork>, what: &str) -> Option<String> {
        to.filter(|to| !self.leads(Some(*to)))
            .map(|to| format!("{what} {to}"))
    }

    fn leads(&self, to: Option<IpNetwork>) -> bool {
        to.is_some_and(|to| self.routes.contains(&to))
    }
}

/// Is it a link as we make it for this attachment?
fn fits(link: &Link, attachment: &Attachment) -> bool {
    let has_mac = link.mac == attachment.mac;
    match attachment.driver {
        Driver::Bridge => link.kind == Kind::Veth && has_mac,
        Driver::Macvlan { mode, .. } => {
            link.kind == Kind::Macvlan(mode) && (has_mac || mode == MacvlanMode::Passthru)
        }
        Driver::Ipvlan { mode, .. } => link.kind == Kind::Ipvlan(mode),
    }
}

/// The range of an address, to which a route comes with it; absent where there are no neighbours.
fn range(address: IpNetwork) -> Option<IpNetwork> {
    let range = IpNetwork::new(address.network(), address.prefix()).ok()?;
    (IpNetwork::from(address.ip()).prefix() != address.prefix()).then_some(range)
}
