//! Where no network can go any more.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use linkspan_site::Driver;

use crate::{Claim, Leases, NetworkId, Settings};

/// Ranges of one family that are not to be had, for many questions in a row: in order, first and last address of each.
pub(super) struct Taken(Vec<(u128, u128)>);

impl Taken {
    fn of(ranges: impl Iterator<Item = IpNetwork>) -> Self {
        let mut sorted: Vec<_> = ranges.map(ends).collect();
        sorted.sort_unstable();
        // Networks lie inside one another or apart, so what is left is in order of the last addresses, too.
        sorted.dedup_by(|next, kept| next.1 <= kept.1);
        Self(sorted)
    }

    pub(super) fn meets(&self, range: IpNetwork) -> bool {
        let (first, last) = ends(range);
        let at = self.0.partition_point(|(_, end)| *end < first);
        self.0.get(at).is_some_and(|(start, _)| *start <= last)
    }
}

/// First and last address of a range.
fn ends(range: IpNetwork) -> (u128, u128) {
    let number = |ip| match ip {
        IpAddr::V4(ip) => u128::from(u32::from(ip)),
        IpAddr::V6(ip) => u128::from(ip),
    };
    (number(range.network()), number(range.broadcast()))
}

impl Leases {
    /// Where network `id` can't go: what others use, we and they, and what it has or has just left itself.
    pub(super) fn taken(&self, id: &NetworkId, claims: &[Claim], settings: &Settings, v4: bool) -> Taken {
        // On other drivers the range is the LAN's, which is a claim of its own.
        let held = self
            .networks
            .values()
            .filter(|lease| lease.driver == Driver::Bridge || lease.id == *id);
        let ours = held.flat_map(|lease| {
            let retiring = lease.retiring.iter().map(|left| left.range);
            [Some(IpNetwork::V4(lease.v4)), lease.v6.map(IpNetwork::V6)]
                .into_iter()
                .flatten()
                .chain(retiring)
        });
        let claimed = claims.iter().map(|claim| claim.range);
        let all = ours.chain(claimed).chain(settings.avoid.iter().copied());
        Taken::of(all.filter(|range| range.is_ipv4() == v4))
    }
}
