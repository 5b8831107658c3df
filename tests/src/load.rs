//! Requests over HTTPS, without a pause and without a second try, each with how it ended.
//!
//! `wrk` and `h2load` tell how many responses came; they don't tell a request that was refused from a response that was
//! cut. Here a request fails *before its head* or is *cut* after it, and the two are never added up.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::Rig;

/// Longest time from the request to its head: more than the proxy may hold it.
const HEAD: Duration = Duration::from_secs(40);
/// Between two requests of one connection, so that the load leaves the machine some air.
const BREATH: Duration = Duration::from_millis(2);

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// One request at a time on each connection, kept alive.
    Http1,
    /// Streams on one connection for each worker.
    Http2,
    /// A new connection, with a new handshake, for each request.
    Fresh,
}

/// Load under way, until [`Load::finish`].
pub struct Load {
    stop: Arc<AtomicBool>,
    report: Arc<Mutex<Report>>,
    thread: Option<JoinHandle<()>>,
}

/// How the requests ended.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Status 200 and a whole body.
    pub served: u64,
    /// No head came: how, and how often.
    pub failed: BTreeMap<String, u64>,
    /// The head came, the body broke off, and the client could tell: how, and how often.
    pub cut: BTreeMap<String, u64>,
    /// Longest time between a request and its head.
    pub longest_wait: Duration,
    /// Longest time in which no response at all was finished.
    pub longest_pause: Duration,
    /// `X-Served-By`, and how often.
    pub by: BTreeMap<String, u64>,
    last: Option<Instant>,
}

impl Report {
    /// Requests whose head had not come and that failed.
    pub fn failures(&self) -> u64 {
        self.failed.values().sum()
    }

    /// Responses that broke off.
    pub fn cuts(&self) -> u64 {
        self.cut.values().sum()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} served, {} failed before the head, {} cut; longest wait {:.0?}, longest pause {:.0?}",
            self.served,
            self.failures(),
            self.cuts(),
            self.longest_wait,
            self.longest_pause
        )?;
        for (how, times) in self.failed.iter().chain(&self.cut) {
            writeln!(f, "  {times} × {how}")?;
        }
        Ok(())
    }
}

impl Load {
    /// Starts so many workers that ask for `https://HOST/PATH` at 127.0.0.1:443 of the rig.
    pub fn start(rig: &Rig, protocol: Protocol, workers: usize, host: &str, path: &str) -> Load {
        let target = Target {
            host: host.to_owned(),
            path: path.to_owned(),
            protocol,
            tls: connector(&rig.ca(), protocol),
        };
        let namespace = File::open(format!("/proc/{}/ns/net", rig.host().init())).unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let report = Arc::new(Mutex::new(Report::default()));
        let (stopped, told) = (Arc::clone(&stop), Arc::clone(&report));
        let thread = thread::spawn(move || {
            // Only this thread moves, and it makes all of the sockets.
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let target = Arc::new(target);
                let tasks: Vec<_> = (0..workers)
                    .map(|_| {
                        tokio::spawn(worker(
                            Arc::clone(&target),
                            Arc::clone(&stopped),
                            Arc::clone(&told),
                        ))
                    })
                    .collect();
                for task in tasks {
                    task.await.unwrap();
                }
            });
        });
        Load {
            stop,
            report,
            thread: Some(thread),
        }
    }

    /// The report so far.
    pub fn so_far(&self) -> Report {
        self.report.lock().unwrap().clone()
    }

    /// Waits until so many more requests were served: the load has seen what happened meanwhile.
    ///
    /// # Panics
    ///
    /// When that takes longer than the limit.
    #[track_caller]
    pub fn wait_for(&self, more: u64, limit: Duration) {
        let (begun, served) = (Instant::now(), self.so_far().served);
        while self.so_far().served < served + more {
            assert!(
                begun.elapsed() < limit,
                "fewer than {more} requests served in {limit:?}: {}",
                self.so_far()
            );
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Lets the requests under way end, and reports.
    pub fn finish(mut self) -> Report {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
        let report = self.so_far();
        print!("{report}");
        report
    }
}

/// What the workers ask for.
struct Target {
    host: String,
    path: String,
    protocol: Protocol,
    tls: TlsConnector,
}

enum Connection {
    Http1(http1::SendRequest<Empty<Bytes>>),
    Http2(http2::SendRequest<Empty<Bytes>>),
}

impl Connection {
    async fn is_open(&mut self) -> bool {
        match self {
            Connection::Http1(sender) => sender.ready().await.is_ok(),
            Connection::Http2(sender) => sender.ready().await.is_ok(),
        }
    }
}

enum Ended {
    Served(Option<String>),
    Failed(String),
    Cut(String),
}

async fn worker(target: Arc<Target>, stop: Arc<AtomicBool>, report: Arc<Mutex<Report>>) {
    let mut connection = None;
    while !stop.load(Ordering::SeqCst) {
        let begun = Instant::now();
        let (ended, waited) = match tokio::time::timeout(HEAD, request(&target, &mut connection, begun)).await
        {
            Ok(ended) => ended,
            Err(_) => (Ended::Failed(format!("no head within {HEAD:?}")), begun.elapsed()),
        };
        if !matches!(ended, Ended::Served(_)) || target.protocol == Protocol::Fresh {
            connection = None;
        }
        note(&mut report.lock().unwrap(), ended, waited);
        tokio::time::sleep(BREATH).await;
    }
}

fn note(report: &mut Report, ended: Ended, waited: Duration) {
    report.longest_wait = report.longest_wait.max(waited);
    match ended {
        Ended::Served(by) => {
            let now = Instant::now();
            if let Some(last) = report.last.replace(now) {
                report.longest_pause = report.longest_pause.max(now - last);
            }
            report.served += 1;
            if let Some(by) = by {
                *report.by.entry(by).or_default() += 1;
            }
        }
        Ended::Failed(how) => *report.failed.entry(how).or_default() += 1,
        Ended::Cut(how) => *report.cut.entry(how).or_default() += 1,
    }
}

/// One request from start to end, and the time to its head.
async fn request(target: &Target, connection: &mut Option<Connection>, begun: Instant) -> (Ended, Duration) {
    // The server may close a kept connection between two requests; that is no failure, it is its right.
    let mut kept = connection.take();
    if let Some(open) = &mut kept
        && !open.is_open().await
    {
        kept = None;
    }
    let open = match kept {
        Some(open) => open,
        None => match connect(target).await {
            Ok(open) => open,
            Err(how) => return (Ended::Failed(how), begun.elapsed()),
        },
    };
    let sender = connection.insert(open);
    let authority = &target.host;
    let (uri, version) = match sender {
        Connection::Http1(_) => (target.path.clone(), http::Version::HTTP_11),
        Connection::Http2(_) => (
            format!("https://{authority}{}", target.path),
            http::Version::HTTP_2,
        ),
    };
    let mut request = Request::get(uri).version(version);
    if version == http::Version::HTTP_11 {
        request = request.header("host", authority);
    }
    let request = request.body(Empty::new()).unwrap();
    let response = match sender {
        Connection::Http1(sender) => sender.send_request(request).await,
        Connection::Http2(sender) => sender.send_request(request).await,
    };
    let waited = begun.elapsed();
    let ended = match response {
        Ok(response) => read(response).await,
        Err(error) => Ended::Failed(format!("no head: {}", chain(&error))),
    };
    (ended, waited)
}

async fn read(response: http::Response<Incoming>) -> Ended {
    let status = response.status();
    let by = response
        .headers()
        .get("x-served-by")
        .and_then(|by| by.to_str().ok())
        .map(str::to_owned);
    match response.into_body().collect().await {
        Ok(_) if status == 200 => Ended::Served(by),
        // The proxy's own answer in place of the program's.
        Ok(body) => Ended::Failed(format!(
            "status {status}: {}",
            String::from_utf8_lossy(&body.to_bytes()).trim()
        )),
        Err(error) => Ended::Cut(format!("status {status}, then: {}", chain(&error))),
    }
}

async fn connect(target: &Target) -> Result<Connection, String> {
    let stream = TcpStream::connect(("127.0.0.1", 443))
        .await
        .map_err(|error| format!("connect: {error}"))?;
    stream
        .set_nodelay(true)
        .map_err(|error| format!("connect: {error}"))?;
    let name = ServerName::try_from(target.host.clone()).map_err(|error| format!("name: {error}"))?;
    let stream = target
        .tls
        .connect(name, stream)
        .await
        .map_err(|error| format!("handshake: {error}"))?;
    let io: TokioIo<TlsStream<TcpStream>> = TokioIo::new(stream);
    if target.protocol == Protocol::Http2 {
        let (sender, driver) = http2::handshake(TokioExecutor::new(), io)
            .await
            .map_err(|error| format!("http/2: {}", chain(&error)))?;
        tokio::spawn(driver);
        Ok(Connection::Http2(sender))
    } else {
        let (sender, driver) = http1::handshake(io)
            .await
            .map_err(|error| format!("http/1.1: {}", chain(&error)))?;
        tokio::spawn(driver);
        Ok(Connection::Http1(sender))
    }
}

pub(crate) fn connector(ca: &Path, protocol: Protocol) -> TlsConnector {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(PathBuf::from(ca)).unwrap() {
        roots.add(certificate.unwrap()).unwrap();
    }
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name: &[u8] = if protocol == Protocol::Http2 {
        b"h2"
    } else {
        b"http/1.1"
    };
    config.alpn_protocols = vec![name.to_vec()];
    if protocol == Protocol::Fresh {
        config.resumption = rustls::client::Resumption::disabled();
    }
    TlsConnector::from(Arc::new(config))
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}
