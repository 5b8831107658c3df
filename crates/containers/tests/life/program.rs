//! Programs: how they run, end, and run beside each other.

use std::time::Duration;

use linkspan_containers::{ExecSpec, LogOptions, Phase};
use tokio::io::AsyncWriteExt;

use crate::rig::{Rig, Runtime, chain, possible};

both! {
    a_program_runs_and_its_output_is_in_the_log(rig) {
        let spec = rig.spec("echo $GREETING $HOSTNAME; cat /etc/hostname /etc/resolv.conf; id -u; cat /proc/self/uid_map; pwd");
        let (exit, log) = rig.run(&spec).await;
        println!("{log}");
        assert_eq!(exit.code, Some(0));
        assert!(log.starts_with("hello box\nbox\nnameserver 169.254.53.53\n"), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    exit_statuses_are_those_of_a_shell(rig) {
        for (script, code) in [("true", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$; sleep 5", 0)] {
            let spec = rig.spec(script);
            // Pid 1 does not die of a signal that it has no handler for; the kernel sees to that.
            if code == 0 && script.contains("TERM") {
                continue;
            }
            let mut spec = spec;
            if script.contains("-9") {
                spec.args = ["/bin/sleep", "60"].map(str::to_owned).to_vec();
                rig.up(&spec).await;
                rig.containers.signal(&spec.id, 9).await.unwrap();
                assert_eq!(rig.exit().await.code, Some(code));
            } else {
                assert_eq!(rig.run(&spec).await.0.code, Some(code), "{script}");
            }
            rig.containers.remove(&spec.id).await.unwrap();
        }
    }

    programs_run_beside_each_other_and_beside_the_first(rig) {
        let spec = rig.spec("sleep 60");
        rig.up(&spec).await;
        let args = ["/bin/cat"].map(str::to_owned).to_vec();
        let cat = ExecSpec { args, stdin: true, ..ExecSpec::default() };
        let mut first = rig.containers.exec(&spec.id, &cat).await.unwrap();
        let (status, text) = rig.exec(&spec.id, "echo out; echo err >&2; exit 3").await;
        assert_eq!(status, Some(3));
        assert!(text.contains("out\n") && text.contains("err\n"), "{text}");
        let mut stdin = first.stdin.take().unwrap();
        stdin.write_all(b"through the pipe").await.unwrap();
        drop(stdin);
        let mut copied = Vec::new();
        while let Some((_, bytes)) = first.output.recv().await {
            copied.extend(bytes);
        }
        assert_eq!((first.wait().await, copied.as_slice()), (Some(0), b"through the pipe".as_slice()));

        let named = ExecSpec {
            args: ["/bin/sh", "-c", "id -u; pwd; echo $HOME $GREETING $MORE"].map(str::to_owned).to_vec(),
            env: vec!["MORE=more".to_owned()],
            cwd: Some("/tmp".to_owned()),
            user: Some("web".to_owned()),
            ..ExecSpec::default()
        };
        assert_eq!(rig.exec_as(&spec.id, &named).await, (Some(0), "33\n/tmp\n/home/web hello more\n".to_owned()));
        assert_eq!(rig.exec(&spec.id, "nosuchprogram").await.0, Some(127));
        rig.containers.remove(&spec.id).await.unwrap();
    }

    a_terminal_is_a_terminal(rig) {
        let mut spec = rig.spec("test -t 0 && test -t 1 && echo first is; sleep 60");
        spec.terminal = true;
        rig.up(&spec).await;
        rig.containers.resize(&spec.id, 20, 70).await.unwrap();
        let tty = ExecSpec {
            args: ["/bin/sh", "-c", "test -t 0 && stty size < /dev/tty; read line; echo got $line"].map(str::to_owned).to_vec(),
            terminal: true,
            size: Some((31, 97)),
            stdin: true,
            ..ExecSpec::default()
        };
        let mut session = rig.containers.exec(&spec.id, &tty).await.unwrap();
        session.stdin.as_mut().unwrap().write_all(b"words\n").await.unwrap();
        let mut text = Vec::new();
        while let Some((_, bytes)) = session.output.recv().await {
            text.extend(bytes);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("31 97") && text.contains("got words"), "{text}");
        assert_eq!(session.wait().await, Some(0));
        assert!(rig.log(&spec.id).await.contains("first is"), "{}", rig.log(&spec.id).await);
        rig.containers.remove(&spec.id).await.unwrap();
    }

    another_user_and_a_new_working_folder(rig) {
        let mut spec = rig.spec("id -u; id -g; pwd; echo $HOME; echo to-stdout > /dev/stdout; stat -c %u .");
        spec.user = "web".to_owned();
        spec.cwd = "/srv/app".to_owned();
        let (exit, log) = rig.run(&spec).await;
        assert_eq!((exit.code, log.as_str()), (Some(0), "33\n33\n/srv/app\n/home/web\nto-stdout\n0\n"));
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("true");
        spec.user = "nosuch".to_owned();
        let error = rig.containers.create(&spec, &rig.sandbox).await.unwrap_err();
        assert!(chain(&error).contains("user `nosuch` is not in the container's /etc/passwd"), "{}", chain(&error));
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    many_start_at_once(rig) {
        let specs: Vec<_> = (0..12).map(|number| rig.spec(&format!("echo {number}; exit {number}"))).collect();
        let mut tasks = tokio::task::JoinSet::new();
        for spec in specs.clone() {
            let (containers, sandbox) = (rig.containers.clone(), rig.sandbox.clone());
            tasks.spawn(async move {
                containers.create(&spec, &sandbox).await.unwrap();
                containers.start(&spec.id).await.unwrap();
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
        for _ in &specs {
            rig.exit().await;
        }
        for (number, spec) in specs.iter().enumerate() {
            let Some(Phase::Exited(exit)) = rig.containers.phase(&spec.id) else { panic!("not exited") };
            assert_eq!(exit.code, Some(number as i32));
            assert_eq!(rig.log(&spec.id).await, format!("{number}\n"));
            rig.containers.remove(&spec.id).await.unwrap();
        }
    }
}

/// Ours alone: another runtime needs our binary as a static one.

#[tokio::test]
async fn an_init_reaps_and_passes_signals_on() {
    if !possible(Runtime::Ours) {
        return;
    }
    let mut rig = Rig::new(Runtime::Ours);
    let mut spec = rig
        .spec("trap 'echo got it; exit 5' TERM; (sleep 0.1 &) ; echo ready; while true; do sleep 0.05; done");
    spec.init = true;
    rig.up(&spec).await;
    let mut reader = rig.containers.log_files(
        &spec.id,
        &LogOptions {
            follow: true,
            ..LogOptions::default()
        },
    );
    assert_eq!(reader.next().await.unwrap().unwrap().bytes, b"ready\n");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (_, text) = rig.exec(&spec.id, "echo $$; ps -o pid,stat,comm").await;
    assert!(!text.contains(" Z "), "{text}");
    rig.containers.signal(&spec.id, 15).await.unwrap();
    assert_eq!(rig.exit().await.code, Some(5));
    assert_eq!(reader.next().await.unwrap().unwrap().bytes, b"got it\n");
    assert_eq!(reader.next().await.unwrap(), None);
    rig.containers.remove(&spec.id).await.unwrap();
}

/// Ours alone: others refuse to make a container whose program isn't there.

#[tokio::test]
async fn a_program_that_cannot_run_says_why_in_the_log() {
    if !possible(Runtime::Ours) {
        return;
    }
    let mut rig = Rig::new(Runtime::Ours);
    for (program, code, said) in [
        ("nosuch", 127, "not found in $PATH"),
        ("/no/such", 127, "is not in the image"),
        ("/etc/not-a-program", 126, "not executable"),
    ] {
        let mut spec = rig.spec("");
        spec.args = vec![program.to_owned()];
        let (exit, log) = rig.run(&spec).await;
        assert_eq!(exit.code, Some(code), "{log}");
        assert!(log.contains(program) && log.contains(said), "{log}");
        rig.containers.remove(&spec.id).await.unwrap();
    }
}

/// How long the parts of a start take; printed, for a loaded machine proves nothing.
#[tokio::test]
async fn a_start_is_fast() {
    if !possible(Runtime::Ours) {
        return;
    }
    let mut rig = Rig::new(Runtime::Ours);
    let mut best = [Duration::MAX; 3];
    for _ in 0..10 {
        let spec = rig.spec("exit 0");
        let begin = std::time::Instant::now();
        rig.containers.create(&spec, &rig.sandbox).await.unwrap();
        let created = begin.elapsed();
        rig.containers.start(&spec.id).await.unwrap();
        let started = begin.elapsed();
        rig.exit().await;
        let ended = begin.elapsed();
        for (best, now) in best.iter_mut().zip([created, started - created, ended - started]) {
            *best = now.min(*best);
        }
        rig.containers.remove(&spec.id).await.unwrap();
    }
    println!("create {:?}, start {:?}, run {:?}", best[0], best[1], best[2]);
    assert!(best[0] + best[1] < Duration::from_secs(1), "{best:?}");
}
