//! The example files parse, and fit the schema that editors are given.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use expect_test::{expect, expect_file};
use linkspan_site::{Site, Sources, parse, references, schema};
use serde_json::{Map, Value, json};

fn configs() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../configs")
}

/// Every example, by its path.
fn examples() -> Vec<(PathBuf, Vec<u8>)> {
    let mut found: Vec<_> = std::fs::read_dir(configs())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yaml"))
        .map(|path| (path.clone(), std::fs::read(&path).unwrap()))
        .collect();
    let demo = configs().join("demo/linkspan.yaml");
    found.push((demo.clone(), std::fs::read(demo).unwrap()));
    found.sort();
    assert!(found.len() >= 4, "the examples are there");
    found
}

fn site(path: &Path, text: &[u8]) -> Site {
    let references = references(text).unwrap();
    let env_files = references
        .env_files
        .into_iter()
        .filter(|file| file.required)
        .map(|file| (file.path, "FROM_FILE=1\nPLAIN=lower".to_owned()));
    let users = "anna:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n";
    let others = references.files.into_iter().map(|path| (path, users.to_owned()));
    let files = env_files.chain(others).collect();
    let variables = BTreeMap::from([("FROM_OUTSIDE".to_owned(), "outside".to_owned())]);
    parse(&Sources {
        file: path,
        text,
        variables: &variables,
        files: &files,
    })
    .unwrap_or_else(|problems| panic!("{}", problems.render(path, text)))
}

#[test]
fn every_example_parses() {
    for (path, text) in examples() {
        let site = site(&path, &text);
        assert!(!site.containers.is_empty(), "{}", path.display());
        let again: Site = serde_json::from_str(&serde_json::to_string(&site).unwrap()).unwrap();
        assert_eq!(again, site, "{} survives its wire form", path.display());
    }
}

#[test]
fn every_example_names_the_schema_and_fits_it() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    for (path, text) in examples() {
        let text = String::from_utf8(text).unwrap();
        let (modeline, _) = text.split_once('\n').unwrap();
        let schema = modeline.strip_prefix("# yaml-language-server: $schema=").unwrap();
        assert!(
            path.parent().unwrap().join(schema).is_file(),
            "{}: {schema}",
            path.display()
        );
        let json = as_json(&text);
        let faults: Vec<_> = validator
            .iter_errors(&json)
            .map(|error| format!("{}: {error}", error.instance_path()))
            .collect();
        assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
    }
}

#[test]
fn the_schema_refuses_what_the_parser_refuses() {
    let validator = jsonschema::validator_for(&schema()).unwrap();
    assert!(
        validator.is_valid(&json!({ "containers": { "web": { "image": "nginx", "replicas": "${N:-2}" } } }))
    );
    for wrong in [
        json!({ "services": {} }),
        json!({ "containers": { "web": { "imgae": "nginx" } } }),
        json!({ "containers": { "web": { "image": ["nginx"] } } }),
        json!({ "containers": { "a/b": { "image": "nginx" } } }),
        json!({ "containers": { "web": { "image": "nginx", "replicas": 2000 } } }),
        json!({ "containers": { "web": { "image": "nginx", "restart": "sometimes" } } }),
        json!({ "routes": { "a": { "to": "web:1", "strip_prefix": "api" } } }),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}

#[test]
fn the_committed_schema_is_the_one_that_the_program_prints() {
    let printed = format!("{}\n", serde_json::to_string_pretty(&schema()).unwrap());
    expect_file![configs().join("linkspan.schema.json")].assert_eq(&printed);
}

/// The example with every key has every key of the schema.
#[test]
fn the_example_with_everything_has_everything() {
    let text = String::from_utf8(std::fs::read(configs().join("everything.yaml")).unwrap()).unwrap();
    let mut missing = Vec::new();
    let mut written = Vec::new();
    keys_of(&as_json(&text), &mut written);
    properties(&schema(), &mut |key| {
        if !written.iter().any(|known| known == key) {
            missing.push(key.to_owned());
        }
    });
    missing.sort();
    missing.dedup();
    assert_eq!(missing, Vec::<String>::new());
}

fn properties(schema: &Value, visit: &mut dyn FnMut(&str)) {
    match schema {
        Value::Object(map) => {
            if let Some(Value::Object(keys)) = map.get("properties") {
                keys.keys().for_each(|key| visit(key));
            }
            map.values().for_each(|value| properties(value, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| properties(item, visit)),
        _ => {}
    }
}

fn keys_of(value: &Value, keys: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                keys.push(key.clone());
                keys_of(value, keys);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| keys_of(item, keys)),
        _ => {}
    }
}

#[test]
fn the_example_with_everything_means_what_it_says() {
    let path = Path::new("/srv/everything/linkspan.yaml");
    let text = std::fs::read(configs().join("everything.yaml")).unwrap();
    let site = site(path, &text);
    expect_file!["everything.golden"].assert_debug_eq(&site);
}

#[test]
fn the_smallest_example_has_compose_defaults_and_ours() {
    let path = Path::new("/srv/hello/linkspan.yaml");
    let text = std::fs::read(configs().join("minimal.yaml")).unwrap();
    let site = site(path, &text);
    let web = &site.containers["web"];
    let shown = (
        web.restart,
        web.replicas,
        web.stop_grace,
        &web.networks,
        &site.networks,
        &web.security,
    );
    expect![[r#"
        (
            UnlessStopped,
            1,
            10s,
            {
                NetworkName(
                    "default",
                ): Attachment {
                    aliases: [],
                    ipv4_address: None,
                    ipv6_address: None,
                    mac_address: None,
                    gateway_priority: 0,
                },
            },
            {
                NetworkName(
                    "default",
                ): Network {
                    internal: false,
                    subnet: None,
                    subnet6: None,
                    gateway: None,
                    ipv6: None,
                    driver: Bridge,
                    isolated: false,
                    mtu: None,
                    on_conflict: Move,
                    external: None,
                    labels: {},
                },
            },
            Security {
                no_new_privileges: true,
                seccomp: Default,
            },
        )
    "#]]
    .assert_debug_eq(&shown);
}

// === YAML as JSON, by the core schema of YAML 1.2, as an editor reads it ===

use saphyr_parser::{Event, Parser, ScalarStyle};

fn as_json(text: &str) -> Value {
    let mut events = Parser::new_from_str(text).map(|event| event.unwrap().0);
    let mut anchors = BTreeMap::new();
    loop {
        match events.next().expect("a document") {
            Event::StreamStart | Event::DocumentStart(_) => {}
            event => return node(event, &mut events, &mut anchors),
        }
    }
}

fn node<'t>(
    event: Event<'t>,
    events: &mut dyn Iterator<Item = Event<'t>>,
    anchors: &mut BTreeMap<usize, Value>,
) -> Value {
    let (anchor, value) = match event {
        Event::Alias(anchor) => return anchors[&anchor].clone(),
        Event::Scalar(text, style, anchor, _) => (anchor, scalar(&text, style == ScalarStyle::Plain)),
        Event::SequenceStart(anchor, _) => {
            let mut items = Vec::new();
            loop {
                match events.next().unwrap() {
                    Event::SequenceEnd => break (anchor, Value::Array(items)),
                    event => items.push(node(event, events, anchors)),
                }
            }
        }
        Event::MappingStart(anchor, _) => {
            let mut map = Map::new();
            loop {
                let key = match events.next().unwrap() {
                    Event::MappingEnd => break (anchor, Value::Object(map)),
                    Event::Scalar(text, ..) => text.into_owned(),
                    other => panic!("{other:?} as a key"),
                };
                let event = events.next().unwrap();
                let value = node(event, events, anchors);
                match value {
                    Value::Object(merged) if key == "<<" => map.extend(merged),
                    value => {
                        map.insert(key, value);
                    }
                }
            }
        }
        other => panic!("{other:?} in a document"),
    };
    anchors.insert(anchor, value.clone());
    value
}

fn scalar(text: &str, plain: bool) -> Value {
    match text {
        _ if !plain => json!(text),
        "" | "~" | "null" => Value::Null,
        "true" => json!(true),
        "false" => json!(false),
        _ => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => json!(number),
            (_, Ok(number)) => json!(number),
            _ => json!(text),
        },
    }
}
