//! The shape of the file: YAML, keys, kinds of values, names.

use expect_test::expect;

use crate::{check, problems, web};

#[test]
fn unknown_key() {
    check(
        "containers:\n  web:\n    image: nginx\n    prots: [80]\n    colour: red\n",
        expect![[r#"
            error: unknown key `prots` in a container
             --> /srv/shop/linkspan.yaml:4:5
              |
            4 |     prots: [80]
              |     ^^^^^
              = help: did you mean `ports`?

            error: unknown key `colour` in a container
             --> /srv/shop/linkspan.yaml:5:5
              |
            5 |     colour: red
              |     ^^^^^^
        "#]],
    );
}

#[test]
fn wrong_type() {
    check(
        web(
            "ports: 80\nread_only: maybe\nreplicas: many\nenvironment: text\nhostname: [a]\ndns: {a: b}\nlabels:\n  a: [b]",
        ),
        expect![[r#"
            error: `ports` must be a list, not text
             --> /srv/shop/linkspan.yaml:4:12
              |
            4 |     ports: 80
              |            ^^
              = help: `ports: [a, b]`, or one line each that begins with `- `

            error: `read_only` must be `true` or `false`
             --> /srv/shop/linkspan.yaml:5:16
              |
            5 |     read_only: maybe
              |                ^^^^^

            error: `replicas` must be a whole number from 0 to 1000, not `many`
             --> /srv/shop/linkspan.yaml:6:15
              |
            6 |     replicas: many
              |               ^^^^

            error: `environment` must be a mapping or a list, not text
             --> /srv/shop/linkspan.yaml:7:18
              |
            7 |     environment: text
              |                  ^^^^
              = help: `environment: { NAME: value }` or `environment: [NAME=value]`

            error: `hostname` must be text, not a list
             --> /srv/shop/linkspan.yaml:8:15
              |
            8 |     hostname: [a]
              |               ^^^

            error: `dns` must be text, not a mapping
             --> /srv/shop/linkspan.yaml:9:10
              |
            9 |     dns: {a: b}
              |          ^^^^^^

            error: `a` in `labels` must be text, not a list
              --> /srv/shop/linkspan.yaml:11:10
               |
            11 |       a: [b]
               |          ^^^
        "#]],
    );
}

#[test]
fn tab_indentation() {
    check(
        "containers:\n\tweb:\n\t\timage: nginx\n",
        expect![[r#"
        error: a tab indents this line, and YAML allows only spaces there
         --> /srv/shop/linkspan.yaml:2:1
          |
        2 | →web:
          | ^
          = help: replace each tab (drawn as `→`) by two spaces
    "#]],
    );
    check(
        "containers:\n  web:\n  \timage: nginx\n",
        expect![[r#"
        error: a tab indents this line, and YAML allows only spaces there
         --> /srv/shop/linkspan.yaml:3:3
          |
        3 |   →image: nginx
          |   ^
          = help: replace each tab (drawn as `→`) by two spaces
    "#]],
    );
    check(
        "containers:\n  web:\n    image: nginx\n\tports: [80]\n",
        expect![[r#"
            error: a tab indents this line, and YAML allows only spaces there
             --> /srv/shop/linkspan.yaml:4:1
              |
            4 | →ports: [80]
              | ^
              = help: replace each tab (drawn as `→`) by two spaces
        "#]],
    );
    check(
        "\tcontainers: {}\n",
        expect![[r#"
        error: a tab indents this line, and YAML allows only spaces there
         --> /srv/shop/linkspan.yaml:1:1
          |
        1 | →containers: {}
          | ^
          = help: replace each tab (drawn as `→`) by two spaces
    "#]],
    );
}

#[test]
fn duplicate_key() {
    check(
        "containers:\n  web:\n    image: nginx\n    init: true\n    image: caddy\n",
        expect![[r#"
            error: key `image` is written twice
             --> /srv/shop/linkspan.yaml:5:5
              |
            5 |     image: caddy
              |     ^^^^^
             ::: line 3
              |
            3 |     image: nginx
              |     ^^^^^ first written here
        "#]],
    );
}

#[test]
fn services_instead_of_containers() {
    check(
        "version: '3'\nservices:\n  web:\n    image: nginx\n    restrat: always\nroutes:\n  a.example.com: web:80\n",
        expect![[r#"
            error: unknown key `services` in a site
             --> /srv/shop/linkspan.yaml:2:1
              |
            2 | services:
              | ^^^^^^^^
              = help: did you mean `containers`? Its keys are those of Compose's services

            error: unknown key `restrat` in a container
             --> /srv/shop/linkspan.yaml:5:5
              |
            5 |     restrat: always
              |     ^^^^^^^
              = help: did you mean `restart`?
        "#]],
    );
}

#[test]
fn several_documents() {
    check(
        "containers: {}\n---\ncontainers: {}\n",
        expect![[r#"
        error: a second document begins here
         --> /srv/shop/linkspan.yaml:2:1
          |
        2 | ---
          | ^^^
          = help: a file is one site: remove `---`
    "#]],
    );
}

#[test]
fn an_empty_file_and_a_file_that_is_no_mapping() {
    check(
        "",
        expect![[r#"
        error: the file is empty
         --> /srv/shop/linkspan.yaml:1:1
          |
        1 |
          | ^
          = help: a site has at least `containers:` or `routes:`
    "#]],
    );
    check(
        "# nothing\n",
        expect![[r#"
        error: the file is empty
         --> /srv/shop/linkspan.yaml:1:1
          |
        1 | # nothing
          | ^
          = help: a site has at least `containers:` or `routes:`
    "#]],
    );
    check(
        "- a\n- b\n",
        expect![[r#"
        error: a site must be a mapping, not a list
         --> /srv/shop/linkspan.yaml:1:1
          |
        1 | - a
          | ^^^
          = help: its keys are `name`, `routes`, `containers`, `networks`, `volumes`, `version`
    "#]],
    );
    check(
        "hello\n",
        expect![[r#"
        error: a site must be a mapping, not text
         --> /srv/shop/linkspan.yaml:1:1
          |
        1 | hello
          | ^^^^^
          = help: its keys are `name`, `routes`, `containers`, `networks`, `volumes`, `version`
    "#]],
    );
}

#[test]
fn no_yaml() {
    check(
        "containers:\n  web: {image: nginx\n",
        expect![[r#"
            error: not YAML: while parsing a flow mapping, did not find expected ',' or '}'
             --> /srv/shop/linkspan.yaml:3:1
              |
            3 |
              | ^
             ::: line 2
              |
            2 |   web: {image: nginx
              |        ^ opened here
              = help: is a `,` or the closing bracket missing?
        "#]],
    );
    check(
        "containers:\n  web:\n    image: \"nginx\n",
        expect![[r#"
        error: not YAML: while scanning a quoted scalar, found unexpected end of stream
         --> /srv/shop/linkspan.yaml:3:12
          |
        3 |     image: "nginx
          |            ^
    "#]],
    );
    check(
        "a: b: c\n",
        expect![[r#"
        error: not YAML: mapping values are not allowed in this context
         --> /srv/shop/linkspan.yaml:1:5
          |
        1 | a: b: c
          |     ^
          = help: is a value with `: ` in it not in quotes, or a line indented wrongly?
    "#]],
    );
    check(
        "containers:\n  web:\n   image: nginx\n    init: true\n",
        expect![[r#"
            error: not YAML: mapping values are not allowed in this context
             --> /srv/shop/linkspan.yaml:4:9
              |
            4 |     init: true
              |         ^
              = help: is a value with `: ` in it not in quotes, or a line indented wrongly?
        "#]],
    );
    check(
        "containers: *nobody\n",
        expect![[r#"
        error: this alias names no anchor that was written above it
         --> /srv/shop/linkspan.yaml:1:13
          |
        1 | containers: *nobody
          |             ^
    "#]],
    );
    check(
        "containers: !reset {}\n",
        expect![[r#"
        error: tag `!reset` is not supported
         --> /srv/shop/linkspan.yaml:1:13
          |
        1 | containers: !reset {}
          |             ^^^^^^^^
          = help: remove the tag
    "#]],
    );
    check(
        "containers:\n  web: &a\n    image: *a\n",
        expect![[r#"
        error: an alias inside the very thing that it names
         --> /srv/shop/linkspan.yaml:3:12
          |
        3 |     image: *a
          |            ^^
    "#]],
    );
}

#[test]
fn invalid_utf8() {
    check(
        b"containers:\n  web:\n    image: ng\xFFinx\n",
        expect![[r#"
        error: not UTF-8: byte 0xff begins no character
         --> /srv/shop/linkspan.yaml:3:14
          |
        3 |     image: ng�inx
          |              ^
          = help: save the file as UTF-8
    "#]],
    );
    check(
        "\u{FEFF}containers:\n  web: {}\n",
        expect![[r#"
        error: container `web` has no `image`
         --> /srv/shop/linkspan.yaml:2:3
          |
        2 |   web: {}
          |   ^^^
          = help: write `image: name:tag`
    "#]],
    );
}

#[test]
fn a_name_with_a_slash() {
    check(
        "containers:\n  a/b: { image: nginx }\n  Web: { image: nginx }\nnetworks: { x/y: {} }\nvolumes: { -v: {} }\nname: My Shop\n",
        expect![[r#"
            error: container name `a/b` may hold only a-z, 0-9, `-`, `_` and `.`
             --> /srv/shop/linkspan.yaml:2:3
              |
            2 |   a/b: { image: nginx }
              |   ^^^

            error: container name `Web` may hold only a-z, 0-9, `-`, `_` and `.`
             --> /srv/shop/linkspan.yaml:3:3
              |
            3 |   Web: { image: nginx }
              |   ^^^
              = help: write `web`

            error: network name `x/y` may hold only a-z, 0-9, `-`, `_` and `.`
             --> /srv/shop/linkspan.yaml:4:13
              |
            4 | networks: { x/y: {} }
              |             ^^^

            error: volume name `-v` must begin with a letter or a digit
             --> /srv/shop/linkspan.yaml:5:12
              |
            5 | volumes: { -v: {} }
              |            ^^

            error: project name `My Shop` may hold only a-z, 0-9, `-`, `_` and `.`
             --> /srv/shop/linkspan.yaml:6:7
              |
            6 | name: My Shop
              |       ^^^^^^^
        "#]],
    );
}

#[test]
fn a_terminal_is_told_nothing_by_the_file() {
    let text = problems(
        "containers:\n  web:\n    image: nginx\n    \"\\e[31mx\\u202E\": 1\n    \"a\u{202E}b\": \u{7f}\n"
            .as_bytes(),
    );
    assert!(
        !text
            .chars()
            .any(|c| c.is_control() && c != '\n' || c == '\u{202E}'),
        "{text}"
    );
}
