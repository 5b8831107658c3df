//! Every rule has words.

use super::*;

#[test]
fn every_rule_is_explained_and_ends_in_something() {
    for view in views(&Elements::new(), &Counters::new()) {
        assert!(!view.words.is_empty(), "no words for `{}`", view.comment);
        assert!(!view.action.is_empty(), "{view:?}");
        let text = view.matches.join(" ");
        assert!(!text.contains('?'), "{view:?}");
    }
}

#[test]
fn conditions_are_told_as_nft_would() {
    let views = views(&Elements::new(), &Counters::new());
    let of = |comment: &str| {
        let view = views.iter().find(|view| view.comment == comment).unwrap();
        format!("{} {}", view.matches.join(" "), view.action)
    };
    assert_eq!(
        of("published on an address, IPv4"),
        "meta nfproto ipv4 dnat ip to meta l4proto . ip daddr . th dport map @publish4"
    );
    assert_eq!(
        of("on an isolated network, to the resolver"),
        "iifname @isolated iifname . oifname @same meta nfproto ipv4 ip daddr 169.254.53.53 accept"
    );
    assert_eq!(
        of("a container's false source, IPv6"),
        "iifname @bridges meta nfproto ipv6 ip6 saddr != :: fib saddr . iif oif missing drop"
    );
}
