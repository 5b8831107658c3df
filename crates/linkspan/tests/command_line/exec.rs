//! `linkspan exec`: streams, exit statuses, and the terminal it borrows.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use linkspan_api::frames::{Decoder, Frame, encode};
use linkspan_api::v1::{ExecRequest, frame};
use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::daemon::{Daemon, Reply};
use crate::{containers, err, linkspan, out};

/// A daemon with one container, where programs behave as `program` says.
fn daemon(program: impl Fn(ExecRequest, Frames) + Clone + Send + Sync + 'static) -> Daemon {
    Daemon::start(move |asked| match asked.line.as_str() {
        "GET /v1/containers?all=true" => containers(),
        "POST /v1/containers/shop-web-1-id/exec" => {
            let request = serde_json::from_slice(&asked.body).unwrap();
            let program = program.clone();
            Reply::upgrade(move |stream| {
                program(
                    request,
                    Frames {
                        stream,
                        decoder: Decoder::default(),
                    },
                );
            })
        }
        other => panic!("asked for {other}"),
    })
}

struct Frames {
    stream: UnixStream,
    decoder: Decoder,
}

impl Frames {
    fn send(&mut self, kind: u8, payload: &[u8]) {
        self.stream.write_all(&encode(kind, payload)).unwrap();
    }

    fn exit(&mut self, status: u32) {
        self.send(frame::EXIT, &status.to_be_bytes());
    }

    fn next(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.next_frame().unwrap() {
                return Some(frame);
            }
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) | Err(_) => return None,
                Ok(count) => self.decoder.push(&buffer[..count]),
            }
        }
    }
}

fn exec(daemon: &Daemon, args: &[&str]) -> Output {
    linkspan(daemon.run_dir())
        .arg("exec")
        .args(args)
        .output()
        .unwrap()
}

#[test]
fn output_and_the_exit_status_are_the_programs() {
    let daemon = daemon(|request, mut frames| {
        assert_eq!((request.terminal, request.stdin), (false, false));
        frames.send(frame::STDOUT, request.command.join("|").as_bytes());
        frames.send(frame::STDERR, request.env.join("|").as_bytes());
        frames.exit(42);
    });
    let output = exec(&daemon, &["-e", "A=b", "web", "ls", "-l", "--", "x y"]);
    assert_eq!(
        (out(&output).as_str(), err(&output).as_str()),
        ("ls|-l|--|x y", "A=b")
    );
    assert_eq!(output.status.code(), Some(42));
}

#[test]
fn a_program_that_is_not_there_is_127_and_a_lost_daemon_125() {
    let daemon = daemon(|request, mut frames| match request.command[0].as_str() {
        "nope" => frames.send(frame::ERROR, b"`nope`: executable file not found in `$PATH`"),
        "/etc" => frames.send(frame::ERROR, b"`/etc`: permission denied"),
        _ => {}
    });
    let output = exec(&daemon, &["web", "nope"]);
    assert_eq!(output.status.code(), Some(127));
    assert_eq!(
        err(&output),
        "error: `nope`: executable file not found in `$PATH`\n"
    );
    assert_eq!(exec(&daemon, &["web", "/etc"]).status.code(), Some(126));
    let output = exec(&daemon, &["web", "sleep"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(
        err(&output),
        "error: the daemon broke off before the program ended\n"
    );
}

#[test]
fn megabytes_go_through_both_ways_at_once() {
    // A program that answers before it has read everything, as `cat` does.
    let daemon = daemon(|_, mut frames| {
        while let Some(frame) = frames.next() {
            if frame.payload.is_empty() {
                return frames.exit(0);
            }
            frames.send(frame::STDOUT, &frame.payload);
        }
    });
    let mut child = linkspan(daemon.run_dir())
        .args(["exec", "-i", "web", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
    let copy = sent.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&copy).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == sent, "{} bytes came back", output.stdout.len());
}

/// A terminal: our end, and the one for the program.
pub(crate) fn terminal() -> (File, OwnedFd) {
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = File::options()
        .read(true)
        .write(true)
        .open(Path::new(name.to_str().unwrap()))
        .unwrap();
    tcsetwinsize(
        &theirs,
        Winsize {
            ws_row: 24,
            ws_col: 80,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    (File::from(ours), OwnedFd::from(theirs))
}

pub(crate) fn on_terminal(command: &mut Command, terminal: &OwnedFd) -> Child {
    let end = || Stdio::from(terminal.try_clone().unwrap());
    command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap()
}

fn is_raw(terminal: impl AsFd) -> bool {
    !tcgetattr(terminal)
        .unwrap()
        .local_modes
        .contains(LocalModes::ICANON)
}

fn wait_until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "waited in vain until {what}"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_terminal_is_raw_while_the_program_has_it_and_resizes_reach_it() {
    let daemon = daemon(|request, mut frames| {
        assert_eq!((request.terminal, request.size), (true, Some((24, 80))));
        frames.send(frame::STDOUT, b"ready");
        let mut keys = Vec::new();
        while let Some(frame) = frames.next() {
            match frame.kind {
                frame::RESIZE => {
                    assert_eq!(&frame.payload[..], [0, 50, 0, 132]);
                    assert_eq!(keys, b"\x03", "^C is a key like any other");
                    return frames.exit(9);
                }
                _ => keys.extend_from_slice(&frame.payload),
            }
        }
    });
    let (mut ours, theirs) = terminal();
    let mut child = on_terminal(
        linkspan(daemon.run_dir()).args(["exec", "-it", "web", "sh"]),
        &theirs,
    );
    let mut greeting = [0; 5];
    ours.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"ready");
    wait_until("the terminal is raw", || is_raw(&theirs));
    ours.write_all(b"\x03").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    tcsetwinsize(
        &theirs,
        Winsize {
            ws_row: 50,
            ws_col: 132,
            ws_xpixel: 0,
            ws_ypixel: 0,
        },
    )
    .unwrap();
    // The kernel signals the foreground group of a controlling terminal; this one controls nobody.
    kill_process(Pid::from_child(&child), Signal::WINCH).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert!(!is_raw(&theirs), "the terminal was left raw");
}

#[test]
fn a_terminal_is_put_back_also_when_we_are_told_to_end() {
    let daemon = daemon(|_, mut frames| while frames.next().is_some() {});
    let (_ours, theirs) = terminal();
    let mut child = on_terminal(
        linkspan(daemon.run_dir()).args(["exec", "-it", "web", "sh"]),
        &theirs,
    );
    wait_until("the terminal is raw", || is_raw(&theirs));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(128 + 15));
    assert!(!is_raw(&theirs), "the terminal was left raw");
}

#[test]
fn a_terminal_is_asked_for_only_where_there_is_one() {
    let daemon = daemon(|_, mut frames| frames.exit(0));
    let output = exec(&daemon, &["-it", "web", "sh"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(
        err(&output),
        "error: standard input is no terminal; leave `-t` away\n"
    );
}

#[test]
fn an_archive_is_not_written_to_a_terminal() {
    let daemon = Daemon::start(|_| unreachable!("the daemon was asked"));
    let (mut ours, theirs) = terminal();
    let mut child = on_terminal(linkspan(daemon.run_dir()).args(["save", "web:1"]), &theirs);
    assert_eq!(child.wait().unwrap().code(), Some(2));
    let mut shown = [0; 512];
    let count = ours.read(&mut shown).unwrap();
    assert!(String::from_utf8_lossy(&shown[..count]).contains("with `-o FILE`"));
}
