//! What becomes of a packet in a base chain.

use super::rules::{Action, Chain, Chains, Packet, Rule};

/// Jumps within jumps; the kernel allows 16.
const DEEPEST: usize = 16;
/// Rules that are looked at for one packet. A firewall with more gets the answer *uncertain*.
const MOST: usize = 200_000;

/// What becomes of it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fate {
    Passes,
    /// Dropped by this, or not: that depends on what we don't know of it.
    Perhaps(String),
    /// Dropped by this.
    Dropped(String),
}

/// Walks the chain `name` with the packet.
pub(super) fn fate(chains: &Chains, name: &str, packet: &Packet<'_>) -> Fate {
    let Some(chain) = chains.get(name) else {
        return Fate::Passes;
    };
    let mut walk = Walk {
        chains,
        packet,
        accepted: false,
        dropped: None,
        left: MOST,
    };
    let end = walk.chain(name, chain, 0);
    let by_policy = || format!("the policy of chain `{name}`");
    let dropped = match end {
        End::Accepted => None,
        End::Dropped(by) => Some(by),
        End::Open => chain
            .base
            .as_ref()
            .is_some_and(|base| !base.accepts)
            .then(by_policy),
    };
    if walk.left == 0 {
        return Fate::Perhaps(format!("one of the many rules of chain `{name}`"));
    }
    match (dropped, walk.dropped) {
        (Some(by), _) if walk.accepted => Fate::Perhaps(by),
        (Some(by), _) => Fate::Dropped(by),
        (None, Some(by)) => Fate::Perhaps(by),
        (None, None) => Fate::Passes,
    }
}

struct Walk<'a> {
    chains: &'a Chains,
    packet: &'a Packet<'a>,
    /// A rule that may apply would accept it.
    accepted: bool,
    /// A rule that may apply would drop it.
    dropped: Option<String>,
    left: usize,
}

/// How a chain ended.
enum End {
    Accepted,
    Dropped(String),
    /// Its end was reached, or left by a return.
    Open,
}

impl Walk<'_> {
    fn chain(&mut self, name: &str, chain: &Chain, depth: usize) -> End {
        // A rule that may apply would leave the chain before what follows.
        let mut left_early = false;
        for (number, rule) in (1..).zip(&chain.rules) {
            if self.left == 0 {
                return End::Open;
            }
            self.left -= 1;
            let applies = rule.applies(self.packet);
            if applies == Some(false) {
                continue;
            }
            match self.rule(name, number, rule, &rule.action, depth) {
                None => {}
                Some(end) if applies == Some(true) && !left_early => return end,
                Some(End::Accepted) => self.accepted = true,
                Some(End::Dropped(by)) => self.dropped = self.dropped.take().or(Some(by)),
                Some(End::Open) => left_early = true,
            }
        }
        End::Open
    }

    /// Nothing: the next rule is asked.
    fn rule(
        &mut self,
        chain: &str,
        number: usize,
        rule: &Rule,
        action: &Action,
        depth: usize,
    ) -> Option<End> {
        match action {
            Action::Continue => None,
            Action::Accept => Some(End::Accepted),
            Action::Drop => Some(End::Dropped(place(chain, number, rule))),
            Action::Return => Some(End::Open),
            Action::Unknown => {
                self.accepted = true;
                None
            }
            Action::Jump(to) | Action::Goto(to) => {
                let target = self.chains.get(to).filter(|_| depth < DEEPEST)?;
                match self.chain(to, target, depth + 1) {
                    End::Open if matches!(action, Action::Jump(_)) => None,
                    end => Some(end),
                }
            }
            Action::Map(field, map) => {
                let packet = self.packet;
                let chosen = map.iter().find(|(key, _)| packet.says(*field, key) == Some(true));
                let (_, action) = chosen?;
                self.rule(chain, number, rule, action, depth)
            }
        }
    }
}

fn place(chain: &str, number: usize, rule: &Rule) -> String {
    match &rule.comment {
        Some(comment) => format!("rule {number} of chain `{chain}` ({comment})"),
        None => format!("rule {number} of chain `{chain}`"),
    }
}

#[cfg(test)]
mod tests;
