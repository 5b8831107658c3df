//! What makes a chain of somebody else as it should be, whatever its packet filter.

use std::collections::BTreeSet;

use super::{Accept, AcceptChange, MARK};
use crate::Backend;
use crate::foreign::{Action, Rule};

/// The two rules in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    From,
    To,
}

const SIDES: [Side; 2] = [Side::From, Side::To];

/// What makes a chain as it should be.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Change {
    /// Handles, in legacy tables numbers.
    pub(super) delete: Vec<u64>,
    pub(super) add: Vec<Side>,
    /// Behind the rules of the user: before the chain's closing return, if it has one.
    pub(super) before: Option<u64>,
}

impl Change {
    pub(super) fn of(rules: &[Rule], wanted: bool) -> Self {
        let closing = rules.iter().position(ends_all).unwrap_or(rules.len());
        let mut change = Self {
            before: rules.get(closing).map(|rule| rule.handle),
            ..Self::default()
        };
        let mut missing: BTreeSet<bool> = [true, false].into();
        for (number, rule) in rules.iter().enumerate() {
            let Some(side) = side(rule) else { continue };
            // One that is never reached, or there twice, is as good as none.
            let keep = wanted && number < closing && missing.remove(&(side == Side::From));
            if !keep {
                change.delete.push(rule.handle);
            }
        }
        if wanted {
            change.add = SIDES
                .into_iter()
                .filter(|side| missing.contains(&(*side == Side::From)))
                .collect();
        }
        change
    }

    pub(super) fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.add.is_empty()
    }

    pub(super) fn told(&self, place: String, backend: Backend, wanted: bool) -> Option<Accept> {
        let done = match (wanted, self.is_empty()) {
            (true, true) => AcceptChange::Kept,
            (true, false) => AcceptChange::Made,
            (false, false) => AcceptChange::Removed,
            (false, true) => return None,
        };
        Some(Accept { place, backend, done })
    }
}

/// Does nothing come behind this rule?
fn ends_all(rule: &Rule) -> bool {
    let ends = matches!(
        rule.action,
        Action::Accept | Action::Drop | Action::Return | Action::Goto(_)
    );
    ends && rule.conditions.is_empty()
}

/// Is it a rule of ours, and which?
fn side(rule: &Rule) -> Option<Side> {
    let ours = rule.comment.as_deref() == Some(MARK) && rule.is_for_us();
    ours.then(|| {
        if rule.is_for_incoming() {
            Side::From
        } else {
            Side::To
        }
    })
}

impl Side {
    /// Of `iptables`.
    pub(super) fn option(self) -> &'static str {
        match self {
            Self::From => "-i",
            Self::To => "-o",
        }
    }
}
