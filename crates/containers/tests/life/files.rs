//! What a container sees of disks.

use std::os::unix::fs::MetadataExt;

use linkspan_plan::{MountKind, MountSpec};

use crate::rig::chain;

both! {
    volumes_begin_with_the_images_files_and_outlive_containers(rig) {
        let volume = || MountSpec {
            source: MountKind::Volume { name: "shop_data".to_owned() },
            target: "/data".to_owned(),
            read_only: false,
            allow_host_path: false,
        };
        let mut spec = rig.spec("cat /data/seed; stat -c %u /data/seed /data; echo kept > /data/kept; chown 33 /data/kept");
        spec.mounts = vec![volume()];
        let (exit, log) = rig.run(&spec).await;
        assert_eq!((exit.code, log.as_str()), (Some(0), "from the image\n33\n0\n"));
        let kept = rig.config.state_dir.join("volumes/shop_data/_data/kept");
        assert_eq!(std::fs::metadata(&kept).unwrap().uid(), 33, "the id on disk is the container's");
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("cat /data/kept; touch /data/no || echo read-only");
        spec.mounts = vec![MountSpec { read_only: true, ..volume() }];
        let (_, log) = rig.run(&spec).await;
        assert!(log.starts_with("kept\n") && log.ends_with("read-only\n"), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.containers.volumes().await.unwrap(), ["shop_data"]);
        rig.containers.remove_volume("shop_data").await.unwrap();
        assert!(rig.containers.volumes().await.unwrap().is_empty());
    }

    a_bound_folder_belongs_to_the_containers_root(rig) {
        let folder = rig.folder().join("bound");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("file"), "of the host\n").unwrap();
        std::os::unix::fs::chown(&folder, Some(1000), Some(1000)).unwrap();
        std::os::unix::fs::chown(folder.join("file"), Some(1000), Some(1000)).unwrap();
        let bind = |path: std::path::PathBuf, target: &str, read_only| MountSpec {
            source: MountKind::Bind { path, create: false },
            target: target.to_owned(),
            read_only,
            allow_host_path: false,
        };
        let mut spec = rig.spec("cat /b/file /one; stat -c %u /b/file; echo new > /b/new; touch /r/x || echo read-only");
        spec.mounts = vec![
            bind(folder.clone(), "/b", false),
            bind(folder.clone(), "/r", true),
            bind(folder.join("file"), "/one", false),
            MountSpec {
                source: MountKind::Bind { path: rig.folder().join("made"), create: true },
                target: "/made".to_owned(),
                read_only: false,
            allow_host_path: false,
            },
        ];
        let (_, log) = rig.run(&spec).await;
        assert!(log.starts_with("of the host\nof the host\n0\n") && log.ends_with("read-only\n"), "{log}");
        let new = std::fs::metadata(folder.join("new")).unwrap();
        assert_eq!((new.uid(), new.gid()), (1000, 1000));
        assert!(rig.folder().join("made").is_dir());
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("true");
        spec.mounts = vec![bind(rig.folder().join("not-there"), "/b", false)];
        let error = rig.containers.create(&spec, &rig.sandbox).await.unwrap_err();
        assert!(chain(&error).contains("not-there"), "{}", chain(&error));
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    a_read_only_root_can_only_be_read(rig) {
        let mut spec = rig.spec("touch /x || echo no; touch /tmp/x && echo yes");
        spec.read_only = true;
        spec.mounts = vec![MountSpec {
            source: MountKind::Tmpfs { size: Some(1 << 20), mode: None },
            target: "/tmp".to_owned(),
            read_only: false,
            allow_host_path: false,
        }];
        let (_, log) = rig.run(&spec).await;
        assert!(log.contains("no\n") && log.ends_with("yes\n"), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();
    }

    a_root_may_have_many_layers(rig) {
        let mut spec = rig.spec("cat /etc/number; ls /layers | wc -l; cat /hidden 2>/dev/null || echo hidden is gone");
        let base = spec.layers[0].clone();
        spec.layers.clear();
        for number in 0..120 {
            let name = format!("{number:064x}");
            let layer = rig.config.layers_dir.join(&name);
            std::fs::create_dir_all(layer.join("layers")).unwrap();
            std::fs::create_dir_all(layer.join("etc")).unwrap();
            std::fs::write(layer.join("layers").join(number.to_string()), "").unwrap();
            std::fs::write(layer.join("etc/number"), format!("{number}\n")).unwrap();
            if number == 3 {
                std::fs::write(layer.join("hidden"), "no\n").unwrap();
            }
            if number == 70 {
                let path = layer.join("hidden");
                nix::sys::stat::mknod(&path, nix::sys::stat::SFlag::S_IFCHR, nix::sys::stat::Mode::empty(), 0).unwrap();
            }
            spec.layers.push(format!("sha256:{name}"));
        }
        spec.layers.insert(0, base);
        let (_, log) = rig.run(&spec).await;
        assert_eq!(log, "119\n120\nhidden is gone\n");
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("true");
        spec.layers.push("sha256:77".to_owned());
        let error = rig.containers.create(&spec, &rig.sandbox).await.unwrap_err();
        assert!(chain(&error).contains("layer `sha256:77` is not unpacked"), "{}", chain(&error));
    }
}
