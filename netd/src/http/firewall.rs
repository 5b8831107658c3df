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
        rules: rules.iter().map(rule).collect(),
        foreign: foreign.iter().map(foreign_view).collect(),
    }))
}

fn rule(rule: &linkspan_hostnet::RuleView) -> RuleView {
    RuleView {
        chain: rule.chain.to_owned(),
        hook: rule.hook.to_owned(),
        priority: rule.priority,
        words: rule.words.to_owned(),
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
