//! Any bytes as a question: no panic, and what is answered is a DNS message that carries the question's id.
#![no_main]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use hickory_proto::op::Message;
use hickory_proto::serialize::binary::BinDecodable;
use libfuzzer_sys::fuzz_target;
use linkspan_dns::{Asker, Outcome, Transport, Zone, ZoneNetwork, answer};

fuzz_target!(|query: &[u8]| {
    let asker = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2));
    let web = vec![IpAddr::V4(Ipv4Addr::new(10, 0, 0, 3))];
    let names = BTreeMap::from([("web".to_owned(), web.clone()), ("web.shop".to_owned(), web)]);
    let zone = Zone {
        networks: BTreeMap::from([("shop_default".to_owned(), ZoneNetwork { names })]),
        askers: BTreeMap::from([(
            asker,
            Asker { networks: vec!["shop_default".to_owned()], forward: query.len() % 2 == 0, servers: Vec::new() },
        )]),
    };
    for transport in [Transport::Udp, Transport::Tcp] {
        if let Outcome::Reply(reply) = answer(&zone, asker, query, transport) {
            let message = Message::from_bytes(&reply).expect("a reply is a DNS message");
            assert_eq!(message.id.to_be_bytes(), query[..2], "the asker's id");
        }
    }
});
