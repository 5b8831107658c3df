//! A WebSocket client over TLS, small enough to see what it sends.

use std::fs::File;
use std::thread;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio_rustls::client::TlsStream;

use crate::load::connector;
use crate::{Protocol, Rig};

/// Longest time that one answer may take.
const ANSWER: Duration = Duration::from_secs(20);

/// An open WebSocket.
pub struct WebSocket {
    runtime: Runtime,
    stream: TlsStream<TcpStream>,
}

impl WebSocket {
    /// Opens `wss://HOST/PATH` at 127.0.0.1:443 of the rig.
    pub fn open(rig: &Rig, host: &str, path: &str) -> Result<WebSocket, String> {
        let namespace = File::open(format!("/proc/{}/ns/net", rig.host().init())).unwrap();
        let tls = connector(&rig.ca(), Protocol::Http1);
        let (host, path) = (host.to_owned(), path.to_owned());
        // A thread of its own makes the socket, so that the test's stays where it is.
        thread::spawn(move || {
            nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                .map_err(|error| error.to_string())?;
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let opening = async {
                let stream = TcpStream::connect(("127.0.0.1", 443))
                    .await
                    .map_err(|error| error.to_string())?;
                let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
                let mut stream = tls
                    .connect(name, stream)
                    .await
                    .map_err(|error| error.to_string())?;
                let request = format!(
                    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
                );
                stream
                    .write_all(request.as_bytes())
                    .await
                    .map_err(|error| error.to_string())?;
                let mut head = Vec::new();
                while !head.ends_with(b"\r\n\r\n") {
                    head.push(stream.read_u8().await.map_err(|error| error.to_string())?);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                // The accept value of the key above, as RFC 6455 section 1.3 prints it.
                let accepted = head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
                if head.starts_with("HTTP/1.1 101 ") && accepted {
                    Ok(stream)
                } else {
                    Err(head)
                }
            };
            let opened = runtime.block_on(async { tokio::time::timeout(ANSWER, opening).await });
            let stream = opened.map_err(|_| "no answer in time".to_owned())??;
            Ok(WebSocket { runtime, stream })
        })
        .join()
        .unwrap()
    }

    /// Sends a text and waits for the next one.
    pub fn ask(&mut self, text: &str) -> Result<String, String> {
        assert!(text.len() < 126, "one short frame");
        let stream = &mut self.stream;
        let asking = async {
            let mut frame = vec![0x81, 0x80 | text.len() as u8, 1, 2, 3, 4];
            frame.extend(
                text.bytes()
                    .enumerate()
                    .map(|(place, byte)| byte ^ [1, 2, 3, 4][place % 4]),
            );
            stream
                .write_all(&frame)
                .await
                .map_err(|error| error.to_string())?;
            let mut first = [0; 2];
            stream
                .read_exact(&mut first)
                .await
                .map_err(|error| error.to_string())?;
            let mut payload = vec![0; usize::from(first[1] & 0x7f)];
            stream
                .read_exact(&mut payload)
                .await
                .map_err(|error| error.to_string())?;
            Ok(String::from_utf8_lossy(&payload).into_owned())
        };
        let asked = self
            .runtime
            .block_on(async { tokio::time::timeout(ANSWER, asking).await });
        asked.map_err(|_| "no answer in time".to_owned())?
    }
}
