//! What a route can't do besides forwarding.

use expect_test::expect;

use crate::{check, lines};

/// A route for each line, all in one file.
fn routes(lines: &[&str]) -> String {
    let mut text = "containers: { web: { image: nginx } }\nroutes:\n".to_owned();
    for (number, line) in lines.iter().enumerate() {
        text.push_str(&format!("  a{number}/api: {{ {line} }}\n"));
    }
    text
}

#[test]
fn paths_that_can_not_be_changed_so() {
    lines(
        &routes(&[
            "to: web:80, strip_prefix: /other",
            "to: web:80, strip_prefix: api",
            "to: web:80, strip_prefix: false",
            "to: web:80, add_prefix: /",
            "to: web:80, add_prefix: /a/../b",
            "to: web:80, rewrite: ^/a",
            "to: web:80, rewrite: {}",
            "to: web:80, rewrite: { '^/(a': /b }",
            "to: web:80, rewrite: { '^/a{1000}{1000}': /b }",
            "to: web:80, rewrite: { '^/(a)': /$$2 }",
            "to: web:80, rewrite: { '^/(a)': '/$${b}' }",
            "to: web:80, rewrite: { '^/a': 'b' }",
            "to: web:80, rewrite: { '^/a': '/a b' }",
            "to: web:80, rewrite: { '^/(a)': /$1 }",
            "redirect: https://x.example, strip_prefix: true",
        ]),
        expect![[r#"
            line 3, column 39: no request of the route begins with `/other` (the route's path is `/api`; `true` strips that)
            line 4, column 39: `strip_prefix` can't be `api` (a path such as `/api`)
            line 5, column 39: `strip_prefix` can't be `false` (a path such as `/api`)
            line 6, column 37: `add_prefix` can't be `/` (a path such as `/api`)
            line 7, column 37: path `/a/../b` holds `.` or `..` (write the path that is meant)
            line 8, column 34: `rewrite` must be a mapping, not text (`rewrite: { "^/old/(.*)$": "/new/$$1" }`)
            line 9, column 34: `rewrite` is empty (`rewrite: { "^/old/(.*)$": "/new/$$1" }`)
            line 10, column 36: `^/(a` is no regular expression: unclosed group
            line 11, column 36: `^/a{1000}{1000}` is too large when compiled
            line 12, column 45: the expression has no group `2` (`$$1` is the first; `$${1}` where a letter or digit follows)
            line 13, column 46: the expression has no group `b` (`$$1` is the first; `$${1}` where a letter or digit follows)
            line 14, column 44: a path begins with `/`, unlike `b` (such as `/new/$$1`)
            line 15, column 44: ` ` can't stand in a path (percent-encode it)
            line 16, column 46: `$` begins a variable here, but no name follows (write `$$` for a dollar sign)
            line 17, column 43: `strip_prefix` belongs to `to` (a redirect forwards nothing)
        "#]],
    );
}

#[test]
fn a_route_for_the_whole_host_has_nothing_to_strip() {
    check(
        "routes:\n  a.example.com: { to: web:80, strip_prefix: true }\ncontainers: { web: { image: nginx } }\n",
        expect![[r#"
            error: the route has no path that could be stripped
             --> /srv/shop/linkspan.yaml:2:46
              |
            2 |   a.example.com: { to: web:80, strip_prefix: true }
              |                                              ^^^^
              = help: write the path: `strip_prefix: /api`
        "#]],
    );
}

#[test]
fn fields_that_are_not_the_site_s_to_change() {
    let request = |rules: &str| format!("to: web:80, headers: {{ request: {{ {rules} }} }}");
    let wrong = [
        request("set: { Connection: close }"),
        request("remove: [Transfer-Encoding]"),
        request("add: { content-length: 3 }"),
        request("set: { Host: a.example }"),
        request("set: { 'a b': c }"),
        request("set: { X-A: }"),
        request("set: { X-A: \"a\\nb\" }"),
        request("set: { X-A: 1 }, remove: [x-a]"),
        request("append: { X-A: 1 }"),
        "to: web:80, headers: { answer: {} }".to_owned(),
        "to: web:80, security_headers: maybe".to_owned(),
        "to: web:80, security_headers: { frame: allow, hsts: 1, referrer: no-referer }".to_owned(),
    ];
    lines(
        &routes(&wrong.each_ref().map(String::as_str)),
        expect![[r#"
        line 3, column 66: `Connection` belongs to one connection, and each side has its own
        line 4, column 56: `Transfer-Encoding` says how the body is to be read, which stays true
        line 5, column 70: `content-length` says how the body is to be read, which stays true
        line 6, column 60: the Host field is what the request was routed by (a container gets the client's, a server elsewhere its own)
        line 7, column 61: `a b` is no name of a field
        line 8, column 54: field `X-A` has no value (give it one, or write it under `remove`)
        line 9, column 59: the value holds a line break, a control character or a letter beyond ASCII (a field has one line of ASCII)
        line 10, column 73: field `x-a` is in two rules
        line 11, column 47: unknown key `append` in the rules of `headers` (the keys of the rules of `headers` are `set`, `add`, `remove`)
        line 12, column 36: unknown key `answer` in `headers` (the keys of `headers` are `request`, `response`)
        line 13, column 44: `security_headers` must be `true` or `false`
        line 14, column 53: `frame` can't be `allow` (`sameorigin`, `deny`, `any`)
        line 14, column 66: `hsts` has no unit: write `30s` or `1m30s`
        line 14, column 79: `referrer` can't be `no-referer` (did you mean `no-referrer`?)
    "#]],
    );
}

#[test]
fn a_file_of_users_that_is_missing_or_wrong() {
    use std::collections::BTreeMap;
    use std::path::Path;

    let text = "routes:\n  a: { to: web:80, basic_auth: ./none }\n  b: { to: web:80, basic_auth: { file: ./bad, realm: é } }\n  c: { to: web:80, basic_auth: { realm: x } }\ncontainers: { web: { image: nginx } }\n";
    let bad = "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\nbert:hunter2\nanna:hunter2\n";
    let files = BTreeMap::from([("./bad".to_owned(), bad.to_owned())]);
    let problems = linkspan_site::parse(&linkspan_site::Sources {
        file: Path::new(crate::FILE),
        text: text.as_bytes(),
        variables: &BTreeMap::new(),
        files: &files,
    })
    .unwrap_err();
    expect![[r#"
        line 2, column 32: `basic_auth` `./none` isn't there (it is sought from the folder of this file)
        line 3, column 40: `basic_auth` `./bad`, line 2: the password of `bert` is not hashed by bcrypt, Argon2, apr1 or {SHA}: `htpasswd -B` makes one that is
        line 3, column 40: `basic_auth` `./bad`, line 3: the password of `anna` is not hashed by bcrypt, Argon2, apr1 or {SHA}: `htpasswd -B` makes one that is
        line 3, column 54: `realm` must be a line of ASCII
        line 4, column 32: `basic_auth` needs a `file` (the path of a file that `htpasswd -B` wrote)
    "#]].assert_eq(&format!("{problems}\n"));
    let references = linkspan_site::references(text.as_bytes()).unwrap();
    assert_eq!(references.files, ["./bad".to_owned(), "./none".to_owned()].into());
}

#[test]
fn limits_that_are_none() {
    lines(
        &routes(&[
            "to: web:80, rate_limit: fast",
            "to: web:80, rate_limit: 0/s",
            "to: web:80, rate_limit: 10001/s",
            "to: web:80, rate_limit: { burst: 3 }",
            "to: web:80, rate_limit: { rate: 1/d, burst: 31 }",
            "to: web:80, rate_limit: { rate: 1/s, by: cookie }",
            "to: web:80, rate_limit: { rate: 1/s, by: header }",
            "to: web:80, concurrency: 0",
            "to: web:80, max_body: big",
        ]),
        expect![[r#"
            line 3, column 37: `rate_limit` must be a rate such as `10/s`, `100/m`, `1000/h` or `5000/d`
            line 4, column 37: `rate_limit` must let something in: for nobody, write `allow`
            line 5, column 37: `rate_limit` is more than 10000 in a second, which is no limit
            line 6, column 37: `rate_limit` needs a `rate` (such as `10/s`)
            line 7, column 37: such a burst would take more than 30 days to earn (make `burst` smaller or `rate` higher)
            line 8, column 54: `by` must be `address`, `route` or `header NAME`
            line 9, column 54: `by` must be `address`, `route` or `header NAME`
            line 10, column 38: `concurrency` must be from 1 to 1000000, not 0
            line 11, column 35: `max_body` must be a size such as `512m` or `1.5g`
        "#]],
    );
}

#[test]
fn answers_that_can_not_be_given() {
    lines(
        &routes(&[
            "to: web:80, maintenance: ./none.html",
            "to: web:80, error_pages: ./none.html",
            "to: web:80, error_pages: { 302: ./none.html, 502: [] }",
            "to: web:80, robots: never",
            "to: web:80, cors: { origins: 'https://a.example/path', methods: 'A B' }",
            "to: web:80, cors: { credentials: true }",
            "to: web:80, cors: { origins: [], credentials: true }",
            "redirect: 'https://b.example', robots: deny",
        ]),
        expect![[r#"
            line 3, column 38: `maintenance` `./none.html` isn't there (it is sought from the folder of this file)
            line 4, column 38: `error_pages` must be a mapping, not text (`error_pages: { 502: ./502.html }`)
            line 5, column 40: `302` is no status of an error (400 to 599)
            line 5, column 63: `error_pages` must be text, not a list
            line 6, column 33: `robots` can't be `never` (`deny`, `allow`)
            line 7, column 42: `origins` can't hold `https://a.example/path` (such as `https://app.example.com`, without a path; `cors: true` is for any)
            line 7, column 77: `methods` can't hold `A B` (such as `PUT`)
            line 8, column 33: `credentials` for any origin would let every site act as its visitor (name the `origins`)
            line 9, column 33: `origins` names none, so no browser would be let in (leave `cors` out, or write `cors: true` for any)
            line 10, column 44: `robots` belongs to `to` (a redirect forwards nothing)
        "#]],
    );
}

#[test]
fn pages_that_are_too_much_for_every_snapshot() {
    use std::collections::BTreeMap;
    use std::path::Path;

    let lines = [
        "to: web:80, maintenance: ./page.html",
        "to: web:80, error_pages: { 500: ./page.html, 502: ./page.html }",
        "to: web:80, error_pages: { 503: ./page.html }",
    ];
    let problems = |length| {
        let files = BTreeMap::from([("./page.html".to_owned(), "x".repeat(length))]);
        let text = routes(&lines);
        linkspan_site::parse(&linkspan_site::Sources {
            file: Path::new(crate::FILE),
            text: text.as_bytes(),
            variables: &BTreeMap::new(),
            files: &files,
        })
        .map_err(|problems| problems.to_string())
    };
    assert!(problems(512 << 10).is_ok(), "as much as there may be");
    expect![[r#"
        line 5, column 3: with this route the files that routes refer to come to more than 2 MiB, each counted where it is used (use shorter pages, and let them load pictures from elsewhere)
    "#]]
    .assert_eq(&format!("{}\n", problems((512 << 10) + 1).unwrap_err()));
}
