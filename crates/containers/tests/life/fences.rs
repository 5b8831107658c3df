//! What a container may not do.

use std::os::unix::fs::MetadataExt;
use std::time::Duration;

use linkspan_plan::{ContainerSpec, Resources};
use linkspan_site::{Seccomp, Ulimit};

use crate::rig::{FIRST, Rig, parent_of};

both! {
    root_inside_is_not_root_outside(rig) {
        let spec = rig.spec("id -u; touch /made /tmp/made; sleep 60");
        let pid = rig.up(&spec).await;
        let (status, text) = rig.exec(&spec.id, "until [ -e /made ]; do sleep 0.01; done; id -u; id -g; stat -c %u:%g /bin/busybox /made; touch /by-exec && echo ok").await;
        assert_eq!((status, text.as_str()), (Some(0), "0\n0\n0:0\n0:0\nok\n"));
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        assert!(status.contains(&format!("Uid:\t{FIRST}\t{FIRST}")), "{status}");
        // On disk, the writable folder holds ids as the container counts.
        let upper = rig.config.state_dir.join("containers").join(spec.id.as_str()).join("rw/upper");
        assert_eq!(std::fs::metadata(upper.join("made")).unwrap().uid(), 0);
        assert_eq!(std::fs::metadata(upper.join("by-exec")).unwrap().uid(), 0);
        rig.containers.remove(&spec.id).await.unwrap();
    }

    limits_hold(rig) {
        let mut spec = rig.spec("head -c 200m /dev/zero | tail | sleep 2; echo survived");
        spec.args = ["/bin/sh", "-c", "exec tail /dev/zero"].map(str::to_owned).to_vec();
        spec.resources = Resources { memory: Some(32 << 20), cpu_millis: Some(500), pids: None };
        let (exit, _) = rig.run(&spec).await;
        assert_eq!((exit.code, exit.oom), (Some(137), true));
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("for i in 1 2 3 4 5 6 7 8 9; do sleep 1 & done; wait; echo end");
        spec.resources.pids = Some(6);
        let (_, log) = rig.run(&spec).await;
        assert!(log.contains("can't fork"), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("ulimit -n; ulimit -c");
        spec.ulimits.insert("nofile".to_owned(), Ulimit { soft: 512, hard: 600 });
        spec.ulimits.insert("core".to_owned(), Ulimit { soft: 0, hard: 0 });
        let (_, log) = rig.run(&spec).await;
        assert_eq!(log, "512\n0\n");
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("sleep 60");
        spec.resources.cpu_millis = Some(250);
        rig.up(&spec).await;
        let quota = rig.in_cgroup(&spec.id, &["cpu.cfs_quota_us", "cpu.max"]);
        assert!(quota.starts_with("25000"), "{quota}");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.exit().await.code, Some(137), "a removal is an end too");

        // More than the daemon itself may have is cut, and said.
        let mut spec = rig.spec("true");
        spec.ulimits.insert("nofile".to_owned(), Ulimit { soft: 1 << 40, hard: 1 << 40 });
        assert_eq!(rig.run(&spec).await.0.code, Some(0));
        assert!(rig.containers.warnings(&spec.id)[0].contains("nofile"));
        rig.containers.remove(&spec.id).await.unwrap();
    }

    when_memory_runs_out_a_container_is_like_any_program(rig) {
        // As a daemon whose unit sets a score; raising it needs no right, so it stands for lowering too.
        std::fs::write("/proc/self/oom_score_adj", "300").unwrap();
        let spec = rig.spec("sleep 60");
        let pid = rig.up(&spec).await;
        let score = |process: i64| std::fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap();
        assert_eq!(score(pid.into()), "0\n");
        assert_eq!(rig.exec(&spec.id, "cat /proc/self/oom_score_adj").await.1, "0\n");
        let shim = score(parent_of(pid).into());
        assert!(["-998\n", "300\n"].contains(&shim.as_str()), "protected, if that is permitted: {shim}");
        rig.containers.remove(&spec.id).await.unwrap();
    }

    what_tells_of_the_host_is_hidden(rig) {
        let spec = rig.spec("head -c 1 /proc/kcore 2>/dev/null | wc -c; ls /sys/firmware | wc -l; echo 1 > /proc/sys/kernel/hostname || echo denied; \
            echo x > /proc/irq/x || echo denied; touch /sys/x || echo denied; cat /proc/keys | wc -c; mount -t tmpfs x /tmp || echo no mount; \
            grep NoNewPrivs /proc/self/status; grep Seccomp: /proc/self/status; ls /dev; hostname other || echo no hostname");
        let (_, log) = rig.run(&spec).await;
        println!("{log}");
        let lines: Vec<&str> = log.lines().collect();
        assert_eq!(lines[..2], ["0", "0"]);
        assert_eq!(log.matches("\ndenied\n").count(), 3, "{log}");
        assert!(log.contains("no mount") && log.contains("no hostname"), "{log}");
        assert!(log.contains("NoNewPrivs:\t1") && log.contains("Seccomp:\t2"), "{log}");
        for device in ["null", "zero", "full", "random", "urandom", "tty", "ptmx", "shm", "mqueue", "stdout"] {
            assert!(lines.contains(&device), "{device} in {log}");
        }
        rig.containers.remove(&spec.id).await.unwrap();
    }

    setuid_programs_work_when_new_privileges_are_allowed(rig) {
        let mut spec = rig.spec("grep -E 'NoNewPrivs|Seccomp:|CapBnd' /proc/self/status; mount -t tmpfs x /tmp || echo no mount");
        spec.no_new_privileges = false;
        spec.capabilities = ["CHOWN", "SETUID"].iter().map(ToString::to_string).collect();
        let (_, log) = rig.run(&spec).await;
        assert!(log.contains("NoNewPrivs:\t0") && log.contains("Seccomp:\t2"), "{log}");
        assert!(log.contains("CapBnd:\t0000000000000081") && log.contains("no mount"), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();
    }

    a_privileged_container_may_mount_but_is_not_the_hosts_root(rig) {
        let mut spec = rig.spec("mount -t tmpfs x /tmp && echo mounted; cat /proc/self/uid_map; grep Seccomp: /proc/self/status");
        spec.privileged = true;
        let (_, log) = rig.run(&spec).await;
        assert!(log.contains("mounted") && log.contains(&FIRST.to_string()) && log.contains("Seccomp:\t0"), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();
    }

    what_a_container_writes_to_its_files_of_etc_goes_to_disk_and_not_to_the_hosts_run(rig) {
        let spec = rig.spec("sleep 60");
        rig.up(&spec).await;
        let script = "for f in hosts hostname resolv.conf; do head -c 300000 /dev/zero > /etc/$f && echo grown; done";
        let grown = rig.exec(&spec.id, script).await.1;
        assert_eq!(grown.matches("grown").count(), 3, "{grown}");
        let below = |folder: &str| walk(&rig.folder().join(folder));
        assert!(below("run") < 200_000, "{} bytes below the run folder", below("run"));
        assert!(below("state") > 900_000);
        rig.containers.remove(&spec.id).await.unwrap();
    }

    a_container_may_have_the_hosts_ids(rig) {
        let mut spec = rig.spec("cat /proc/self/uid_map; touch /made; grep Seccomp: /proc/self/status; mount -t tmpfs x /tmp || echo no mount");
        spec.ids = None;
        rig.sandbox.user = None;
        let mut holder = std::process::Command::new("unshare").args(["--net", "sleep", "60"]).spawn().unwrap();
        let ours = std::fs::read_link("/proc/self/ns/net").unwrap();
        let net = std::path::PathBuf::from(format!("/proc/{}/ns/net", holder.id()));
        rig.sandbox.net = Some(net.clone());
        while std::fs::read_link(&net).unwrap() == ours {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let (exit, log) = rig.run(&spec).await;
        assert_eq!(exit.code, Some(0));
        assert!(log.contains("4294967295") && log.contains("Seccomp:\t2") && log.contains("no mount"), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
        holder.kill().unwrap();
        holder.wait().unwrap();
    }

    a_system_call_outside_the_profile_is_refused(rig) {
        // Making a user namespace needs no right at all, so only the profile can be in the way.
        let mut spec = rig.spec("unshare -U true && echo may || echo may not");
        let (_, log) = rig.run(&spec).await;
        assert!(log.ends_with("may not\n") && log.contains("Operation not permitted"), "{log}");
        let text = call_by_exec(&rig, &mut spec).await;
        assert!(text.ends_with("may not\n"), "{text}");
        let mut spec = rig.spec("unshare -U true && echo may || echo may not");
        spec.seccomp = Seccomp::Unconfined;
        assert_eq!(rig.run(&spec).await.1, "may\n");
        rig.containers.remove(&spec.id).await.unwrap();
    }
}

/// The same call by `exec`, in a new container.
async fn call_by_exec(rig: &Rig, used: &mut ContainerSpec) -> String {
    rig.containers.remove(&used.id).await.unwrap();
    *used = rig.spec("sleep 60");
    rig.up(used).await;
    let (_, text) = rig
        .exec(&used.id, "unshare -U true 2>&1 && echo may || echo may not")
        .await;
    rig.containers.remove(&used.id).await.unwrap();
    text
}

/// Bytes of all files below a folder, as the host sees it.
fn walk(folder: &std::path::Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(about) if about.is_dir() => walk(&entry.path()),
            Ok(about) => about.len(),
            Err(_) => 0,
        })
        .sum()
}
