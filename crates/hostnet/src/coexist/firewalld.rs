//! Our bridges in firewalld's zones, by its own program: what it doesn't know of it would not keep.

use linkspan_plan::LINK_PREFIX;

use super::{Accept, AcceptChange};
use crate::foreign::{self, Rule};
use crate::netlink::NetfilterSocket;
use crate::nft::number;
use crate::{Backend, CoexistError};

const FIREWALLD: &str = "firewalld";
/// The zone that lets everything through, and leaves judging it to us.
const ZONE: &str = "trusted";

/// Puts our bridges into firewalld's trusted zone, or takes them out; nothing if it doesn't run. Until it is reloaded, as
/// everything that it isn't told to keep.
pub(crate) async fn in_firewalld(
    runs: bool,
    there: bool,
    wanted: bool,
) -> Result<Option<Accept>, CoexistError> {
    if !runs || (!there && !wanted) {
        return Ok(None);
    }
    let accept = |done| {
        Some(Accept {
            place: format!("{FIREWALLD} zone {ZONE}"),
            backend: Backend::Nftables,
            done,
        })
    };
    if there && wanted {
        return Ok(accept(AcceptChange::Kept));
    }
    let verb = if wanted { "add" } else { "remove" };
    let zone = format!("--zone={ZONE}");
    let interface = format!("--{verb}-interface={LINK_PREFIX}b+");
    foreign::run("firewall-cmd", &[&zone, &interface])
        .await
        .map_err(|source| CoexistError::Refused {
            command: format!("firewall-cmd {zone} {interface}"),
            place: format!("{FIREWALLD} zone {ZONE}"),
            source,
        })?;
    Ok(accept(if wanted {
        AcceptChange::Made
    } else {
        AcceptChange::Removed
    }))
}

/// Does firewalld filter here, and does it know of our bridges?
pub(crate) fn look(socket: &mut NetfilterSocket) -> Result<(bool, bool), CoexistError> {
    let read = |source| CoexistError::Read { source };
    let tables = foreign::chains(socket).map_err(read)?;
    let place = (number::INET, FIREWALLD.to_owned());
    let Some(chains) = tables.get(&place) else {
        return Ok((false, false));
    };
    for chain in chains.keys() {
        let rules = foreign::rules_of(socket, number::INET, FIREWALLD, chain).map_err(read)?;
        if rules.iter().any(Rule::names_our_bridges) {
            return Ok((true, true));
        }
    }
    Ok((true, false))
}
