//! A small init: passes signals on to the program and reaps whatever is left to it.

use nix::errno::Errno;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, kill, sigprocmask};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::{become_program, complain};
use crate::fork;

/// Runs the program as a child and ends with its status.
pub(crate) fn run_as_init(args: &[String], terminal: bool) -> i32 {
    let mut all = SigSet::all();
    // These mean a fault of our own and must not be waited for.
    for fault in [
        Signal::SIGFPE,
        Signal::SIGILL,
        Signal::SIGSEGV,
        Signal::SIGBUS,
        Signal::SIGTRAP,
        Signal::SIGSYS,
    ] {
        all.remove(fault);
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None);
    let program = args.to_vec();
    let child = fork::child(move || {
        // A group of its own, in the foreground, so that the keys of a terminal reach the program and not us.
        let _ = nix::unistd::setpgid(Pid::from_raw(0), Pid::from_raw(0));
        if terminal {
            let _ = nix::unistd::tcsetpgrp(std::io::stdin(), nix::unistd::getpid());
        }
        fork::reset_signals();
        become_program(&program)
    });
    match child {
        Ok(child) => serve(child, &all),
        Err(error) => complain(&format!("init cannot start the program: {}", error.desc()), 126),
    }
}

fn serve(child: Pid, all: &SigSet) -> i32 {
    loop {
        match all.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(status) = reap(child) {
                    return status;
                }
            }
            Ok(signal) => drop(kill(child, signal)),
            Err(Errno::EINTR) => {}
            Err(error) => return complain(&format!("init cannot wait for signals: {}", error.desc()), 126),
        }
    }
}

/// Reaps everything that ended; gives the program's status if it is among them.
fn reap(child: Pid) -> Option<i32> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, status)) if pid == child => return Some(status),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => return Some(128 + signal as i32),
            Ok(WaitStatus::StillAlive) | Err(_) => return None,
            Ok(_) => {}
        }
    }
}
