//! A proxy with the origin behind it.

use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::origin::{self, Origin, Script};
use crate::peers::Peer;
use crate::rig::Rig;
use crate::wire::{Message, Stop, Wire, field};

/// A request that stands behind another; who takes it for one was led astray.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n";

/// Who is asked.
pub(crate) struct Subject {
    pub(crate) name: String,
    pub(crate) origin: Origin,
    http: SocketAddr,
    pub(crate) http2: Http2,
    patience: Duration,
    /// Ends with the subject.
    _running: Running,
}

/// How HTTP/2 is reached.
pub(crate) enum Http2 {
    Tls(SocketAddr, Arc<rustls::ClientConfig>),
    /// Without TLS, the client knowing beforehand.
    Plain(SocketAddr),
}

#[allow(dead_code, reason = "held until it is dropped")]
enum Running {
    Linkspan(Box<[Rig; 2]>),
    Peer(Peer),
}

impl Subject {
    /// Linkspan as it is in this build.
    pub(crate) fn linkspan() -> Self {
        let origin = Origin::start();
        let mut plain = Rig::plain();
        let mut tls = Rig::start();
        let certificate = tls.certificate(&["a.test"]);
        for rig in [&mut plain, &mut tls] {
            rig.route("a.test", "/", "p/web", origin.port);
            rig.service("p/web", &[("web-1", 1)]);
            rig.publish();
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add(certificate).expect("certificate");
        let mut config = rustls::ClientConfig::builder()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec()];
        Self {
            name: "linkspan".into(),
            origin,
            http: plain.http,
            http2: Http2::Tls(tls.https, Arc::new(config)),
            patience: Duration::from_secs(20),
            _running: Running::Linkspan(Box::new([plain, tls])),
        }
    }

    /// Another proxy.
    pub(crate) fn peer(name: &str, program: &str) -> Result<Self, String> {
        let origin = Origin::start();
        let peer = Peer::start(name, program, origin.port)?;
        Ok(Self {
            name: name.to_owned(),
            origin,
            http: peer.http,
            http2: Http2::Plain(peer.http2),
            // Here silence is an answer like any other, and the machine has nothing else to do.
            patience: Duration::from_secs(2),
            _running: Running::Peer(peer),
        })
    }

    pub(crate) fn tcp(&self, address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(self.patience)).expect("timeout");
        stream.set_write_timeout(Some(self.patience)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        stream
    }

    pub(crate) fn client(&self) -> Wire<TcpStream> {
        Wire::new(self.tcp(self.http))
    }

    /// One request on a connection of its own, to an origin that does this.
    pub(crate) fn ask(&self, script: Script, request: impl AsRef<[u8]>) -> Result<Message, Stop> {
        self.origin.begin(script);
        self.again(request)
    }

    /// One request more, on another connection.
    pub(crate) fn again(&self, request: impl AsRef<[u8]>) -> Result<Message, Stop> {
        let mut client = self.client();
        client.send(request);
        client.answer()
    }

    /// What the origin gets of this request; when it gets nothing, what the client gets instead.
    pub(crate) fn forwarded(&self, request: impl AsRef<[u8]>) -> Result<String, String> {
        let answer = self.ask(origin::path(), request);
        let seen = self.origin.seen();
        if seen.is_empty() {
            return Err(answer.map_or_else(Stop::shown, |answer| answer.status().to_owned()));
        }
        Ok(seen)
    }

    /// Sends bytes that are no request with a request behind them, which is none either. `200+200` says that both were
    /// answered.
    pub(crate) fn refused(&self, bytes: &[u8]) -> String {
        self.origin.begin(origin::path());
        let mut client = self.client();
        client.send(bytes);
        client.send(SMUGGLED);
        let mut told = match client.answer() {
            Ok(answer) => answer.status().to_owned(),
            Err(stop) => return format!("{}{}", stop.shown(), self.reached()),
        };
        told += &match client.answer() {
            Ok(second) => format!("+{}", second.status()),
            Err(Stop::Closed) => ", close".into(),
            Err(Stop::Silent) => ", open".into(),
            Err(Stop::Garbled) => ", garbled".into(),
        };
        told + self.reached()
    }

    /// How far a request came.
    pub(crate) fn reached(&self) -> &'static str {
        if self.origin.whole() > 0 {
            ", forwarded"
        } else if self.origin.seen().is_empty() {
            ""
        } else {
            ", begun"
        }
    }

    /// The client's answer when the origin says these bytes; and whether the connection that they came over, on which
    /// the origin would go on talking, is asked again.
    pub(crate) fn answered(&self, bytes: &[u8]) -> String {
        let bytes = bytes.to_vec();
        let over = AtomicUsize::new(0);
        let script: Script = Arc::new(move |asked| {
            if asked.head.contains(" /first ") {
                over.store(asked.connection, Ordering::SeqCst);
                return asked.read() && asked.wire.send(&bytes);
            }
            let is_same = over.load(Ordering::SeqCst) == asked.connection;
            let body = if is_same { "the same" } else { "another" };
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            asked.read() && asked.wire.send(answer)
        });
        // A POST is not repeated elsewhere.
        let first = self.ask(
            script,
            "POST /first HTTP/1.1\r\nHost: a.test\r\nContent-Length: 0\r\n\r\n",
        );
        let told = match first {
            Ok(message) if message.whole => message.status().to_owned(),
            Ok(message) => format!("{} cut", message.status()),
            Err(stop) => stop.shown(),
        };
        let second = self.again("GET /second HTTP/1.1\r\nHost: a.test\r\n\r\n");
        told + match second {
            Ok(message) if message.text() == "the same" => ", used again",
            Ok(message) if message.text() == "another" => "",
            Ok(_) => ", next poisoned",
            Err(_) => ", next broken",
        }
    }
}

/// `removed`, or what of it came through.
pub(crate) fn removed(head: &str, names: &[&str]) -> String {
    let left: Vec<&str> = names
        .iter()
        .copied()
        .filter(|name| field(head, name).is_some())
        .collect();
    if left.is_empty() {
        "removed".into()
    } else {
        format!("passed: {}", left.join(" "))
    }
}

/// Ends one direction.
pub(crate) fn half_close(wire: &Wire<TcpStream>) {
    wire.stream.shutdown(Shutdown::Write).ok();
}
