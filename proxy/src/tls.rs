//! TLS towards clients: one configuration for all workers, certificates by SNI from the world.

use std::io;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{Acceptor, ServerSessionMemoryCache};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use crate::world::World;
use resolver::{FromWorld, Identity};

pub(crate) mod resolver;

/// Sessions of TLS 1.2 clients without tickets that can be resumed.
const SESSIONS: usize = 4096;
/// A fatal `unrecognized_name` alert in a record of its own (RFC 6066 §3, RFC 8446 §6).
const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// The acceptor's configuration: TLS 1.2 and 1.3, tickets whose keys rotate and are shared by all workers.
///
/// # Errors
/// When the crypto library gives no random bytes for the ticket keys.
pub(crate) fn server_config(world: Arc<ArcSwap<World>>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(FromWorld(world)));
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.session_storage = ServerSessionMemoryCache::new(SESSIONS);
    Ok(Arc::new(config))
}

/// A client's TLS connection once the handshake is done.
pub(crate) struct Accepted {
    pub(crate) stream: TlsStream<TcpStream>,
    /// What the client asked for, in lower case.
    pub(crate) server_name: Option<String>,
    /// What it was shown.
    pub(crate) identity: Arc<Identity>,
    pub(crate) http2: bool,
}

/// Shakes hands. A name that no certificate is for is refused with `unrecognized_name`: showing some other
/// certificate would tell strangers which sites live here.
///
/// # Errors
/// When the client goes away, speaks something else, or asks for an unknown name.
pub(crate) async fn accept(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    world: &World,
) -> io::Result<Accepted> {
    let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let server_name = start.client_hello().server_name().map(str::to_ascii_lowercase);
    let Some(identity) = world.certificates.find(server_name.as_deref()).cloned() else {
        start.io.write_all(&UNRECOGNIZED_NAME).await?;
        start.io.shutdown().await?;
        return Err(io::Error::new(
            io::ErrorKind::NotFound,
            "no certificate for the name asked for",
        ));
    };
    let stream = start.into_stream(config).await?;
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    Ok(Accepted {
        stream,
        server_name,
        identity,
        http2,
    })
}
