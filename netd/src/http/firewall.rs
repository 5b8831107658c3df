//! The firewall in words: our rules, and what those of others do to our traffic.

use http::StatusCode;
use linkspan_api::v1::{FirewallReport, ForeignView, RuleView};
use linkspan_hostnet::ForeignChain;
use linkspan_telemetry::chain;

use super::Api;
use super::answer::{Answer, Response};

pub(crate) async fn report(api: &Api) -> Result<Response, Response> {
    let failed =
        |error: &dyn std::error::Error| Answer::failure(StatusCode::INTERNAL_SERVER_ERROR, chain(error));
    let rules = api
        .hostnet
        .explain_firewall()
        .await
        .map_err(|error| failed(&error))?;
    let foreign = api
        .hostnet
        .foreign_chains()
        .await
        .map_err(|error| failed(&error))?;
    let table = match (rules.is_empty(), api.hostnet.owns_firewall().await) {
        (true, _) => "absent or damaged: it is written anew with the next change",
        (false, true) => "owned: nobody but Linkspan can change it while the daemon runs",
        (false, false) => "watched: this kernel has no owned tables; it is restored when somebody changes it",
    };
    Ok(Answer::json(&FirewallReport {
        table: table.to_owned(),
        rules: one_for_both_families(rules.iter().map(rule)),
        foreign: foreign.iter().map(foreign_view).collect(),
    }))
}

fn rule(rule: &linkspan_hostnet::RuleView) -> RuleView {
    RuleView {
        chain: rule.chain.to_owned(),
        hook: rule.hook.to_owned(),
        priority: rule.priority,
        words: rule.words.to_owned(),
        families: rule.family.map(str::to_owned).into_iter().collect(),
        elements: rule
            .sets
            .iter()
            .map(|set| {
                (
                    set.name.to_owned(),
                    u64::try_from(set.elements).unwrap_or(u64::MAX),
                )
            })
            .collect(),
    }
}

/// Rules that say the same of either family are one to a person.
fn one_for_both_families(rules: impl Iterator<Item = RuleView>) -> Vec<RuleView> {
    let mut merged: Vec<RuleView> = Vec::new();
    for rule in rules {
        let twin = merged.last_mut().filter(|before| {
            let place = |rule: &RuleView| (rule.chain.clone(), rule.hook.clone(), rule.priority);
            let differ = !rule.families.is_empty() && !before.families.contains(&rule.families[0]);
            place(before) == place(&rule)
                && before.words == rule.words
                && before.families.len() == 1
                && differ
        });
        match twin {
            Some(twin) => {
                twin.families.extend(rule.families);
                twin.elements.extend(rule.elements);
            }
            None => merged.push(rule),
        }
    }
    merged
}

fn foreign_view(chain: &ForeignChain) -> ForeignView {
    let owners: Vec<String> = chain.owners.iter().map(ToString::to_string).collect();
    ForeignView {
        chain: format!("{} {} {}", chain.family, chain.table, chain.name),
        hook: chain.hook.to_owned(),
        priority: chain.priority,
        policy: if chain.accepts_by_policy { "accept" } else { "drop" }.to_owned(),
        owner: if owners.is_empty() {
            "somebody".to_owned()
        } else {
            owners.join(", ")
        },
        effect: chain.words.clone(),
        remedy: chain.remedy.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_of_either_family_is_told_once() {
        let rule = |words: &str, family: Option<&str>, set: &str| RuleView {
            chain: "guard".to_owned(),
            hook: "prerouting".to_owned(),
            priority: -300,
            words: words.to_owned(),
            elements: [(set.to_owned(), 1)].into(),
            families: family.map(str::to_owned).into_iter().collect(),
        };
        let merged = one_for_both_families(
            [
                rule("a", None, "x"),
                rule("a", None, "y"),
                rule("b", Some("IPv4"), "four"),
                rule("b", Some("IPv6"), "six"),
                rule("b", Some("IPv6"), "more"),
                rule("c", Some("IPv6"), "z"),
            ]
            .into_iter(),
        );
        let told: Vec<String> = merged
            .iter()
            .map(|rule| format!("{} {:?} {}", rule.words, rule.families, rule.elements.len()))
            .collect();
        assert_eq!(
            told,
            [
                "a [] 1",
                "a [] 1",
                "b [\"IPv4\", \"IPv6\"] 2",
                "b [\"IPv6\"] 1",
                "c [\"IPv6\"] 1"
            ]
        );
    }
}
