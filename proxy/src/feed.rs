//! The feed from netd: who may send it, what each message does, and what survives netd's death (everything).
//!
//! One connection at a time; a new one replaces the old, for it comes from a new netd. A connection that ends or sends
//! nonsense is closed, and the world stays as the last good snapshot made it.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use linkspan_api::feed::{self, FeedError, FeedReader, FeedWriter, ToNetd, ToProxy, VERSION};
use nix::sys::stat::{Mode, umask};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;

use crate::shared::Shared;

/// A netd that doesn't read for so long is let go.
const SEND: Duration = Duration::from_secs(5);

/// Binds the feed's socket, mode 0600, in place of one that an earlier proxy left.
///
/// # Errors
/// When the folder is missing or can't be written.
pub(crate) fn bind(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The mode must be right from the first moment. No other thread runs yet that could make a file meanwhile.
    let before = umask(Mode::from_bits_truncate(0o177));
    let bound = std::os::unix::net::UnixListener::bind(path);
    umask(before);
    let listener = bound?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Why serving the feed ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    /// netd wants this proxy to end within so much time.
    Drain(Duration),
}

/// Serves the feed until netd asks for a drain. `allowed` is the only user id let in.
pub(crate) async fn serve(
    listener: UnixListener,
    shared: Arc<Shared>,
    mut hints: mpsc::Receiver<ToNetd>,
    allowed: u32,
) -> Ended {
    let mut peer: Option<Peer> = None;
    loop {
        let (reader, writer) = match &mut peer {
            Some(peer) => (Some(&mut peer.reader), Some(&mut peer.writer)),
            None => (None, None),
        };
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    if let Some(new) = admit(stream, allowed) {
                        peer = Some(new);
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "accepting on the feed failed");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            message = next(reader) => match message {
                Ok(Some((ToProxy::Drain { grace_ms }, _))) => return Ended::Drain(Duration::from_millis(grace_ms)),
                Ok(Some((message, descriptors))) => {
                    let Some(writer) = writer else { continue };
                    if let Err(error) = handle(&shared, writer, message, descriptors).await {
                        tracing::warn!(error = %linkspan_telemetry::chain(&error), "the feed is closed");
                        peer = None;
                    }
                }
                Ok(None) => {
                    tracing::info!("netd closed the feed; the last snapshot stays");
                    peer = None;
                }
                Err(error) => {
                    let error = linkspan_telemetry::chain(&error);
                    tracing::warn!(%error, "the feed is closed; the last snapshot stays");
                    peer = None;
                }
            },
            Some(hint) = hints.recv() => {
                // Without netd a hint helps nobody.
                if let Some(writer) = writer
                    && let Err(error) = send(writer, &hint).await
                {
                    tracing::warn!(error = %linkspan_telemetry::chain(&error), "the feed is closed");
                    peer = None;
                }
            }
        }
    }
}

struct Peer {
    reader: FeedReader<ToProxy>,
    writer: FeedWriter,
}

fn admit(stream: UnixStream, allowed: u32) -> Option<Peer> {
    match stream.peer_cred() {
        Ok(peer) if peer.uid() == allowed => {
            let (reader, writer) = feed::split(stream);
            Some(Peer { reader, writer })
        }
        Ok(peer) => {
            tracing::warn!(
                uid = peer.uid(),
                "somebody who is not netd was turned away from the feed"
            );
            None
        }
        Err(error) => {
            tracing::warn!(%error, "the feed's peer is unknown and was turned away");
            None
        }
    }
}

async fn next(
    reader: Option<&mut FeedReader<ToProxy>>,
) -> Result<Option<(ToProxy, Vec<OwnedFd>)>, FeedError> {
    match reader {
        Some(reader) => reader.next().await,
        None => std::future::pending().await,
    }
}

async fn handle(
    shared: &Shared,
    writer: &mut FeedWriter,
    message: ToProxy,
    descriptors: Vec<OwnedFd>,
) -> Result<(), FeedError> {
    match message {
        ToProxy::Hello { version } => {
            tracing::info!(version, "netd is on the feed");
            hello(shared, writer).await
        }
        ToProxy::Sockets(ids) => {
            for (id, socket) in ids.into_iter().zip(descriptors) {
                shared.adopt(id, socket)?;
            }
            Ok(())
        }
        ToProxy::Snapshot(snapshot) => {
            let generation = shared.apply(*snapshot);
            tracing::debug!(generation, "serving");
            send(writer, &ToNetd::Serving { generation }).await
        }
        // Taken out before.
        ToProxy::Drain { .. } => Ok(()),
    }
}

/// Tells a new netd what we have, and gives it the sockets back.
async fn hello(shared: &Shared, writer: &mut FeedWriter) -> Result<(), FeedError> {
    let sockets = shared.sockets();
    let hello = ToNetd::Hello {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        generation: shared.world.load().generation(),
        sockets: sockets.iter().map(|(id, _)| id.clone()).collect(),
    };
    send(writer, &hello).await?;
    let sent = tokio::time::timeout(SEND, writer.send_sockets(ToNetd::Sockets, &sockets)).await;
    sent.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}

async fn send(writer: &mut FeedWriter, message: &ToNetd) -> Result<(), FeedError> {
    let sent = tokio::time::timeout(SEND, writer.send(message, &[])).await;
    sent.unwrap_or_else(|_| Err(io::Error::from(io::ErrorKind::TimedOut).into()))
}
