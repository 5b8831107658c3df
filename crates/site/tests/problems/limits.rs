//! Files made to cost time or memory.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use expect_test::expect;
use linkspan_site::{Sources, parse, references};

use crate::{FILE, check, problems};

#[test]
fn a_hundred_megabytes() {
    let text = vec![b'a'; 100 << 20];
    let start = Instant::now();
    let shown = problems(&text);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let first: Vec<_> = shown.lines().filter(|line| !line.contains('|')).collect();
    assert_eq!(
        first,
        [
            "error: the file is too long: 100 MiB, the most is 1 MiB",
            " --> /srv/shop/linkspan.yaml:1:1",
            "  = help: is this the right file?",
        ]
    );
    assert!(shown.lines().all(|line| line.chars().count() < 200));
}

#[test]
fn deeply_nested_aliases() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let last = level - 1;
        text.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            vec![format!("*a{last}"); 9].join(", ")
        ));
    }
    check(
        &text,
        expect![[r#"
        error: more than 100000 values once aliases are expanded
         --> /srv/shop/linkspan.yaml:6:10
          |
        6 | a5: &a5 [*a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4, *a4]
          |          ^^^
    "#]],
    );
    let mut chain = "a0: &a0 [x]\n".to_owned();
    for level in 1..70 {
        chain.push_str(&format!("a{level}: &a{level} [*a{}]\n", level - 1));
    }
    check(
        &chain,
        expect![[r#"
        error: aliases nest this deeper than 64 levels
          --> /srv/shop/linkspan.yaml:63:12
           |
        63 | a62: &a62 [*a61]
           |            ^^^^
    "#]],
    );
}

#[test]
fn one_long_text_repeated_by_aliases() {
    let mut text = format!("x-a: &a \"{}\"\nx-b:\n", "z".repeat(900_000));
    text.push_str(&"- *a\n".repeat(10_000));
    check(
        &text,
        expect![[r#"
        error: more than 8 MiB of text once aliases are expanded
          --> /srv/shop/linkspan.yaml:11:3
           |
        11 | - *a
           |   ^^
    "#]],
    );
}

#[test]
fn deep_nesting() {
    check(
        format!("a: {}\n", "[".repeat(100)),
        expect![[r#"
        error: nested deeper than 64 levels
         --> /srv/shop/linkspan.yaml:1:67
          |
        1 | a: [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[
          |                                                                   ^
    "#]],
    );
    check(
        "- ".repeat(100),
        expect![[r#"
        error: nested deeper than 64 levels
         --> /srv/shop/linkspan.yaml:1:129
          |
        1 | …- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - -
          |                                          ^
    "#]],
    );
}

/// Up to the size limit, whatever the text, an answer comes soon.
#[test]
fn no_megabyte_takes_long() {
    let mega = 1 << 20;
    let repeat = |part: &str| part.repeat(mega / part.len());
    let names = |each: &dyn Fn(usize) -> String| {
        let mut text = "containers:\n".to_owned();
        for number in 0.. {
            let line = each(number);
            if text.len() + line.len() > mega - 4096 {
                break;
            }
            text.push_str(&line);
        }
        text
    };
    let chain = names(&|n| format!("  c{n}: {{ image: a, depends_on: [c{}] }}\n", n + 1));
    let cycle = names(&|n| {
        format!(
            "  c{n}: {{ image: a, depends_on: [c{}] }}\n",
            if n % 100 == 99 { n - 99 } else { n + 1 }
        )
    });
    let unknown = names(&|n| format!("  c{n}: {{ image: a, depends_on: [d{n}], networks: [e{n}] }}\n"));
    let ports = names(&|n| {
        format!(
            "  c{n}: {{ image: a, ports: ['10.{}.{}.1:80:80'] }}\n",
            n / 256 % 256,
            n % 256
        )
    });
    let everything_on_80 = names(&|n| format!("  c{n}: {{ image: a, ports: ['80:80'] }}\n"));
    let env_files = names(&|n| format!("  c{n}: {{ image: a, env_file: f{n} }}\n"));
    let mut networks = String::from("networks:\n");
    for number in 0..25_000 {
        networks.push_str(&format!("  n{number}: {{ subnet: 10.0.0.0/24 }}\n"));
    }
    let mut targets = String::from("routes:\n  a: [");
    for number in 0..80_000 {
        targets.push_str(&format!("c{number}:1,"));
    }
    targets.push_str("]\n");
    let mut keys = String::new();
    for number in 0..90_000 {
        keys.push_str(&format!("k{number}: 1\n"));
    }
    for (what, text) in [
        ("brackets", repeat("[")),
        ("closed brackets", repeat("[]")),
        ("braces", repeat("{")),
        ("braces with keys", repeat("{a: ")),
        ("dashes", repeat("- ")),
        ("question marks", repeat("? ")),
        ("colons", repeat(": ")),
        ("quotes", repeat("\"")),
        ("anchors", repeat("&a ")),
        ("aliases", repeat("*a ")),
        ("tags", repeat("!a ")),
        ("percents", repeat("%a\n")),
        ("spaces", repeat(" ")),
        ("tabs", repeat("\t")),
        ("newlines", repeat("\n")),
        ("returns", repeat("\r")),
        ("hashes", repeat("#")),
        ("bars", repeat("|\n")),
        ("one word", repeat("a")),
        ("words", repeat("a ")),
        ("items", repeat("- a\n")),
        ("flow items", format!("a: [{}]", "a,".repeat(mega / 2 - 10))),
        ("same keys", repeat("a: 1\n")),
        (
            "variables",
            format!(
                "name: \"{}\"
",
                "${A:-".repeat(mega / 5 - 10)
            ),
        ),
        ("dollars", format!("name: \"{}\"\n", "$$".repeat(mega / 2 - 10))),
        (
            "merges",
            format!(
                "x-a: &a {{ b: 1 }}
x-b:
{}",
                "- <<: *a
"
                .repeat(90_000)
            ),
        ),
        ("chain", chain),
        ("cycle", cycle),
        ("unknown", unknown),
        ("ports", ports),
        ("everything on 80", everything_on_80),
        ("env files", env_files),
        ("networks", networks),
        ("targets", targets),
        ("keys", keys),
    ] {
        let text = &text.as_bytes()[..text.len().min(mega)];
        let none = BTreeMap::new();
        let start = Instant::now();
        let _ = references(text);
        if let Err(problems) = parse(&Sources {
            file: Path::new(FILE),
            text,
            variables: &none,
            files: &none,
        }) {
            let shown = problems.render(Path::new(FILE), text);
            assert!(shown.len() < 200_000, "{what}: {} bytes of problems", shown.len());
        }
        let took = start.elapsed();
        assert!(took < Duration::from_secs(8), "{what}: {took:?}");
        if took > Duration::from_millis(500) {
            println!("{what}: {took:?}");
        }
    }
}

#[test]
fn more_of_a_thing_than_anybody_means() {
    let many = |count: usize, each: &dyn Fn(usize) -> String| {
        let all: Vec<String> = (0..count).map(each).collect();
        all.join(", ")
    };
    let aliases = many(65, &|number| format!("a{number}"));
    let networks = many(65, &|number| format!("n{number}"));
    let labels = many(257, &|number| format!("l{number}: x"));
    let long = "x".repeat(4_096);
    let told = problems(
        format!(
            "containers:\n  a: {{ image: x, networks: {{ default: {{ aliases: [{aliases}] }} }} }}\n  b: {{ image: x, networks: [{networks}] }}\n  c: {{ image: x, labels: {{ {labels} }} }}\nnetworks:\n  default: {{ labels: {{ k: {long} }} }}\n"
        )
        .as_bytes(),
    );
    let told: Vec<&str> = told.lines().filter(|line| line.starts_with("error: ")).collect();
    let told: Vec<&str> = told
        .into_iter()
        .filter(|line| !line.contains("isn't in this file"))
        .collect();
    assert_eq!(
        told,
        [
            "error: 65 `aliases` are too many: there may be 64",
            "error: 65 `networks` are too many: a container may be on 64",
            "error: 257 `labels` are too many: there may be 256",
            "error: label `k` is too long: with its value it may have 4096 bytes",
        ]
    );
}
