//! Bytes of no meaning.

use proptest::prelude::*;

use crate::rig::{Layout, Rig, Tar, cannot_run};

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused_and_leave_the_store_empty(
        magic in prop::sample::select(vec![&b""[..], b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"{"]),
        bytes in prop::collection::vec(any::<u8>(), 0..5000),
    ) {
        if cannot_run(&[]) {
            return Ok(());
        }
        let rig = Rig::new();
        let before = rig.snapshot();
        prop_assert!(rig.load([magic, &bytes[..]].concat()).is_err());
        prop_assert_eq!(rig.snapshot(), before);
    }

    #[test]
    fn a_layer_with_random_changes_unpacks_whole_or_not_at_all(
        changes in prop::collection::vec((0usize..6000, any::<u8>()), 1..20),
    ) {
        if cannot_run(&[]) {
            return Ok(());
        }
        let mut layer = Tar::default()
            .folder("a").file("a/b", b"x").symlink("c", "a").hardlink("d", "a/b").file(".wh.e", b"")
            .pax(&[("SCHILY.xattr.user.x", b"y"), ("GNU.sparse.map", b"0,1"), ("GNU.sparse.size", b"1")])
            .file("f", b"z").end();
        let length = layer.len();
        for (at, value) in changes {
            layer[at % length] = value;
        }
        // The checksums would catch nearly all of it, so they are made right again.
        for block in layer.chunks_exact_mut(512) {
            let sum: u32 = block[..148].iter().chain(&block[156..]).map(|b| u32::from(*b)).sum::<u32>() + 256;
            if sum != 256 {
                block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
            }
        }
        let rig = Rig::new();
        let before = rig.snapshot();
        match rig.load(Layout::new(&[layer]).archive()) {
            Ok(images) => prop_assert!(rig.top(&images[0]).is_dir()),
            Err(_) => prop_assert_eq!(rig.snapshot(), before),
        }
    }
}
