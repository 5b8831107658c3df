//! Folders of the host in containers: that they lead nowhere else, and that nothing of root's is left in them.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use linkspan_plan::{MountKind, MountSpec};

use crate::rig::{FIRST, Rig, chain};

fn bind(path: &Path, target: &str) -> MountSpec {
    MountSpec {
        source: MountKind::Bind {
            path: path.to_owned(),
            create: true,
        },
        target: target.to_owned(),
        read_only: false,
        allow_host_path: false,
    }
}

/// A folder below the rig's, of this owner.
fn folder(rig: &Rig, name: &str, owner: u32) -> PathBuf {
    let path = rig.folder().join(name);
    fs::create_dir(&path).unwrap();
    chown(&path, Some(owner), Some(owner)).unwrap();
    path
}

fn owner(path: &Path) -> (u32, u32) {
    let about = fs::metadata(path).unwrap();
    (about.uid(), about.gid())
}

/// Runs a script with these mounts; gives what it wrote and the warnings.
async fn run(rig: &mut Rig, mounts: Vec<MountSpec>, script: &str) -> (String, Vec<String>) {
    let mut spec = rig.spec(script);
    spec.mounts = mounts;
    let (_, log) = rig.run(&spec).await;
    let warnings = rig.containers.warnings(&spec.id);
    rig.containers.remove(&spec.id).await.unwrap();
    (log, warnings)
}

/// Why a container with this mount can't be made.
async fn refusal(rig: &Rig, mount: MountSpec) -> String {
    let mut spec = rig.spec("cat /u/*");
    spec.mounts = vec![mount];
    let error = rig.containers.create(&spec, &rig.sandbox).await.unwrap_err();
    assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    chain(&error)
}

both! {
    a_link_that_a_container_left_leads_no_other_out_of_its_folder(rig) {
        let secret = folder(&rig, "secret", 0);
        fs::write(secret.join("key"), "of the host\n").unwrap();
        fs::set_permissions(secret.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        let data = folder(&rig, "data", 1000);
        folder(&rig, "data/roots", 0);
        let script = format!(
            "ln -s {0} /d/uploads; ln -s {0}/key /d/file; ln -s ../../secret/new /d/new; ln -s roots /d/inner; \
             mkdir -p /d/releases/7; echo seven > /d/releases/7/page; ln -s releases/7 /d/current",
            secret.display()
        );
        let (log, _) = run(&mut rig, vec![bind(&data, "/d")], &script).await;
        assert_eq!(log, "");
        assert!(data.join("uploads/key").exists(), "the link is there");

        for planted in ["uploads", "uploads/key", "file", "new", "new/deeper", "inner"] {
            for allowed in [false, true] {
                let mount = MountSpec { allow_host_path: allowed, ..bind(&data.join(planted), "/u") };
                let text = refusal(&rig, mount).await;
                assert!(text.contains("is a link to") && text.contains("user 1000"), "{planted}: {text}");
            }
        }
        assert_eq!(fs::read_to_string(secret.join("key")).unwrap(), "of the host\n");
        assert_eq!(fs::read_dir(&secret).unwrap().count(), 1, "nothing was made by a link");

        // What stays below the folder that holds the link, and belongs to whoever made it, is theirs anyway.
        let (log, _) = run(&mut rig, vec![bind(&data.join("current"), "/u")], "cat /u/page").await;
        assert_eq!(log, "seven\n");
    }

    a_link_of_root_is_followed_but_not_to_what_gives_the_host_away(rig) {
        let data = folder(&rig, "data", 1000);
        fs::write(data.join("page"), "hello\n").unwrap();
        symlink("data", rig.folder().join("link")).unwrap();
        symlink("/etc/../etc/ssl", rig.folder().join("settings")).unwrap();
        let mounts = vec![bind(&rig.folder().join("link"), "/u")];
        let (log, _) = run(&mut rig, mounts, "cat /u/page").await;
        assert_eq!(log, "hello\n");

        let mount = MountSpec { read_only: true, ..bind(&rig.folder().join("settings"), "/u") };
        let text = refusal(&rig, mount.clone()).await;
        assert!(text.contains("`/etc/ssl`, which gives the host away") && text.contains("allow_host_path: true"), "{text}");
        let mount = MountSpec { allow_host_path: true, ..mount };
        let (log, _) = run(&mut rig, vec![mount], "ls /u").await;
        assert!(log.contains("certs"), "{log}");
    }

    no_file_of_root_is_left_on_the_host(rig) {
        let script = "id -u; cp /bin/busybox /u/shell && chown 0:0 /u/shell && chmod 6755 /u/shell && stat -c %u:%a /u/shell";
        // As most people begin: by nothing at all, or by a folder made for it.
        let empty = folder(&rig, "empty", 0);
        let missing = rig.folder().join("missing");
        let open = folder(&rig, "open", 0);
        fs::write(open.join("of-root"), "").unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        for path in [&empty, &missing, &open] {
            let (log, warnings) = run(&mut rig, vec![bind(path, "/u")], script).await;
            assert_eq!((log.as_str(), warnings.len()), ("0\n0:6755\n", 0), "{}", path.display());
            assert_eq!(owner(&path.join("shell")), (FIRST, FIRST), "{}", path.display());
            let (log, _) = run(&mut rig, vec![bind(path, "/u")], "stat -c %u /u/shell; echo more > /u/more; cat /u/more").await;
            assert_eq!(log, "0\nmore\n", "{}: in the next container too", path.display());
        }
        // Whoever may do everything may do this.
        let mount = MountSpec { allow_host_path: true, ..bind(&folder(&rig, "allowed", 0), "/u") };
        run(&mut rig, vec![mount], script).await;
        assert_eq!(owner(&rig.folder().join("allowed/shell")), (0, 0));
    }

    what_root_wrote_can_be_read_but_not_changed(rig) {
        let site = folder(&rig, "site", 0);
        fs::write(site.join("key"), "private\n").unwrap();
        fs::set_permissions(site.join("key"), fs::Permissions::from_mode(0o600)).unwrap();
        let mounts = vec![bind(&site, "/u"), bind(&site.join("key"), "/key")];
        let (log, warnings) = run(&mut rig, mounts, "cat /u/key /key; touch /u/new; echo x >> /key; chmod 4755 /u/key").await;
        assert!(log.starts_with("private\nprivate\n"), "{log}");
        assert_eq!(log.matches("Read-only file system").count(), 3, "{log}");
        assert_eq!(warnings.len(), 2);
        let remedies = ["belongs to root", "can only be read at `/u`", "chown -R 1000:1000", "allow_host_path: true"];
        assert!(remedies.iter().all(|remedy| warnings[0].contains(remedy)), "{warnings:?}");

        // Nor by who may mount: it was read-only before its namespace began.
        let mut spec = rig.spec("mount -o remount,rw,bind /u && touch /u/new; mount -o remount,rw,bind /r && touch /r/new; ls /u /r");
        spec.privileged = true;
        spec.mounts = vec![bind(&site, "/u"), MountSpec { read_only: true, ..bind(&site, "/r") }];
        let (_, log) = rig.run(&spec).await;
        assert!(!log.contains("new") && !site.join("new").exists(), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();

        let mounts = vec![MountSpec { allow_host_path: true, ..bind(&site, "/u") }];
        let (log, warnings) = run(&mut rig, mounts, "echo changed > /u/key; cat /u/key").await;
        assert_eq!((log.as_str(), warnings.len()), ("changed\n", 0));
    }

    a_folder_made_in_a_persons_project_is_that_persons(rig) {
        let project = folder(&rig, "project", 1000);
        let (log, _) = run(&mut rig, vec![bind(&project.join("data/deep"), "/u")], "touch /u/file; stat -c %u /u").await;
        assert_eq!(log, "0\n");
        for path in ["data", "data/deep", "data/deep/file"] {
            assert_eq!(owner(&project.join(path)), (1000, 1000), "{path}");
        }
    }

    a_database_may_give_its_folder_away_each_time_it_starts(rig) {
        let data = folder(&rig, "data", 0);
        // As the entry points of databases do it: root gives everything to the user that the program runs as.
        let script = "find /u ! -user 999 -exec chown 999 {} + && touch /u/wal && chown 999 /u/wal && stat -c %u /u /u/wal";
        for _ in 0..3 {
            let (log, _) = run(&mut rig, vec![bind(&data, "/u")], script).await;
            assert_eq!(log, "999\n999\n");
        }
    }
}
