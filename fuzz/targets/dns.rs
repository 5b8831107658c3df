//! Any bytes as a question: no panic, and what is answered is a DNS message that carries the question's id and fits.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;
use libfuzzer_sys::fuzz_target;
use linkspan_dns::{Asker, Location, Outcome, Transport, Zone, ZoneNetwork, answer};

const ASKER: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
const WITHOUT_WAY_OUT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 4));
const WEB: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3)), IpAddr::V6(Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 3))];

static ZONE: LazyLock<Zone> = LazyLock::new(|| {
    let names = ["web", "web.shop", "shop-web-1"].map(|name| (name.to_owned(), WEB.to_vec()));
    let crowd = (0..100).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, 1, n))).collect();
    let serves = |port| Location { port, targets: vec!["shop-web-1".to_owned(), "web".to_owned()] };
    let network = ZoneNetwork {
        names: names.into_iter().chain([("c".to_owned(), crowd)]).collect(),
        pointers: WEB.map(|address| (address, "shop-web-1".to_owned())).into(),
        locations: BTreeMap::from([
            ("_tcp.web".to_owned(), vec![serves(80), serves(443)]),
            ("_udp.web.shop".to_owned(), vec![serves(443)]),
            ("_tcp.c".to_owned(), vec![Location { port: 1, targets: vec!["c".to_owned()] }]),
        ]),
        ranges: vec!["10.0.0.0/16".parse().expect("a range"), "fd00::/64".parse().expect("a range")],
    };
    let asker = |forward| Asker { networks: vec!["shop_default".to_owned()], forward, servers: Vec::new() };
    Zone {
        networks: BTreeMap::from([("shop_default".to_owned(), network)]),
        askers: BTreeMap::from([(ASKER, asker(true)), (WITHOUT_WAY_OUT, asker(false))]),
    }
});

fuzz_target!(|query: &[u8]| {
    for (transport, most) in [(Transport::Udp, 1232), (Transport::Tcp, 65_535)] {
        for asker in [ASKER, WITHOUT_WAY_OUT] {
            match answer(&ZONE, asker, query, transport) {
                Outcome::Reply(reply) => {
                    let message = Message::from_bytes(&reply).expect("a reply is a DNS message");
                    assert_eq!(message.id.to_be_bytes(), query[..2], "the asker's id");
                    assert!(reply.len() <= most, "it fits");
                }
                Outcome::Forward { .. } => assert_eq!(asker, ASKER, "who has no way out asks nobody"),
                Outcome::Refuse(_) => panic!("both askers are known"),
                Outcome::Drop => {}
            }
        }
    }
});
