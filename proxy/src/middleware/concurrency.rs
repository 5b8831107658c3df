//! How many requests of a route may be under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The limit of a route, and how many are under way. Shared by all workers, and by the worlds before and after.
#[derive(Debug)]
pub(crate) struct Limit {
    most: u32,
    under_way: AtomicU32,
}

/// One request that is under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Limit>);

impl Limit {
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            under_way: AtomicU32::new(0),
        }
    }

    pub(crate) fn is(&self, most: u32) -> bool {
        self.most == most
    }

    /// `None`: there are too many.
    pub(crate) fn enter(self: &Arc<Self>) -> Option<Permit> {
        let one_more = |now| (now < self.most).then_some(now + 1);
        let entered = self
            .under_way
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        entered.is_ok().then(|| Permit(Arc::clone(self)))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_when_its_request_ends() {
        let limit = Arc::new(Limit::new(2));
        let (first, second) = (limit.enter(), limit.enter());
        assert!(first.is_some() && second.is_some() && limit.enter().is_none());
        drop(first);
        assert!(limit.enter().is_some());
    }
}
