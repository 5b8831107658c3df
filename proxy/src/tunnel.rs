//! Connections that stop being HTTP: WebSockets and whatever else an upstream agrees to with 101.

use std::io;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::BytesMut;
use http::header::{SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, copy_bidirectional_with_sizes};

use crate::middleware::access_log::{Outcome, Record};
use crate::transport::Transport;
use crate::upstream::pool::Lease;

/// Bytes on their way in each direction.
const BUFFER: usize = 16 << 10;

/// The far end of a tunnel. It is raw only because the upstream's 101 was seen, and the near end becomes so when that was
/// passed on: bytes that a client sends ahead stay where they are and come first (CVE-2026-2833 is what happens otherwise).
pub(crate) struct Tunnel {
    upstream: Transport,
    /// What the upstream said right behind its 101.
    early: BytesMut,
    /// Keeps the endpoint's counter.
    lease: Lease,
    record: Record,
}

impl Tunnel {
    pub(crate) fn new(upstream: (Transport, BytesMut), lease: Lease, record: Record) -> Self {
        let (upstream, early) = upstream;
        Self {
            upstream,
            early,
            lease,
            record,
        }
    }

    /// Relays both ways until both sides have said all; the end of one direction is passed on as such. `early` is what
    /// the client sent ahead.
    pub(crate) async fn relay<S>(self, mut client: S, early: BytesMut)
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let Self {
            mut upstream,
            early: answer,
            lease,
            mut record,
        } = self;
        let relayed = async {
            client.write_all(&answer).await?;
            upstream.write_all(&early).await?;
            let (up, down) =
                copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await?;
            Ok::<_, io::Error>((up + early.len() as u64, down + answer.len() as u64))
        };
        if let Ok((up, down)) = relayed.await {
            record.tunnelled(up, down);
        }
        // A tunnel that ends is done, whoever ended it.
        record.delivered();
        drop(lease);
    }

    /// The client's side never came to be.
    pub(crate) fn fail(mut self) {
        self.record.outcome(Outcome::ClientGone);
    }
}

/// The handshake key that HTTP/1.1 wants and extended CONNECT doesn't have (RFC 8441 §5).
pub(crate) fn write_key(headers: &mut HeaderMap, protocol: &HeaderValue, random: u128) {
    if !protocol.as_bytes().eq_ignore_ascii_case(b"websocket") {
        return;
    }
    if let Ok(key) = HeaderValue::try_from(STANDARD.encode(random.to_be_bytes())) {
        headers.insert(SEC_WEBSOCKET_KEY, key);
    }
    headers
        .entry(SEC_WEBSOCKET_VERSION)
        .or_insert(HeaderValue::from_static("13"));
}
