//! Image archives for the demo and the tests, in `target/images`.
//!
//! Those of the demo come from this repository's sources and the toolchain alone. `nginx` is Debian's, in a root made
//! by `mmdebstrap` and packed by `umoci`: other people's software, other people's archive.

use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{Outcome, program, root, target};

/// Names that [`make`] knows.
const ALL: [&str; 4] = ["demo-web", "demo-site", "busybox", "nginx"];

/// Makes the archives that are missing or older than what they are made of. None named: all but `nginx`.
pub(crate) fn make(names: &[&str]) -> Outcome {
    let names = if names.is_empty() { &ALL[..3] } else { names };
    let folder = folder();
    fs::create_dir_all(&folder)?;
    // Tests run side by side; the first makes an archive, the others wait for it.
    let lock = File::create(folder.join(".lock"))?;
    lock.lock()?;
    for name in names {
        let archive = match *name {
            "demo-web" => demo_web(&folder)?,
            "demo-site" => demo_site(&folder)?,
            "busybox" => busybox(&folder)?,
            "nginx" => nginx(&folder)?,
            other => return Err(format!("no image `{other}`; known are {}", ALL.join(", ")).into()),
        };
        println!("{}", archive.display());
    }
    Ok(())
}

/// Where the archives are.
pub(crate) fn folder() -> PathBuf {
    target().join("images")
}

/// The demo's web program in an otherwise empty root: `linkspan-demo/web:1`.
fn demo_web(folder: &Path) -> Outcome<PathBuf> {
    let archive = folder.join("demo-web.tar");
    let web = web_program(folder)?;
    if is_newer(&archive, &[&web]) {
        return Ok(archive);
    }
    let tree = Tree::new(folder, "demo-web")?;
    tree.program(&web, "web")?;
    tree.accounts()?;
    tree.pack(
        &archive,
        "linkspan-demo/web:1",
        &Config {
            command: r#"["/web","serve"]"#,
            port: 8080,
            user: "1000",
        },
    )?;
    Ok(archive)
}

/// The demo's static site, served by the same program: `linkspan-demo/site:1`.
fn demo_site(folder: &Path) -> Outcome<PathBuf> {
    let archive = folder.join("demo-site.tar");
    let web = web_program(folder)?;
    let pages = root().join("configs/demo/site");
    if is_newer(
        &archive,
        &[&web, &pages.join("index.html"), &pages.join("style.css")],
    ) {
        return Ok(archive);
    }
    let tree = Tree::new(folder, "demo-site")?;
    tree.program(&web, "web")?;
    tree.accounts()?;
    program::run(
        Command::new("cp")
            .arg("-r")
            .arg(&pages)
            .arg(tree.root.join("site")),
    )?;
    let config = Config {
        command: r#"["/web","files","/site"]"#,
        port: 8080,
        user: "1000",
    };
    tree.pack(&archive, "linkspan-demo/site:1", &config)?;
    Ok(archive)
}

/// Debian's static busybox with its applets as links, serving `/www` on port 80: `busybox:test`.
fn busybox(folder: &Path) -> Outcome<PathBuf> {
    let archive = folder.join("busybox.tar");
    let busybox =
        program::find("busybox").ok_or("no `busybox` here; install the Debian package busybox-static")?;
    if is_newer(&archive, &[&busybox]) {
        return Ok(archive);
    }
    let tree = Tree::new(folder, "busybox")?;
    tree.program(&busybox, "bin/busybox")?;
    for applet in program::output(Command::new(&busybox).arg("--list"))?
        .lines()
        .filter(|applet| *applet != "busybox")
    {
        std::os::unix::fs::symlink("busybox", tree.root.join("bin").join(applet))?;
    }
    tree.accounts()?;
    fs::create_dir(tree.root.join("www"))?;
    fs::write(tree.root.join("www/index.html"), "busybox says hello\n")?;
    let config = Config {
        command: r#"["/bin/httpd","-f","-p","80","-h","/www"]"#,
        port: 80,
        user: "",
    };
    tree.pack(&archive, "busybox:test", &config)?;
    Ok(archive)
}

/// Debian's nginx in a root made by `mmdebstrap`, packed as an OCI archive by `umoci`: `debian-nginx:test`.
fn nginx(folder: &Path) -> Outcome<PathBuf> {
    let archive = folder.join("nginx.tar");
    if archive.exists() {
        return Ok(archive);
    }
    let work = folder.join("nginx.work");
    remove(&work)?;
    fs::create_dir_all(&work)?;
    let rootfs = work.join("rootfs.tar");
    program::run(
        Command::new("mmdebstrap")
            .args([
                "--quiet",
                "--variant=essential",
                "--include=nginx-light",
                "bookworm",
            ])
            .arg(&rootfs),
    )?;
    let layout = work.join("layout");
    let reference = format!("{}:test", layout.display());
    let umoci = |args: &[&str]| program::run(Command::new("umoci").args(args).current_dir(&work));
    umoci(&["init", "--layout", "layout"])?;
    umoci(&["new", "--image", &reference])?;
    umoci(&["unpack", "--image", &reference, "bundle"])?;
    program::run(
        Command::new("tar")
            .args(["-C", "bundle/rootfs", "-xf", "rootfs.tar"])
            .current_dir(&work),
    )?;
    umoci(&["repack", "--image", &reference, "bundle"])?;
    umoci(&[
        "config",
        "--image",
        &reference,
        "--config.cmd=/usr/sbin/nginx",
        "--config.cmd=-g",
        "--config.cmd=daemon off;",
        "--config.stopsignal=SIGQUIT",
        "--config.exposedports=80/tcp",
    ])?;
    // umoci names the image by its tag alone; `skopeo` writes the full name into the archive.
    let part = work.join("nginx.tar");
    program::run(
        Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy"])
            .args([
                format!("oci:{reference}"),
                format!("oci-archive:{}:debian-nginx:test", part.display()),
            ]),
    )?;
    fs::rename(&part, &archive)?;
    remove(&work)?;
    Ok(archive)
}

/// The demo's web program, linked statically by `rustc` alone.
fn web_program(folder: &Path) -> Outcome<PathBuf> {
    let source = root().join("configs/demo/web/main.rs");
    let program = folder.join("web");
    if is_newer(&program, &[&source]) {
        return Ok(program);
    }
    let part = folder.join("web.part");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    program::run(
        Command::new(rustc)
            .current_dir(root())
            .args([
                "--edition",
                "2024",
                "-O",
                "-C",
                "target-feature=+crt-static",
                "-C",
                "panic=abort",
            ])
            .args(["-C", "strip=symbols", "-o"])
            .args([&part, &source]),
    )?;
    fs::rename(&part, &program)?;
    Ok(program)
}

/// What an image runs.
struct Config {
    /// JSON array.
    command: &'static str,
    port: u16,
    /// Empty for root.
    user: &'static str,
}

/// A root file system in the making; removed when dropped.
struct Tree {
    work: PathBuf,
    root: PathBuf,
}

impl Tree {
    fn new(folder: &Path, name: &str) -> Outcome<Self> {
        let work = folder.join(format!("{name}.work"));
        remove(&work)?;
        let root = work.join("root");
        fs::create_dir_all(&root)?;
        Ok(Self { work, root })
    }

    fn program(&self, from: &Path, to: &str) -> Outcome {
        let to = self.root.join(to);
        if let Some(parent) = to.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(from, &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
        Ok(())
    }

    fn accounts(&self) -> Outcome {
        let etc = self.root.join("etc");
        fs::create_dir_all(&etc)?;
        fs::write(
            etc.join("passwd"),
            "root:x:0:0:root:/:/bin/sh\nweb:x:1000:1000:web:/:/bin/sh\n",
        )?;
        fs::write(etc.join("group"), "root:x:0:\nweb:x:1000:\n")?;
        let tmp = self.root.join("tmp");
        fs::create_dir_all(&tmp)?;
        fs::set_permissions(&tmp, fs::Permissions::from_mode(0o1777))?;
        Ok(())
    }

    /// Writes a docker-archive: `manifest.json`, the configuration, one layer.
    fn pack(&self, archive: &Path, name: &str, config: &Config) -> Outcome {
        let layer = self.work.join("layer.tar");
        tar(&self.root, &layer, &["."])?;
        let diff_id = sha256(&layer)?;
        let text = format!(
            "{{\"architecture\":\"amd64\",\"os\":\"linux\",\"created\":\"2026-01-01T00:00:00Z\",\
             \"config\":{{\"Cmd\":{},\"User\":\"{}\",\"WorkingDir\":\"/\",\"ExposedPorts\":{{\"{}/tcp\":{{}}}}}},\
             \"rootfs\":{{\"type\":\"layers\",\"diff_ids\":[\"sha256:{diff_id}\"]}},\
             \"history\":[{{\"created\":\"2026-01-01T00:00:00Z\",\"created_by\":\"cargo xtask images\"}}]}}",
            config.command, config.user, config.port,
        );
        let text = text.replace("amd64", architecture());
        let json = self.work.join("config.json");
        fs::write(&json, text)?;
        let id = sha256(&json)?;
        fs::rename(&json, self.work.join(format!("{id}.json")))?;
        fs::create_dir(self.work.join(&id))?;
        fs::rename(&layer, self.work.join(&id).join("layer.tar"))?;
        let manifest =
            format!(r#"[{{"Config":"{id}.json","RepoTags":["{name}"],"Layers":["{id}/layer.tar"]}}]"#);
        fs::write(self.work.join("manifest.json"), manifest)?;
        let part = archive.with_extension("part");
        tar(&self.work, &part, &["manifest.json", &format!("{id}.json"), &id])?;
        fs::rename(&part, archive)?;
        Ok(())
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        // What stays is overwritten by the next run.
        let _ = fs::remove_dir_all(&self.work);
    }
}

/// The same input gives the same bytes.
fn tar(folder: &Path, archive: &Path, names: &[&str]) -> Outcome {
    program::run(
        Command::new("tar")
            .args([
                "--sort=name",
                "--owner=0",
                "--group=0",
                "--numeric-owner",
                "--mtime=@0",
                "--format=gnu",
                "-cf",
            ])
            .arg(archive)
            .arg("-C")
            .arg(folder)
            .args(names),
    )
}

fn sha256(file: &Path) -> Outcome<String> {
    let line = program::output(Command::new("sha256sum").arg(file))?;
    line.split(' ')
        .next()
        .map(str::to_owned)
        .ok_or_else(|| "`sha256sum` printed nothing".into())
}

/// As the OCI image specification names it.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Does `made` exist, and is it as new as all that it is made of?
fn is_newer(made: &Path, of: &[&Path]) -> bool {
    let changed = |path: &Path| fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    // A change to the rules here makes everything again; this program is built from them.
    let own = std::env::current_exe().ok();
    changed(made).is_some_and(|made| {
        of.iter()
            .copied()
            .chain(own.as_deref())
            .all(|part| changed(part) <= Some(made))
    })
}

fn remove(folder: &Path) -> Outcome {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(format!("cannot remove `{}`: {error}", folder.display()).into())
        }
        _ => Ok(()),
    }
}
