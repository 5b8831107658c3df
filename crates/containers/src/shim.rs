//! One small process beside each container, so that netd may die.
//!
//! Somebody must be the parent of a container's first process to learn its exit status, hold the reading ends of its
//! output so that it can go on writing, and keep its terminal open. If netd did that, a crash or an upgrade of netd would
//! lose all three. So each container has a shim: it makes the container, answers on a socket, writes the log, and when the
//! first process ends writes `exit.json` durably and ends too. It has one thread, no runtime, and allocates little.
//!
//! Its parts of a life: *create* forks a child that prepares the mounts and drives the OCI runtime ([`crate::creator`]); the
//! container's first process is left to the shim as the nearest subreaper. Then one `poll` loop serves signals, clients and
//! output. Nothing waits for netd: without a client, output still goes to the log and the exit status to disk.
//!
//! When a shim is killed, its container is not: the kernel hands the processes to init(1) and nobody holds their output. netd
//! sees the socket close without an exit, kills what is in the cgroup and says so.

mod exec;
mod hint;
mod journal;
mod runtime;
mod serve;

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::process::ExitCode;

use linkspan_plan::ContainerId;
use nix::sys::signal::{SigSet, SigmaskHow, Signal, sigprocmask};

use crate::layout::Layout;
use crate::mounts::Tree;
use crate::orders::Orders;
use crate::{Config, Phase, oom};

/// Role `linkspan shim`: call with the arguments after `shim`, before any thread is started. Its stdin is the listening
/// socket.
pub fn shim_main(args: &[String]) -> ExitCode {
    match prepare(args) {
        Ok(shim) => serve::serve(shim),
        Err(error) => {
            eprintln!("linkspan shim: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Everything a shim knows at its start.
struct Shim {
    layout: Layout,
    orders: Orders,
    listener: OwnedFd,
    phase: Phase,
}

fn prepare(args: &[String]) -> Result<Shim, String> {
    let [state_dir, run_dir, layers_dir, id] = args else {
        return Err("started by the daemon only: STATE_DIR RUN_DIR LAYERS_DIR ID < SOCKET".to_owned());
    };
    let config = Config {
        state_dir: PathBuf::from(state_dir),
        run_dir: PathBuf::from(run_dir),
        layers_dir: PathBuf::from(layers_dir),
        binary: PathBuf::new(),
        runtime: None,
    };
    let layout = Layout::new(&config);
    let id = ContainerId(id.clone());
    let mut orders =
        Orders::load(&layout, &id).map_err(|error| format!("cannot read orders of `{id}`: {error}"))?;
    if orders.user_namespace.is_none() {
        // Without a namespace there is nothing that could map them.
        orders.spec.ids = None;
        seal().map_err(|error| format!("cannot protect our own file from the container: {error}"))?;
    }
    let fail = |error: nix::Error| format!("cannot become a shim: {}", error.desc());

    // Out of the daemon's session and folder; its terminal, signals and working folder are none of ours.
    nix::unistd::setsid().map_err(fail)?;
    nix::unistd::chdir("/").map_err(fail)?;
    let _ = nix::sys::prctl::set_name(c"linkspan-shim");
    nix::sys::prctl::set_child_subreaper(true).map_err(fail)?;
    let mut blocked = SigSet::empty();
    for signal in [
        Signal::SIGCHLD,
        Signal::SIGTERM,
        Signal::SIGINT,
        Signal::SIGHUP,
        Signal::SIGPIPE,
    ] {
        blocked.add(signal);
    }
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&blocked), None).map_err(fail)?;
    oom::be_a_shim();
    // The socket moves out of stdin, which children inherit.
    let stdin = std::io::stdin();
    let listener = stdin
        .as_fd()
        .try_clone_to_owned()
        .map_err(|error| error.to_string())?;
    let null = File::open("/dev/null").map_err(|error| error.to_string())?;
    nix::unistd::dup2_stdin(&null).map_err(fail)?;
    Ok(Shim {
        layout,
        orders,
        listener,
        phase: Phase::Created,
    })
}

/// Runs this program again from a read-only view of its file.
///
/// A container whose root is the host's root could otherwise write to our file by `/proc/<pid>/exe` of a process on its way
/// in, which for a moment is ours. With a user namespace it has no right to.
fn seal() -> io::Result<()> {
    const SEALED: &str = "LINKSPAN_SEALED";
    if std::env::var_os(SEALED).is_some() {
        return Ok(());
    }
    let file = Tree::clone_of(&std::env::current_exe()?)?;
    file.set(libc::MOUNT_ATTR_RDONLY | libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV)?;
    let words = |words: Vec<String>| words.into_iter().map(CString::new).collect::<Result<Vec<_>, _>>();
    let args = words(std::env::args().collect())?;
    let env = words(
        std::env::vars()
            .map(|(name, value)| format!("{name}={value}"))
            .chain([format!("{SEALED}=1")])
            .collect(),
    )?;
    let Err(error) = nix::unistd::fexecve(file.as_fd(), &args, &env);
    Err(error.into())
}
