//! Answers for containers' names from a zone snapshot; forwards the rest.

mod answer;
mod forward;
mod wire;
mod zone;

pub use answer::{Outcome, Transport, answer};
pub use forward::{Forwarder, SocketFactory, SocketFuture, SocketNeed};
pub use zone::*;
