//! What outlives the daemon, and what it is told.

use std::os::fd::AsRawFd;
use std::time::Duration;

use linkspan_containers::{Event, ExecSpec, Exit, Health, LogOptions, Phase};
use linkspan_plan::LogSpec;
use linkspan_site::Healthcheck;

use crate::rig::{Rig, Runtime, chain, parent_of, possible, state_of};

both! {
    an_adopted_container_is_as_before(rig) {
        let running = rig.spec("echo before; sleep 60");
        let pid = rig.up(&running).await;
        let ended = rig.spec("read line < /dev/null; sleep 0.3; exit 7");
        rig.up(&ended).await;
        let created = rig.spec("echo started late");
        rig.containers.create(&created, &rig.sandbox).await.unwrap();
        rig.exit().await;

        let adopted = rig.forget().await;
        let of = |id| adopted.iter().find(|one| one.id == id).unwrap().clone();
        assert!(matches!(of(running.id.clone()).phase, Phase::Running { pid: now, .. } if now == pid));
        assert!(matches!(of(ended.id.clone()).phase, Phase::Exited(Exit { code: Some(7), .. })));
        assert!(matches!(of(created.id.clone()).phase, Phase::Created));
        assert_eq!(of(running.id.clone()).spec, running);
        assert!(rig.containers.leftovers().is_empty());

        assert_eq!(rig.exec(&running.id, "echo $GREETING").await, (Some(0), "hello\n".to_owned()));
        rig.containers.start(&created.id).await.unwrap();
        assert_eq!(rig.exit().await.code, Some(0));
        assert_eq!(rig.log(&created.id).await, "started late\n");
        rig.containers.signal(&running.id, 9).await.unwrap();
        assert_eq!(rig.exit().await.code, Some(137));
        for id in [&running.id, &ended.id, &created.id] {
            rig.containers.remove(id).await.unwrap();
            assert_eq!(rig.traces(id), Vec::<String>::new());
        }
    }

    a_container_whose_shim_is_killed_ends_too(rig) {
        let spec = rig.spec("sleep 60");
        let pid = rig.up(&spec).await;
        let shim = parent_of(pid);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(rig.event().await, Event::ShimLost { id: spec.id.clone() });
        let exit = rig.exit().await;
        assert_eq!(exit.code, None);
        rig.containers.remove(&spec.id).await.unwrap();
        assert!(!std::path::Path::new(&format!("/proc/{pid}")).exists() || state_of(pid) == 'Z');
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());

        // It ended by itself, and its shim was killed before it could take note.
        let spec = rig.spec("sleep 60");
        let pid = rig.up(&spec).await;
        let process = nix::unistd::Pid::from_raw(pid.cast_signed());
        let shim = nix::unistd::Pid::from_raw(parent_of(pid));
        nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGSTOP).unwrap();
        nix::sys::signal::kill(process, nix::sys::signal::Signal::SIGKILL).unwrap();
        nix::sys::signal::kill(shim, nix::sys::signal::Signal::SIGKILL).unwrap();
        assert_eq!(rig.event().await, Event::ShimLost { id: spec.id.clone() });
        let code = rig.exit().await.code;
        assert_eq!(code, Some(137));
        rig.containers.remove(&spec.id).await.unwrap();

        // And the same while no daemon looks.
        let spec = rig.spec("sleep 60");
        let pid = rig.up(&spec).await;
        let shim = parent_of(pid);
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(shim), nix::sys::signal::Signal::SIGKILL).unwrap();
        let adopted = rig.forget().await;
        assert!(matches!(adopted[0].phase, Phase::Exited(Exit { code: None, .. })));
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    a_shim_that_hangs_is_killed_and_its_container_with_it(rig) {
        let stop = |pid: u32| nix::sys::signal::kill(shim_of(pid), nix::sys::signal::Signal::SIGSTOP).unwrap();
        let (removed, signalled, stopped) = (rig.spec("sleep 60"), rig.spec("sleep 60"), rig.spec("sleep 60"));
        let pids = [rig.up(&removed).await, rig.up(&signalled).await, rig.up(&stopped).await];
        let shims = pids.map(shim_of);
        stop(pids[0]);
        stop(pids[1]);
        let both = async {
            tokio::join!(rig.containers.remove(&removed.id), rig.containers.signal(&signalled.id, libc::SIGHUP))
        };
        let (gone, refused) = tokio::time::timeout(Duration::from_secs(30), both).await.expect("neither waits for ever");
        gone.unwrap();
        let refused = chain(&refused.unwrap_err());
        assert!(refused.contains("shim did not answer within 10 s and was killed"), "{refused}");
        assert_eq!(rig.traces(&removed.id), Vec::<String>::new());
        let mut told = Vec::new();
        while told.len() < 4 {
            told.push(rig.event().await);
        }
        for spec in [&removed, &signalled] {
            let lost = Event::ShimLost { id: spec.id.clone() };
            let is_exit = |event: &Event| matches!(event, Event::Exited { id, exit } if *id == spec.id && exit.code.is_none());
            let (lost, exit) = (told.iter().position(|event| *event == lost), told.iter().position(is_exit));
            assert!(lost.is_some() && lost < exit, "{told:?}");
        }
        rig.containers.remove(&signalled.id).await.unwrap();

        // One that hangs when a daemon comes to adopt it.
        stop(pids[2]);
        let adopted = tokio::time::timeout(Duration::from_secs(30), rig.forget()).await.expect("adoption ends");
        assert!(matches!(adopted[0].phase, Phase::Exited(Exit { code: None, .. })), "{adopted:?}");
        rig.containers.remove(&stopped.id).await.unwrap();
        for (spec, (pid, shim)) in [&removed, &signalled, &stopped].into_iter().zip(pids.into_iter().zip(shims)) {
            assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
            assert!(has_ended(pid) && has_ended(shim.as_raw().unsigned_abs()), "{}", spec.name);
        }
    }

    a_program_that_is_long_in_coming_holds_nothing_up(rig) {
        let spec = rig.spec("while true; do echo tick; sleep 0.05; done");
        let pid = rig.up(&spec).await;
        let hung = hung_file_system(pid, "/data");
        let containers = rig.containers.clone();
        let (id, order) = (spec.id.clone(), ExecSpec {
            args: ["/bin/sh", "-c", "pwd"].map(str::to_owned).to_vec(),
            cwd: Some("/data".to_owned()),
            ..ExecSpec::default()
        });
        let waiting = tokio::spawn(async move { containers.exec(&id, &order).await });
        tokio::time::sleep(Duration::from_millis(500)).await;
        assert!(!waiting.is_finished(), "it hangs");

        // Meanwhile signals are sent, output is written down and other programs run.
        let at_once = Duration::from_secs(5);
        let signalled = tokio::time::timeout(at_once, rig.containers.signal(&spec.id, libc::SIGCONT)).await;
        signalled.expect("a signal does not wait").unwrap();
        let before = rig.log(&spec.id).await.len();
        let other = tokio::time::timeout(at_once, rig.exec(&spec.id, "sleep 0.3; echo other; exit 5")).await;
        assert_eq!(other.expect("another does not wait"), (Some(5), "other\n".to_owned()));
        assert!(rig.log(&spec.id).await.len() > before, "the log goes on");

        drop(hung);
        let outcome = tokio::time::timeout(at_once, waiting).await.expect("it ends with the hang").unwrap();
        println!("{}", chain(&outcome.unwrap_err()));
        // Its exit is known however fast it was.
        for _ in 0..20 {
            assert_eq!(rig.exec(&spec.id, "exit 6").await.0, Some(6));
        }
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    a_program_that_never_comes_is_given_up(rig) {
        let spec = rig.spec("sleep 100");
        let pid = rig.up(&spec).await;
        let hung = hung_file_system(pid, "/data");
        let order = ExecSpec {
            args: vec!["/bin/true".to_owned()],
            cwd: Some("/data".to_owned()),
            ..ExecSpec::default()
        };
        let given_up = tokio::time::timeout(Duration::from_secs(45), rig.containers.exec(&spec.id, &order)).await;
        let error = chain(&given_up.expect("it is given up").unwrap_err());
        assert!(error.contains("not set up within 30 s") && error.contains("file system that hangs"), "{error}");
        assert!(matches!(rig.containers.phase(&spec.id), Some(Phase::Running { .. })), "the container runs on");
        drop(hung);
        assert_eq!(rig.exec(&spec.id, "grep -l /bin/[t]rue /proc/[0-9]*/cmdline 2>/dev/null || echo none").await.1, "none\n");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    logs_are_rotated_and_read_as_one(rig) {
        let mut spec = rig.spec("i=0; while [ $i -lt 400 ]; do echo line $i; i=$((i+1)); done; echo last; sleep 60");
        spec.log = LogSpec { max_size: 8 << 10, max_files: 10 };
        rig.up(&spec).await;
        let mut reader = rig.containers.log_files(&spec.id, &LogOptions { follow: true, ..LogOptions::default() });
        for number in 0..400 {
            let line = reader.next().await.unwrap().unwrap();
            assert_eq!(String::from_utf8(line.bytes).unwrap(), format!("line {number}\n"));
        }
        assert_eq!(reader.next().await.unwrap().unwrap().bytes, b"last\n");
        let folder = rig.config.state_dir.join("containers").join(spec.id.as_str());
        assert!(folder.join("log.json.1").exists());
        let mut tail = rig.containers.log_files(&spec.id, &LogOptions { tail: Some(150), ..LogOptions::default() });
        assert_eq!(tail.next().await.unwrap().unwrap().bytes, b"line 251\n");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(reader.next().await.unwrap(), None);
    }

    health_is_asked_for(rig) {
        let mut spec = rig.spec("sleep 0.3; touch /tmp/up; sleep 60");
        spec.healthcheck = Some(Healthcheck {
            test: ["/bin/sh", "-c", "test -e /tmp/up || { echo not up; exit 1; }"].map(str::to_owned).to_vec(),
            interval: Duration::from_millis(200),
            timeout: Duration::from_secs(5),
            retries: 2,
            start_period: Duration::from_secs(5),
            start_interval: Duration::from_millis(100),
        });
        rig.up(&spec).await;
        assert_eq!(rig.containers.health(&spec.id), Some(Health::Starting));
        let health = |health| Event::Health { id: spec.id.clone(), health };
        assert_eq!(rig.event().await, health(Health::Healthy));
        let adopted = rig.forget().await;
        assert_eq!(adopted[0].health, Some(Health::Healthy));
        rig.exec(&spec.id, "rm /tmp/up").await;
        assert_eq!(rig.event().await, health(Health::Unhealthy { output: "not up".to_owned() }));
        rig.exec(&spec.id, "touch /tmp/up").await;
        assert_eq!(rig.event().await, health(Health::Healthy));
        rig.containers.remove(&spec.id).await.unwrap();
    }

    a_renewed_container_keeps_what_it_wrote_and_its_log(rig) {
        let mut spec = rig.spec("echo run >> /kept; cat /kept | wc -l");
        assert_eq!(rig.run(&spec).await.1, "1\n");
        rig.containers.renew(&spec.id).await.unwrap();
        assert_eq!(rig.run(&spec).await.1, "1\n2\n");
        rig.containers.renew(&spec.id).await.unwrap();
        spec.user = "nosuch".to_owned();
        rig.containers.create(&spec, &rig.sandbox).await.unwrap_err();
        assert!(rig.config.state_dir.join("containers").join(spec.id.as_str()).join("rw/upper/kept").exists());
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

}

/// Mounts a file system in a container that answers nothing until what is returned is dropped.
fn hung_file_system(pid: u32, at: &'static str) -> std::fs::File {
    let device = std::fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/fuse")
        .unwrap();
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other",
        device.as_raw_fd()
    );
    let namespace = std::fs::File::open(format!("/proc/{pid}/ns/mnt")).unwrap();
    // A thread of its own, for it stays in that namespace.
    let mount = std::thread::spawn(move || {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_FS).unwrap();
        nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("hung"), at, Some("fuse"), flags, Some(options.as_str())).unwrap();
    });
    mount.join().unwrap();
    device
}

fn shim_of(pid: u32) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(parent_of(pid))
}

fn has_ended(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists() || state_of(pid) == 'Z'
}

#[tokio::test]
async fn a_shim_is_small() {
    if !possible(Runtime::Ours) {
        return;
    }
    let rig = Rig::new(Runtime::Ours);
    let spec = rig.spec("sleep 60");
    let pid = rig.up(&spec).await;
    rig.exec(&spec.id, "true").await;
    let memory = std::fs::read_to_string(format!("/proc/{}/smaps_rollup", parent_of(pid))).unwrap();
    let private: u64 = memory
        .lines()
        .filter(|line| line.starts_with("Private_Dirty"))
        .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
        .sum();
    println!("a shim's own memory: {private} KiB");
    assert!(private < 2 << 10, "{private} KiB");
    rig.containers.remove(&spec.id).await.unwrap();
}
