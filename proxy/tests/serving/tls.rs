//! TLS: certificates by name, alerts for unknown ones, redirects to it, and hosts that don't fit.

use std::net::TcpStream;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::rig::{Raw, Rig, Upstream};

pub(crate) fn trusting(certificates: &[CertificateDer<'static>], alpn: &[&[u8]]) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate.clone()).expect("root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Arc::new(config)
}

type Tls = StreamOwned<ClientConnection, TcpStream>;

fn dial(rig: &Rig, config: &Arc<ClientConfig>, name: &str) -> Result<Raw<Tls>, std::io::Error> {
    let name = ServerName::try_from(name.to_owned()).expect("name");
    let mut connection = ClientConnection::new(Arc::clone(config), name).expect("client");
    let mut stream = TcpStream::connect(rig.https)?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(20)))?;
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(Raw::new(StreamOwned::new(connection, stream)))
}

fn rig(upstream: &Upstream) -> (Rig, Vec<CertificateDer<'static>>) {
    let mut rig = Rig::start();
    for host in ["a.test", "b.test", "*.w.test"] {
        rig.route(host, "/", "p/web", upstream.port);
    }
    rig.service("p/web", &[("web-1", 1)]);
    let certificates = vec![
        rig.certificate(&["a.test"]),
        rig.certificate(&["b.test", "c.test"]),
        rig.certificate(&["*.w.test"]),
    ];
    rig.publish();
    (rig, certificates)
}

#[test]
fn each_name_is_shown_its_certificate_and_answers() {
    let upstream = Upstream::echo();
    let (rig, certificates) = rig(&upstream);
    let config = trusting(&certificates, &[b"http/1.1"]);
    for host in ["a.test", "b.test", "x.w.test"] {
        let mut client = dial(&rig, &config, host).expect(host);
        client.send(&format!("GET / HTTP/1.1\nHost: {host}\n\n"));
        let answer = client.answer();
        assert_eq!(answer.status, 200);
        assert!(
            answer.text().contains("x-forwarded-proto: https"),
            "{}",
            answer.text()
        );
    }
}

#[test]
fn an_unknown_name_gets_an_alert_that_says_so() {
    let upstream = Upstream::echo();
    let (mut rig, certificates) = rig(&upstream);
    let config = trusting(&certificates, &[]);
    for name in ["unknown.test", "x.y.w.test", "w.test", "127.0.0.1"] {
        let Err(error) = dial(&rig, &config, name) else {
            panic!("{name} was let in")
        };
        assert!(error.to_string().contains("UnrecognisedName"), "{name}: {error}");
    }
    // Unless a certificate is for everybody.
    rig.certificate(&["*"]);
    rig.publish();
    let Err(error) = dial(&rig, &config, "unknown.test") else {
        panic!("trusted by mistake")
    };
    assert!(!error.to_string().contains("UnrecognisedName"), "{error}");
}

#[test]
fn a_host_that_the_certificate_shown_is_not_for_is_misdirected() {
    let upstream = Upstream::echo();
    let (rig, certificates) = rig(&upstream);
    let config = trusting(&certificates, &[b"http/1.1"]);
    let mut client = dial(&rig, &config, "a.test").unwrap();
    client.send("GET / HTTP/1.1\nHost: b.test\n\n");
    assert_eq!(client.answer().status, 421);
    // One certificate, two names: browsers share the connection.
    let mut client = dial(&rig, &config, "c.test").unwrap();
    client.send("GET / HTTP/1.1\nHost: b.test\n\n");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn plain_requests_for_known_hosts_are_sent_to_https_and_others_are_not_found() {
    let upstream = Upstream::echo();
    let (rig, _) = rig(&upstream);
    let answer = rig.ask("GET /x?y=z HTTP/1.1\nHost: a.test:80\n\n");
    let expected = format!("https://a.test:{}/x?y=z", rig.https.port());
    assert_eq!(
        (answer.status, answer.field("location")),
        (308, Some(expected.as_str()))
    );
    assert_eq!(rig.ask("GET / HTTP/1.1\nHost: unknown.test\n\n").status, 404);
    assert_eq!(upstream.connections(), 0);
}

#[test]
fn a_second_connection_resumes_the_session() {
    let upstream = Upstream::echo();
    let (rig, certificates) = rig(&upstream);
    let config = trusting(&certificates, &[b"http/1.1"]);
    let mut first = dial(&rig, &config, "a.test").unwrap();
    // The tickets come with the answer.
    first.send("GET / HTTP/1.1\nHost: a.test\n\n");
    first.answer();
    let mut second = dial(&rig, &config, "a.test").unwrap();
    second.send("GET / HTTP/1.1\nHost: a.test\n\n");
    assert_eq!(second.answer().status, 200);
    assert_eq!(
        second.stream.conn.handshake_kind(),
        Some(rustls::HandshakeKind::Resumed)
    );
}

#[test]
fn a_broken_certificate_leaves_the_others_in_service() {
    let upstream = Upstream::echo();
    let (mut rig, certificates) = rig(&upstream);
    rig.snapshot.certificates[1].key = rig.snapshot.certificates[0].key.clone();
    rig.snapshot.certificates[2].chain = "not PEM".into();
    rig.publish();
    let config = trusting(&certificates, &[b"http/1.1"]);
    assert!(dial(&rig, &config, "a.test").is_ok());
    assert!(dial(&rig, &config, "b.test").is_err());
}

#[test]
fn a_server_elsewhere_whose_certificate_nobody_trusts_is_sent_nothing() {
    use linkspan_api::feed::{Action, Target};
    let upstream = Upstream::echo();
    let (mut rig, certificates) = rig(&upstream);
    let target = Target::Url {
        tls: true,
        host: "localhost".into(),
        port: rig.https.port(),
    };
    rig.route_to("a.test", "/elsewhere", Action::Forward(vec![target]));
    rig.certificate(&["localhost"]);
    rig.publish();
    let mut client = dial(&rig, &trusting(&certificates, &[b"http/1.1"]), "a.test").unwrap();
    client.send("GET /elsewhere HTTP/1.1\nHost: a.test\n\n");
    let answer = client.answer();
    assert_eq!(answer.status, 502);
    assert!(
        answer.text().contains("`localhost` can't be reached"),
        "{}",
        answer.text()
    );
    assert_eq!(upstream.connections(), 0);
}
