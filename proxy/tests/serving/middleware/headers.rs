//! Fields that are set, added and removed, and the preset.

use linkspan_site::{HeaderRules, SecurityHeaders};

use super::echoing;
use crate::rig::{Rig, Upstream, fields};

fn pair(name: &str, value: &str) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[test]
fn the_upstream_and_the_client_see_the_fields_that_the_route_says() {
    let (mut rig, _upstream) = echoing("/");
    let middleware = rig.middleware();
    middleware.headers.request = HeaderRules {
        set: vec![pair("x-env", "production"), pair("x-forwarded-proto", "https")],
        add: vec![pair("x-list", "ours")],
        remove: vec!["x-debug".into()],
    };
    middleware.headers.response = HeaderRules {
        set: vec![pair("x-answer", "set")],
        ..HeaderRules::default()
    };
    rig.publish();
    let answer =
        rig.ask("GET / HTTP/1.1\nHost: a.test\nX-Env: forged\nX-List: theirs\nX-Debug: 1\nX-Debug: 2\n\n");
    let seen = fields(&answer.text());
    assert_eq!(seen["x-env"], ["production"]);
    assert_eq!(seen["x-list"], ["theirs", "ours"]);
    assert_eq!(seen["x-forwarded-proto"], ["https"]);
    assert!(!seen.contains_key("x-debug"));
    assert_eq!(answer.field("x-answer"), Some("set"));
}

#[test]
fn the_preset_leaves_what_the_upstream_says_and_is_on_answers_of_our_own_too() {
    let upstream = Upstream::saying(
        "HTTP/1.1 200 OK\ncontent-length: 0\nx-frame-options: ALLOW-FROM x\nserver: secret/1.0\n\n",
    );
    let mut rig = Rig::with_upstream(&upstream);
    let middleware = rig.middleware();
    middleware.security_headers = Some(SecurityHeaders::default());
    middleware.headers.response.remove = vec!["server".into()];
    rig.publish();
    let answer = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(answer.field("x-frame-options"), Some("ALLOW-FROM x"));
    assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
    assert_eq!(answer.field("strict-transport-security"), None, "over plain HTTP");
    assert_eq!(answer.field("server"), None);
    rig.no_service("p/web", false, Some("stopped"));
    rig.publish();
    let answer = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(answer.status, 503);
    assert_eq!(answer.field("x-frame-options"), Some("SAMEORIGIN"));
}
