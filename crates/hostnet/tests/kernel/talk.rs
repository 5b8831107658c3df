//! Connections that go on all the time, and what the kernel tells meanwhile.

use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::rig::within;

/// Longer than any connection may be silent: a packet that is lost comes again after 200 ms, and a second time after
/// 400 ms more. Less would fail on a machine that is busy with other things.
const SILENCE: Duration = Duration::from_millis(600);

/// A connection on which a byte goes to and fro all the time.
pub(crate) struct Talk {
    name: &'static str,
    pub(crate) local: IpAddr,
    stop: Arc<AtomicBool>,
    client: JoinHandle<Result<(u32, Duration), String>>,
}

impl Talk {
    /// Begins one from a client's namespace to an address of a server's.
    pub(crate) fn begin(
        name: &'static str,
        client: &Path,
        server: &Path,
        to: impl Into<IpAddr>,
        port: u16,
    ) -> Self {
        let to = SocketAddr::new(to.into(), port);
        let listener = within(server, move || TcpListener::bind(to).unwrap());
        Self::begin_with(name, client, listener, to)
    }

    pub(crate) fn begin_with(
        name: &'static str,
        client: &Path,
        listener: TcpListener,
        to: SocketAddr,
    ) -> Self {
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut byte = [0];
            while let Ok(1) = stream.read(&mut byte) {
                if stream.write_all(&byte).is_err() {
                    break;
                }
            }
        });
        let mut stream = within(client, move || {
            TcpStream::connect_timeout(&to, Duration::from_secs(2)).unwrap()
        });
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let local = stream.local_addr().unwrap().ip();
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let client = std::thread::spawn(move || {
            let (mut count, mut longest) = (0, Duration::ZERO);
            while !stopped.load(Ordering::Relaxed) {
                let start = Instant::now();
                stream.write_all(b".").map_err(|error| error.to_string())?;
                stream
                    .read_exact(&mut [0])
                    .map_err(|error| format!("after {count} bytes: {error}"))?;
                longest = longest.max(start.elapsed());
                count += 1;
                std::thread::sleep(Duration::from_millis(1));
            }
            Ok((count, longest))
        });
        Self {
            name,
            local,
            stop,
            client,
        }
    }

    /// Ends it; it must have gone on all the time.
    pub(crate) fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (count, longest) = self
            .client
            .join()
            .unwrap()
            .unwrap_or_else(|error| panic!("`{}` broke {error}", self.name));
        println!("{}: {count} times, at most {longest:?} silent", self.name);
        assert!(count > 20, "`{}` hardly talked: {count}", self.name);
        assert!(longest < SILENCE, "`{}` was silent for {longest:?}", self.name);
    }
}

/// What `ip monitor` sees in a namespace, until it is asked.
pub(crate) struct Monitor(Child);

impl Monitor {
    pub(crate) fn start(netns: &Path) -> Self {
        let child = Command::new("nsenter")
            .arg(format!("--net={}", netns.display()))
            .args(["ip", "monitor", "address", "route"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        // It says nothing when it is ready.
        std::thread::sleep(Duration::from_millis(200));
        Self(child)
    }

    pub(crate) fn end(mut self) -> String {
        std::thread::sleep(Duration::from_millis(100));
        self.0.kill().unwrap();
        let mut text = String::new();
        self.0.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        self.0.wait().unwrap();
        text
    }
}
