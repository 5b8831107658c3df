//! The accepts in chains of the older packet filter, which only its own program can write.

use linkspan_plan::LINK_PREFIX;

use super::change::Change;
use super::{Accept, CHAINS, MARK, TABLE, command};
use crate::foreign;
use crate::nft::number;
use crate::{Backend, CoexistError};

/// The same in tables of the older filter, by its program; nothing if they are not in use.
pub(crate) async fn in_legacy(wanted: bool) -> Result<Vec<Accept>, CoexistError> {
    let mut accepts = Vec::new();
    for (family, chain) in CHAINS {
        let (program, save) = if family == number::IPV4 {
            ("iptables-legacy", "iptables-legacy-save")
        } else {
            ("ip6tables-legacy", "ip6tables-legacy-save")
        };
        let Some(text) = foreign::legacy_rules(family, save).await else {
            continue;
        };
        let mut tables = foreign::legacy_tables(&text);
        let Some(chain_found) = tables.get_mut(TABLE).and_then(|chains| chains.get_mut(chain)) else {
            continue;
        };
        // Its rules have no handles but their numbers.
        for (number, rule) in (1..).zip(&mut chain_found.rules) {
            rule.handle = number;
        }
        let change = Change::of(&chain_found.rules, wanted);
        let place = format!("{program} {chain}");
        for words in change.commands(chain, chain_found.rules.len()) {
            let words: Vec<&str> = words.iter().map(String::as_str).collect();
            foreign::run(program, &words)
                .await
                .map_err(|source| CoexistError::Refused {
                    command: command(family, Backend::Legacy, chain, wanted),
                    place: place.clone(),
                    source,
                })?;
        }
        accepts.extend(change.told(place, Backend::Legacy, wanted));
    }
    Ok(accepts)
}

impl Change {
    /// Arguments for the program, in an order in which the numbers stay right: from the last rule to the first.
    pub(super) fn commands(&self, chain: &str, rules: usize) -> Vec<Vec<String>> {
        let line = |text: String| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let place = self.before.unwrap_or(rules as u64 + 1);
        let mut deletions: Vec<u64> = self.delete.clone();
        deletions.sort_unstable_by(|a, b| b.cmp(a));
        let delete = |number: &u64| line(format!("-w 2 -D {chain} {number}"));
        let behind = deletions.iter().filter(|number| **number >= place).map(delete);
        let before = deletions.iter().filter(|number| **number < place).map(delete);
        let add = self.add.iter().rev().map(|side| {
            line(format!(
                "-w 2 -I {chain} {place} {} {LINK_PREFIX}b+ -m comment --comment {MARK} -j ACCEPT",
                side.option()
            ))
        });
        behind.chain(add).chain(before).collect()
    }
}
