//! Telling a running container where it and its neighbours are now.

use std::io;
use std::sync::Arc;

use linkspan_plan::{ContainerId, ContainerSpec, NetworkNamespace, Placement};

use super::{Containers, blocking};
use crate::etc;
use crate::layout::Layout;
use crate::orders::Orders;

impl Containers {
    /// Notes where a container is now, and writes its `/etc/hosts` anew, in place. [`Containers::adopt`] gives the spec
    /// with the new placement, whenever this process ends. Lines that the container added itself are kept.
    ///
    /// Containers that share its network share the file. They are not moved themselves: for them, and for those in the
    /// host's network, nothing is done.
    pub async fn rewrite_hosts(&self, id: &ContainerId, to: &Placement) -> io::Result<()> {
        if !self.known().contains_key(id) {
            return Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!("container `{id}` is not known"),
            ));
        }
        let _one_at_a_time = self.0.moving.lock().await;
        let (layout, of, to) = (self.0.layout.clone(), id.clone(), to.clone());
        let moved = blocking(move || put(&layout, &of, to)).await??;
        if let Some(spec) = moved
            && let Some(known) = self.known().get_mut(id)
        {
            known.spec = Arc::new(spec);
        }
        Ok(())
    }
}

/// Notes the new place before the file says so, and the old one until it does: a daemon that is killed in between leaves
/// a file of which the next one knows which lines are ours.
fn put(layout: &Layout, id: &ContainerId, to: Placement) -> io::Result<Option<ContainerSpec>> {
    let mut orders = Orders::load(layout, id)?;
    if orders.spec.network != NetworkNamespace::Own {
        return Ok(None);
    }
    let before = etc::hosts(&orders.spec);
    let place = Placement {
        attachments: orders.spec.attachments.clone(),
        addresses: orders.spec.addresses.clone(),
        hosts: orders.spec.hosts.clone(),
    };
    orders.moved_from.get_or_insert(place);
    orders.spec.put(to);
    orders.save(layout)?;
    finish(layout, &mut orders, vec![before])?;
    Ok(Some(orders.spec))
}

/// Writes the file of a container that was moved, and forgets where it was before.
pub(super) fn finish(layout: &Layout, orders: &mut Orders, mut before: Vec<String>) -> io::Result<()> {
    let Some(moved_from) = orders.moved_from.take() else {
        return Ok(());
    };
    let mut old = orders.spec.clone();
    old.put(moved_from);
    before.push(etc::hosts(&old));
    etc::rewrite_hosts(layout, &orders.spec, &before)?;
    orders.save(layout)
}
