//! Variables, and files that the file refers to.

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::expect;
use linkspan_site::{Sources, parse, references};

use crate::{FILE, check, web};

#[test]
fn variables_without_a_value() {
    check(
        web(
            "environment:\n  A: ${NOBODY}\n  B: cost $5\n  C: ${X:?tell me X}\n  D: ${Y\n  E: fine ${Z:-z} $$\nx-other: ${IGNORED}",
        ),
        expect![[r#"
            error: variable `NOBODY` is not set
             --> /srv/shop/linkspan.yaml:5:10
              |
            5 |       A: ${NOBODY}
              |          ^^^^^^^^^
              = help: set it in `.env` or in the environment, or write `${NOBODY:-}` for empty, `${NOBODY:-text}` for a default

            error: `$` begins a variable here, but no name follows
             --> /srv/shop/linkspan.yaml:6:10
              |
            6 |       B: cost $5
              |          ^^^^^^^
              = help: write `$$` for a dollar sign

            error: variable `X` is required: tell me X
             --> /srv/shop/linkspan.yaml:7:10
              |
            7 |       C: ${X:?tell me X}
              |          ^^^^^^^^^^^^^^^
              = help: set it in `.env` or in the environment

            error: `${` is not closed by `}`
             --> /srv/shop/linkspan.yaml:8:10
              |
            8 |       D: ${Y
              |          ^^^
              = help: forms are `${NAME}`, and with `:-default`, `-default`, `:?error`, `?error`, `:+other`, `+other`
        "#]],
    );
}

#[test]
fn what_was_put_in_is_checked_like_what_was_typed() {
    let variables = BTreeMap::from([
        ("PORT".to_owned(), "99999".to_owned()),
        ("N".to_owned(), "3".to_owned()),
    ]);
    let none = BTreeMap::new();
    let text = web("replicas: ${N}\nports: [\"${PORT}:80\"]");
    let sources = Sources {
        file: Path::new(FILE),
        text: text.as_bytes(),
        variables: &variables,
        files: &none,
    };
    let problems = parse(&sources).unwrap_err();
    expect![[r#"
        error: port `99999` is out of range
         --> /srv/shop/linkspan.yaml:5:13
          |
        5 |     ports: ["${PORT}:80"]
          |             ^^^^^^^^^^^^
          = help: ports are 1 to 65535
    "#]]
    .assert_eq(&problems.render(Path::new(FILE), text.as_bytes()));
}

#[test]
fn an_env_file_with_a_fault() {
    let files = BTreeMap::from([("a.env".to_owned(), "OK=1\nBAD LINE=2\n".to_owned())]);
    let none = BTreeMap::new();
    let text = web("env_file: a.env");
    let sources = Sources {
        file: Path::new(FILE),
        text: text.as_bytes(),
        variables: &none,
        files: &files,
    };
    expect![[r#"
        error: `env_file` `a.env`, line 2: `BAD LINE` is no name of a variable
         --> /srv/shop/linkspan.yaml:4:15
          |
        4 |     env_file: a.env
          |               ^^^^^
          = help: a line is `NAME=value`
    "#]]
    .assert_eq(
        &parse(&sources)
            .unwrap_err()
            .render(Path::new(FILE), text.as_bytes()),
    );
}

#[test]
fn a_folder_without_a_name_to_make() {
    let none = BTreeMap::new();
    let sources = Sources {
        file: Path::new("/linkspan.yaml"),
        text: b"containers: {}\n",
        variables: &none,
        files: &none,
    };
    let problems = parse(&sources).unwrap_err();
    assert_eq!(problems.0[0].message, "no name can be made of the folder's, ``");
    let sources = Sources {
        file: Path::new("/srv/My Shop (2)/linkspan.yaml"),
        ..sources
    };
    assert_eq!(parse(&sources).unwrap().name.as_str(), "myshop2");
}

#[test]
fn references_are_what_parse_needs() {
    let text = "routes:\n  a: ${HOST:-web}:80\ncontainers:\n  web:\n    image: ${IMAGE}\n    environment: [A, B=1, C=$D]\n    env_file: [a.env, { path: b.env, required: false }]\n  api:\n    image: x\n    environment: { E: , F: 1 }\n    env_file: b.env\n";
    let found = references(text.as_bytes()).unwrap();
    assert_eq!(
        found.variables.into_iter().collect::<Vec<_>>(),
        ["A", "D", "E", "HOST", "IMAGE"]
    );
    let files: Vec<_> = found
        .env_files
        .iter()
        .map(|file| (file.path.as_str(), file.required))
        .collect();
    assert_eq!(files, [("a.env", true), ("b.env", true)]);
    assert!(references(b"containers: { a: { env_file: $X } }").is_err());
}
