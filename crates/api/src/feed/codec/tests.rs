//! The feed over real socket pairs.

use std::io::{Read, Write};
use std::net::TcpListener;

use super::super::{Certificate, Snapshot, SocketKind};
use super::*;

fn pair() -> (UnixStream, UnixStream) {
    UnixStream::pair().unwrap()
}

fn socket(shard: u32) -> (SocketId, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (
        SocketId {
            kind: SocketKind::Http,
            address,
            shard,
        },
        listener,
    )
}

fn port(fd: OwnedFd) -> u16 {
    TcpListener::from(fd).local_addr().unwrap().port()
}

fn snapshot(bytes: usize) -> ToProxy {
    let certificate = Certificate {
        hosts: vec!["a.test".into()],
        chain: "x".repeat(bytes),
        key: "never logged".into(),
    };
    ToProxy::Snapshot(Box::new(Snapshot {
        generation: 7,
        certificates: vec![certificate],
        ..Snapshot::default()
    }))
}

#[tokio::test]
async fn a_snapshot_of_twenty_megabytes_arrives_whole() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let (mut reader, _b) = split::<ToProxy>(b);
    let big = snapshot(20 << 20);
    let (sent, got) = tokio::join!(writer.send(&big, &[]), reader.next());
    sent.unwrap();
    assert!(got.unwrap().unwrap().0 == big);
    assert!(
        reader.buffer.capacity() <= KEEP,
        "the buffer of a large frame is given back"
    );
}

#[tokio::test]
async fn sockets_of_frames_sent_back_to_back_find_their_own_frame() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let (mut reader, _b) = split::<ToProxy>(b);
    let first: Vec<_> = (0..3).map(socket).collect();
    let second: Vec<_> = (3..5).map(socket).collect();
    // All are in the socket's buffer before the first is read.
    writer.send(&ToProxy::Hello { version: 1 }, &[]).await.unwrap();
    writer.send_sockets(ToProxy::Sockets, &first).await.unwrap();
    writer.send(&snapshot(10), &[]).await.unwrap();
    writer.send_sockets(ToProxy::Sockets, &second).await.unwrap();
    writer.send(&ToProxy::Drain { grace_ms: 5 }, &[]).await.unwrap();

    assert!(
        matches!(reader.next().await.unwrap().unwrap(), (ToProxy::Hello { version: 1 }, fds) if fds.is_empty())
    );
    for group in [first, second] {
        let (message, fds) = loop {
            let (message, fds) = reader.next().await.unwrap().unwrap();
            if matches!(message, ToProxy::Sockets(_)) {
                break (message, fds);
            }
            assert!(fds.is_empty());
        };
        let ToProxy::Sockets(list) = message else {
            unreachable!()
        };
        assert_eq!(list, group.iter().map(|(id, _)| id.clone()).collect::<Vec<_>>());
        let ports: Vec<_> = fds.into_iter().map(port).collect();
        assert_eq!(ports, list.iter().map(|id| id.address.port()).collect::<Vec<_>>());
    }
    drop(writer);
    assert!(matches!(
        reader.next().await.unwrap().unwrap().0,
        ToProxy::Drain { grace_ms: 5 }
    ));
}

#[tokio::test]
async fn more_sockets_than_fit_a_frame_are_split() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let (mut reader, _b) = split::<ToProxy>(b);
    let sockets: Vec<_> = (0..SOCKETS_MAX as u32 + 6).map(socket).collect();
    writer.send_sockets(ToProxy::Sockets, &sockets).await.unwrap();
    let mut got = Vec::new();
    for expected in [SOCKETS_MAX, 6] {
        let (ToProxy::Sockets(list), fds) = reader.next().await.unwrap().unwrap() else {
            panic!("not sockets")
        };
        assert_eq!((list.len(), fds.len()), (expected, expected));
        got.extend(fds.into_iter().map(port));
    }
    assert_eq!(
        got,
        sockets
            .iter()
            .map(|(id, _)| id.address.port())
            .collect::<Vec<_>>()
    );
}

#[tokio::test]
async fn received_descriptors_are_close_on_exec() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let (mut reader, _b) = split::<ToProxy>(b);
    writer.send_sockets(ToProxy::Sockets, &[socket(0)]).await.unwrap();
    let (_, fds) = reader.next().await.unwrap().unwrap();
    let flags = rustix::io::fcntl_getfd(&fds[0]).unwrap();
    assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
}

#[tokio::test]
async fn a_descriptor_that_nobody_asked_for_is_closed() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let (mut reader, _b) = split::<ToProxy>(b);
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    writer
        .send(&ToProxy::Hello { version: 1 }, &[theirs.as_fd()])
        .await
        .unwrap();
    drop(theirs);
    let (_, fds) = reader.next().await.unwrap().unwrap();
    assert!(fds.is_empty());
    assert_eq!(ours.read(&mut [0]).unwrap(), 0, "the last copy was closed");
}

#[tokio::test]
async fn a_list_without_its_descriptors_is_an_error() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let (mut reader, _b) = split::<ToProxy>(b);
    let (id, listener) = socket(0);
    writer
        .send(&ToProxy::Sockets(vec![id.clone(), id]), &[listener.as_fd()])
        .await
        .unwrap();
    let error = reader.next().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "a frame on the feed lists 2 sockets but carries 1 descriptors"
    );
}

#[tokio::test]
async fn frames_that_arrive_byte_by_byte_are_put_together_and_a_cancelled_read_loses_nothing() {
    let (a, b) = std::os::unix::net::UnixStream::pair().unwrap();
    b.set_nonblocking(true).unwrap();
    let (mut reader, _b) = split::<ToProxy>(UnixStream::from_std(b).unwrap());
    let mut bytes = encode(&ToProxy::Hello { version: 3 }).unwrap();
    bytes.extend(encode(&ToProxy::Drain { grace_ms: 4 }).unwrap());
    let mut got = Vec::new();
    for byte in bytes {
        (&a).write_all(&[byte]).unwrap();
        let wait = std::time::Duration::from_millis(2);
        if let Ok(message) = tokio::time::timeout(wait, reader.next()).await {
            got.push(message.unwrap().unwrap().0);
        }
    }
    assert_eq!(
        got,
        [ToProxy::Hello { version: 3 }, ToProxy::Drain { grace_ms: 4 }]
    );
}

#[tokio::test]
async fn an_oversized_length_is_refused_before_the_bytes_come() {
    let (a, b) = pair();
    let (mut reader, _b) = split::<ToProxy>(b);
    a.try_write(&(FRAME_MAX as u32 + 1).to_be_bytes()).unwrap();
    assert!(matches!(reader.next().await, Err(FeedError::TooLong { length }) if length == FRAME_MAX + 1));
}

#[tokio::test]
async fn an_oversized_message_is_refused_and_nothing_is_sent() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let (mut reader, _b) = split::<ToProxy>(b);
    assert!(matches!(
        writer.send(&"x".repeat(FRAME_MAX), &[]).await,
        Err(FeedError::TooLong { .. })
    ));
    writer.send(&ToProxy::Hello { version: 1 }, &[]).await.unwrap();
    assert_eq!(
        reader.next().await.unwrap().unwrap().0,
        ToProxy::Hello { version: 1 }
    );
}

#[tokio::test]
async fn an_end_between_frames_is_the_end_and_inside_one_an_error() {
    let (a, b) = pair();
    let (mut reader, _b) = split::<ToProxy>(b);
    drop(a);
    assert!(reader.next().await.unwrap().is_none());

    let (a, b) = pair();
    let (mut reader, _b) = split::<ToProxy>(b);
    a.try_write(&[0, 0, 0, 9, b'{']).unwrap();
    drop(a);
    assert!(matches!(reader.next().await, Err(FeedError::Cut)));
}

#[tokio::test]
async fn a_frame_that_was_cancelled_half_way_spoils_the_connection_for_its_writer() {
    let (a, b) = pair();
    let (_, mut writer) = split::<ToNetd>(a);
    let big = snapshot(4 << 20);
    let wait = std::time::Duration::from_millis(20);
    assert!(
        tokio::time::timeout(wait, writer.send(&big, &[])).await.is_err(),
        "nobody reads"
    );
    assert!(matches!(
        writer.send(&ToProxy::Hello { version: 1 }, &[]).await,
        Err(FeedError::HalfSent)
    ));
    drop(b);
}

#[tokio::test]
async fn descriptors_hoarded_on_an_unfinished_frame_are_refused() {
    let (a, b) = pair();
    let (mut reader, _b) = split::<ToProxy>(b);
    let (_, listener) = socket(0);
    let many = vec![listener.as_fd(); SOCKETS_MAX];
    transmit(&a, &[0, 0], &many).unwrap();
    transmit(&a, &[0], &many).unwrap();
    assert!(
        matches!(reader.next().await, Err(FeedError::TooManyDescriptors { count }) if count == 2 * SOCKETS_MAX)
    );
}

/// The zone as version 1 first had it.
const FIRST_ZONE: &str = r#"{
    "networks": {"ls-1": {"names": {"web": ["10.1.0.2", "fd00:1::2"]}}},
    "askers": {"10.1.0.2": {"networks": ["ls-1"], "forward": true, "servers": []}}
}"#;

#[test]
fn a_zone_of_an_older_netd_is_understood() {
    let zone: linkspan_dns::Zone = serde_json::from_str(FIRST_ZONE).unwrap();
    let network = &zone.networks["ls-1"];
    assert_eq!(network.names["web"].len(), 2);
    assert!(network.pointers.is_empty() && network.locations.is_empty() && network.ranges.is_empty());
}

#[tokio::test]
async fn a_zone_arrives_with_all_that_it_says_and_an_older_proxy_finds_what_it_knows() {
    use linkspan_dns::{Location, Zone};

    let mut zone: Zone = serde_json::from_str(FIRST_ZONE).unwrap();
    let first: serde_json::Value = serde_json::from_str(FIRST_ZONE).unwrap();
    let network = zone.networks.get_mut("ls-1").unwrap();
    network
        .pointers
        .insert("fd00:1::2".parse().unwrap(), "shop-web-1".into());
    network.locations.insert(
        "_tcp.web".into(),
        vec![Location {
            port: 80,
            targets: vec!["shop-web-1".into()],
        }],
    );
    network.ranges = vec!["10.1.0.0/24".parse().unwrap()];
    let snapshot = ToProxy::Snapshot(Box::new(Snapshot {
        zone: zone.clone(),
        name_servers: vec!["[fe80::1%3]:53".parse().unwrap()],
        ..Snapshot::default()
    }));

    let (ours, theirs) = pair();
    let (_, mut writer) = split::<ToNetd>(ours);
    let (mut reader, _) = split::<ToProxy>(theirs);
    writer.send(&snapshot, &[]).await.unwrap();
    assert_eq!(reader.next().await.unwrap().unwrap().0, snapshot);

    // What an older proxy looks for is where it was; the rest it skips.
    let mut now = serde_json::to_value(&zone).unwrap();
    let network = now["networks"]["ls-1"].as_object_mut().unwrap();
    network.retain(|key, _| key == "names");
    assert_eq!(now, first);
}
