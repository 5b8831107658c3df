//! No two containers publish one port of one address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::container::Draft;
use crate::problem::Report;
use crate::{ContainerName, Port, Protocol, Span};

/// Who has ports of an address already: by the first of each run the last, whose, and where. Runs don't overlap.
type Holders<'c> = BTreeMap<u16, (u16, &'c ContainerName, Span)>;

pub(super) fn check(containers: &BTreeMap<ContainerName, Draft>, report: &mut Report) {
    let mut taken: HashMap<(Protocol, bool), BTreeMap<IpAddr, Holders<'_>>> = HashMap::new();
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
            let holders = taken.entry((port.protocol, port.host_ip.is_ipv4())).or_default();
            match clash(port, holders) {
                Some((_, other, earlier)) if other == name => {
                    report
                        .at(
                            *span,
                            format!("container `{name}` publishes {} twice", shown(port)),
                        )
                        .related(earlier, "here first");
                }
                Some((ip, other, earlier)) => {
                    let whose = if ip == port.host_ip {
                        format!("container `{other}`")
                    } else {
                        format!("container `{other}` (on {ip})")
                    };
                    report
                        .at(*span, format!("{} is already published by {whose}", shown(port)))
                        .related(earlier, "published here")
                        .hint("give one of them another host port");
                }
                None => {
                    let run = (port.last_host_port(), name, *span);
                    holders
                        .entry(port.host_ip)
                        .or_default()
                        .insert(port.host_port, run);
                }
            }
        }
    }
}

/// Who has one of these ports on the same address, or where one of both means every address.
fn clash<'c>(
    port: &Port,
    taken: &BTreeMap<IpAddr, Holders<'c>>,
) -> Option<(IpAddr, &'c ContainerName, Span)> {
    let everywhere: IpAddr = if port.host_ip.is_ipv4() {
        Ipv4Addr::UNSPECIFIED.into()
    } else {
        Ipv6Addr::UNSPECIFIED.into()
    };
    taken
        .iter()
        .filter(|(ip, _)| port.host_ip == everywhere || **ip == everywhere || **ip == port.host_ip)
        .find_map(|(ip, holders)| {
            let (_, (last, name, span)) = holders.range(..=port.last_host_port()).next_back()?;
            (*last >= port.host_port).then_some((*ip, *name, *span))
        })
}

fn shown(port: &Port) -> String {
    let address = match port.host_ip {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => format!("[{address}]"),
    };
    let protocol = port.protocol.name();
    match port.count {
        1 => format!("host port `{address}:{}/{protocol}`", port.host_port),
        _ => format!(
            "host ports `{address}:{}-{}/{protocol}`",
            port.host_port,
            port.last_host_port()
        ),
    }
}
