//! Rules that send packets for a range to a table of their own.

use std::net::{Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use ipnetwork::IpNetwork;
use nix::errno::Errno;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Error, IpVersion};

use super::{Links, errno, refused};
use crate::KernelError;

/// A rule for packets to some range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) to: IpNetwork,
    /// Where their route is looked up; absent when they are dropped.
    pub(crate) table: Option<u32>,
}

impl Links {
    /// The rules of both families that pick out where packets go to. A kernel without rules has none.
    pub(crate) async fn rules(&self) -> Result<Vec<Rule>, KernelError> {
        let mut rules = Vec::new();
        for family in [IpVersion::V4, IpVersion::V6] {
            let found: Result<Vec<_>, Error> = self.handle.rule().get(family).execute().try_collect().await;
            match found {
                Ok(found) => rules.extend(found.iter().filter_map(read)),
                Err(error) if matches!(errno(&error), Some(Errno::EOPNOTSUPP | Errno::EAFNOSUPPORT)) => {}
                Err(error) => return Err(refused("list", "rules")(error)),
            }
        }
        Ok(rules)
    }
}

fn read(message: &RuleMessage) -> Option<Rule> {
    let mut table = u32::from(message.header.table);
    let mut to = match message.header.family {
        AddressFamily::Inet => Ipv4Addr::UNSPECIFIED.into(),
        AddressFamily::Inet6 => Ipv6Addr::UNSPECIFIED.into(),
        _ => return None,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Destination(ip) => to = *ip,
            RuleAttribute::Table(number) => table = *number,
            _ => {}
        }
    }
    let table = match message.header.action {
        RuleAction::ToTable => Some(table),
        RuleAction::Blackhole | RuleAction::Unreachable | RuleAction::Prohibit => None,
        _ => return None,
    };
    // One for packets to anywhere chooses by other things, and says nothing of a range.
    (message.header.dst_len > 0)
        .then(|| IpNetwork::new(to, message.header.dst_len).ok())
        .flatten()
        .map(|to| Rule { to, table })
}
