//! The runtime by its own command line.

use std::time::Duration;

use crate::rig::{Rig, Runtime, possible, state_of};

/// As another engine would drive it.
#[tokio::test]
async fn the_runtime_can_be_driven_by_hand() {
    if !possible(Runtime::Ours) {
        return;
    }
    let rig = Rig::new(Runtime::Ours);
    let bundle = rig.bundle("echo from the bundle; sleep 60");
    let pid_file = rig.folder().join("pid");
    let oci = |args: &[&str]| {
        let output = std::process::Command::new(&rig.config.binary)
            .args(["oci", "--root"])
            .arg(rig.folder().join("oci"))
            .args(args)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned(),
        )
    };
    let out = std::fs::File::create(rig.folder().join("out")).unwrap();
    let id = format!("byhand-{}", std::process::id());
    // Its streams are the container's, so they must not be pipes that we wait on.
    let create = std::process::Command::new(&rig.config.binary)
        .args(["oci", "--root"])
        .arg(rig.folder().join("oci"))
        .args(["create", "--bundle"])
        .arg(&bundle)
        .arg("--pid-file")
        .arg(&pid_file)
        .arg(&id)
        .stdin(std::process::Stdio::null())
        .stdout(out.try_clone().unwrap())
        .stderr(out)
        .status()
        .unwrap();
    let said = || std::fs::read_to_string(rig.folder().join("out")).unwrap();
    assert!(create.success(), "{}", said());
    assert!(oci(&["state", &id]).1.contains("\"created\""));
    assert_eq!(oci(&["start", &id]), (Some(0), String::new()));
    assert!(oci(&["state", &id]).1.contains("\"running\""));
    let process = rig.folder().join("process.json");
    std::fs::write(
        &process,
        r#"{"args":["/bin/sh","-c","id -u; cat /proc/self/cgroup | head -1 | wc -l; exit 4"],"cwd":"/",
            "user":{"uid":33,"gid":33},"env":["PATH=/bin"],"noNewPrivileges":true}"#,
    )
    .unwrap();
    let (status, text) = oci(&["exec", "--process", process.to_str().unwrap(), &id]);
    assert_eq!((status, text.as_str()), (Some(4), "33\n1\n"));
    assert_eq!(said(), "from the bundle\n");
    assert_eq!(oci(&["delete", &id]).0, Some(1), "it runs");
    assert_eq!(oci(&["kill", &id, "KILL"]).0, Some(0));
    let pid: u32 = std::fs::read_to_string(pid_file).unwrap().parse().unwrap();
    while std::path::Path::new(&format!("/proc/{pid}")).exists() && state_of(pid) != 'Z' {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(oci(&["delete", "--force", &id]), (Some(0), String::new()));
    assert_eq!(oci(&["state", &id]).0, Some(1));
    let (status, text) = oci(&["frobnicate", &id]);
    assert_eq!(status, Some(1));
    assert!(text.contains("`frobnicate` is not a verb"), "{text}");
}
