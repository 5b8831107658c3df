//! `up` is declarative: the file is what is, and only what differs is touched.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use linkspan_tests::Rig;

const SHOP: &str = "
routes:
  shop.test: web:8080
  api.shop.test: api:8080
containers:
  web: { image: linkspan-demo/web:1, replicas: 2 }
  api: { image: linkspan-demo/web:1 }
";

#[test]
fn the_same_file_twice_is_a_no_op() {
    let Some(rig) = shop() else { return };
    let before = ids(&rig);
    rig.up("shop", SHOP).ok();
    assert_eq!(ids(&rig), before);
    let folder = rig.site("shop", SHOP);
    let plan = rig.linkspan_in(&folder, &["plan", "--format", "json"]).ok();
    assert!(plan.replace([' ', '\n'], "").contains("\"steps\":[]"), "{plan}");
}

#[test]
fn a_changed_container_is_replaced_and_its_neighbours_are_left_alone() {
    let Some(rig) = shop() else { return };
    let before = ids(&rig);
    let changed = SHOP.replace(
        "api: { image: linkspan-demo/web:1 }",
        "api: { image: linkspan-demo/web:1, environment: { A: b } }",
    );
    let folder = rig.site("shop", &changed);
    let plan = rig.linkspan_in(&folder, &["plan"]).ok();
    assert!(
        plan.contains("~") && plan.contains("api") && !plan.contains("web"),
        "{plan}"
    );
    assert_eq!(ids(&rig), before, "`plan` changes nothing");
    rig.linkspan_in(&folder, &["up"]).ok();
    let after = ids(&rig);
    assert_ne!(after["shop-api-1"], before["shop-api-1"]);
    assert_eq!(
        (&after["shop-web-1"], &after["shop-web-2"]),
        (&before["shop-web-1"], &before["shop-web-2"])
    );
    assert!(
        rig.curl("https://api.shop.test/env", &[])
            .unwrap()
            .body
            .contains("A=b\n")
    );
}

#[test]
fn a_container_that_is_no_longer_in_the_file_is_removed() {
    let Some(rig) = shop() else { return };
    let before = ids(&rig);
    rig.up(
        "shop",
        "routes: { shop.test: web:8080 }\ncontainers: { web: { image: linkspan-demo/web:1, replicas: 2 } }\n",
    )
    .ok();
    let mut expected = before;
    expected.remove("shop-api-1");
    assert_eq!(ids(&rig), expected);
    let gone = rig
        .curl("https://shop.test/", &["-H", "Host: api.shop.test"])
        .unwrap();
    assert!([404, 421].contains(&gone.status), "{gone:?}");
}

#[test]
fn a_route_that_moves_to_another_container_touches_no_container() {
    let Some(rig) = shop() else { return };
    let before = ids(&rig);
    let api = rig.curl("https://api.shop.test/who", &[]).unwrap().body;
    rig.up(
        "shop",
        &SHOP.replace("shop.test: web:8080", "shop.test: api:8080"),
    )
    .ok();
    assert_eq!(ids(&rig), before);
    assert_eq!(rig.curl("https://shop.test/who", &[]).unwrap().body, api);
}

#[test]
fn a_file_with_an_error_leaves_everything_as_it_was() {
    let Some(rig) = shop() else { return };
    let before = ids(&rig);
    let ran = rig.up("shop", &SHOP.replace("replicas: 2", "replicas: many"));
    assert_eq!(ran.code, 2, "{}", ran.said());
    assert_eq!(ids(&rig), before);
    assert_eq!(rig.curl("https://shop.test/health", &[]).unwrap().status, 200);
}

#[test]
fn the_second_project_that_claims_a_hostname_is_refused_and_told_who_holds_it() {
    let Some(rig) = shop() else { return };
    let before = ids(&rig);
    let ran = rig.up(
        "thief",
        "routes: { shop.test: web:8080 }\ncontainers: { web: { image: linkspan-demo/web:1 } }\n",
    );
    assert_eq!(ran.code, 2, "{}", ran.said());
    let said = ran.said();
    assert!(said.contains("shop.test") && said.contains("`shop`"), "{said}");
    assert_eq!(ids(&rig), before, "nothing of the second project runs");
}

#[test]
fn down_removes_one_project_and_leaves_the_other() {
    let Some(rig) = shop() else { return };
    rig.up(
        "blog",
        "routes: { blog.test: web:8080 }\ncontainers: { web: { image: linkspan-demo/web:1 } }\n",
    )
    .ok();
    rig.linkspan(&["down", "shop"]).ok();
    assert_eq!(ids(&rig).into_keys().collect::<Vec<_>>(), ["blog-web-1"]);
    assert_eq!(rig.curl("https://blog.test/health", &[]).unwrap().status, 200);
}

fn shop() -> Option<Rig> {
    let rig = Rig::start()?;
    rig.load_image("demo-web");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

/// Name to id and pid: another id is another container, another pid a restart.
fn ids(rig: &Rig) -> BTreeMap<String, String> {
    let text =
        |container: &serde_json::Value, key: &str| container[key].as_str().unwrap_or_default().to_owned();
    rig.ps()
        .iter()
        .map(|c| (text(c, "name"), format!("{} {}", text(c, "id"), c["pid"])))
        .collect()
}
