//! What a container that failed may have failed of, in words for its user.

use crate::Exit;
use crate::orders::Orders;

/// Where the kernel says from which port on everybody may bind, in this process's network namespace.
const FIRST_FREE_PORT: &str = "/proc/sys/net/ipv4/ip_unprivileged_port_start";

/// In the host's network a container with ids of its own can't open low ports (see [`crate::Sandbox`]); its program says
/// *permission denied*, in words that we can't know, and ends.
pub(super) fn after(orders: &Orders, exit: &Exit) -> Option<String> {
    let failed = exit.code.is_some_and(|code| (1..128).contains(&code));
    if !failed || !orders.is_guest_of_host() {
        return None;
    }
    let first = std::fs::read_to_string(FIRST_FREE_PORT).ok()?;
    let first: u16 = first.trim().parse().ok()?;
    (first > 1).then(|| {
        format!(
            "if its program was denied a port: in the host's network a container with ids of its own can't open ports \
             below {first}; publish the port instead, or say `userns_mode: host`"
        )
    })
}
