//! The role `sandbox`: makes the namespaces, says so, and waits to be let go.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use nix::sched::{CloneFlags, unshare};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};

use crate::sysctl;

/// Argument: a user namespace too.
pub(super) const USERS: &str = "--users";
/// Argument: no network namespace.
pub(super) const NO_NETWORK: &str = "--no-network";

/// The role `sandbox`. Call it from `main` before any thread is started: a process with threads may not make a user
/// namespace. It ends when its standard input does.
pub fn sandbox_main() -> ExitCode {
    let told = |word: &str| std::env::args().any(|argument| argument == word);
    match run(told(USERS), !told(NO_NETWORK)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(users: bool, network: bool) -> io::Result<()> {
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWUSER, users);
    flags.set(CloneFlags::CLONE_NEWNET, network);
    unshare(flags)?;
    // Without a network of our own we would change the host's.
    if network {
        prepare()?;
    }
    let mut out = io::stdout().lock();
    out.write_all(super::READY)?;
    out.flush()?;
    io::stdin().lock().read_to_end(&mut Vec::new())?;
    Ok(())
}

/// Only whoever is inside from the beginning may do this without another helper: the maps are not even written yet.
fn prepare() -> io::Result<()> {
    bring_up_loopback()?;
    // A container in which these can't be set works, only a little slower or stricter.
    if let Err(error) = sysctl::isolate() {
        eprintln!("{error}");
    }
    // In here there is no host to protect from its users: any of them may serve port 80, as images expect.
    if let Err(error) = sysctl::set_if_there("net/ipv4/ip_unprivileged_port_start", "0") {
        eprintln!("{error}");
    }
    Ok(())
}

/// `RTM_NEWLINK` for link 1 with `IFF_UP`, by hand: tokio has threads.
fn bring_up_loopback() -> io::Result<()> {
    const NEW_LINK: u16 = 16;
    const REQUEST_ACK: u16 = 1 | 4;
    const LOOPBACK: u32 = 1;
    const UP: u32 = 1;
    const LENGTH: u32 = 32;
    let mut message = Vec::with_capacity(LENGTH as usize);
    message.extend_from_slice(&LENGTH.to_ne_bytes());
    message.extend_from_slice(&NEW_LINK.to_ne_bytes());
    message.extend_from_slice(&REQUEST_ACK.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // `ifinfomsg`: family and type unspecified, index, flags, and which flags to change.
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&LOOPBACK.to_ne_bytes());
    message.extend_from_slice(&UP.to_ne_bytes());
    message.extend_from_slice(&UP.to_ne_bytes());

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.send_to(&message, &SocketAddr::new(0, 0), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let code = answer
        .get(16..20)
        .and_then(|code| code.try_into().ok())
        .map(i32::from_ne_bytes);
    match code {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(-code)),
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
