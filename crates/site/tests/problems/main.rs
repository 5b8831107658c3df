//! What people are told when their file is wrong: the whole text, as it is printed.

mod containers;
mod limits;
mod middleware;
mod networks;
mod routes;
mod shape;
mod variables;

use std::collections::BTreeMap;
use std::path::Path;

use expect_test::Expect;
use linkspan_site::{Sources, parse};

pub(crate) const FILE: &str = "/srv/shop/linkspan.yaml";

pub(crate) fn problems(text: &[u8]) -> String {
    let none = BTreeMap::new();
    match parse(&Sources {
        file: Path::new(FILE),
        text,
        variables: &none,
        files: &none,
    }) {
        Ok(site) => panic!("this parsed: {site:#?}"),
        Err(problems) => problems.render(Path::new(FILE), text),
    }
}

#[expect(clippy::needless_pass_by_value, reason = "`expect!` makes values")]
pub(crate) fn check(text: impl AsRef<[u8]>, expected: Expect) {
    expected.assert_eq(&problems(text.as_ref()));
}

/// Each on a line of its own, without the drawing.
#[expect(clippy::needless_pass_by_value, reason = "`expect!` makes values")]
pub(crate) fn lines(text: &str, expected: Expect) {
    let none = BTreeMap::new();
    let sources = Sources {
        file: Path::new(FILE),
        text: text.as_bytes(),
        variables: &none,
        files: &none,
    };
    expected.assert_eq(&format!(
        "{}\n",
        parse(&sources).expect_err("this must not parse")
    ));
}

/// A container with these lines.
pub(crate) fn web(lines: &str) -> String {
    let mut text = "containers:\n  web:\n    image: nginx\n".to_owned();
    for line in lines.lines() {
        text.push_str(&format!("    {line}\n"));
    }
    text
}
