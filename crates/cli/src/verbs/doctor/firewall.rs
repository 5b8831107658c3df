//! `linkspan doctor firewall`: our rules in words, in the order in which a packet meets them, and the chains of others.

use linkspan_api::v1::{FirewallReport, ForeignView, RuleView};

use super::things;
use crate::terminal::{Colour, Paint, clean};

/// Our table chain by chain, then what others do.
pub(super) fn render(report: &FirewallReport, paint: Paint) -> String {
    let state = clean(&report.table);
    let state = match is_whole(&report.table) {
        true => paint.paint(Colour::Green, &state),
        false => paint.paint(Colour::Red, &state),
    };
    let mut out = format!("Table of Linkspan, `inet linkspan`: {state}\n");
    let place = |rule: &RuleView| (rule.chain.clone(), rule.hook.clone(), rule.priority);
    // The same chain may come again: the order of the packet is what counts.
    for chain in report.rules.chunk_by(|one, next| place(one) == place(next)) {
        out.push_str(&format!("\n{}\n", heading(&chain[0])));
        for (number, rule) in chain.iter().enumerate() {
            let words = clean(&rule.words);
            let families = match rule.families.as_slice() {
                [] => String::new(),
                families => format!(" ({})", clean(&families.join(" and "))),
            };
            let line = format!("{:>3}. {words}{families}{}\n", number + 1, elements(rule, paint));
            out.push_str(&line);
        }
    }
    out.push_str("\nChains of others that see the same packets\n");
    if report.foreign.is_empty() {
        out.push_str("\nthere are none\n");
    }
    for chain in &report.foreign {
        out.push_str(&foreign(chain, paint));
    }
    out
}

/// `forward, priority 0, chain `isolate``.
fn heading(rule: &RuleView) -> String {
    let (hook, chain) = (clean(&rule.hook), clean(&rule.chain));
    match hook.is_empty() {
        true => format!("chain `{chain}`, where other chains lead"),
        false => format!("{hook}, priority {}, chain `{chain}`", rule.priority),
    }
}

/// What the rule looks up, and how much there is.
fn elements(rule: &RuleView, paint: Paint) -> String {
    if rule.elements.is_empty() {
        return String::new();
    }
    let sets = rule.elements.iter().map(|(set, count)| {
        let count = usize::try_from(*count).unwrap_or(usize::MAX);
        format!("{}: {}", clean(set), things(count, "element"))
    });
    let sets: Vec<String> = sets.collect();
    format!(" {}", paint.paint(Colour::Dim, &format!("[{}]", sets.join(", "))))
}

fn foreign(chain: &ForeignView, paint: Paint) -> String {
    let mut out = format!(
        "\n{} of {}: {}, priority {}, policy {}\n",
        clean(&chain.chain),
        clean(&chain.owner),
        clean(&chain.hook),
        chain.priority,
        clean(&chain.policy)
    );
    let effect = format!("  {}\n", clean(&chain.effect));
    match &chain.remedy {
        None => out.push_str(&effect),
        Some(remedy) => {
            out.push_str(&paint.paint(Colour::Yellow, &effect));
            for line in remedy.lines() {
                out.push_str(&format!("  to change that: {}\n", clean(line)));
            }
        }
    }
    out
}

/// In a line.
pub(super) fn summary(report: &FirewallReport) -> String {
    let see = if report.foreign.len() == 1 { "sees" } else { "see" };
    format!(
        "{}; {}; {} of others {see} the same packets",
        clean(&report.table),
        things(report.rules.len(), "rule"),
        things(report.foreign.len(), "chain")
    )
}

/// The table if it is not whole, and each chain of somebody else that is in the way.
pub(super) fn troubles(report: &FirewallReport) -> Vec<String> {
    let table = (!is_whole(&report.table)).then(|| {
        format!(
            "the table `inet linkspan` is {}; the daemon puts it back by itself, and its log says if it can't",
            report.table
        )
    });
    let foreign = report.foreign.iter().filter_map(|chain| {
        let remedy = chain.remedy.as_deref()?;
        let mut text = format!("chain `{}` of {}: {}", chain.chain, chain.owner, chain.effect);
        for line in remedy.lines() {
            text.push_str(&format!("\nto change that: {line}"));
        }
        Some(text)
    });
    table.into_iter().chain(foreign).collect()
}

/// What stands before the colon says how the table is.
fn is_whole(table: &str) -> bool {
    let state = table.split(':').next().unwrap_or_default();
    let mut words = state.split(|c: char| !c.is_alphabetic());
    words.clone().any(|word| matches!(word, "owned" | "watched"))
        && !words.any(|word| matches!(word, "damaged" | "absent"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;

    use expect_test::expect;

    use super::*;

    pub(in super::super) fn report() -> FirewallReport {
        let rule = |chain: &str, hook: &str, priority, words: &str, elements: &[(&str, u64)]| RuleView {
            chain: chain.to_owned(),
            hook: hook.to_owned(),
            priority,
            words: words.to_owned(),
            elements: elements
                .iter()
                .map(|(set, count)| ((*set).to_owned(), *count))
                .collect::<BTreeMap<_, _>>(),
            families: match words.contains("127") {
                true => vec!["IPv4".to_owned(), "IPv6".to_owned()],
                false => Vec::new(),
            },
        };
        let foreign =
            |chain: &str, owner: &str, policy: &str, effect: &str, remedy: Option<&str>| ForeignView {
                chain: chain.to_owned(),
                hook: "forward".to_owned(),
                priority: 0,
                policy: policy.to_owned(),
                owner: owner.to_owned(),
                effect: effect.to_owned(),
                remedy: remedy.map(str::to_owned),
            };
        FirewallReport {
            table: "owned: nobody else can change it".to_owned(),
            rules: vec![
                rule(
                    "guard",
                    "prerouting",
                    -300,
                    "drops packets for 127.0.0.0/8 that did not come from this host",
                    &[],
                ),
                rule(
                    "guard",
                    "prerouting",
                    -300,
                    "drops packets from outside for a container's own address",
                    &[("containers4", 3), ("outside", 1)],
                ),
                rule(
                    "publish",
                    "prerouting",
                    -100,
                    "leads published ports to their containers",
                    &[("ports4", 200)],
                ),
            ],
            foreign: vec![
                foreign(
                    "ip filter FORWARD",
                    "Docker",
                    "drop",
                    "drops what containers send to each other and to the internet",
                    Some("iptables -I DOCKER-USER -j ACCEPT"),
                ),
                foreign(
                    "inet firewalld filter_FORWARD",
                    "firewalld",
                    "accept",
                    "lets it pass",
                    None,
                ),
            ],
        }
    }

    #[test]
    fn rules_come_in_the_order_of_the_packet_and_others_with_their_effect() {
        expect![[r#"
            Table of Linkspan, `inet linkspan`: owned: nobody else can change it

            prerouting, priority -300, chain `guard`
              1. drops packets for 127.0.0.0/8 that did not come from this host (IPv4 and IPv6)
              2. drops packets from outside for a container's own address [containers4: 3 elements, outside: 1 element]

            prerouting, priority -100, chain `publish`
              1. leads published ports to their containers [ports4: 200 elements]

            Chains of others that see the same packets

            ip filter FORWARD of Docker: forward, priority 0, policy drop
              drops what containers send to each other and to the internet
              to change that: iptables -I DOCKER-USER -j ACCEPT

            inet firewalld filter_FORWARD of firewalld: forward, priority 0, policy accept
              lets it pass
        "#]]
        .assert_eq(&render(&report(), Paint::PLAIN));
    }

    #[test]
    fn a_table_that_is_not_whole_needs_attention() {
        for (table, whole) in [
            ("owned", true),
            ("the table is owned by this daemon", true),
            ("watched: a damaged one is restored within a second", true),
            ("damaged: chain `guard` is gone", false),
            ("watched, damaged a moment ago", false),
            ("absent", false),
            ("", false),
        ] {
            let report = FirewallReport {
                table: table.to_owned(),
                ..FirewallReport::default()
            };
            assert_eq!(troubles(&report).is_empty(), whole, "{table}");
        }
    }
}
