//! How many connections each client address has, so that no one takes them all.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};

/// Counts by address. A network of 64 bits is one: whoever has an address in it has them all.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<HashMap<IpAddr, u32>>);

impl Crowd {
    /// One connection more. False, and nothing is counted, when there are `most` already.
    pub(crate) fn enter(&self, address: IpAddr, most: u32) -> bool {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(network(address)).or_default();
        let fits = *count < most;
        *count += u32::from(fits);
        fits
    }

    /// One less of those that were counted.
    pub(crate) fn leave(&self, address: IpAddr) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Entry::Occupied(mut count) = counts.entry(network(address)) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_so_many_and_is_forgotten_when_it_leaves() {
        let crowd = Crowd::default();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let one = address("192.0.2.1");
        assert!(crowd.enter(one, 2) && crowd.enter(address("::ffff:192.0.2.1"), 2));
        assert!(!crowd.enter(one, 2) && crowd.enter(address("192.0.2.2"), 2));
        crowd.leave(one);
        assert!(crowd.enter(one, 2));
        assert!(crowd.enter(address("2001:db8::1"), 1) && !crowd.enter(address("2001:db8::ffff"), 1));
        assert!(crowd.enter(address("2001:db8:0:1::1"), 1));
        for gone in [
            "192.0.2.1",
            "192.0.2.1",
            "192.0.2.2",
            "2001:db8::2",
            "2001:db8:0:1::1",
        ] {
            crowd.leave(address(gone));
        }
        assert!(crowd.0.lock().unwrap().is_empty());
    }
}
