//! Prefixes and rewriting.

use linkspan_site::{PathRule, Rewrite};

use super::{echoing, line_of};
use crate::rig::{Rig, fields};

fn upstream_sees(rig: &Rig, path: &str) -> (String, Option<String>) {
    let answer = rig.ask(&format!(
        "GET {path} HTTP/1.1\nHost: a.test\nX-Forwarded-Prefix: /forged\n\n"
    ));
    assert_eq!(answer.status, 200, "{}", answer.text());
    let head = answer.text();
    let target = head.split(' ').nth(1).unwrap().to_owned();
    let prefix = fields(&head).remove("x-forwarded-prefix");
    (target, prefix.map(|values| values.join(", ")))
}

#[test]
fn the_upstream_sees_the_path_without_the_prefix_and_is_told_of_it() {
    let (mut rig, _upstream) = echoing("/api");
    rig.middleware().paths = vec![PathRule::Strip("/api".into())];
    rig.publish();
    let api = Some("/api".to_owned());
    assert_eq!(
        upstream_sees(&rig, "/api/v1?x=/api"),
        ("/v1?x=/api".to_owned(), api.clone())
    );
    assert_eq!(upstream_sees(&rig, "/api"), ("/".to_owned(), api));
    let lines = rig.access_lines(2);
    let line = line_of(&lines, "/api/v1?x=/api");
    assert_eq!(line.get("reason"), None, "the answer is the upstream's");
}

#[test]
fn rules_follow_each_other_and_no_dots_lead_out_of_them() {
    let (mut rig, _upstream) = echoing("/");
    rig.middleware().paths = vec![
        PathRule::Rewrite(vec![Rewrite {
            pattern: "^/old/(.*)$".into(),
            to: "/new/$1?from=old".into(),
        }]),
        PathRule::Add("/base".into()),
    ];
    rig.publish();
    assert_eq!(
        upstream_sees(&rig, "/old/x?y"),
        ("/base/new/x?from=old&y".to_owned(), None)
    );
    assert_eq!(upstream_sees(&rig, "/other"), ("/base/other".to_owned(), None));
    for path in ["/../secret", "/old/%2e%2e/%2e%2e/secret"] {
        let answer = rig.ask(&format!("GET {path} HTTP/1.1\nHost: a.test\n\n"));
        assert_eq!(answer.status, 400, "{path}");
    }
    let lines = rig.access_lines(4);
    let line = line_of(&lines, "/../secret");
    assert_eq!(
        (&line["outcome"], &line["reason"]),
        (&"refused".into(), &"path".into())
    );
}
