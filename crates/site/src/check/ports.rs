//! No two containers publish one port of one address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::container::Draft;
use crate::problem::Report;
use crate::{ContainerName, Port, Protocol, Span};

/// Who has a port already.
type Holders<'c> = BTreeMap<IpAddr, (&'c ContainerName, Span)>;

pub(super) fn check(containers: &BTreeMap<ContainerName, Draft>, report: &mut Report) {
    let mut taken: HashMap<(Protocol, u16, bool), Holders<'_>> = HashMap::new();
    for (name, draft) in containers {
        for (port, span) in draft.container.ports.iter().zip(&draft.marks.ports) {
            if port.host_port == 0 {
                continue;
            }
            if draft.container.replicas > 1 && !port.host_ip.is_loopback() {
                report
                    .at(
                        *span,
                        format!(
                            "{} replicas of `{name}` can't share {}",
                            draft.container.replicas,
                            shown(port)
                        ),
                    )
                    .hint("publish it on 127.0.0.1, which is shared among them, or reach it by a route");
            }
            let holders = taken
                .entry((port.protocol, port.host_port, port.host_ip.is_ipv4()))
                .or_default();
            let clash = if port.host_ip.is_unspecified() {
                holders.first_key_value()
            } else {
                let everywhere: IpAddr = if port.host_ip.is_ipv4() {
                    Ipv4Addr::UNSPECIFIED.into()
                } else {
                    Ipv6Addr::UNSPECIFIED.into()
                };
                holders
                    .get_key_value(&everywhere)
                    .or_else(|| holders.get_key_value(&port.host_ip))
            };
            match clash {
                Some((_, (other, earlier))) if *other == name => {
                    report
                        .at(
                            *span,
                            format!("container `{name}` publishes {} twice", shown(port)),
                        )
                        .related(*earlier, "here first");
                }
                Some((ip, (other, earlier))) => {
                    let whose = if *ip == port.host_ip {
                        format!("container `{other}`")
                    } else {
                        format!("container `{other}` (on {ip})")
                    };
                    report
                        .at(*span, format!("{} is already published by {whose}", shown(port)))
                        .related(*earlier, "published here")
                        .hint("give one of them another host port");
                }
                None => {
                    holders.insert(port.host_ip, (name, *span));
                }
            }
        }
    }
}

fn shown(port: &Port) -> String {
    let address = match port.host_ip {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    format!(
        "host port `{address}:{}/{}`",
        port.host_port,
        port.protocol.name()
    )
}
