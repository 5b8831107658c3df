//! Archives that were damaged, tampered with, or made to break out: each is refused by name, and changes nothing.

use serde_json::json;
use tar::EntryType;

use crate::rig::{Layout, Rig, Tar, cannot_run, host_architecture};

fn text(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// Loads into a store with one image, and checks that the error says all of `says` and that nothing changed.
fn refused(archive: Vec<u8>, says: &[&str]) {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    rig.load(Layout::new(&[Tar::default().file("here/before", b"x").end()]).archive())
        .unwrap();
    let before = rig.snapshot();
    let error = text(&rig.load(archive).unwrap_err());
    for part in says {
        assert!(error.contains(part), "`{part}` is not in: {error}");
    }
    assert_eq!(rig.snapshot(), before, "{error}");
    let rig = rig.reopen();
    assert_eq!(rig.snapshot(), before, "{error}");
}

fn refused_layer(layer: Vec<u8>, says: &[&str]) {
    refused(Layout::new(&[layer]).archive(), says);
}

#[test]
fn a_layer_with_dots_in_a_path_is_refused() {
    refused_layer(
        Tar::default().file("../../etc/cron.d/x", b"evil").end(),
        &["`../../etc/cron.d/x`", "`..`"],
    );
    refused_layer(Tar::default().file("a/../../x", b"evil").end(), &["`a/../../x`"]);
    refused_layer(
        Tar::default().hardlink("x", "../../etc/shadow").end(),
        &["`../../etc/shadow`"],
    );
    refused_layer(Tar::default().file("a/.wh...", b"").end(), &["`a/.wh...`"]);
}

#[test]
fn an_archive_with_dots_in_a_member_is_refused() {
    let mut layout = Layout::new(&[Tar::default().end()]);
    layout.files.insert("../../etc/cron.d/x".into(), b"evil".to_vec());
    refused(layout.archive(), &["`../../etc/cron.d/x`"]);
}

#[test]
fn writing_through_a_link_of_the_same_layer_is_refused() {
    for target in ["/etc", "../../../../etc", ".", "/proc/self/root"] {
        let layer = Tar::default()
            .symlink("way", target)
            .file("way/cron.d/x", b"evil")
            .end();
        refused_layer(layer, &["`way/cron.d/x`", "symbolic link `way`"]);
    }
    let layer = Tar::default()
        .symlink("way", "/etc")
        .hardlink("mine", "way/shadow")
        .end();
    refused_layer(layer, &["`mine`", "`way/shadow`"]);
    let layer = Tar::default()
        .symlink("way", "/etc")
        .file("way/.wh.passwd", b"")
        .end();
    refused_layer(layer, &["symbolic link `way`"]);
    let layer = Tar::default().file("a", b"").file("a/b", b"").end();
    refused_layer(layer, &["`a/b`", "not a folder"]);
}

#[test]
fn a_device_outside_of_dev_and_an_id_no_container_has_are_refused() {
    refused_layer(
        Tar::default().entry(EntryType::Char, "opt/mem", "", b"").end(),
        &["`opt/mem`", "device node"],
    );
    let layer = Tar::default()
        .owned(EntryType::Regular, "big", "", b"", (65_536, 0, 0o644))
        .end();
    refused_layer(layer, &["`big`", "65536"]);
}

#[test]
fn names_beyond_the_limits_are_refused() {
    let long = "long/".repeat(1000);
    refused_layer(
        Tar::default()
            .pax(&[("path", long.as_bytes())])
            .file("x", b"")
            .end(),
        &["path is too long"],
    );
    let deep = "d/".repeat(300);
    refused_layer(
        Tar::default()
            .pax(&[("path", deep.as_bytes())])
            .file("x", b"")
            .end(),
        &["deeper than 256"],
    );
    let huge = vec![b'x'; 2 << 20];
    refused_layer(
        Tar::default().entry(EntryType::GNULongName, "", "", &huge).end(),
        &["too long"],
    );
}

#[test]
fn a_sparse_file_larger_than_the_limit_is_refused_before_it_is_written() {
    let records: [(&str, &[u8]); 2] = [("GNU.sparse.size", b"99999999999999"), ("GNU.sparse.map", b"0,1")];
    refused_layer(
        Tar::default().pax(&records).file("bomb", b"x").end(),
        &["`bomb`", "more than"],
    );
}

#[test]
fn an_archive_cut_anywhere_is_refused() {
    let archive = Layout::new(&[Tar::default().file("a", &[7; 9000]).end()]).archive();
    for end in [0, 100, 512, 700, 5000, 10_000, archive.len() / 2] {
        refused(archive[..end].to_vec(), &[]);
    }
    let compressed = zstd::encode_all(&archive[..], 1).unwrap();
    refused(compressed[..compressed.len() - 9].to_vec(), &[]);
}

#[test]
fn a_changed_byte_is_found_and_its_digest_named() {
    let layer = Tar::default().file("a", b"content").end();
    let whole = Layout::new(std::slice::from_ref(&layer));
    for (name, bytes) in whole.files.iter().filter(|(name, _)| name.starts_with("blobs/")) {
        let mut layout = Layout::new(std::slice::from_ref(&layer));
        let mut bytes = bytes.clone();
        bytes[4] ^= 1;
        layout.files.insert(name.clone(), bytes);
        refused(
            layout.archive(),
            &["has the digest", name.rsplit('/').next().unwrap()],
        );
    }
}

#[test]
fn a_layer_that_is_not_the_configurations_is_found_by_its_diff_id() {
    let (right, wrong) = (
        Tar::default().file("a", b"1").end(),
        Tar::default().file("a", b"2").end(),
    );
    let layout = Layout::stored(&[(right.clone(), wrong, "")]);
    refused(layout.archive(), &["tampered", &crate::rig::digest(&right)]);
    // Also where the right tree is unpacked already, so that only the blob is new.
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    rig.load(Layout::new(std::slice::from_ref(&right)).archive())
        .unwrap();
    let before = rig.snapshot();
    let wrong = Tar::default().file("a", b"2").end();
    assert!(rig.load(Layout::stored(&[(right, wrong, "")]).archive()).is_err());
    assert_eq!(rig.snapshot(), before);
}

#[test]
fn a_missing_blob_is_named() {
    let mut layout = Layout::new(&[Tar::default().file("a", b"1").end()]);
    let layer = crate::rig::digest(&Tar::default().file("a", b"1").end())[7..].to_owned();
    layout.files.remove(&format!("blobs/sha256/{layer}"));
    refused(layout.archive(), &[&layer, "missing"]);
}

#[test]
fn a_digest_that_is_a_path_is_no_digest() {
    let mut layout = Layout::new(&[Tar::default().end()]);
    let media_type = "application/vnd.oci.image.manifest.v1+json";
    for digest in ["sha256:../../../etc/passwd", "md5:00", "", "sha256:"] {
        layout.index(&json!([{ "mediaType": media_type, "digest": digest, "size": 3 }]));
        refused(layout.archive(), &["not a sha256 digest"]);
    }
}

#[test]
fn an_image_for_another_machine_is_refused_with_both_platforms() {
    let config = json!({ "architecture": "s390x", "os": "linux", "rootfs": { "diff_ids": [] } }).to_string();
    let manifest = json!([{ "Config": "c.json", "RepoTags": ["far:1"], "Layers": [] }]).to_string();
    let archive = Tar::default()
        .file("c.json", config.as_bytes())
        .file("manifest.json", manifest.as_bytes());
    refused(
        archive.end(),
        &[
            "`far:1`",
            "linux/s390x",
            &format!("linux/{}", host_architecture()),
        ],
    );
}

#[test]
fn what_is_no_image_says_what_would_be() {
    refused(
        Tar::default().file("readme", b"x").end(),
        &["index.json", "manifest.json", "docker save"],
    );
    refused(
        b"#!/bin/sh\necho no archive\n".repeat(100),
        &["not a tar archive"],
    );
    refused(b"\xfd7zXZ\0 and so on".repeat(100), &["xz"]);
    let big = Tar::default().file("index.json", &b" ".repeat(5 << 20)).end();
    refused(big, &["`index.json`", "larger than"]);
    let twice = Tar::default()
        .file("index.json", b"{}")
        .file("./index.json", b"{}")
        .end();
    refused(twice, &["twice"]);
}

#[test]
fn an_index_that_contains_itself_comes_to_an_end() {
    let mut layout = Layout::new(&[Tar::default().end()]);
    let media_type = "application/vnd.oci.image.index.v1+json";
    let mut inner = json!([]);
    for _ in 0..8 {
        let index = json!({ "schemaVersion": 2, "manifests": inner })
            .to_string()
            .into_bytes();
        inner = json!([layout.blob(media_type, index)]);
    }
    layout.index(&inner);
    refused(layout.archive(), &["nested too deeply"]);
}
