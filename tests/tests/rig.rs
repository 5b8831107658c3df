//! The rig itself: a host that is its own, and that leaves nothing on the machine under it.

use linkspan_tests::Rig;

#[test]
fn a_rig_is_a_host_of_its_own_and_leaves_nothing() {
    let Some(rig) = Rig::without_daemon(&[]) else {
        return;
    };
    let links = rig.host().run(&["ip", "-o", "link"]).ok();
    assert_eq!(links.lines().count(), 2, "lo and wan0: {links}");
    rig.host().run_in_lan(&["ping", "-c1", "-W5", "192.0.2.1"]).ok();
    assert_eq!(rig.host().run(&["hostname"]).ok(), "rig\n");
    assert_eq!(rig.leaks(), Vec::<String>::new());

    // What a leak would look like.
    rig.host()
        .run(&["ip", "link", "add", "ls-test", "type", "bridge"])
        .ok();
    rig.host().run(&["nft", "add", "table", "inet", "linkspan"]).ok();
    rig.host()
        .run(&["mkdir", "-p", "/run/x", "/sys/fs/cgroup/pids/linkspan"]);
    rig.host().run(&["mount", "-t", "tmpfs", "tmpfs", "/run/x"]).ok();
    rig.host().run(&["sh", "-c", "sleep 77 >/dev/null 2>&1 &"]).ok();
    let leaks = rig.leaks().join("\n");
    for trace in [
        "link ls-test",
        "firewall table inet linkspan",
        "mount tmpfs /run/x",
        "process sleep 77",
    ] {
        assert!(leaks.contains(trace), "{trace} is missing in\n{leaks}");
    }

    let (init, cgroups) = (rig.host().init(), rig.host().cgroups());
    assert!(!cgroups.is_empty());
    drop(rig);
    assert!(!std::path::Path::new(&format!("/proc/{init}")).exists());
    for folder in cgroups {
        assert!(!folder.exists(), "{} is left", folder.display());
    }
}

#[test]
fn a_command_that_ends_is_told_by_its_status_and_its_words() {
    let Some(rig) = Rig::without_daemon(&[]) else {
        return;
    };
    let ran = rig.host().run(&["sh", "-c", "echo out; echo err >&2; exit 7"]);
    assert_eq!(
        (ran.code, ran.out.as_str(), ran.err.as_str()),
        (7, "out\n", "err\n")
    );
}
