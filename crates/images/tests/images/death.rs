//! `kill -9` in the middle of a load.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::rig::{Layout, Rig, Tar, block_on, cannot_run, open};

/// Set in the process that is going to be killed: its state folder and its archive.
const VICTIM: &str = "LINKSPAN_TEST_VICTIM";

/// Not a test of its own: the process that loads until it is killed.
#[test]
fn victim() {
    let Ok(folder) = std::env::var(VICTIM) else { return };
    let store = open(format!("{folder}/state").as_ref());
    println!("opened");
    block_on(async {
        let archive = tokio::fs::File::open(format!("{folder}/archive")).await.unwrap();
        store.load(archive).await.unwrap();
    });
    println!("loaded");
}

#[test]
fn a_store_whose_process_was_killed_while_loading_opens_clean() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let layer = |n: u8| {
        let mut tar = Tar::default();
        for file in 0..400 {
            tar = tar.file(&format!("layer{n}/file{file}"), &[n; 5000]);
        }
        tar.end()
    };
    let empty = rig.snapshot();
    let archive = Layout::new(&[layer(1), layer(2), layer(3), layer(4)]).archive();
    std::fs::write(rig.path("archive"), archive).unwrap();
    let Rig { mut folder, store } = rig;
    drop(store);
    let mut halfway = 0;
    for pause in (0..12).map(|n| Duration::from_millis(n * n * 3)) {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "death::victim", "--nocapture"])
            .env(VICTIM, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = child.stdout.take().unwrap();
        let mut seen = String::new();
        while !seen.contains("opened") {
            let mut byte = [0];
            assert_eq!(output.read(&mut byte).unwrap(), 1, "{seen}");
            seen.push(byte[0].into());
        }
        std::thread::sleep(pause);
        child.kill().unwrap();
        child.wait().unwrap();
        output.read_to_string(&mut seen).unwrap();
        let state = folder.path().join("state");
        let dirty = crate::rig::listing(&state) != empty;
        let rig = Rig {
            store: open(&state),
            folder,
        };
        let loaded = !rig.store.list().is_empty();
        assert!(
            loaded || !seen.contains("loaded"),
            "a load that was answered is lost"
        );
        if loaded {
            let image = rig.store.resolve("test").unwrap();
            assert_eq!(
                std::fs::read(rig.top(&image).join("layer4/file399")).unwrap(),
                [4; 5000]
            );
            block_on(
                rig.store
                    .remove("test", &std::collections::BTreeSet::new(), false),
            )
            .unwrap();
        } else if dirty {
            halfway += 1;
        }
        assert_eq!(rig.snapshot(), empty, "after {pause:?}");
        let Rig { folder: same, store } = rig;
        drop(store);
        folder = same;
    }
    assert!(halfway > 0, "no kill hit the middle of a load");
}
