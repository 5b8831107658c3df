//! Connections that stop being HTTP: WebSockets and whatever else an upstream agrees to with 101.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION};
use http::{HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use tokio::io::copy_bidirectional_with_sizes;

use crate::middleware::access_log::{Outcome, Record};
use crate::upstream::pool::Lease;

/// Bytes on their way in each direction.
const BUFFER: usize = 16 << 10;

/// Both ends of a tunnel. Neither is raw before the upstream's 101 was seen and passed on: bytes that a client sends
/// ahead stay in the codec and come first (CVE-2026-2833 is what happens otherwise).
pub(crate) struct Upgrade {
    pub(crate) client: OnUpgrade,
    pub(crate) upstream: OnUpgrade,
    /// Keeps the endpoint's counter and the connection's driver.
    pub(crate) lease: Lease,
}

/// Relays both ways until both sides have said all; the end of one direction is passed on as such.
pub(crate) async fn relay(upgrade: Upgrade, mut record: Record) {
    let Upgrade {
        client,
        upstream,
        lease,
    } = upgrade;
    let Ok(client) = client.await else { return };
    let Ok(upstream) = upstream.await else {
        record.outcome(Outcome::UpstreamTruncated);
        return;
    };
    let (mut client, mut upstream) = (TokioIo::new(client), TokioIo::new(upstream));
    let relayed = copy_bidirectional_with_sizes(&mut client, &mut upstream, BUFFER, BUFFER).await;
    if let Ok((up, down)) = relayed {
        record.tunnelled(up, down);
    }
    // A tunnel that ends is done, whoever ended it.
    record.delivered();
    drop(lease);
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
