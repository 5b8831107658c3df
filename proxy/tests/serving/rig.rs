//! A running proxy, upstreams written by hand, and clients that see every byte.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use linkspan_api::feed::{
    Action, Certificate, Endpoint, Limits, Route, Service, Snapshot, SocketId, SocketKind, Target, ToNetd,
};
use linkspan_proxy::{Egress, Proxy};
use linkspan_site::{HostPattern, Middleware};

/// Longest that any single read of a test may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Rig {
    pub(crate) proxy: Proxy,
    pub(crate) hints: tokio::sync::mpsc::Receiver<ToNetd>,
    pub(crate) http: SocketAddr,
    pub(crate) https: SocketAddr,
    pub(crate) log: tempfile::NamedTempFile,
    listeners: Vec<SocketId>,
    generation: u64,
    pub(crate) snapshot: Snapshot,
}

impl Rig {
    /// Two workers, plain HTTP and HTTPS listeners, nothing to serve yet.
    pub(crate) fn start() -> Self {
        let (egress, _) = Egress::start(|| Ok(())).expect("egress");
        let log = tempfile::NamedTempFile::new().expect("log");
        let (proxy, hints) = Proxy::start(2, egress, Some(log.reopen().expect("log").into())).expect("proxy");
        let listen = |kind| {
            let listener = TcpListener::bind("127.0.0.1:0").expect("bind");
            let address = listener.local_addr().expect("address");
            let id = SocketId {
                kind,
                address,
                shard: 0,
            };
            proxy.adopt(id.clone(), listener.into()).expect("adopt");
            id
        };
        let listeners = vec![listen(SocketKind::Http), listen(SocketKind::Https)];
        let (http, https) = (listeners[0].address, listeners[1].address);
        let limits = Limits {
            hold_ms: 5_000,
            connect_ms: 1_000,
            ..Limits::default()
        };
        let snapshot = Snapshot {
            https_port: https.port(),
            limits,
            name_servers: vec![],
            ..Snapshot::default()
        };
        Self {
            proxy,
            hints,
            http,
            https,
            log,
            listeners,
            generation: 0,
            snapshot,
        }
    }

    /// A rig whose plain listener serves instead of redirecting, because there is no other.
    pub(crate) fn plain() -> Self {
        let mut rig = Self::start();
        rig.listeners.truncate(1);
        rig
    }

    pub(crate) fn publish(&mut self) {
        self.generation += 1;
        self.snapshot.generation = self.generation;
        self.snapshot.listeners.clone_from(&self.listeners);
        self.proxy.apply(self.snapshot.clone());
    }

    pub(crate) fn route(&mut self, host: &str, path: &str, service: &str, port: u16) {
        let target = Target::Service {
            id: service.to_owned(),
            port,
        };
        self.route_to(host, path, Action::Forward(vec![target]));
    }

    pub(crate) fn route_to(&mut self, host: &str, path: &str, action: Action) {
        let host = match host.strip_prefix("*.") {
            Some(name) => HostPattern::Wildcard(name.to_owned()),
            None if host == "*" => HostPattern::Default,
            None => HostPattern::Exact(host.to_owned()),
        };
        let route = Route {
            project: "p".into(),
            host,
            path: path.into(),
            action,
            allow: vec![],
            middleware: Middleware::default(),
        };
        self.snapshot.routes.push(route);
    }

    /// What the last route does besides.
    pub(crate) fn middleware(&mut self) -> &mut Middleware {
        &mut self.snapshot.routes.last_mut().expect("a route").middleware
    }

    /// The service has these endpoints: `(id, last byte of 127.0.0.x)`.
    pub(crate) fn service(&mut self, id: &str, endpoints: &[(&str, u8)]) {
        let endpoint = |(id, n): &(&str, u8)| Endpoint {
            id: (*id).to_owned(),
            generation: 1,
            addresses: vec![IpAddr::V4(Ipv4Addr::new(127, 0, 0, *n))],
        };
        let endpoints = endpoints.iter().map(endpoint).collect();
        self.snapshot.services.insert(
            id.to_owned(),
            Service {
                endpoints,
                coming: false,
                reason: None,
            },
        );
    }

    pub(crate) fn no_service(&mut self, id: &str, coming: bool, reason: Option<&str>) {
        let service = Service {
            endpoints: vec![],
            coming,
            reason: reason.map(str::to_owned),
        };
        self.snapshot.services.insert(id.to_owned(), service);
    }

    /// `web` with one endpoint behind `a.test`, published.
    pub(crate) fn with_upstream(upstream: &Upstream) -> Self {
        let mut rig = Self::plain();
        rig.route("a.test", "/", "p/web", upstream.port);
        rig.service("p/web", &[("web-1", 1)]);
        rig.publish();
        rig
    }

    /// A certificate for these names from the rig's own authority, which is returned.
    pub(crate) fn certificate(&mut self, hosts: &[&str]) -> rustls::pki_types::CertificateDer<'static> {
        let names: Vec<String> = hosts
            .iter()
            .map(|host| if *host == "*" { "any.invalid" } else { host }.to_string())
            .collect();
        let made = rcgen::generate_simple_self_signed(names).expect("certificate");
        self.snapshot.certificates.push(Certificate {
            hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
            chain: made.cert.pem(),
            key: made.signing_key.serialize_pem(),
        });
        made.cert.der().clone()
    }

    /// The lines of the access log so far, waiting for `count` of them.
    pub(crate) fn access_lines(&self, count: usize) -> Vec<serde_json::Value> {
        for _ in 0..60 {
            let text = std::fs::read_to_string(self.log.path()).expect("log");
            if text.lines().count() >= count {
                return text
                    .lines()
                    .map(|line| serde_json::from_str(line).expect("JSON"))
                    .collect();
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        panic!(
            "fewer than {count} access lines: {}",
            std::fs::read_to_string(self.log.path()).unwrap()
        );
    }

    /// Has the proxy blamed nobody?
    pub(crate) fn hints_are_none(mut self) -> bool {
        self.hints.try_recv().is_err()
    }

    /// One request on a connection of its own; `text` has LF line ends.
    pub(crate) fn ask(&self, text: &str) -> Answer {
        let mut client = Raw::connect(self.http);
        client.send(text);
        client.answer()
    }
}

// === Clients ===

/// An answer as it came over the wire.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
    /// The connection ended where the framing said it may.
    pub(crate) whole: bool,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (n, value) = line.split_once(':')?;
            n.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Any byte stream spoken by hand.
pub(crate) struct Raw<S = TcpStream> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

impl Raw {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("connect");
        stream.set_read_timeout(Some(PATIENCE)).expect("timeout");
        stream.set_nodelay(true).expect("nodelay");
        Self::new(stream)
    }
}

impl<S: Read + Write> Raw<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    /// Sends text whose line ends are LF with CRLF.
    pub(crate) fn send(&mut self, text: &str) {
        self.stream
            .write_all(text.replace('\n', "\r\n").as_bytes())
            .expect("send");
        self.stream.flush().expect("flush");
    }

    fn fill(&mut self) -> usize {
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk) {
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                n
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => panic!("nothing came in time"),
            Err(_) => 0,
        }
    }

    /// The next bytes up to and including `end`; `None` when the stream ends before.
    pub(crate) fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.windows(end.len()).position(|window| window == end) {
                return Some(self.buffer.drain(..at + end.len()).collect());
            }
            if self.fill() == 0 {
                return None;
            }
        }
    }

    pub(crate) fn exactly(&mut self, count: usize) -> Option<Vec<u8>> {
        while self.buffer.len() < count {
            if self.fill() == 0 {
                return None;
            }
        }
        Some(self.buffer.drain(..count).collect())
    }

    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.fill() > 0 {}
        std::mem::take(&mut self.buffer)
    }

    /// The next head, without its empty line; `None` at the end of the stream.
    pub(crate) fn head(&mut self) -> Option<String> {
        self.until(b"\r\n\r\n")
            .map(|head| String::from_utf8_lossy(&head).trim_end().to_owned())
    }

    /// The next answer to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        let head = self.head().expect("an answer");
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status");
        let mut answer = Answer {
            status,
            head,
            body: vec![],
            whole: true,
        };
        if matches!(status, 101 | 204 | 304) {
            return answer;
        }
        if let Some(length) = answer.field("content-length") {
            let length: usize = length.parse().expect("a length");
            match self.exactly(length) {
                Some(body) => answer.body = body,
                None => {
                    answer.body = std::mem::take(&mut self.buffer);
                    answer.whole = false;
                }
            }
        } else if answer.field("transfer-encoding").is_some() {
            answer.whole = self.chunks(&mut answer.body);
        } else {
            answer.body = self.rest();
        }
        answer
    }

    pub(crate) fn chunks(&mut self, body: &mut Vec<u8>) -> bool {
        loop {
            let Some(line) = self.until(b"\r\n") else {
                return false;
            };
            let line = String::from_utf8_lossy(&line).trim().to_owned();
            let size = line.split(';').next().unwrap_or_default();
            let size = usize::from_str_radix(size, 16).expect("a chunk size");
            if size == 0 {
                // Trailers are kept as text behind the body.
                loop {
                    let Some(line) = self.until(b"\r\n") else {
                        return false;
                    };
                    if line == b"\r\n" {
                        return true;
                    }
                    body.extend_from_slice(&line);
                }
            }
            let Some(chunk) = self.exactly(size + 2) else {
                return false;
            };
            body.extend_from_slice(&chunk[..size]);
        }
    }
}

// === Upstreams ===

/// A server written by hand: each connection is given to a function on a thread of its own.
pub(crate) struct Upstream {
    pub(crate) port: u16,
    /// Connections accepted so far.
    pub(crate) accepted: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<TcpStream>>>,
    stop: Arc<AtomicUsize>,
    address: SocketAddr,
}

impl Upstream {
    pub(crate) fn new(handler: impl Fn(Raw) + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", handler)
    }

    pub(crate) fn at(address: &str, handler: impl Fn(Raw) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).expect("bind");
        let address = listener.local_addr().expect("address");
        let accepted = Arc::new(AtomicUsize::new(0));
        let open = Arc::new(Mutex::new(Vec::new()));
        let stop = Arc::new(AtomicUsize::new(0));
        let handler = Arc::new(handler);
        let (count, streams, stopped) = (Arc::clone(&accepted), Arc::clone(&open), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if stopped.load(Ordering::SeqCst) > 0 {
                    return;
                }
                let stream = stream.expect("accept");
                stream.set_nodelay(true).expect("nodelay");
                count.fetch_add(1, Ordering::SeqCst);
                streams.lock().unwrap().push(stream.try_clone().expect("clone"));
                let handler = Arc::clone(&handler);
                let last = stream.try_clone().expect("clone");
                std::thread::spawn(move || {
                    handler(Raw::new(stream));
                    // The copy kept for `hang_up` would keep the connection open.
                    last.shutdown(std::net::Shutdown::Both).ok();
                });
            }
        });
        Self {
            port: address.port(),
            accepted,
            open,
            stop,
            address,
        }
    }

    /// Answers every request with its own head as the body; bodies with a length are read first.
    pub(crate) fn echo() -> Self {
        Self::echo_at("127.0.0.1:0")
    }

    pub(crate) fn echo_at(address: &str) -> Self {
        Self::at(address, move |mut raw| {
            while let Some(head) = raw.head() {
                let length = field(&head, "content-length")
                    .and_then(|length| length.parse().ok())
                    .unwrap_or(0);
                let Some(body) = raw.exactly(length) else { return };
                let text = format!("{head}\n\n{}", String::from_utf8_lossy(&body));
                let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len());
                if raw.stream.write_all(answer.as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    /// Always answers with `text` as it is, after each head.
    pub(crate) fn saying(text: &str) -> Self {
        Self::saying_at("127.0.0.1:0", text)
    }

    pub(crate) fn saying_at(address: &str, text: &str) -> Self {
        let text = text.replace('\n', "\r\n");
        Self::at(address, move |mut raw| {
            while raw.head().is_some() {
                if raw.stream.write_all(text.as_bytes()).is_err() {
                    return;
                }
            }
        })
    }

    pub(crate) fn connections(&self) -> usize {
        self.accepted.load(Ordering::SeqCst)
    }

    /// Closes all connections, as a killed process does; the listener stays.
    pub(crate) fn hang_up(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            stream.shutdown(std::net::Shutdown::Both).ok();
        }
    }

    /// Closes the listener and all connections.
    pub(crate) fn kill(self) {
        self.stop.store(1, Ordering::SeqCst);
        TcpStream::connect(self.address).ok();
        self.hang_up();
        // The thread drops the listener when it sees that connection.
        for _ in 0..200 {
            if TcpStream::connect(self.address).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        panic!("the upstream's listener would not close");
    }
}

pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().skip(1).find_map(|line| {
        let (n, value) = line.split_once(':')?;
        n.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Fields of an echoed head, in lower case, sorted.
pub(crate) fn fields(head: &str) -> BTreeMap<String, Vec<String>> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in head.lines().skip(1).take_while(|line| !line.is_empty()) {
        let (name, value) = line.split_once(':').expect("a field");
        map.entry(name.to_ascii_lowercase())
            .or_default()
            .push(value.trim().to_owned());
    }
    map
}
