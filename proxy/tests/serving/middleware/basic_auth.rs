//! Users and passwords.

use std::time::Duration;

use linkspan_site::{BasicAuth, PasswordHash};

use super::{echoing, line_of};
use crate::rig::{Answer, Raw, Rig, fields};

/// Of `password`.
const SHA: &str = "W6ph5Mm5Pz8GgiULbPgzG37mj9g=";
/// Of `myPassword`.
const BCRYPT: &str = "$2y$05$abcdefghijklmnopqrstuugwV8qBBvnFAgKU/1lAQTjzoU4mNz2BW";

fn auth(rig: &mut Rig) -> &mut BasicAuth {
    rig.middleware().basic_auth.insert(BasicAuth {
        realm: "the \"back\" office".into(),
        users: [
            ("anna".to_owned(), PasswordHash::Bcrypt(BCRYPT.into())),
            ("bert".to_owned(), PasswordHash::Sha1(SHA.into())),
        ]
        .into(),
        forward_authorization: false,
    })
}

fn ask(rig: &Rig, path: &str, pair: Option<&str>) -> Answer {
    use base64::Engine as _;
    let field = pair
        .map(|pair| base64::engine::general_purpose::STANDARD.encode(pair))
        .map(|pair| format!("Authorization: Basic {pair}\n"));
    let field = field.unwrap_or_default();
    rig.ask(&format!("GET {path} HTTP/1.1\nHost: a.test\n{field}\n"))
}

#[test]
fn rfc_7617_only_who_knows_a_password_enters_and_the_upstream_never_sees_it() {
    let (mut rig, upstream) = echoing("/");
    auth(&mut rig);
    rig.publish();
    let wrong = [
        None,
        Some("anna:mypassword"),
        Some("anna:"),
        Some("bert:myPassword"),
        Some("carl:password"),
    ];
    for pair in wrong {
        let answer = ask(&rig, "/", pair);
        assert_eq!(answer.status, 401, "{pair:?}");
        assert_eq!(
            answer.field("www-authenticate"),
            Some(r#"Basic realm="the \"back\" office", charset="UTF-8""#)
        );
    }
    assert_eq!(upstream.connections(), 0, "nobody got that far");
    for pair in ["anna:myPassword", "anna:myPassword", "bert:password"] {
        let answer = ask(&rig, &format!("/{pair}"), Some(pair));
        assert_eq!(answer.status, 200, "{pair}");
        assert!(!fields(&answer.text()).contains_key("authorization"));
    }
    // Who was right before is asked again once the file has changed.
    auth(&mut rig).users.remove("bert");
    rig.publish();
    assert_eq!(ask(&rig, "/", Some("bert:password")).status, 401);
    assert_eq!(ask(&rig, "/", Some("anna:myPassword")).status, 200);
    let lines = rig.access_lines(10);
    assert_eq!(line_of(&lines, "/anna:myPassword")["user"], "anna");
    let refused = lines.iter().filter(|line| line["reason"] == "credentials");
    assert_eq!(
        refused
            .filter(|line| line["outcome"] == "refused" && line.get("user").is_none())
            .count(),
        6
    );
}

#[test]
fn the_upstream_sees_the_password_where_the_route_says_so() {
    let (mut rig, _upstream) = echoing("/");
    auth(&mut rig).forward_authorization = true;
    rig.publish();
    let answer = ask(&rig, "/", Some("bert:password"));
    assert_eq!(
        fields(&answer.text())["authorization"],
        ["Basic YmVydDpwYXNzd29yZA=="]
    );
}

#[test]
fn a_request_that_waits_is_not_let_past_a_password_that_was_asked_for_meanwhile() {
    let (mut rig, upstream) = echoing("/");
    rig.no_service("p/web", true, None);
    rig.publish();
    let mut client = Raw::connect(rig.http);
    client.send("GET / HTTP/1.1\nHost: a.test\n\n");
    std::thread::sleep(Duration::from_millis(200));
    auth(&mut rig);
    rig.service("p/web", &[("web-1", 1)]);
    rig.publish();
    let answer = client.answer();
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(answer.text().contains("ask again"), "{}", answer.text());
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn who_asks_for_preflight_or_robots_needs_no_password() {
    let (mut rig, upstream) = echoing("/");
    auth(&mut rig);
    rig.middleware().robots_deny = true;
    rig.middleware().cors = Some(linkspan_site::Cors::default());
    rig.publish();
    let preflight =
        "OPTIONS / HTTP/1.1\nHost: a.test\nOrigin: https://b.test\nAccess-Control-Request-Method: PUT\n\n";
    assert_eq!(rig.ask(preflight).status, 204);
    assert_eq!(rig.ask("GET /robots.txt HTTP/1.1\nHost: a.test\n\n").status, 200);
    assert_eq!(ask(&rig, "/", None).status, 401);
    assert_eq!(upstream.connections(), 0);
}
