//! What netd and a shim say to each other: one JSON document a packet, with descriptors beside it.
//!
//! The socket is `SOCK_SEQPACKET`, so a packet is whole or isn't there. Both sides carry [`crate::orders::VERSION`]; a netd
//! speaks the shim's version, for shims outlive releases.

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recv, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use crate::console::calls::received;
use crate::{Exit, Phase};

/// Most descriptors in one packet: stdin, stdout, stderr.
const FDS_MAX: usize = 3;

/// From netd, numbered so that answers can be told apart.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) number: u64,
    pub(crate) verb: Verb,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Verb {
    /// Are you ready, and where is the container? Answered when creation has succeeded or failed.
    Hello { version: u32 },
    /// Start the program.
    Start,
    /// Send a signal to pid 1.
    Signal { signal: i32 },
    /// Set the size of the container's own terminal.
    Resize { rows: u16, columns: u16 },
    /// Run one more program. Descriptors: stdin, stdout, stderr; none for a terminal.
    Exec(ExecOrder),
    /// Send a signal to such a program.
    SignalExec { exec: i32, signal: i32 },
}

/// A program to run inside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExecOrder {
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) cwd: Option<String>,
    pub(crate) user: Option<String>,
    pub(crate) terminal: bool,
    pub(crate) size: Option<(u16, u16)>,
}

/// From the shim.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Told {
    /// To the request of that number.
    Answer {
        number: u64,
        result: Result<Answer, String>,
    },
    /// The container ended. Nothing follows; the shim ends too.
    Exited(Exit),
    /// A program that this client asked for ended.
    ExecExited { exec: i32, code: i32 },
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// With the shim's own pid.
    Hello {
        version: u32,
        phase: Phase,
        shim: i32,
    },
    Started {
        pid: u32,
        started_ms: u64,
    },
    /// Its pid as the host counts. Descriptor: the terminal, if there is one.
    Exec {
        exec: i32,
    },
    Done,
}

/// Sends one packet.
pub(crate) fn send(socket: BorrowedFd<'_>, message: &impl Serialize, fds: &[RawFd]) -> io::Result<()> {
    let bytes = serde_json::to_vec(message)?;
    let iov = [IoSlice::new(&bytes)];
    let rights = [ControlMessage::ScmRights(fds)];
    let rights = if fds.is_empty() { &[][..] } else { &rights[..] };
    sendmsg::<()>(socket.as_raw_fd(), &iov, rights, MsgFlags::MSG_NOSIGNAL, None)?;
    Ok(())
}

/// Receives one packet; absent when the other side is gone.
pub(crate) fn receive<M: serde::de::DeserializeOwned>(
    socket: BorrowedFd<'_>,
) -> io::Result<Option<(M, Vec<OwnedFd>)>> {
    // Its length first: most are short, one with a long command line may not be.
    let length = match recv(
        socket.as_raw_fd(),
        &mut [],
        MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC,
    ) {
        Err(Errno::ECONNRESET) => return Ok(None),
        length => length?,
    };
    if length == 0 {
        return Ok(None);
    }
    let mut bytes = vec![0; length];
    let mut fds = Vec::new();
    {
        let mut iov = [IoSliceMut::new(&mut bytes)];
        let mut space = nix::cmsg_space!([RawFd; FDS_MAX]);
        let message = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut iov,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(rights) = control {
                fds.extend(rights.into_iter().map(received));
            }
        }
    }
    Ok(Some((serde_json::from_slice(&bytes)?, fds)))
}
