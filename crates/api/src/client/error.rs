//! What can go wrong between a client and the daemon, worded for whoever typed the command.

use std::io;
use std::path::PathBuf;

use http::StatusCode;

use crate::frames::FrameError;
use crate::v1::Failure;

/// A call that brought no answer, or a bad one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error(
        "no daemon answers at `{path}`; start one with `linkspan daemon`, or name its folder with `--run-dir`"
    )]
    NoDaemon {
        /// The socket.
        path: PathBuf,
    },
    /// The socket isn't ours to use.
    #[error("not allowed to use `{path}`; be root, or join the group `linkspan`")]
    PermissionDenied {
        /// The socket.
        path: PathBuf,
    },
    /// The daemon refused or failed, and says why.
    #[error("{}", .0.message)]
    Failed(Failure, StatusCode),
    /// What the daemon reported in the middle of a stream.
    #[error("{0}")]
    Reported(String),
    /// The socket failed otherwise.
    #[error("cannot talk to the daemon at `{path}`")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The daemon went away, or broke the protocol.
    #[error("the daemon at `{path}` broke off; its log says why")]
    Broken {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: hyper::Error,
    },
    /// A stream of the daemon's broke off.
    #[error("the daemon's answer broke off")]
    BrokenStream(#[source] hyper::Error),
    /// A stream of frames broke off, or isn't one.
    #[error("the daemon's answer broke off")]
    BrokenFrames(#[from] FrameError),
    /// An answer isn't what its row in the table says.
    #[error("the daemon at `{path}` gave an answer that this program doesn't know; are both of one version?")]
    Decode {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// An answer isn't what its row in the table says.
    #[error("the daemon at `{path}` answered with {what}; are both of one version?")]
    Unexpected {
        /// The socket.
        path: PathBuf,
        /// What came.
        what: String,
    },
    /// A request can't be written as JSON: a path that isn't UTF-8.
    #[error("the request can't be written as JSON")]
    Encode {
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}

impl ClientError {
    /// The daemon looked at the request and turned it down; nothing was changed.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Failed(_, status) if status.is_client_error())
    }

    /// There was nobody to ask, or we may not.
    pub fn is_unreachable(&self) -> bool {
        matches!(self, Self::NoDaemon { .. } | Self::PermissionDenied { .. })
    }
}
