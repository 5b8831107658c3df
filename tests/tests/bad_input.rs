//! Bad input: a clear message, exit status 2, and nothing changed.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use linkspan_tests::{Ran, Rig, image};

const SHOP: &str = "
routes: { shop.test: web:8080 }
containers: { web: { image: linkspan-demo/web:1, ports: ['5000:8080'] } }
";

const ONE: &str = "containers:\n  web:\n    image: linkspan-demo/web:1\n";

#[test]
fn a_file_with_a_mistake_is_refused_with_the_place_and_a_hint() {
    let Some(rig) = shop() else { return };
    // What is wrong, the file, and what the message must hold: the place, the text, the way out.
    let cases: &[(&str, String, &[&str])] = &[
        (
            "unknown key",
            format!("{ONE}    imagee: x\n"),
            &["4:5", "imagee", "image"],
        ),
        (
            "unknown key of a route",
            "routes:\n  a.test: { too: web:80 }\n".to_owned() + ONE,
            &["2:13", "too"],
        ),
        (
            "wrong type",
            format!("{ONE}    replicas: many\n"),
            &["4:15", "many"],
        ),
        (
            "tab",
            "containers:\n\tweb:\n\t\timage: x\n".to_owned(),
            &["2:1", "tab"],
        ),
        (
            "duplicate key",
            format!("{ONE}    image: other:1\n"),
            &["4:5", "image"],
        ),
        (
            "unknown container",
            format!("routes:\n  a.test: wep:8080\n{ONE}"),
            &["2:11", "wep", "web"],
        ),
        (
            "port out of range",
            format!("routes:\n  a.test: web:70000\n{ONE}"),
            &["2:11", "70000"],
        ),
        (
            "name with a slash",
            "containers:\n  a/b:\n    image: x\n".to_owned(),
            &["2:3", "a/b"],
        ),
        (
            "not supported yet",
            "containers:\n  web: { image: x, idle: 10m }\n".to_owned(),
            &["2:20", "idle", "not supported yet"],
        ),
        ("not YAML", "containers: [\n".to_owned(), &["linkspan.yaml"]),
        ("a list", "- a\n- b\n".to_owned(), &["1:1"]),
        ("empty", String::new(), &["linkspan.yaml"]),
    ];
    let mut wrong = Vec::new();
    for (what, yaml, holds) in cases {
        let folder = rig.site("bad", yaml);
        for verb in ["check", "up", "plan"] {
            let ran = rig.linkspan_in(&folder, &[verb]);
            let said = ran.said();
            let missing: Vec<&&str> = holds.iter().filter(|text| !said.contains(**text)).collect();
            if ran.code != 2 || !missing.is_empty() {
                wrong.push(format!(
                    "{what}, `{verb}`: exit status {}, without {missing:?}:\n{said}",
                    ran.code
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    unchanged(&rig);
}

#[test]
fn all_mistakes_of_a_file_are_told_at_once() {
    let Some(rig) = shop() else { return };
    let ran = rig.up(
        "bad",
        "routes:\n  a.test: wep:80\n  b.test: web:0\ncontainers:\n  web:\n    imag: x\n",
    );
    let said = ran.said();
    assert_eq!(ran.code, 2, "{said}");
    for place in ["2:", "3:", "6:"] {
        assert!(
            said.contains(&format!("linkspan.yaml:{place}")),
            "no problem on line {place} {said}"
        );
    }
    unchanged(&rig);
}

#[test]
fn what_is_not_a_site_file_is_refused_quickly() {
    let Some(rig) = shop() else { return };
    let folder = rig.site("bad", "");
    let file = folder.join("linkspan.yaml");
    let refuse = |what: &str, bytes: &[u8], holds: &[&str]| {
        fs::write(&file, bytes).unwrap();
        let ran = rig.linkspan_in(&folder, &["up"]);
        assert_eq!(ran.code, 2, "{what}: {}", ran.said());
        assert!(
            holds.iter().any(|text| ran.said().contains(text)),
            "{what}: {}",
            ran.said()
        );
        assert!(ran.took < Duration::from_secs(10), "{what} took {:?}", ran.took);
        assert!(
            ran.said().len() < 100_000,
            "{what}: {} bytes of message",
            ran.said().len()
        );
    };
    let line = b"# a hundred megabytes of comment, line by line by line by line by line\n";
    refuse(
        "100 MB",
        &line.repeat((100 << 20) / line.len() + 1),
        &["MiB", "MB", "bytes", "large", "big"],
    );
    let mut laughs = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n".to_owned();
    for level in 1..30 {
        let alias = format!("*a{},", level - 1).repeat(9);
        laughs.push_str(&format!(
            "a{level}: &a{level} [{}]\n",
            alias.trim_end_matches(',')
        ));
    }
    refuse("aliases of aliases", laughs.as_bytes(), &["alias", "anchor"]);
    refuse(
        "deep nesting",
        "[".repeat(100_000).as_bytes(),
        &["deep", "nest", "recursion"],
    );
    refuse(
        "not UTF-8",
        b"containers:\n  web:\n    image: \xff\xfe\n",
        &["UTF-8"],
    );
    unchanged(&rig);
}

#[test]
fn what_the_host_does_not_allow_is_told_with_the_name_of_the_obstacle() {
    let Some(rig) = shop() else { return };
    let mut other = rig
        .host()
        .command(
            Path::new("/"),
            &["busybox", "httpd", "-f", "-p", "127.0.0.1:6000"],
        )
        .spawn()
        .unwrap();
    rig.wait_until("the other program listens", Duration::from_secs(10), || {
        rig.host().run(&["sh", "-c", "ss -ltn | grep -q :6000"]).code == 0
    });
    let publish = |port: &str| format!("{ONE}    ports: ['{port}:8080']\n");
    let refuse = |what: &str, yaml: &str, holds: &[&str]| {
        let ran = rig.up("bad", yaml);
        assert_eq!(ran.code, 2, "{what}: {}", ran.said());
        for text in holds {
            assert!(ran.said().contains(text), "{what}: no `{text}` in {}", ran.said());
        }
    };
    refuse("a port another program has", &publish("6000"), &["6000"]);
    refuse("a port another project has", &publish("5000"), &["5000", "shop"]);
    let two = format!(
        "{}  api:\n    image: linkspan-demo/web:1\n    ports: ['7000:80']\n",
        publish("7000")
    );
    refuse("two containers on one port", &two, &["7000", "`api`"]);
    refuse(
        "no such image",
        "containers: { web: { image: 'no/such:1' } }\n",
        &["no/such:1"],
    );
    let overlap = format!("{ONE}networks: {{ default: {{ subnet: 192.0.2.0/25 }} }}\n");
    refuse("a subnet of the host's", &overlap, &["192.0.2.0/25", "192.0.2"]);
    unchanged(&rig);
    other.kill().unwrap();
    other.wait().unwrap();
}

#[test]
fn an_archive_that_is_broken_or_reaches_out_is_refused_and_writes_nothing() {
    let Some(rig) = shop() else { return };
    let whole = fs::read(image("demo-web")).unwrap();
    let refuse = |what: &str, archive: &Path, holds: &[&str]| {
        let ran = rig.linkspan(&["load", "--input", archive.to_str().unwrap()]);
        assert_eq!(ran.code, 2, "{what}: {}", ran.said());
        assert!(
            holds.iter().any(|text| ran.said().contains(text)),
            "{what}: {}",
            ran.said()
        );
    };
    let archive = |name: &str, bytes: &[u8]| -> PathBuf {
        let path = rig.folder().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let images = rig.json(&["images"]);

    refuse(
        "truncated",
        &archive("truncated.tar", &whole[..whole.len() / 2]),
        &["truncated", "cut short"],
    );
    let mut tampered = whole;
    let place = tampered.len() / 2;
    for byte in &mut tampered[place..place + 16] {
        *byte ^= 0x55;
    }
    refuse(
        "tampered",
        &archive("tampered.tar", &tampered),
        &["digest", "sha256"],
    );
    refuse(
        "not an archive",
        &archive("text.tar", &b"hello ".repeat(2000)),
        &["archive"],
    );
    refuse("empty", &archive("empty.tar", b""), &["archive"]);
    refuse("missing", &rig.folder().join("missing.tar"), &["missing.tar"]);

    let trap = format!("/etc/cron.d/linkspan-trap-{}", std::process::id());
    for (what, entries) in [
        (
            "an entry above the root",
            format!("[('file', '../../../../../../../..{trap}', b'x')]"),
        ),
        (
            "an absolute link, then an entry through it",
            format!("[('link', 'out', '/etc'), ('file', 'out{}', b'x')]", &trap[4..]),
        ),
        (
            "a relative link, then an entry through it",
            format!(
                "[('link', 'out', '../../../../../../../../etc'), ('file', 'out{}', b'x')]",
                &trap[4..]
            ),
        ),
        (
            "a hard link out of the root",
            "[('hard', 'passwd', '../../../../../../../../etc/passwd')]".to_owned(),
        ),
    ] {
        let path = rig.folder().join("evil.tar");
        evil(&path, &entries);
        refuse(what, &path, &["out of", "outside", "leave", "link", ".."]);
        assert!(!Path::new(&trap).exists(), "{what}: written on the host");
    }
    assert_eq!(rig.json(&["images"]), images, "none of them is there");
    unchanged(&rig);
}

#[test]
fn without_a_daemon_or_root_a_person_is_told_what_to_do() {
    let Some(rig) = Rig::without_daemon(&["setpriv"]) else {
        return;
    };
    let said = |ran: &Ran| ran.said();
    let ran = rig.linkspan(&["ps"]);
    assert_eq!(ran.code, 2, "{}", said(&ran));
    assert!(said(&ran).contains("linkspan daemon"), "{}", said(&ran));

    let linkspan = linkspan_tests::binary("linkspan");
    let state = rig.folder().join("state");
    let plain = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"];
    // The binary lies where only root may look, as a rule; a copy does not.
    let copy = rig.folder().join("linkspan");
    fs::copy(linkspan, &copy).unwrap();
    let daemon = [
        copy.to_str().unwrap(),
        "daemon",
        "--state-dir",
        state.to_str().unwrap(),
    ];
    let ran = rig.host().run(&[&plain[..], &daemon].concat());
    assert_eq!(ran.code, 2, "{}", said(&ran));
    assert!(said(&ran).contains("root"), "{}", said(&ran));
    assert!(!state.exists(), "nothing is made before that is known");
}

#[test]
fn a_second_daemon_on_the_same_run_folder_is_refused() {
    let Some(rig) = Rig::start() else { return };
    let state = rig.folder().join("other");
    let ran = rig.linkspan(&["daemon", "--state-dir", state.to_str().unwrap()]);
    assert_eq!(ran.code, 2, "{}", ran.said());
    assert!(ran.said().contains("/run/linkspan"), "{}", ran.said());
    assert_eq!(rig.linkspan(&["status"]).code, 0, "the first is unharmed");
}

fn shop() -> Option<Rig> {
    let rig = Rig::start()?;
    rig.load_image("demo-web");
    rig.up("shop", SHOP).ok();
    Some(rig)
}

/// The one project is as it was, and serves.
#[track_caller]
fn unchanged(rig: &Rig) {
    let names: Vec<String> = rig
        .ps()
        .iter()
        .map(|container| container["name"].to_string())
        .collect();
    assert_eq!(names, ["\"shop-web-1\""]);
    let sites = rig.json(&["status"])["sites"].as_array().unwrap().len();
    assert_eq!(sites, 1, "one site is known");
    assert_eq!(rig.curl("https://shop.test/health", &[]).unwrap().status, 200);
}

/// A docker-archive, well formed but for the entries of its layer, which are given as a Python list.
fn evil(path: &Path, entries: &str) {
    const SCRIPT: &str = r#"
import hashlib, io, json, sys, tarfile
def tar(add):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode='w') as t: add(t)
    return out.getvalue()
def put(t, name, data):
    info = tarfile.TarInfo(name); info.size = len(data); t.addfile(info, io.BytesIO(data))
def layer(t):
    for kind, name, what in eval(sys.argv[2]):
        if kind == 'file': put(t, name, what); continue
        info = tarfile.TarInfo(name); info.linkname = what
        info.type = tarfile.SYMTYPE if kind == 'link' else tarfile.LNKTYPE
        t.addfile(info)
layer = tar(layer)
config = json.dumps({'architecture': 'amd64', 'os': 'linux', 'config': {'Cmd': ['/x']},
  'rootfs': {'type': 'layers', 'diff_ids': ['sha256:' + hashlib.sha256(layer).hexdigest()]}}).encode()
name = hashlib.sha256(config).hexdigest()
manifest = json.dumps([{'Config': name + '.json', 'RepoTags': ['evil:1'], 'Layers': ['layer.tar']}]).encode()
with open(sys.argv[1], 'wb') as out:
    out.write(tar(lambda t: [put(t, 'manifest.json', manifest), put(t, name + '.json', config), put(t, 'layer.tar', layer)]))
"#;
    let status = Command::new("python3")
        .args(["-c", SCRIPT])
        .arg(path)
        .arg(entries)
        .status()
        .unwrap();
    assert!(status.success());
}
