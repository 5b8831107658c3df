//! What is answered without asking the upstream.

use linkspan_site::{Cors, Maintenance, Page, PageKind};

use super::{echoing, line_of};
use crate::rig::{Rig, Upstream};

fn page(text: &str) -> Page {
    Page {
        kind: PageKind::Html,
        text: text.to_owned(),
    }
}

#[test]
fn a_route_that_is_closed_shows_its_page_and_asks_nobody() {
    let (mut rig, upstream) = echoing("/");
    rig.middleware().maintenance = Some(Maintenance {
        page: Some(page("<h1>back soon</h1>")),
    });
    rig.publish();
    let answer = rig.ask("GET /x HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (503, "<h1>back soon</h1>")
    );
    assert_eq!(answer.field("content-type"), Some("text/html; charset=utf-8"));
    assert!(answer.field("retry-after").is_some());
    assert_eq!(upstream.connections(), 0);
    assert_eq!(line_of(&rig.access_lines(1), "/x")["reason"], "maintenance");
}

#[test]
fn a_page_stands_for_our_own_answers_and_the_upstream_s_stay() {
    let upstream = Upstream::saying("HTTP/1.1 503 Own\ncontent-length: 3\n\nown");
    let mut rig = Rig::with_upstream(&upstream);
    rig.middleware().error_pages = [(503, page("<h1>ours</h1>"))].into();
    rig.publish();
    assert_eq!(rig.ask("GET / HTTP/1.1\nHost: a.test\n\n").text(), "own");
    rig.no_service("p/web", false, Some("stopped"));
    rig.publish();
    let answer = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!((answer.status, answer.text().as_str()), (503, "<h1>ours</h1>"));
}

#[test]
fn search_engines_are_told_to_stay_away() {
    let (mut rig, upstream) = echoing("/");
    rig.middleware().robots_deny = true;
    rig.publish();
    let answer = rig.ask("GET /robots.txt HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(
        (answer.status, answer.text().as_str()),
        (200, "User-agent: *\nDisallow: /\n")
    );
    assert_eq!(upstream.connections(), 0);
    let answer = rig.ask("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(answer.field("x-robots-tag"), Some("noindex, nofollow"));
}

#[test]
fn fetch_section_3_2_scripts_of_named_origins_only() {
    let upstream = Upstream::saying(
        "HTTP/1.1 200 OK\ncontent-length: 0\naccess-control-allow-origin: *\naccess-control-allow-credentials: true\n\n",
    );
    let mut rig = Rig::with_upstream(&upstream);
    rig.middleware().cors = Some(Cors {
        origins: vec!["https://app.test".into()],
        credentials: true,
        max_age: 60,
        ..Cors::default()
    });
    rig.publish();
    let preflight = |origin: &str| {
        rig.ask(&format!(
            "OPTIONS / HTTP/1.1\nHost: a.test\nOrigin: {origin}\nAccess-Control-Request-Method: PUT\nAccess-Control-Request-Headers: x-a\n\n"
        ))
    };
    let answer = preflight("https://app.test");
    assert_eq!(answer.status, 204);
    assert_eq!(
        answer.field("access-control-allow-origin"),
        Some("https://app.test")
    );
    assert_eq!(answer.field("access-control-allow-methods"), Some("PUT"));
    assert_eq!(answer.field("access-control-allow-headers"), Some("x-a"));
    assert_eq!(answer.field("access-control-allow-credentials"), Some("true"));
    assert_eq!(answer.field("access-control-max-age"), Some("60"));
    let answer = preflight("https://evil.test");
    assert_eq!(
        (answer.status, answer.field("access-control-allow-origin")),
        (204, None)
    );
    assert_eq!(answer.field("access-control-allow-methods"), None);
    assert_eq!(upstream.connections(), 0, "the upstream is not asked");
    for (origin, allowed) in [
        ("https://app.test", Some("https://app.test")),
        ("https://evil.test", None),
    ] {
        let answer = rig.ask(&format!("GET / HTTP/1.1\nHost: a.test\nOrigin: {origin}\n\n"));
        assert_eq!(answer.field("access-control-allow-origin"), allowed);
        assert_eq!(
            answer.field("access-control-allow-credentials"),
            allowed.map(|_| "true")
        );
        assert_eq!(answer.field("vary"), Some("origin"));
    }
}
