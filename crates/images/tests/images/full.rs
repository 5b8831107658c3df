//! A disk with no room left.

use std::process::Command;

use crate::rig::{Layout, Tar, block_on, cannot_run, listing, open};

/// Set in the process that runs with a small disk: where that is.
const DISK: &str = "LINKSPAN_TEST_DISK";

/// Not a test of its own: what the next one runs where the disk is small.
#[test]
fn on_a_small_disk() {
    let Ok(disk) = std::env::var(DISK) else { return };
    let state = std::path::Path::new(&disk).join("state");
    let store = open(&state);
    let load = |size: usize| {
        let archive = Layout::new(&[Tar::default().file("some/file", &vec![7; size]).end()]).archive();
        block_on(store.load(std::io::Cursor::new(archive)))
    };
    load(1000).unwrap();
    let before = listing(&state);
    // Too large to be staged; and staged, but too large to be unpacked as well.
    for size in [9_000_000, 5_000_000] {
        let error = load(size).unwrap_err().to_string();
        assert!(error.contains("No space left on device"), "{error}");
        assert_eq!(listing(&state), before);
    }
    load(2_000_000).unwrap();
    println!("done");
}

#[test]
fn a_full_disk_is_named_and_the_store_stays_as_it_was() {
    if cannot_run(&["unshare", "mount"]) {
        return;
    }
    let disk = tempfile::tempdir().unwrap();
    let script = "mount -t tmpfs -o size=8m none $LINKSPAN_TEST_DISK && exec \"$0\" --exact full::on_a_small_disk --nocapture";
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(DISK, disk.path())
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("done"), "{text}");
}
