//! Our one nftables table, `inet linkspan`.
//!
//! Firewalls of container engines tend to grow a rule for each port and each container, and to be wrong for a moment
//! whenever those come or go. Here the rules never change. The *skeleton* (`nft/skeleton.rs`) is some forty rules
//! that are written once and speak of sets and maps only: the bridges that are ours, those of them with a way out,
//! the subnets that hide behind the host's address, the ports that are published and where to. Everything that
//! changes is an *element* of one of these (`nft/elements.rs`), so the cost of publishing a port does not depend on
//! how many there are.
//!
//! One call makes one transaction: the kernel applies all of it or nothing, and no packet sees a state in between.
//! What to send is the difference between what is wanted and what the kernel holds. We list what it holds once, at
//! the first use, and from then on remember it: nobody else writes to this table. If somebody does, or flushes it,
//! the watch (see `watch.rs`) says so, and the next call lists again. Table absent or skeleton not as this release
//! writes it: the same transaction deletes what is there and writes everything anew, elements included, so that a
//! flush is repaired in one step. Which skeleton is there is told by a hash in the table's comment, and by the
//! comments of the rules, in order.
//!
//! *Owned and persistent.* Since Linux 6.9 a table may belong to the socket that made it (flag `owner`) and stay when
//! that socket closes (flag `persist`). While we live, nobody but us can change or flush it: `nft flush ruleset` of
//! another tool passes it by. When we die it stays and keeps on filtering, without an owner, and the next daemon
//! claims it with its first transaction. Older kernels refuse the flags; there the table is an ordinary one, and
//! watched.
//!
//! *Order among other tables.* A packet runs through the chains of all tables at a hook, by priority, and a drop is
//! final while an accept is only our own opinion. So nothing of ours can open what another firewall closes; for that see
//! `coexist.rs`, and `foreign.rs` for what others do. Ours drops first what needs no tracking (priority raw, -300),
//! decides NAT just before the customary -100 and 100, where of several chains the first that matches a connection wins,
//! and filters at the customary 0.
//!
//! *Who may go where.* Within a bridge: everything. From a bridge to the outside: if it has a way out. From the outside
//! to a bridge, or from one bridge to another: answers, and what was published (`ct status dnat`). The rest is dropped. A
//! published port is found by address and port, then by port alone if the address is one of the host's; never for
//! 127.0.0.0/8 and ::1, whose ports are sockets of the data plane. Ports in a row that keep their numbers are one element
//! of a map of ranges, asked after the hashed map of single ports. The client's address is kept, except when a container
//! asks a published port that leads back to its own network: there the answer would bypass us, so the question is
//! masqueraded.
//!
//! *Isolated bridges.* Their members are ports that don't see each other's frames. What one sends another by way of the
//! host is dropped here like what goes from one network to another; the resolver's leg, which is on the bridge too, is
//! told from that by its time to live. With `bridge-nf-call-iptables` a bridge turns round by itself what was sent to a
//! published port of the same bridge, and loses it between isolated ports. Members of such a bridge are therefore not
//! led to ports on all addresses, which the data plane's sockets serve as well; to ports on one address, and to runs, of
//! a member of their own network they have no way there.

mod batch;
mod elements;
mod explain;
mod expr;
mod listing;
pub(crate) mod number;
mod skeleton;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use linkspan_plan::Firewall;
use nix::errno::Errno;

use batch::{Batch, Finished};
use elements::{Difference, Elements};
use listing::Listing;

pub(crate) use elements::Published;
pub use explain::{RuleView, SetView};
pub(crate) use listing::{concerns_our_table, concerns_rules_of_others};

use crate::netlink::NetfilterSocket;
use crate::{FirewallChange, FirewallError, TableState, sysctl};

/// Tries before a failure is reported: a first one that finds the table changed behind our back, one without
/// the flags that an older kernel lacks, and one that must do.
const ATTEMPTS: usize = 3;

/// The table, through the one socket that owns it.
#[derive(Debug)]
pub(crate) struct Table {
    socket: NetfilterSocket,
    /// Set when somebody else touched the table: what we remember may be wrong.
    stale: Arc<AtomicBool>,
    /// Does the kernel know owned and persistent tables?
    ownable: bool,
    /// What the kernel holds, if we know, and the table is intact and ours to write.
    held: Option<Elements>,
}

/// What [`Table::apply`] did.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) change: FirewallChange,
    /// Published ports that are new or lead elsewhere than before.
    pub(crate) published: Vec<Published>,
    /// Published ports that are gone, or led elsewhere before.
    pub(crate) unpublished: Vec<Published>,
}

impl Table {
    /// Opens the socket. The table is only touched by [`Table::apply`].
    pub(crate) fn open() -> io::Result<Self> {
        Ok(Self {
            socket: NetfilterSocket::open()?,
            stale: Arc::new(AtomicBool::new(false)),
            ownable: true,
            held: None,
        })
    }

    /// The port of our socket: messages about our own changes carry it.
    pub(crate) fn port(&self) -> u32 {
        self.socket.port()
    }

    /// Whoever sets this makes us list the table again.
    pub(crate) fn stale(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stale)
    }

    /// Is it ours alone to change, as far as this kernel lets us say so?
    pub(crate) fn is_owned(&self) -> bool {
        self.ownable && self.held.is_some()
    }

    /// Looks at the table.
    pub(crate) fn state(&mut self) -> Result<TableState, FirewallError> {
        Ok(match listing::list(&mut self.socket).map_err(cannot_read)? {
            Listing::Absent => TableState::Absent,
            Listing::Present {
                elements: Some(_), ..
            } => TableState::Intact,
            Listing::Present { elements: None, .. } => TableState::Damaged,
        })
    }

    /// Makes it hold exactly `desired`, in one transaction, or none if it does.
    pub(crate) fn apply(&mut self, desired: &Firewall) -> Result<Applied, FirewallError> {
        let desired = elements::compile(desired, sysctl::frames_are_shown())?;
        let mut failure = None;
        for attempt in 0..ATTEMPTS {
            match self.attempt(&desired, attempt > 0) {
                Ok(applied) => return Ok(applied),
                Err(FirewallError::Owned) => return Err(FirewallError::Owned),
                Err(error) => failure = Some(error),
            }
            self.held = None;
        }
        Err(failure.unwrap_or(FirewallError::Owned))
    }

    /// Every rule with what it does and what its sets hold; nothing if the table isn't there as we write it.
    pub(crate) fn explain(&mut self) -> Result<Vec<RuleView>, FirewallError> {
        Ok(match listing::list(&mut self.socket).map_err(cannot_read)? {
            Listing::Present {
                elements: Some(elements),
                ..
            } => explain::views(
                &elements,
                &listing::counters(&mut self.socket).map_err(cannot_read)?,
            ),
            Listing::Absent | Listing::Present { elements: None, .. } => Vec::new(),
        })
    }

    /// Deletes the table, if it is there.
    pub(crate) fn remove(&mut self) -> Result<(), FirewallError> {
        self.held = None;
        match listing::list(&mut self.socket).map_err(cannot_read)? {
            Listing::Absent => Ok(()),
            Listing::Present {
                owner: Some(owner), ..
            } if owner != self.socket.port() => Err(FirewallError::Owned),
            Listing::Present { .. } => {
                let mut batch = Batch::new(&mut self.socket);
                batch.delete_table();
                let batch = batch.finish();
                self.send(&batch)
            }
        }
    }

    /// One look and one transaction. `anew` writes everything, whatever is there.
    fn attempt(&mut self, desired: &Elements, anew: bool) -> Result<Applied, FirewallError> {
        let stale = self.stale.swap(false, Ordering::AcqRel);
        if stale || anew {
            self.held = None;
        }
        let mut claim = None;
        let mut replace = false;
        let before = match self.held.take() {
            Some(held) => Some(held),
            None => match listing::list(&mut self.socket).map_err(cannot_read)? {
                Listing::Absent => None,
                Listing::Present {
                    owner: Some(owner), ..
                } if owner != self.socket.port() => {
                    return Err(FirewallError::Owned);
                }
                Listing::Present {
                    persistent,
                    owner,
                    elements,
                } => {
                    replace = true;
                    claim = (persistent && owner.is_none()).then_some(());
                    // An ordinary table can't be made an owned one; where the kernel may have that, write anew.
                    elements.filter(|_| !anew && (persistent || !self.ownable))
                }
            },
        };
        let rebuilt = before.is_none();
        let difference = Difference::between(before.as_ref().unwrap_or(&Elements::new()), desired);
        if !rebuilt && claim.is_none() && difference.is_empty() {
            self.held = before;
            return Ok(Applied {
                change: FirewallChange::default(),
                published: Vec::new(),
                unpublished: Vec::new(),
            });
        }
        let ownable = self.ownable;
        let mut batch = Batch::new(&mut self.socket);
        if rebuilt {
            if replace {
                batch.delete_table();
            }
            batch.skeleton(ownable);
        } else if claim.is_some() {
            batch.claim_table();
        }
        batch.elements(&difference);
        let batch = batch.finish();
        self.send(&batch)?;
        self.held = Some(desired.clone());
        Ok(Applied {
            change: FirewallChange {
                added: elements::count(&difference.add),
                removed: elements::count(&difference.remove),
                rebuilt,
            },
            published: elements::published(&difference.add),
            unpublished: elements::published(&difference.remove),
        })
    }

    fn send(&mut self, batch: &Finished) -> Result<(), FirewallError> {
        let failed = self
            .socket
            .send_batch(&batch.bytes)
            .map_err(|source| FirewallError::Socket {
                action: "written",
                source,
            })?;
        let Some((sequence, errno)) = failed.first().copied() else {
            return Ok(());
        };
        let what = batch.what(sequence);
        if what.is_new_table() && matches!(errno, Errno::EOPNOTSUPP | Errno::EINVAL) && self.ownable {
            tracing::debug!("this kernel has no owned and persistent nftables tables");
            self.ownable = false;
        }
        Err(match errno {
            Errno::EPERM => FirewallError::Owned,
            Errno::EOPNOTSUPP | Errno::EPROTONOSUPPORT => FirewallError::Unsupported {
                what: what.to_string(),
            },
            Errno::ENOENT if what.is_rule() => FirewallError::Unsupported {
                what: what.to_string(),
            },
            errno => FirewallError::Refused {
                what: what.to_string(),
                source: errno.into(),
            },
        })
    }
}

fn cannot_read(source: io::Error) -> FirewallError {
    FirewallError::Socket {
        action: "read",
        source,
    }
}

#[cfg(test)]
mod tests;
