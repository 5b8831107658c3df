//! Which name means which image, and what goes when a name goes.

use std::collections::BTreeSet;

use linkspan_images::RemoveError;
use serde_json::json;

use crate::rig::{Layout, Rig, Tar, block_on, cannot_run, host_architecture, open};

/// A docker-archive of one image with one layer that holds `content`.
fn docker(tags: &[&str], content: &str) -> Vec<u8> {
    let layer = Tar::default().file("content", content.as_bytes()).end();
    let diff_ids = [crate::rig::digest(&layer)];
    let config =
        json!({ "architecture": host_architecture(), "os": "linux", "rootfs": { "diff_ids": diff_ids } });
    let config = config.to_string();
    let name = format!("{}.json", &crate::rig::digest(config.as_bytes())[7..]);
    let manifest = json!([{ "Config": name, "RepoTags": tags, "Layers": ["aa/layer.tar"] }]).to_string();
    Tar::default()
        .file("bb/layer.tar", &layer)
        .symlink("aa/layer.tar", "../bb/layer.tar")
        .file(&name, config.as_bytes())
        .file("manifest.json", manifest.as_bytes())
        .end()
}

fn remove(rig: &Rig, name: &str, in_use: &[&str], force: bool) -> Result<(), RemoveError> {
    let in_use: BTreeSet<String> = in_use.iter().map(|id| (*id).to_owned()).collect();
    block_on(rig.store.remove(name, &in_use, force))
}

#[test]
fn a_tag_moves_to_the_image_loaded_last_and_the_first_stays_by_id() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let old = rig
        .load(docker(&["shop:1", "shop:old"], "old"))
        .unwrap()
        .remove(0);
    let new = rig.load(docker(&["shop:1"], "new")).unwrap().remove(0);
    assert_eq!(rig.store.resolve("shop:1").unwrap().id, new.id);
    assert_eq!(
        rig.store.resolve("docker.io/library/shop:old").unwrap().id,
        old.id
    );
    assert_eq!(
        rig.store.resolve(&old.id[7..15]).unwrap().names,
        ["docker.io/library/shop:old"]
    );
    assert_eq!(
        rig.store.resolve(&format!("shop@{}", new.digest)).unwrap().id,
        new.id
    );
    for nothing in [
        "shop",
        "shop:2",
        "nginx",
        "sha256:",
        "",
        "..",
        "shop@sha256:12",
        &old.id[7..10],
    ] {
        assert_eq!(rig.store.resolve(nothing), None, "{nothing}");
    }
    let rig = rig.reopen();
    assert_eq!(rig.store.list().len(), 2);
    assert_eq!(rig.store.resolve("shop:1").unwrap(), new);
}

#[test]
fn the_last_name_takes_the_image_along_and_leaves_what_others_need() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let empty = rig.snapshot();
    let shared = Tar::default().file("shared", b"s").end();
    rig.load(Layout::new(std::slice::from_ref(&shared)).archive())
        .unwrap();
    let one = rig.snapshot();
    let mut two = Layout::new(&[shared, Tar::default().file("own", b"o").end()]);
    let index = String::from_utf8(two.files["index.json"].clone())
        .unwrap()
        .replace("\"test\"", "\"other:7\"");
    two.files.insert("index.json".into(), index.into_bytes());
    rig.load(two.archive()).unwrap();

    remove(&rig, "other:7", &[], false).unwrap();
    assert_eq!(rig.snapshot(), one);
    remove(&rig, "test", &[], false).unwrap();
    assert_eq!(rig.snapshot(), empty);
    assert!(matches!(
        remove(&rig, "test", &[], true),
        Err(RemoveError::NotFound(_))
    ));
}

#[test]
fn an_image_in_use_is_kept_and_force_takes_only_its_name() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let image = rig.load(docker(&["shop:1", "shop:2"], "x")).unwrap().remove(0);
    assert!(matches!(
        remove(&rig, &image.id, &[], false),
        Err(RemoveError::Names { .. })
    ));
    remove(&rig, "shop:2", &[&image.id], false).unwrap();
    assert!(matches!(
        remove(&rig, "shop:1", &[&image.id], false),
        Err(RemoveError::InUse(_))
    ));
    remove(&rig, "shop:1", &[&image.id], true).unwrap();
    let nameless = rig.store.resolve(&image.id).unwrap();
    assert!(nameless.names.is_empty() && rig.top(&nameless).join("content").exists());
    assert!(matches!(
        remove(&rig, &image.id, &[&image.id], true),
        Err(RemoveError::InUse(_))
    ));
    let rig = rig.reopen();
    remove(&rig, &image.id, &[], false).unwrap();
    assert!(rig.store.list().is_empty());
    assert_eq!(std::fs::read_dir(rig.store.layers_dir()).unwrap().count(), 0);
}

#[test]
fn the_image_for_this_host_is_chosen_from_a_nested_index() {
    if cannot_run(&[]) {
        return;
    }
    let mut layout = Layout::new(&[Tar::default().file("ours", b"").end()]);
    let index: serde_json::Value = serde_json::from_slice(&layout.files["index.json"]).unwrap();
    let mut ours = index["manifests"][0].clone();
    ours.as_object_mut().unwrap().remove("annotations");
    ours["platform"] = json!({ "os": "linux", "architecture": host_architecture() });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    // Not in the archive: what is not for us is not looked at.
    let theirs = json!({ "mediaType": media_type, "digest": crate::rig::digest(b"theirs"), "size": 6,
        "platform": { "os": "linux", "architecture": "s390x" } });
    let attestation = json!({ "mediaType": media_type, "digest": crate::rig::digest(b"attest"), "size": 6,
        "platform": { "os": "unknown", "architecture": "unknown" } });
    let inner = json!({ "schemaVersion": 2, "manifests": [theirs, ours, attestation] });
    let mut outer = layout.blob(
        "application/vnd.oci.image.index.v1+json",
        inner.to_string().into_bytes(),
    );
    outer["annotations"] = json!({ "io.containerd.image.name": "ghcr.io/acme/multi:1" });
    layout.index(&json!([outer]));
    let rig = Rig::new();
    let images = rig.load(layout.archive()).unwrap();
    assert_eq!(images[0].names, ["ghcr.io/acme/multi:1"]);
    assert!(rig.top(&images[0]).join("ours").exists());
}

#[test]
fn a_signature_in_the_archive_is_no_image_and_no_obstacle() {
    if cannot_run(&[]) {
        return;
    }
    let mut layout = Layout::new(&[Tar::default().file("a", b"").end()]);
    let index: serde_json::Value = serde_json::from_slice(&layout.files["index.json"]).unwrap();
    let config = layout.blob("application/vnd.oci.empty.v1+json", b"{}".to_vec());
    let signature = layout.blob(
        "application/vnd.dev.cosign.simplesigning.v1+json",
        b"signed".to_vec(),
    );
    let manifest = json!({ "schemaVersion": 2, "config": config, "layers": [signature] });
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = layout.blob(media_type, manifest.to_string().into_bytes());
    layout.index(&json!([manifest, index["manifests"][0]]));
    let rig = Rig::new();
    assert_eq!(
        rig.load(layout.archive()).unwrap()[0].names,
        ["docker.io/library/test:latest"]
    );
    let blobs = std::fs::read_dir(rig.state().join("images/blobs/sha256")).unwrap();
    assert_eq!(
        blobs.count(),
        3,
        "manifest, configuration and layer, and nothing of the signature"
    );
}

#[test]
fn a_state_folder_may_be_given_relative_to_where_the_daemon_is_started() {
    if cannot_run(&[]) {
        return;
    }
    let folder = tempfile::tempdir_in(".").unwrap();
    let relative = std::path::Path::new(folder.path().file_name().unwrap());
    let store = open(relative);
    let archive = Layout::new(&[Tar::default().file("a", b"").end()]).archive();
    assert_eq!(
        block_on(store.load(std::io::Cursor::new(archive))).unwrap().len(),
        1
    );
}

#[test]
fn an_image_whose_blob_was_lost_is_off_the_list_after_opening() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let image = rig.load(docker(&["shop"], "x")).unwrap().remove(0);
    let kept = rig.load(docker(&["kept"], "y")).unwrap().remove(0);
    std::fs::remove_file(rig.state().join("images/blobs/sha256").join(&image.id[7..])).unwrap();
    let rig = rig.reopen();
    assert_eq!(rig.store.list(), [kept]);
}

#[test]
fn two_daemons_cannot_open_one_store() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let config = linkspan_images::Config {
        state_dir: rig.state(),
        binary: "/bin/true".into(),
    };
    let error = linkspan_images::Store::open(config).unwrap_err();
    assert!(error.to_string().contains("in use by another daemon"), "{error}");
    let state = rig.state();
    let folder = rig.reopen().folder;
    drop(open(&state));
    drop(folder);
}
