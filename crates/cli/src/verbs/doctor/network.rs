//! `linkspan doctor network`: who uses which range, and how each network of ours came by its own.

use linkspan_api::v1::NetworkReport;

use super::things;
use crate::table::Table;
use crate::terminal::{Colour, Paint, clean};

/// Two tables, and what could not be read.
pub(super) fn render(report: &NetworkReport, paint: Paint) -> String {
    let mut out = String::from("Ranges that others use\n\n");
    if report.claims.is_empty() {
        out.push_str("none was found\n");
    } else {
        let mut claims = Table::new(&["RANGE", "USED BY", "KEPT CLEAR OF"]);
        for claim in &report.claims {
            let counts = match &claim.disregarded {
                Some(why) => format!("no: {why}"),
                None => "yes".to_owned(),
            };
            claims.row([&claim.range, &claim.source, &counts]);
        }
        out.push_str(&claims.render());
    }
    out.push_str("\nNetworks of Linkspan\n\n");
    if report.networks.is_empty() {
        out.push_str("none; `linkspan up` and `linkspan network create` make them\n");
    } else {
        let mut networks = Table::new(&["NETWORK", "RANGE", "WHY THIS ONE", "CONFLICT"]);
        for choice in &report.networks {
            let left = choice.left.join(", ");
            let conflict = match (&choice.conflict, left.is_empty()) {
                (Some(conflict), _) => conflict.clone(),
                (None, false) => format!("none since it moved away from {left}"),
                (None, true) => "none".to_owned(),
            };
            networks.row([&choice.network, &choice.range, &choice.reason, &conflict]);
        }
        out.push_str(&networks.render());
    }
    if !report.notes.is_empty() {
        out.push('\n');
    }
    for note in &report.notes {
        out.push_str(&format!(
            "{} {}\n",
            paint.paint(Colour::Yellow, "note"),
            clean(note)
        ));
    }
    let troubles = troubles(report);
    if !troubles.is_empty() {
        out.push('\n');
    }
    for trouble in troubles {
        let sign = paint.paint(Colour::Yellow, "attention");
        out.push_str(&format!("{sign} {}\n", clean(&trouble)));
    }
    out
}

/// In a line.
pub(super) fn summary(report: &NetworkReport) -> String {
    // A network has a row for each of its ranges.
    let mut names: Vec<&str> = report
        .networks
        .iter()
        .map(|choice| choice.network.as_str())
        .collect();
    names.sort_unstable();
    names.dedup();
    let all = report.claims.len();
    let counting = report
        .claims
        .iter()
        .filter(|claim| claim.disregarded.is_none())
        .count();
    let verb = |count, one: &'static str, more: &'static str| if count == 1 { one } else { more };
    let mut text = format!(
        "{}; {} {} in use by others",
        things(names.len(), "network"),
        things(counting, "range"),
        verb(counting, "is", "are")
    );
    if all > counting {
        let rest = all - counting;
        text.push_str(&format!(", {rest} more {} not count", verb(rest, "does", "do")));
    }
    text
}

/// A line for each network that shares its range with somebody.
pub(super) fn troubles(report: &NetworkReport) -> Vec<String> {
    let line = |choice: &linkspan_api::v1::ChoiceView| {
        let conflict = choice.conflict.as_deref()?;
        Some(format!(
            "network `{}` ({}): {conflict}",
            choice.network, choice.range
        ))
    };
    report.networks.iter().filter_map(line).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use expect_test::expect;
    use linkspan_api::v1::{ChoiceView, ClaimView};

    use super::*;

    pub(in super::super) fn report() -> NetworkReport {
        let claim = |range: &str, source: &str, disregarded: Option<&str>| ClaimView {
            range: range.to_owned(),
            source: source.to_owned(),
            disregarded: disregarded.map(str::to_owned),
        };
        let choice = |network: &str, range: &str, reason: &str, conflict: Option<&str>| ChoiceView {
            network: network.to_owned(),
            range: range.to_owned(),
            reason: reason.to_owned(),
            conflict: conflict.map(str::to_owned),
            left: Vec::new(),
        };
        NetworkReport {
            claims: vec![
                claim("10.20.0.0/16", "route in table 100 via `tun1`", None),
                claim("0.0.0.0/1", "route via `tun1`", Some("half of a default route")),
            ],
            networks: vec![
                choice(
                    "shop_default",
                    "10.192.4.0/24",
                    "chosen from pool 10.192.0.0/12",
                    None,
                ),
                choice(
                    "shop_default",
                    "fd6c:1::/64",
                    "of this host's own prefix fd6c::/48",
                    None,
                ),
                choice(
                    "office",
                    "10.20.0.0/24",
                    "written by hand",
                    Some("meets route via `tun1`; it was written, so it stays"),
                ),
            ],
            notes: vec!["`/etc/wireguard/wg0.conf` can't be read: permission denied".to_owned()],
        }
    }

    #[test]
    fn every_claim_has_its_source_and_every_network_its_reason() {
        expect![[r#"
            Ranges that others use

            RANGE          USED BY                         KEPT CLEAR OF
            10.20.0.0/16   route in table 100 via `tun1`   yes
            0.0.0.0/1      route via `tun1`                no: half of a default route

            Networks of Linkspan

            NETWORK        RANGE           WHY THIS ONE                          CONFLICT
            shop_default   10.192.4.0/24   chosen from pool 10.192.0.0/12        none
            shop_default   fd6c:1::/64     of this host's own prefix fd6c::/48   none
            office         10.20.0.0/24    written by hand                       meets route via `tun1`; it was written, so it stays

            note `/etc/wireguard/wg0.conf` can't be read: permission denied

            attention network `office` (10.20.0.0/24): meets route via `tun1`; it was written, so it stays
        "#]]
        .assert_eq(&render(&report(), Paint::PLAIN));
    }

    #[test]
    fn a_move_is_shown_beside_its_network_and_needs_no_attention() {
        let mut report = report();
        report.networks.retain(|choice| choice.conflict.is_none());
        report.networks[0].left = vec!["10.192.9.0/24".to_owned()];
        let text = render(&report, Paint::PLAIN);
        assert!(
            text.contains("none since it moved away from 10.192.9.0/24"),
            "{text}"
        );
        assert_eq!(troubles(&report), Vec::<String>::new());
    }

    #[test]
    fn a_host_without_anything_is_told_apart_from_one_that_was_not_looked_at() {
        expect![[r#"
            Ranges that others use

            none was found

            Networks of Linkspan

            none; `linkspan up` and `linkspan network create` make them
        "#]]
        .assert_eq(&render(&NetworkReport::default(), Paint::PLAIN));
    }
}
