//! Who has which blocks of the address pools, for people.

use ipnetwork::{IpNetwork, Ipv4Network};
use linkspan_site::Driver;

use crate::{Claim, Leases, Pool, Settings, overlaps};

/// A pool and those who have parts of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolUse {
    /// The pool.
    pub pool: Pool,
    /// Blocks in all.
    pub blocks: u64,
    /// Blocks that nobody has.
    pub free: u64,
    /// Who has the others, ours first.
    pub holders: Vec<Holder>,
}

/// Somebody who has blocks of a pool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// What he has; may be more than a block, or less.
    pub range: Ipv4Network,
    /// Who.
    pub who: String,
    /// A network of ours.
    pub ours: bool,
    /// Blocks of the pool that it meets.
    pub blocks: u64,
}

/// Looks at each pool.
pub fn pool_uses(leases: &Leases, claims: &[Claim], settings: &Settings) -> Vec<PoolUse> {
    settings
        .pools
        .iter()
        .map(|pool| pool_use(*pool, leases, claims, settings))
        .collect()
}

fn pool_use(pool: Pool, leases: &Leases, claims: &[Claim], settings: &Settings) -> PoolUse {
    let bridges = leases
        .networks
        .values()
        .filter(|lease| lease.driver == Driver::Bridge);
    let ours = bridges.flat_map(|lease| {
        let left = lease
            .retiring
            .iter()
            .map(|left| (left.range, format!("network `{}`, which moved away", lease.id)));
        std::iter::once((lease.v4.into(), format!("network `{}`", lease.id))).chain(left)
    });
    let avoided = settings
        .avoid
        .iter()
        .map(|range| (*range, "`avoid:` in the daemon's settings".to_owned()));
    let claimed = claims.iter().map(|claim| (claim.range, claim.source.clone()));
    let all = ours
        .map(|(range, who)| (range, who, true))
        .chain(avoided.chain(claimed).map(|(range, who)| (range, who, false)));
    let holders: Vec<Holder> = all
        .filter(|(range, ..)| overlaps(*range, pool.base.into()))
        .filter_map(|(range, who, ours)| match range {
            IpNetwork::V4(range) => Some(Holder {
                blocks: met(pool, range).map_or(0, |(first, last)| last - first + 1),
                range,
                who,
                ours,
            }),
            IpNetwork::V6(_) => None,
        })
        .collect();
    let blocks = 1_u64 << pool.size.saturating_sub(pool.base.prefix()).min(31);
    let mut taken: Vec<(u64, u64)> = holders
        .iter()
        .filter_map(|holder| met(pool, holder.range))
        .collect();
    taken.sort_unstable();
    let mut free_from = 0;
    let mut free = 0;
    for (first, last) in taken {
        free += first.saturating_sub(free_from);
        free_from = free_from.max(last + 1);
    }
    PoolUse {
        pool,
        blocks,
        free: free + blocks.saturating_sub(free_from),
        holders,
    }
}

/// The first and the last block of a pool that a range meets.
fn met(pool: Pool, range: Ipv4Network) -> Option<(u64, u64)> {
    let (first, last) = (u32::from(range.network()), u32::from(range.broadcast()));
    let (begin, end) = (u32::from(pool.base.network()), u32::from(pool.base.broadcast()));
    let (first, last) = (first.max(begin), last.min(end));
    let block = |address: u32| u64::from(address - begin) >> (32 - u32::from(pool.size));
    (first <= last).then(|| (block(first), block(last)))
}

#[cfg(test)]
mod tests {
    use crate::tests::SHOP;
    use crate::tests::town::Town;
    use crate::{Claim, pool_uses};

    #[test]
    fn each_block_is_counted_once_whoever_has_it() {
        let mut town = Town::new();
        town.settings.pools[0].base = "10.0.0.0/20".parse().unwrap();
        town.up(SHOP).settle();
        let claim = |range: &str, source: &str| Claim {
            range: range.parse().unwrap(),
            source: source.to_owned(),
        };
        town.observed.claims = vec![
            claim("10.0.4.0/22", "route via `tun0`"),
            claim("10.0.5.0/24", "address of `tun0`"),
            claim("10.0.12.77/32", "name server"),
            claim("192.168.0.0/16", "a LAN"),
        ];
        town.settings.avoid = vec!["10.0.14.0/23".parse().unwrap()];
        let uses = pool_uses(&town.leases, &town.observed.claims, &town.settings);
        let shown: Vec<String> = uses[0]
            .holders
            .iter()
            .map(|holder| format!("{} {} {}", holder.range, holder.blocks, holder.who))
            .collect();
        assert_eq!(
            shown,
            [
                "10.0.10.0/24 1 network `shop_default`",
                "10.0.14.0/23 2 `avoid:` in the daemon's settings",
                "10.0.4.0/22 4 route via `tun0`",
                "10.0.5.0/24 1 address of `tun0`",
                "10.0.12.77/32 1 name server",
            ]
        );
        assert_eq!((uses[0].blocks, uses[0].free), (16, 16 - 1 - 2 - 4 - 1));
    }
}
