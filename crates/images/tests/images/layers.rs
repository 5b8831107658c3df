//! What a layer looks like on disk.

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use expect_test::{Expect, expect};
use flate2::Compression;
use std::io::Write;
use tar::EntryType;

use crate::rig::{Layout, Rig, Tar, cannot_run, listing, run};

fn check(layers: &[Vec<u8>], want: Expect) {
    let rig = Rig::new();
    let images = rig.load(Layout::new(layers).archive()).unwrap();
    let lines: Vec<_> = listing(&rig.top(&images[0]))
        .iter()
        .map(|(name, line)| format!("{name}: {line}\n"))
        .collect();
    want.assert_eq(&lines.concat());
}

#[test]
fn every_kind_of_entry_comes_out_as_it_went_in() {
    if cannot_run(&[]) {
        return;
    }
    let capability = b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\n\0\0\0\0\0\0\0";
    let layer = Tar::default()
        .owned(EntryType::Directory, "./", "", b"", (0, 0, 0o755))
        .folder("etc/")
        .owned(EntryType::Regular, "etc/shadow", "", b"secret", (0, 42, 0o640))
        .owned(EntryType::Regular, "bin/su", "", b"su", (0, 0, 0o4755))
        .hardlink("bin/sudo", "./bin/su")
        .symlink("absolute", "/etc/shadow")
        .symlink("outside", "../../../etc/passwd")
        .owned(EntryType::Directory, "tmp", "", b"", (0, 0, 0o1777))
        .owned(EntryType::Directory, "home/setgid", "", b"", (1000, 1000, 0o2775))
        .file("home/setgid/made/below", b"x")
        .owned(EntryType::Fifo, "run/fifo", "", b"", (65535, 65535, 0o620))
        .entry(EntryType::Char, "dev/null", "", b"")
        .entry(EntryType::Block, "dev/disk/sda", "", b"")
        .pax(&[
            ("SCHILY.xattr.security.capability", capability),
            ("SCHILY.xattr.user.note", b"two\nlines"),
            ("SCHILY.xattr.trusted.overlay.opaque", b"y"),
            ("SCHILY.xattr.user.overlay.opaque", b"y"),
            ("SCHILY.xattr.security.selinux", b"x"),
        ])
        .file("bin/ping", b"ping")
        .pax(&[("path", b"caf\xe9/\xff"), ("uid", b"1234"), ("mtime", b"-1.5")])
        .file("short", b"not UTF-8")
        .pax(&[("path", [&[b'l'; 120][..], b"/", &[b'm'; 120]].concat().as_slice())])
        .folder("short")
        .end();
    check(
        &[layer],
        expect![[r#"
            .: 0755 0:0 folder
            absolute: 0777 0:0 link to /etc/shadow
            bin: 0755 0:0 folder
            bin/ping: 0644 0:0 file "ping" security.capability=\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\n\x00\x00\x00\x00\x00\x00\x00 user.note=two\nlines
            bin/su: 4755 0:0 file "su" links=2
            bin/sudo: 4755 0:0 file "su" links=2
            caf\xe9: 0755 0:0 folder
            caf\xe9/\xff: 0644 1234:0 file "not UTF-8"
            etc: 0755 0:0 folder
            etc/shadow: 0640 0:42 file "secret"
            home: 0755 0:0 folder
            home/setgid: 2775 1000:1000 folder
            home/setgid/made: 0755 0:0 folder
            home/setgid/made/below: 0644 0:0 file "x"
            llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll: 0755 0:0 folder
            llllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllllll/mmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmmm: 0755 0:0 folder
            outside: 0777 0:0 link to ../../../etc/passwd
            run: 0755 0:0 folder
            run/fifo: 0620 65535:65535 fifo
            tmp: 1777 0:0 folder
        "#]],
    );
}

#[test]
fn whiteouts_and_opaque_folders_take_the_form_of_overlayfs() {
    if cannot_run(&[]) {
        return;
    }
    let base = Tar::default()
        .file("a/file", b"1")
        .file("b/file", b"2")
        .file("c", b"3")
        .end();
    let top = Tar::default()
        .file("a/.wh..wh..opq", b"")
        .file("a/new", b"4")
        .file(".wh.c", b"")
        .file("b/.wh.file", b"")
        // A folder whited out and made again, in either order, hides what was below.
        .file(".wh.d", b"")
        .folder("d")
        .folder("e")
        .file(".wh.e", b"")
        .file(".wh.f", b"")
        .file("f/inner", b"5")
        // Marks of aufs, and a whiteout of a file that this layer has.
        .file(".wh..wh.plnk/7", b"")
        .file("kept", b"6")
        .file(".wh.kept", b"")
        .end();
    check(
        &[base, top],
        expect![[r#"
            .: 0755 0:0 folder
            a: 0755 0:0 folder user.overlay.opaque=y
            a/new: 0644 0:0 file "4"
            b: 0755 0:0 folder
            b/file: 0000 0:0 device 0
            c: 0000 0:0 device 0
            d: 0755 0:0 folder user.overlay.opaque=y
            e: 0755 0:0 folder user.overlay.opaque=y
            f: 0755 0:0 folder user.overlay.opaque=y
            f/inner: 0644 0:0 file "5"
            kept: 0644 0:0 file "6"
        "#]],
    );
}

#[test]
fn a_later_entry_replaces_an_earlier_one_of_another_kind() {
    if cannot_run(&[]) {
        return;
    }
    let layer = Tar::default()
        .file("folder/deep/file", b"1")
        .file("folder", b"now a file")
        .file("file", b"2")
        .folder("file")
        .file("file/in", b"now a folder")
        .symlink("link", "/etc")
        .file("link", b"now a file")
        .symlink("again", "/etc")
        .folder("again")
        .file("again/in", b"now a folder")
        .file("first", b"x")
        .hardlink("second", "first")
        .file("first", b"y")
        .end();
    check(
        &[layer],
        expect![[r#"
            .: 0755 0:0 folder
            again: 0755 0:0 folder
            again/in: 0644 0:0 file "now a folder"
            file: 0755 0:0 folder
            file/in: 0644 0:0 file "now a folder"
            first: 0644 0:0 file "y"
            folder: 0644 0:0 file "now a file"
            link: 0644 0:0 file "now a file"
            second: 0644 0:0 file "x"
        "#]],
    );
}

#[test]
fn a_layer_that_does_not_mention_its_root_inherits_it() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let base = Tar::default()
        .owned(EntryType::Directory, "./", "", b"", (3, 4, 0o751))
        .end();
    let images = rig
        .load(Layout::new(&[base, Tar::default().file("x", b"").end()]).archive())
        .unwrap();
    assert_eq!(listing(&rig.top(&images[0]))["."], "0751 3:4 folder");
}

#[test]
fn gzip_and_zstd_layers_and_archives_are_taken() {
    if cannot_run(&[]) {
        return;
    }
    let gzip = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let zstd = |bytes: &[u8]| zstd::encode_all(bytes, 1).unwrap();
    let layers: Vec<_> = (0..3)
        .map(|n| Tar::default().file(&format!("file{n}"), b"content").end())
        .collect();
    let archive = Layout::stored(&[
        (layers[0].clone(), gzip(&layers[0]), "+gzip"),
        (layers[1].clone(), zstd(&layers[1]), "+zstd"),
        (layers[2].clone(), layers[2].clone(), ""),
    ])
    .archive();
    for archive in [archive.clone(), gzip(&archive), zstd(&archive)] {
        let rig = Rig::new();
        let images = rig.load(archive).unwrap();
        assert_eq!(images[0].layers.len(), 3);
        for (n, chain) in images[0].layers.iter().enumerate() {
            let tree = rig.store.layers_dir().join(&chain[7..]);
            assert_eq!(
                std::fs::read_to_string(tree.join(format!("file{n}"))).unwrap(),
                "content"
            );
        }
    }
}

#[test]
fn sparse_files_of_all_formats_keep_their_holes() {
    if cannot_run(&["tar"]) {
        return;
    }
    let rig = Rig::new();
    let file = rig.path("disk");
    run(
        "sh",
        &[
            "-c",
            &format!(
                "truncate -s 3M {file} && printf begin | dd of={file} conv=notrunc status=none && for at in 100 200 300 400 500 600; do printf piece$at | dd of={file} bs=4096 seek=$at conv=notrunc status=none; done"
            ),
        ],
    );
    for format in [
        "gnu",
        "posix --sparse-version=0.0",
        "posix --sparse-version=0.1",
        "posix --sparse-version=1.0",
    ] {
        let script = format!(
            "tar -C {} -cS --format={format} disk",
            rig.folder.path().display()
        );
        let layer = Command::new("sh").args(["-c", &script]).output().unwrap().stdout;
        assert!(layer.len() < 200_000, "{format}: tar saw no holes");
        let rig = Rig::new();
        let images = rig.load(Layout::new(&[layer]).archive()).unwrap();
        let unpacked = rig.top(&images[0]).join("disk");
        assert!(
            std::fs::read(&unpacked).unwrap() == std::fs::read(&file).unwrap(),
            "{format}"
        );
        assert!(
            unpacked.metadata().unwrap().blocks() < 1000,
            "{format}: the holes were filled"
        );
    }
}

#[test]
fn a_lost_tree_is_unpacked_again_and_times_survive() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let layers = [
        Tar::default().file("usr/a", b"1").folder("usr").end(),
        Tar::default().file("b", b"2").end(),
    ];
    let image = rig.load(Layout::new(&layers).archive()).unwrap().remove(0);
    let before = rig.snapshot();
    for chain in &image.layers {
        std::fs::remove_dir_all(rig.store.layers_dir().join(&chain[7..])).unwrap();
    }
    let store = &rig.store;
    crate::rig::block_on(async {
        // Two at once, as two containers of one image would.
        let (a, b) = tokio::join!(store.unpacked(&image), store.unpacked(&image));
        a.and(b).unwrap();
    });
    assert_eq!(rig.snapshot(), before);
    let base = rig.store.layers_dir().join(&image.layers[0][7..]);
    for name in ["usr", "usr/a"] {
        assert_eq!(
            base.join(name).metadata().unwrap().mtime(),
            1_700_000_000,
            "{name}"
        );
    }
}

#[test]
fn overlayfs_shows_the_merged_layers() {
    if cannot_run(&["unshare", "mount"]) {
        return;
    }
    let rig = Rig::new();
    let base = Tar::default()
        .file("a/old", b"1")
        .file("b", b"2")
        .file("c/kept", b"3")
        .end();
    let top = Tar::default()
        .file("a/.wh..wh..opq", b"")
        .file("a/new", b"4")
        .file(".wh.b", b"")
        .end();
    let image = rig.load(Layout::new(&[base, top]).archive()).unwrap().remove(0);
    let trees: Vec<String> = image
        .layers
        .iter()
        .rev()
        .map(|chain| chain[7..].to_owned())
        .collect();
    let layers = rig.store.layers_dir();
    let script = format!(
        "cd {} && mount -t overlay -o userxattr,lowerdir={} none /mnt && cd /mnt && find . -type f | sort",
        layers.display(),
        trees.join(":"),
    );
    assert_eq!(
        run("unshare", &["-m", "sh", "-c", &script]),
        "./a/new\n./c/kept\n"
    );
}
