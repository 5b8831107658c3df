//! The measuring instrument itself: a load that says what really happened, against a server that misbehaves on purpose.

#![allow(clippy::unwrap_used)]

use std::fs::File;
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use linkspan_tests::{Load, Protocol, Report, Rig};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

#[test]
fn a_whole_response_is_served() {
    let Some(report) = against(
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Served-By: me\r\n\r\nok",
        Duration::ZERO,
    ) else {
        return;
    };
    assert!(report.served > 5 && report.by["me"] == report.served, "{report}");
    assert_eq!((report.failures(), report.cuts()), (0, 0), "{report}");
}

#[test]
fn a_body_that_breaks_off_is_cut() {
    let Some(report) = against(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", Duration::ZERO) else {
        return;
    };
    assert!(report.cuts() > 5, "{report}");
    assert_eq!((report.served, report.failures()), (0, 0), "{report}");
}

#[test]
fn a_connection_closed_before_the_head_is_a_failure() {
    let Some(report) = against(b"", Duration::ZERO) else {
        return;
    };
    assert!(report.failures() > 5, "{report}");
    assert_eq!((report.served, report.cuts()), (0, 0), "{report}");
}

#[test]
fn an_error_of_the_proxys_own_is_a_failure() {
    let Some(report) = against(
        b"HTTP/1.1 503 No\r\nContent-Length: 3\r\n\r\nno\n",
        Duration::ZERO,
    ) else {
        return;
    };
    assert!(
        report.failed["status 503 Service Unavailable: no"] > 5,
        "{report}"
    );
    assert_eq!(report.served, 0, "{report}");
}

#[test]
fn the_longest_wait_is_the_longest_wait() {
    let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
    let Some(report) = against(answer, Duration::from_millis(300)) else {
        return;
    };
    assert!(report.longest_wait >= Duration::from_millis(300), "{report}");
    assert!(report.longest_pause >= Duration::from_millis(300), "{report}");
}

#[test]
fn where_nobody_listens_connecting_is_what_failed() {
    let Some(rig) = Rig::without_daemon(&["openssl"]) else {
        return;
    };
    certificate(&rig);
    let load = Load::start(&rig, Protocol::Fresh, 1, "load.test", "/");
    thread::sleep(Duration::from_millis(200));
    let report = load.finish();
    assert!(
        report.failures() > 1 && report.failed.keys().all(|how| how.starts_with("connect: ")),
        "{report}"
    );
}

/// One worker for a while, against a server that reads a head, waits, writes this and closes.
fn against(answer: &'static [u8], pause: Duration) -> Option<Report> {
    let rig = Rig::without_daemon(&["openssl"])?;
    let acceptor = certificate(&rig);
    let namespace = File::open(format!("/proc/{}/ns/net", rig.host().init())).unwrap();
    let (listens, listening) = std::sync::mpsc::channel();
    thread::spawn(move || {
        nix::sched::setns(&namespace, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::bind(("127.0.0.1", 443)).await.unwrap();
            listens.send(()).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let mut stream = acceptor.accept(stream).await?;
                    let mut head = Vec::new();
                    while !head.ends_with(b"\r\n\r\n") {
                        head.push(stream.read_u8().await?);
                    }
                    tokio::time::sleep(pause).await;
                    stream.write_all(answer).await?;
                    stream.shutdown().await
                });
            }
        });
    });
    listening.recv().unwrap();
    let load = Load::start(&rig, Protocol::Http1, 1, "load.test", "/");
    thread::sleep(Duration::from_millis(700));
    Some(load.finish())
}

/// A certificate of its own authority, where the rig keeps Linkspan's.
fn certificate(rig: &Rig) -> TlsAcceptor {
    let (ca, key) = (rig.folder().join("ca.pem"), rig.folder().join("key.pem"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=load.test",
            "-addext",
            "subjectAltName=DNS:load.test",
        ])
        // Not an authority: as such it could not be a server's own certificate.
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-keyout")
        .arg(&key)
        .arg("-out")
        .arg(&ca)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let chain = CertificateDer::pem_file_iter(&ca)
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let key = PrivateKeyDer::from_pem_file(&key).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    TlsAcceptor::from(Arc::new(config))
}
