//! What changes about a network, in words.

use linkspan_site::{Driver, IpvlanMode, MacvlanMode, Network, OnConflict};

/// A new one: what is said of it.
pub(super) fn about(network: &Network) -> String {
    if let Some(external) = &network.external {
        return format!("joins `{external}`, which was made by hand");
    }
    let ranges = [
        network.subnet.map(|subnet| subnet.to_string()),
        network.subnet6.map(|subnet| subnet.to_string()),
    ];
    let flags = [
        (network.driver != Driver::Bridge).then(|| driver(&network.driver)),
        network.internal.then(|| "internal".to_owned()),
        network.isolated.then(|| "isolated".to_owned()),
    ];
    let said: Vec<String> = ranges.into_iter().chain(flags).flatten().collect();
    said.join(", ")
}

/// One that is there: what is another.
pub(super) fn change(was: &Network, is: &Network) -> String {
    let whose = |network: &Network| match &network.external {
        Some(external) => format!("`{external}`, made by hand"),
        None => "of this file".to_owned(),
    };
    if was.external != is.external {
        return format!("{} → {}", whose(was), whose(is));
    }
    let conflict = |network: &Network| match network.on_conflict {
        OnConflict::Move => "move",
        OnConflict::Report => "report",
    };
    let rows = [
        ("driver", driver(&was.driver), driver(&is.driver)),
        ("subnet", chosen(was.subnet), chosen(is.subnet)),
        ("IPv6 subnet", chosen(was.subnet6), chosen(is.subnet6)),
        ("gateway", first(was.gateway), first(is.gateway)),
        ("ipv6", on(was.ipv6), on(is.ipv6)),
        ("internal", was.internal.to_string(), is.internal.to_string()),
        ("isolated", was.isolated.to_string(), is.isolated.to_string()),
        ("mtu", mtu(was.mtu), mtu(is.mtu)),
        ("on_conflict", conflict(was).to_owned(), conflict(is).to_owned()),
    ];
    let mut what: Vec<String> = rows
        .into_iter()
        .filter(|(_, was, is)| was != is)
        .map(|(key, was, is)| format!("{key}: {was} → {is}"))
        .collect();
    if was.labels != is.labels {
        what.push("changed: labels".to_owned());
    }
    what.join(", ")
}

fn driver(driver: &Driver) -> String {
    match driver {
        Driver::Bridge => "bridge".to_owned(),
        Driver::Macvlan { parent, mode } => {
            let mode = match mode {
                MacvlanMode::Bridge => "bridge",
                MacvlanMode::Private => "private",
                MacvlanMode::Vepa => "vepa",
                MacvlanMode::Passthru => "passthru",
            };
            format!("macvlan on `{parent}` ({mode})")
        }
        Driver::Ipvlan { parent, mode } => {
            let mode = match mode {
                IpvlanMode::L2 => "l2",
                IpvlanMode::L3 => "l3",
            };
            format!("ipvlan on `{parent}` ({mode})")
        }
    }
}

fn chosen<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "chosen".to_owned(), |value| value.to_string())
}

fn first<T: ToString>(value: Option<T>) -> String {
    value.map_or_else(|| "the first address".to_owned(), |value| value.to_string())
}

fn on(value: Option<bool>) -> String {
    value.unwrap_or(true).to_string()
}

fn mtu(value: Option<u32>) -> String {
    value.map_or_else(|| "that of the way out".to_owned(), |value| value.to_string())
}
