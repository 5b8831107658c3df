//! Which route a request takes, by host and path.

use super::*;

fn router(routes: &[(&str, &str)]) -> Router {
    let patterns: Vec<_> = routes
        .iter()
        .map(|(host, path)| {
            let pattern = match host.strip_prefix("*.") {
                Some(name) => HostPattern::Wildcard(name.to_owned()),
                None if *host == "*" => HostPattern::Default,
                None => HostPattern::Exact((*host).to_owned()),
            };
            (pattern, *path)
        })
        .collect();
    Router::new(patterns.iter().map(|(host, path)| (host, *path)))
}

/// Looks up `host/path` and names the route found.
fn look(router: &Router, routes: &[(&str, &str)], url: &str) -> String {
    let slash = url.find('/').expect("a path");
    let (authority, path) = url.split_at(slash);
    let Some(name) = host(authority) else {
        return "bad host".to_owned();
    };
    match router.find(&name, path) {
        Found::Route(n) => format!("{}{}", routes[n].0, routes[n].1),
        other => format!("{other:?}"),
    }
}

#[test]
fn the_routing_table_picks_the_narrowest_host_and_the_longest_path() {
    let routes = [
        ("shop.example.com", "/"),
        ("shop.example.com", "/api"),
        ("shop.example.com", "/api/v2"),
        ("only.example.com", "/in"),
        ("*.example.com", "/"),
        ("*.preview.example.com", "/"),
        ("*", "/"),
    ];
    let router = router(&routes);
    let table = [
        ("shop.example.com/", "shop.example.com/"),
        ("shop.example.com/api", "shop.example.com/api"),
        ("shop.example.com/api/", "shop.example.com/api"),
        ("shop.example.com/api/v1", "shop.example.com/api"),
        ("shop.example.com/api/v2/x", "shop.example.com/api/v2"),
        ("shop.example.com/apis", "shop.example.com/"),
        ("shop.example.com/API", "shop.example.com/"),
        ("SHOP.Example.com./api", "shop.example.com/api"),
        ("shop.example.com:8443/api", "shop.example.com/api"),
        ("only.example.com/in", "only.example.com/in"),
        ("only.example.com/out", "NoPath"),
        ("a.example.com/", "*.example.com/"),
        ("a.b.example.com/", "*/"),
        ("x.preview.example.com/", "*.preview.example.com/"),
        ("preview.example.com/", "*.example.com/"),
        ("example.com/", "*/"),
        ("[::1]:80/", "*/"),
        ("192.0.2.1/", "*/"),
        ("user@shop.example.com/", "bad host"),
        ("shop.example.com:http/", "bad host"),
        ("shop.example.com:99999/", "bad host"),
        (".example.com/", "bad host"),
        ("a b/", "bad host"),
    ];
    for (url, expected) in table {
        assert_eq!(look(&router, &routes, url), expected, "{url}");
    }
}

#[test]
fn a_host_that_nobody_names_is_unknown_when_there_is_no_default() {
    let router = router(&[("a.test", "/")]);
    assert_eq!(router.find("b.test", "/"), Found::UnknownHost);
    assert_eq!(router.find("a.test", "/"), Found::Route(0));
}

#[test]
fn encoded_and_dotted_paths_meet_the_route_that_the_server_behind_would_see() {
    let routes = [("a.test", "/"), ("a.test", "/admin")];
    let router = router(&routes);
    let table = [
        ("a.test/%61dmin", "a.test/admin"),
        ("a.test/%61dmin/x", "a.test/admin"),
        ("a.test/x/../admin", "a.test/admin"),
        ("a.test/x/%2e%2E/admin", "a.test/admin"),
        ("a.test/./admin", "a.test/admin"),
        ("a.test/admin/..", "a.test/"),
        ("a.test/../../admin", "a.test/admin"),
        // Two readings, two routes: refused.
        ("a.test/admin%2Fx", "Ambiguous"),
        ("a.test//admin", "Ambiguous"),
        ("a.test/x%2f..%2fadmin", "Ambiguous"),
        ("a.test/\\admin", "Ambiguous"),
        ("a.test/admin/%2e%2e%2fx", "Ambiguous"),
        ("a.test/x/..;/admin", "Ambiguous"),
        ("a.test/admin;x=1/y", "Ambiguous"),
        ("a.test/x/%252e%252e/admin", "Ambiguous"),
        ("a.test/admin%00/y", "Ambiguous"),
        ("a.test/z%2f..%2fadmin/;%2f..%2fy", "Ambiguous"),
        ("a.test/x%2500%2f..%2fadmin/", "Ambiguous"),
        ("a.test/x%00%2f..%2fadmin/", "Ambiguous"),
        ("a.test/z%2f..%2fadmin//..%2fy", "Ambiguous"),
        ("a.test/x/..%3b/admin", "Ambiguous"),
        ("a.test/x/..;%2f../admin", "Ambiguous"),
        ("a.test/x%5c..%5cadmin", "Ambiguous"),
        // Two readings, one route: none of our business.
        ("a.test/files/a%2Fb", "a.test/"),
        ("a.test/a%20b;c//d", "a.test/"),
        ("a.test/admin/a%2Fb", "a.test/admin"),
        ("a.test/files//x", "a.test/"),
        ("a.test/files;v=1/x", "a.test/"),
        ("a.test/100%2525", "a.test/"),
        ("a.test/100%", "a.test/"),
        ("a.test/%zz", "a.test/"),
    ];
    for (url, expected) in table {
        assert_eq!(look(&router, &routes, url), expected, "{url}");
    }
}

#[test]
fn a_path_that_would_take_too_long_to_read_in_all_ways_is_not_read() {
    let router = router(&[("a.test", "/"), ("a.test", "/admin")]);
    let long = format!("/{}", "%2525;//".repeat(1 << 11));
    assert_eq!(router.find("a.test", &long), Found::Ambiguous);
    // One route takes all, however it is read.
    let router = self::router(&[("a.test", "/")]);
    assert_eq!(router.find("a.test", &long), Found::Route(0));
}
