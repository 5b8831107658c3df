//! Routes that lead nowhere.

use expect_test::expect;

use crate::{check, lines};

#[test]
fn unknown_container_in_a_route() {
    check(
        "routes:\n  shop.example.com: wbe:3000\n  a.example.com: other:1\ncontainers:\n  web: { image: nginx }\n  api: { image: nginx }\n",
        expect![[r#"
            error: the route goes to container `wbe`, which isn't in this file
             --> /srv/shop/linkspan.yaml:2:21
              |
            2 |   shop.example.com: wbe:3000
              |                     ^^^^^^^^
              = help: did you mean `web:3000`?

            error: the route goes to container `other`, which isn't in this file
             --> /srv/shop/linkspan.yaml:3:18
              |
            3 |   a.example.com: other:1
              |                  ^^^^^^^
              = help: the containers are `api`, `web`
        "#]],
    );
}

#[test]
fn port_out_of_range() {
    check(
        "routes:\n  shop.example.com: web:70000\n  b.example.com: web:0\ncontainers:\n  web:\n    image: nginx\n    ports: [\"99999:80\", \"80:0\", 5-3, { target: 65536 }]\n",
        expect![[r#"
            error: port `70000` is out of range
             --> /srv/shop/linkspan.yaml:2:21
              |
            2 |   shop.example.com: web:70000
              |                     ^^^^^^^^^
              = help: ports are 1 to 65535

            error: port `0` is out of range
             --> /srv/shop/linkspan.yaml:3:18
              |
            3 |   b.example.com: web:0
              |                  ^^^^^
              = help: ports are 1 to 65535

            error: port `99999` is out of range
             --> /srv/shop/linkspan.yaml:7:13
              |
            7 |     ports: ["99999:80", "80:0", 5-3, { target: 65536 }]
              |             ^^^^^^^^^^
              = help: ports are 1 to 65535

            error: port `0` is out of range
             --> /srv/shop/linkspan.yaml:7:25
              |
            7 |     ports: ["99999:80", "80:0", 5-3, { target: 65536 }]
              |                         ^^^^^^
              = help: ports are 1 to 65535

            error: range `5-3` runs backwards
             --> /srv/shop/linkspan.yaml:7:33
              |
            7 |     ports: ["99999:80", "80:0", 5-3, { target: 65536 }]
              |                                 ^^^
              = help: write `3-5`

            error: port `65536` is out of range
             --> /srv/shop/linkspan.yaml:7:48
              |
            7 |     ports: ["99999:80", "80:0", 5-3, { target: 65536 }]
              |                                                ^^^^^
              = help: ports are 1 to 65535
        "#]],
    );
}

#[test]
fn hosts_that_are_none() {
    lines(
        "routes:\n  https://a.example.com: web:80\n  a.example.com:8443: web:80\n  bücher.example: web:80\n  a_b.example.com: web:80\n  a.*.example.com: web:80\n  -a.example.com: web:80\n  /path: web:80\n  a.example.com/*: web:80\n  a.example.com/../b: web:80\n  \"*.\": web:80\ncontainers: { web: { image: nginx } }\n",
        expect![[r#"
            line 2, column 3: a route begins with a host name, not with `https://` (write `a.example.com`; HTTP and HTTPS are both served)
            line 3, column 3: the host of a route has no port and is no IPv6 address: `a.example.com:8443` (Linkspan listens on its HTTP and HTTPS ports for every route; leave the port out)
            line 4, column 3: host name `bücher.example` has letters beyond a-z (write it in punycode (`xn--…`), as `idn2` or a browser shows it)
            line 5, column 3: host name `a_b.example.com` holds `_`, which no host name may (use `-`)
            line 6, column 3: `*` stands for one whole first label, not as in `a.*.example.com` (write `*.example.com`, or `"*"` for any other host)
            line 7, column 3: host name `-a.example.com` has a part that begins or ends with `-`
            line 8, column 3: the route has no host name (write `host.example.com/path`, or `"*"` for any other host)
            line 9, column 3: path `/*` holds `*` (a path stands for all below it: leave `/*` out)
            line 10, column 3: path `/../b` holds `.` or `..` (write the path that is meant)
            line 11, column 3: host name `` is empty
        "#]],
    );
}

#[test]
fn targets_that_are_none() {
    lines(
        "routes:\n  a: web\n  b: web:http\n  c: ftp://x\n  d: http://x/path\n  e: http://u:p@x\n  f: 10.0.0.1:80\n  g: []\n  h:\n  i: {}\n  j: { to: web:80, redirect: http://x }\n  k: { redirect: /login }\n  l: { redirect: https://x, status: 200 }\n  m: { to: web:80, allow: 10.0.0.1/8 }\n  n: { to: web:80, sticky: x }\n  o: [web:80, web:80]\n  p: wss://x\n  q: { to: web:80, status: 301 }\ncontainers: { web: { image: nginx } }\n",
        expect![[r#"
            line 2, column 6: target `web` has no port (write `web:PORT`, the port its program listens on inside the container)
            line 3, column 6: `http` is no port (write `container:port`, such as `web:3000`)
            line 4, column 6: scheme `ftp` is not `http` or `https`
            line 5, column 6: a target's URL ends after host and port, not with `/path` (the path of the request is passed on as it is)
            line 6, column 6: a URL with a user name or password is not supported
            line 7, column 6: the route goes to container `10.0.0.1`, which isn't in this file (a server that is no container is written `http://10.0.0.1:80`)
            line 8, column 6: the list of targets is empty (write `container:port`)
            line 9, column 3: the route has no target (write `host: container:port`)
            line 10, column 6: the route has neither `to` nor `redirect` (write `to: container:port`)
            line 11, column 20: a route has either `to` or `redirect`, not both
            line 12, column 18: `redirect` takes an absolute URL, not `/login` (begin with `https://` or `http://`)
            line 13, column 37: `status` can't be `200` (301, 302, 307 or 308)
            line 14, column 27: `10.0.0.1/8` has bits beyond its prefix (did you mean `10.0.0.0/8` or `10.0.0.1`?)
            line 15, column 20: `sticky` is not supported yet
            line 16, column 15: the same target twice
            line 17, column 6: scheme `wss` is not `http` or `https` (WebSockets go through `http://` and `https://` as well)
            line 18, column 20: `status` belongs to `redirect`
        "#]],
    );
}

#[test]
fn two_routes_for_one_place() {
    check(
        "routes:\n  a.example.com/x: web:80\n  A.example.com./x/: web:81\ncontainers: { web: { image: nginx } }\n",
        expect![[r#"
            error: the same host and path as another route
             --> /srv/shop/linkspan.yaml:3:3
              |
            3 |   A.example.com./x/: web:81
              |   ^^^^^^^^^^^^^^^^^
             ::: line 2
              |
            2 |   a.example.com/x: web:80
              |   ^^^^^^^^^^^^^^^ the other one
        "#]],
    );
}
