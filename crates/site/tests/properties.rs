//! Whatever the bytes, an answer and no panic; and what is written in YAML is what arrives.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::Path;

use linkspan_site::{Sources, parse, parse_dotenv, references};
use proptest::prelude::*;

fn any_answer(text: &[u8]) {
    let none = BTreeMap::new();
    let file = Path::new("/srv/site/linkspan.yaml");
    let _ = references(text);
    match parse(&Sources {
        file,
        text,
        variables: &none,
        files: &none,
    }) {
        Ok(_) => {}
        Err(problems) => {
            assert!(!problems.0.is_empty(), "an error tells what is wrong");
            for problem in &problems.0 {
                assert!(problem.line >= 1 && problem.column >= 1 && problem.length >= 1);
                assert!(
                    problem
                        .render(file, text)
                        .contains("--> /srv/site/linkspan.yaml:")
                );
            }
        }
    }
}

/// Pieces of site files, so that random texts get past the first line.
fn piece() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "containers:",
        "routes:",
        "networks:",
        "volumes:",
        "web:",
        "image:",
        "nginx",
        "ports:",
        "- ",
        "[",
        "]",
        "{",
        "}",
        ",",
        ": ",
        "\n",
        "\n  ",
        "\n    ",
        "\n      ",
        "\t",
        "\"",
        "'",
        "&a ",
        "*a",
        "<<: ",
        "|\n",
        ">-\n",
        "!!str ",
        "# x",
        "80:80",
        "127.0.0.1:",
        "0.0.0.0:1-65535:1-65535/udp",
        "$",
        "${",
        "${A:-b}",
        "}",
        "true",
        "null",
        "~",
        "environment:",
        "healthcheck:",
        "test:",
        "CMD",
        "depends_on:",
        "condition:",
        "service_healthy",
        "subnet:",
        "10.0.0.0/8",
        "a.example.com/x",
        "http://[::1]:8/",
        "*",
        "*.x",
        "./a:/b:ro",
        "tmpfs:",
        "size=1g",
        "mem_limit:",
        "9999999999g",
        "1h1m",
        "restart:",
        "on-failure:3",
        "ulimits:",
        "-1",
        "9223372036854775808",
        "---",
        "...",
        "%YAML 1.2",
        "é",
        "\u{202E}",
        "\r\n",
        "x-a:",
        "env_file:",
        "replicas:",
        "1000",
    ]);
    prop_oneof![4 => words.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn arbitrary_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        any_answer(&bytes);
    }

    #[test]
    fn arbitrary_pieces_get_an_answer(pieces in prop::collection::vec(piece(), 0..60)) {
        any_answer(pieces.concat().as_bytes());
    }

    #[test]
    fn a_value_anywhere_gets_an_answer(value in "\\PC{0,40}", key in 0..KEYS.len()) {
        let quoted = serde_json::to_string(&value).unwrap();
        any_answer(format!("containers: {{ web: {{ image: a, {}: {quoted} }} }}\n", KEYS[key]).as_bytes());
        any_answer(format!("containers: {{ web: {{ image: a, {}: [{quoted}, {quoted}] }} }}\n", KEYS[key]).as_bytes());
        any_answer(format!("containers: {{ web: {{ image: a, {}: {{ {quoted}: {quoted} }} }} }}\n", KEYS[key]).as_bytes());
        any_answer(format!("routes: {{ {quoted}: {quoted}, b: {{ to: {quoted}, allow: {quoted} }}, c: {{ redirect: {quoted} }} }}\n").as_bytes());
    }

    #[test]
    fn a_text_with_its_dollars_doubled_arrives_as_it_was(value in "[^\\x00\\x7F-\\u{9F}\\u{FEFF}\\u{FFFE}\\u{FFFF}]{0,60}") {
        let arrived = environment(&value.replace('$', "$$"), &BTreeMap::new());
        prop_assert_eq!(arrived, value);
    }

    #[test]
    fn a_variable_arrives_whatever_its_value(value in "\\PC{0,60}", before in "[a-z ]{0,5}", after in "[ a-z]{0,5}") {
        let variables = BTreeMap::from([("V".to_owned(), value.clone())]);
        prop_assert_eq!(environment(&format!("{before}${{V}}{after}"), &variables), format!("{before}{value}{after}"));
        prop_assert_eq!(environment(&format!("{before}${{V-x}}{after}"), &variables), format!("{before}{value}{after}"));
        prop_assert_eq!(environment(&format!("{before}${{W:-${{V}}}}{after}"), &variables), format!("{before}{value}{after}"));
    }

    #[test]
    fn a_dotenv_value_in_single_quotes_arrives_as_it_was(value in "[^'\\r]{0,60}") {
        let parsed = parse_dotenv(&format!("A='{value}'\nB=1\n")).unwrap();
        prop_assert_eq!(&parsed["A"], &value);
        prop_assert_eq!(&parsed["B"], "1");
    }

    #[test]
    fn any_dotenv_gets_an_answer(text in "\\PC{0,100}", lines in prop::collection::vec("[A=\"'#$ {}\n\\\\]{0,12}", 0..8)) {
        let _ = parse_dotenv(&text);
        let _ = parse_dotenv(&lines.join("\n"));
    }
}

/// What arrives in the environment of a container for a text that is written there.
fn environment(written: &str, variables: &BTreeMap<String, String>) -> String {
    let quoted = serde_json::to_string(written).unwrap();
    let text = format!("containers: {{ web: {{ image: a, environment: {{ A: {quoted} }} }} }}\n");
    let none = BTreeMap::new();
    let file = Path::new("/srv/site/linkspan.yaml");
    let mut site = parse(&Sources {
        file,
        text: text.as_bytes(),
        variables,
        files: &none,
    })
    .unwrap_or_else(|problems| panic!("{}", problems.render(file, text.as_bytes())));
    site.containers
        .pop_first()
        .unwrap()
        .1
        .environment
        .remove("A")
        .unwrap()
}

const KEYS: &[&str] = &[
    "image",
    "command",
    "entrypoint",
    "environment",
    "env_file",
    "working_dir",
    "user",
    "hostname",
    "ports",
    "volumes",
    "tmpfs",
    "networks",
    "depends_on",
    "restart",
    "replicas",
    "labels",
    "healthcheck",
    "read_only",
    "cap_add",
    "cap_drop",
    "mem_limit",
    "cpus",
    "pids_limit",
    "ulimits",
    "sysctls",
    "dns",
    "extra_hosts",
    "init",
    "stop_signal",
    "stop_grace_period",
    "privileged",
    "devices",
    "security_opt",
    "userns_mode",
    "allow_host_path",
];
