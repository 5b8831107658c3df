//! Is a container that has no health check ready? It is when the ports that routes lead to accept connections.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use linkspan_plan::{ContainerId, Desired, Slot};
use linkspan_site::{Action, Target};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

/// Between attempts: short, since a program usually listens a few milliseconds after it starts; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(2);
const LONGEST_WAIT: Duration = Duration::from_millis(200);
const ATTEMPT: Duration = Duration::from_secs(1);
/// A program that nobody can ask is ready when it has run for so long: a missing file or a wrong argument ends it sooner.
const SETTLED: Duration = Duration::from_millis(100);

/// A container accepts.
#[derive(Debug)]
pub(crate) struct Ready {
    pub(crate) id: ContainerId,
    pub(crate) run: u64,
}

/// Ports inside that routes of its site lead to.
pub(crate) fn routed_ports(desired: &Desired, slot: &Slot) -> BTreeSet<u16> {
    let Some(site) = desired.projects.get(&slot.project) else {
        return BTreeSet::new();
    };
    site.routes
        .iter()
        .filter_map(|route| match &route.action {
            Action::Forward(targets) => Some(targets),
            Action::Redirect { .. } => None,
        })
        .flatten()
        .filter_map(|target| match target {
            Target::Container { name, port } if *name == slot.container => Some(*port),
            _ => None,
        })
        .collect()
}

/// Ends when every port accepts; the caller aborts it when the container ends first.
pub(crate) async fn until_ready(
    id: ContainerId,
    run: u64,
    address: Option<IpAddr>,
    ports: BTreeSet<u16>,
) -> Ready {
    if ports.is_empty() {
        sleep(SETTLED).await;
    }
    for port in ports {
        let Some(address) = address else {
            // It is on no network: it isn't ready until it moves to one, and then it is asked anew.
            return std::future::pending().await;
        };
        let mut wait = FIRST_WAIT;
        while !accepts(SocketAddr::new(address, port)).await {
            sleep(wait).await;
            wait = (wait * 2).min(LONGEST_WAIT);
        }
    }
    Ready { id, run }
}

async fn accepts(address: SocketAddr) -> bool {
    matches!(timeout(ATTEMPT, TcpStream::connect(address)).await, Ok(Ok(_)))
}
