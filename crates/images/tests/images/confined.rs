//! The unpacking child seen from outside while it waits for more bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use linkspan_images::LoadError;
use tokio::io::AsyncWriteExt;

use crate::rig::{Layout, Rig, Tar, block_on, cannot_run};

/// The process that works for this store, once it has shed what it doesn't need.
async fn child(rig: &Rig) -> PathBuf {
    let folder = rig.folder.path().file_name().unwrap().to_str().unwrap();
    let begin = Instant::now();
    loop {
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let status = status(&entry.path());
            let mounts = std::fs::read_to_string(entry.path().join("mountinfo")).unwrap_or_default();
            let ours = mounts.lines().count() == 1 && mounts.contains(folder);
            if ours && status.get("Seccomp").is_some_and(|mode| mode == "2") {
                return entry.path();
            }
        }
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "no confined child appeared"
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn status(process: &Path) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(process.join("status")).unwrap_or_default();
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    pairs
        .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
        .collect()
}

#[test]
fn the_process_that_unpacks_can_reach_nothing_but_its_folder() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let archive = Layout::new(&[Tar::default().file("a", b"x").end()]).archive();
    let (mut sender, receiver) = tokio::io::duplex(64);
    block_on(async {
        let store = rig.store.clone();
        let load = tokio::spawn(async move { store.load(receiver).await });
        sender.write_all(&archive[..700]).await.unwrap();
        let process = child(&rig).await;

        let status = status(&process);
        // CHOWN, DAC_OVERRIDE, FOWNER, FSETID, SETFCAP.
        for set in ["CapPrm", "CapEff", "CapBnd"] {
            assert_eq!(
                u64::from_str_radix(&status[set], 16).unwrap(),
                0b1 | 0b10 | 0b1000 | 0b1_0000 | 1 << 31,
                "{set}"
            );
        }
        for set in ["CapInh", "CapAmb"] {
            assert_eq!(u64::from_str_radix(&status[set], 16).unwrap(), 0, "{set}");
        }
        assert_eq!(status["NoNewPrivs"], "1");
        for map in ["uid_map", "gid_map"] {
            let map = std::fs::read_to_string(process.join(map)).unwrap();
            assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "0", "65536"]);
        }
        for namespace in ["user", "mnt", "net", "ipc", "uts", "cgroup"] {
            let of = |process: &Path| std::fs::read_link(process.join("ns").join(namespace)).unwrap();
            assert_ne!(of(&process), of("/proc/self".as_ref()), "{namespace}");
        }
        let mounts = std::fs::read_to_string(process.join("mountinfo")).unwrap();
        assert_eq!(mounts.lines().count(), 1, "{mounts}");
        assert!(mounts.contains("nosuid,nodev,noexec"), "{mounts}");
        let root: Vec<_> = std::fs::read_dir(process.join("root"))
            .unwrap()
            .flatten()
            .collect();
        assert!(root.iter().all(|entry| entry.file_name() == "1"), "{root:?}");
        let mut files: Vec<String> = std::fs::read_dir(process.join("fd"))
            .unwrap()
            .flatten()
            .map(|fd| std::fs::read_link(fd.path()).unwrap().display().to_string())
            .filter(|file| !file.starts_with("pipe:") && !file.starts_with("socket:") && file != "/dev/null")
            .collect();
        files.retain(|file| file != "/" && file != "/1" && !file.contains("/images/.tmp-"));
        assert!(files.is_empty(), "{files:?}");

        // Nothing of this kept it from its work.
        sender.write_all(&archive[700..]).await.unwrap();
        drop(sender);
        assert_eq!(load.await.unwrap().unwrap().len(), 1);
    });
}

#[test]
fn a_sender_that_fails_or_a_caller_that_gives_up_leaves_nothing() {
    if cannot_run(&[]) {
        return;
    }
    struct Broken(std::io::Cursor<Vec<u8>>);
    impl tokio::io::AsyncRead for Broken {
        fn poll_read(
            mut self: std::pin::Pin<&mut Self>,
            context: &mut std::task::Context<'_>,
            buffer: &mut tokio::io::ReadBuf<'_>,
        ) -> std::task::Poll<std::io::Result<()>> {
            let before = buffer.filled().len();
            let polled = std::pin::Pin::new(&mut self.0).poll_read(context, buffer);
            if buffer.filled().len() == before {
                return std::task::Poll::Ready(Err(std::io::ErrorKind::ConnectionReset.into()));
            }
            polled
        }
    }
    let rig = Rig::new();
    let before = rig.snapshot();
    let archive = Layout::new(&[Tar::default().file("a", b"x").end()]).archive();
    block_on(async {
        // Whole, but the sender never said so.
        let broken = Broken(std::io::Cursor::new(archive.clone()));
        assert!(matches!(rig.store.load(broken).await, Err(LoadError::Read(_))));
        assert_eq!(rig.snapshot(), before);

        let (mut sender, receiver) = tokio::io::duplex(64);
        let store = rig.store.clone();
        let load = tokio::spawn(async move { store.load(receiver).await });
        sender.write_all(&archive[..700]).await.unwrap();
        let process = child(&rig).await;
        load.abort();
        while process.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    assert_eq!(rig.snapshot(), before);
    assert_eq!(rig.load(archive).unwrap().len(), 1);
}

#[test]
fn loads_of_the_same_layers_and_removals_at_once_end_in_a_whole_store() {
    if cannot_run(&[]) {
        return;
    }
    let rig = Rig::new();
    let empty = rig.snapshot();
    let shared = Tar::default().file("shared", &[1; 100_000]).end();
    let archives: Vec<Vec<u8>> = (0..4)
        .map(|n| {
            let own = Tar::default().file("own", format!("{n}").as_bytes()).end();
            let mut layout = Layout::new(&[shared.clone(), own]);
            let index = String::from_utf8(layout.files["index.json"].clone()).unwrap();
            layout.files.insert(
                "index.json".into(),
                index.replace("\"test\"", &format!("\"test:{n}\"")).into(),
            );
            layout.archive()
        })
        .collect();
    block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for (n, archive) in archives.into_iter().enumerate() {
            let store = rig.store.clone();
            tasks.spawn(async move {
                for _ in 0..5 {
                    let images = store.load(std::io::Cursor::new(archive.clone())).await.unwrap();
                    for chain in &images[0].layers {
                        assert!(store.layers_dir().join(&chain[7..]).is_dir());
                    }
                    let none = std::collections::BTreeSet::new();
                    store.remove(&format!("test:{n}"), &none, false).await.unwrap();
                }
            });
        }
        while let Some(task) = tasks.join_next().await {
            task.unwrap();
        }
    });
    assert_eq!(rig.snapshot(), empty);
}
