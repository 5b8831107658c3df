//! Archives that other people's tools made, and other people's tools on archives and stores of ours.

use std::os::unix::fs::PermissionsExt;

use crate::rig::{Rig, block_on, cannot_run, run};

/// A root with busybox, packed by umoci into the OCI layout `oci` under the name `web`; true if it can't be made.
fn make_layout(rig: &Rig) -> bool {
    if cannot_run(&["umoci", "skopeo", "busybox"]) {
        return true;
    }
    let layout = rig.path("oci");
    let image = format!("{layout}:web");
    run("umoci", &["init", "--layout", &layout]);
    run("umoci", &["new", "--image", &image]);
    let root = rig.path("root");
    std::fs::create_dir_all(format!("{root}/bin")).unwrap();
    std::fs::create_dir_all(format!("{root}/tmp")).unwrap();
    std::fs::set_permissions(format!("{root}/tmp"), std::fs::Permissions::from_mode(0o1777)).unwrap();
    let busybox = String::from_utf8(
        std::process::Command::new("sh")
            .args(["-c", "command -v busybox"])
            .output()
            .unwrap()
            .stdout,
    )
    .unwrap();
    std::fs::copy(busybox.trim(), format!("{root}/bin/busybox")).unwrap();
    std::os::unix::fs::symlink("busybox", format!("{root}/bin/sh")).unwrap();
    std::fs::write(format!("{root}/index.html"), "hello\n").unwrap();
    run("umoci", &["insert", "--image", &image, &root, "/"]);
    run(
        "umoci",
        &[
            "insert",
            "--image",
            &image,
            &format!("{root}/index.html"),
            "/srv/index.html",
        ],
    );
    run(
        "umoci",
        &["insert", "--image", &image, "--whiteout", "/index.html"],
    );
    let config = [
        "--config.cmd",
        "/bin/sh",
        "--config.env",
        "A=b",
        "--config.exposedports",
        "80/tcp",
    ];
    run("umoci", &[&["config", "--image", &image], &config[..]].concat());
    false
}

#[test]
fn an_image_of_umoci_loads_from_its_layout_and_from_both_kinds_of_archive() {
    let rig = Rig::new();
    if make_layout(&rig) {
        return;
    }
    let layout = format!("oci:{}:web", rig.path("oci"));
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &layout,
            &format!("docker-archive:{}:shop:1.2", rig.path("docker.tar")),
        ],
    );
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &layout,
            &format!("oci-archive:{}:ghcr.io/acme/shop:1", rig.path("oci.tar")),
        ],
    );

    let from_folder = block_on(rig.store.load_dir(rig.path("oci").as_ref())).unwrap();
    let from_docker = rig.load_file(&rig.path("docker.tar")).unwrap();
    let from_oci = rig.load_file(&rig.path("oci.tar")).unwrap();

    assert_eq!(from_folder[0].names, ["docker.io/library/web:latest"]);
    assert_eq!(from_docker[0].names, ["docker.io/library/shop:1.2"]);
    assert_eq!(
        from_oci[0].names,
        ["docker.io/library/web:latest", "ghcr.io/acme/shop:1"]
    );
    assert_eq!(from_folder[0].id, from_docker[0].id);
    assert_eq!(from_folder[0].layers, from_docker[0].layers);
    for name in [
        "web",
        "shop:1.2",
        "ghcr.io/acme/shop:1",
        &from_oci[0].id,
        &from_oci[0].id[7..15],
    ] {
        assert_eq!(rig.store.resolve(name).unwrap().id, from_oci[0].id, "{name}");
    }
    let config = &from_docker[0].config;
    assert_eq!(
        (&config.command[..], &config.env[..]),
        (&["/bin/sh".to_owned()][..], &["A=b".to_owned()][..])
    );
    assert_eq!(config.exposed_ports, ["80/tcp"]);

    // Three layers share one store: the root, the page, the whiteout of the first page.
    let image = rig.store.resolve("web").unwrap();
    let layers: Vec<_> = image
        .layers
        .iter()
        .map(|chain| crate::rig::listing(&rig.store.layers_dir().join(&chain[7..])))
        .collect();
    assert_eq!(layers[0]["bin/sh"], "0777 0:0 link to busybox");
    assert!(layers[0]["tmp"].starts_with("1777 0:0 folder"));
    assert_eq!(layers[1]["srv/index.html"], "0644 0:0 file \"hello\\n\"");
    assert_eq!(layers[2]["index.html"], "0000 0:0 device 0");
}

#[test]
fn an_image_of_buildah_loads_and_its_short_name_is_enough() {
    if cannot_run(&["buildah", "busybox"]) {
        return;
    }
    let rig = Rig::new();
    let storage = [
        "--root",
        &rig.path("storage"),
        "--runroot",
        &rig.path("run"),
        "--storage-driver",
        "vfs",
    ];
    let buildah = |arguments: &[&str]| {
        run("buildah", &[&storage[..], arguments].concat())
            .trim()
            .to_owned()
    };
    let container = buildah(&["from", "scratch"]);
    std::fs::write(rig.path("page"), "from buildah").unwrap();
    buildah(&["copy", "-q", &container, &rig.path("page"), "/srv/page"]);
    buildah(&[
        "config",
        "--entrypoint",
        r#"["/bin/web"]"#,
        "--user",
        "7:8",
        "--stop-signal",
        "SIGQUIT",
        &container,
    ]);
    buildah(&["commit", "-q", &container, "shop"]);
    buildah(&[
        "push",
        "-q",
        "shop",
        &format!("docker-archive:{}:localhost/shop:latest", rig.path("shop.tar")),
    ]);

    rig.load_file(&rig.path("shop.tar")).unwrap();

    let image = rig
        .store
        .resolve("shop")
        .expect("the short name finds localhost/shop");
    assert_eq!(image.names, ["localhost/shop:latest"]);
    assert_eq!(image.config.entrypoint, ["/bin/web"]);
    assert_eq!(
        (image.config.user.as_str(), image.config.stop_signal.as_deref()),
        ("7:8", Some("SIGQUIT"))
    );
    assert_eq!(
        std::fs::read_to_string(rig.top(&image).join("srv/page")).unwrap(),
        "from buildah"
    );
}

#[test]
fn what_is_saved_is_read_by_skopeo_both_ways_and_loads_as_the_same_image() {
    let rig = Rig::new();
    if make_layout(&rig) {
        return;
    }
    block_on(rig.store.load_dir(rig.path("oci").as_ref())).unwrap();
    let saved = rig.path("saved.tar");
    rig.save(&["web"], &saved);

    let docker = run("skopeo", &["inspect", &format!("docker-archive:{saved}")]);
    let oci = run("skopeo", &["inspect", &format!("oci-archive:{saved}")]);
    assert!(docker.contains("A=b") && oci.contains("A=b"));
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("docker-archive:{saved}"),
            &format!("dir:{}", rig.path("a")),
        ],
    );
    run(
        "skopeo",
        &[
            "copy",
            "-q",
            &format!("oci-archive:{saved}"),
            &format!("dir:{}", rig.path("b")),
        ],
    );

    let other = Rig::new();
    let again = other.load_file(&saved).unwrap();
    assert_eq!(again[0], rig.store.resolve("web").unwrap());

    let twice = rig.path("twice.tar");
    rig.save(&["web"], &twice);
    assert!(
        std::fs::read(saved).unwrap() == std::fs::read(twice).unwrap(),
        "the same image, the same bytes"
    );
}

#[test]
fn the_store_itself_is_a_layout_that_skopeo_copies_from() {
    let rig = Rig::new();
    if make_layout(&rig) {
        return;
    }
    block_on(rig.store.load_dir(rig.path("oci").as_ref())).unwrap();
    let images = rig.state().join("images");
    let name = format!("oci:{}:docker.io/library/web:latest", images.display());
    run(
        "skopeo",
        &["copy", "-q", &name, &format!("dir:{}", rig.path("copy"))],
    );
}
