//! What askers are told.

use std::collections::{BTreeMap, BTreeSet};

use hickory_proto::op::{Edns, MessageType, OpCode, Query};
use hickory_proto::rr::{DNSClass, Name, RecordType};
use proptest::prelude::*;

use super::*;
use crate::{Location, ZoneNetwork};

const WEB: &str = "10.1.0.2";
const DB: &str = "10.1.0.9";
const LONER: &str = "10.9.0.2";
const INTERNAL: &str = "10.2.0.7";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn names(entries: &[(&str, &[&str])]) -> ZoneNetwork {
    let names = entries
        .iter()
        .map(|(name, list)| ((*name).to_owned(), list.iter().map(|a| ip(a)).collect()));
    ZoneNetwork {
        names: names.collect(),
        ..ZoneNetwork::default()
    }
}

fn location(port: u16, targets: &[&str]) -> Location {
    Location {
        port,
        targets: targets.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// `shop` has a front network with two webs and a db that is on an internal one too; `other` is a project apart.
fn zone() -> Zone {
    let mut front = names(&[
        ("web", &[WEB, "fd00:1::2", "10.1.0.3", "fd00:1::3"]),
        ("web.shop", &[WEB, "fd00:1::2", "10.1.0.3", "fd00:1::3"]),
        ("shop-web-1", &[WEB, "fd00:1::2"]),
        ("shop-web-2", &["10.1.0.3", "fd00:1::3"]),
        ("db", &[DB]),
        ("my.db_alias", &[DB]),
    ]);
    for (address, name) in [
        (WEB, "shop-web-1"),
        ("fd00:1::2", "shop-web-1"),
        ("10.1.0.3", "shop-web-2"),
        ("fd00:1::3", "shop-web-2"),
        (DB, "shop-db-1"),
    ] {
        front.pointers.insert(ip(address), name.to_owned());
    }
    let webs = ["shop-web-1", "shop-web-2"];
    front.locations = BTreeMap::from([
        (
            "_tcp.web".into(),
            vec![location(80, &webs), location(8080, &webs)],
        ),
        ("_udp.web".into(), vec![location(443, &webs)]),
        ("_tcp.web.shop".into(), vec![location(80, &webs)]),
        ("_tcp.db".into(), vec![location(5432, &["db"])]),
    ]);
    front.ranges = vec!["10.1.0.0/24".parse().unwrap(), "fd00:1::/64".parse().unwrap()];
    let mut back = names(&[("db", &["10.2.0.9"]), ("batch", &[INTERNAL])]);
    back.pointers.insert(ip(INTERNAL), "batch".into());
    let other = names(&[("db", &[LONER])]);
    let networks = BTreeMap::from([
        ("front".into(), front),
        ("back".into(), back),
        ("other".into(), other),
    ]);
    let asker = |networks: &[&str], forward| Asker {
        networks: networks.iter().map(|id| (*id).to_owned()).collect(),
        forward,
        servers: Vec::new(),
    };
    let mut own_servers = asker(&["other"], true);
    own_servers.servers = vec![ip("192.0.2.53")];
    let askers = BTreeMap::from([
        (ip(WEB), asker(&["front"], true)),
        (ip(DB), asker(&["front", "back"], true)),
        (ip(INTERNAL), asker(&["back"], false)),
        (ip(LONER), own_servers),
    ]);
    Zone { networks, askers }
}

fn query(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    let name = Name::from_labels(name.split('.').map(str::as_bytes)).unwrap();
    message.add_query(Query::query(name, kind));
    message
}

fn send(asker: &str, message: &Message, transport: Transport) -> Outcome {
    answer(&zone(), ip(asker), &message.to_vec().unwrap(), transport)
}

fn reply(asker: &str, message: &Message) -> Message {
    match send(asker, message, Transport::Udp) {
        Outcome::Reply(bytes) => Message::from_vec(&bytes).unwrap(),
        outcome => panic!("{outcome:?}"),
    }
}

/// The addresses that `asker` gets for `name`, or the response code.
fn ask(asker: &str, name: &str, kind: RecordType) -> Result<Vec<String>, ResponseCode> {
    let reply = reply(asker, &query(name, kind));
    match reply.metadata.response_code {
        ResponseCode::NoError => Ok(reply
            .answers
            .iter()
            .map(|record| record.data.to_string())
            .collect()),
        code => Err(code),
    }
}

#[test]
fn a_neighbour_is_found_by_name_alias_instance_and_project() {
    assert_eq!(ask(WEB, "db", RecordType::A).unwrap(), [DB]);
    assert_eq!(ask(WEB, "my.db_alias", RecordType::A).unwrap(), [DB]);
    assert_eq!(ask(DB, "shop-web-2", RecordType::A).unwrap(), ["10.1.0.3"]);
    assert_eq!(
        ask(DB, "web.shop", RecordType::AAAA).unwrap(),
        ["fd00:1::2", "fd00:1::3"]
    );
}

#[test]
fn case_does_not_matter_and_the_question_comes_back_as_it_was_written() {
    // Some resolvers mix the case at random, as a further secret that only a true answer has.
    let bytes = b"\0\x07\x01\0\0\x01\0\0\0\0\0\0\x03wEb\x04ShoP\0\0\x01\0\x01";
    let Outcome::Reply(reply) = answer(&zone(), ip(WEB), bytes, Transport::Udp) else {
        panic!("no reply")
    };
    assert_eq!(wire::question(&reply), wire::question(bytes));
    let reply = Message::from_vec(&reply).unwrap();
    assert_eq!(reply.answers.len(), 2);
    assert!(reply.metadata.authoritative && reply.metadata.recursion_available);
    assert!(reply.answers.iter().all(|record| record.ttl == 5));
}

#[test]
fn a_name_on_two_shared_networks_has_the_addresses_of_both() {
    assert_eq!(ask(DB, "db", RecordType::A).unwrap(), [DB, "10.2.0.9"]);
}

#[test]
fn replicas_take_turns() {
    let firsts: BTreeSet<_> = (0..2)
        .map(|id| {
            let mut message = query("web", RecordType::A);
            message.metadata.id = id;
            reply(DB, &message).answers[0].data.to_string()
        })
        .collect();
    assert_eq!(firsts.len(), 2);
}

#[test]
fn a_name_without_that_type_is_no_data_and_not_no_name() {
    let reply = reply(WEB, &query("db", RecordType::AAAA));
    assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
    assert!(reply.answers.is_empty());
    assert_eq!(reply.authorities[0].ttl, 5);
    assert_eq!(ask(WEB, "db", RecordType::MX), Ok(vec![]));
    assert_eq!(ask(WEB, "db", RecordType::HTTPS), Ok(vec![]));
}

#[test]
fn any_gets_one_set_of_records() {
    assert_eq!(ask(WEB, "web", RecordType::ANY).unwrap().len(), 2);
}

#[test]
fn an_unknown_single_label_is_answered_at_once() {
    assert_eq!(ask(WEB, "nobody", RecordType::A), Err(ResponseCode::NXDomain));
}

#[test]
fn a_name_of_a_network_that_the_asker_is_not_on_does_not_exist() {
    assert_eq!(ask(WEB, "batch", RecordType::A), Err(ResponseCode::NXDomain));
    assert_eq!(ask(LONER, "web", RecordType::A), Err(ResponseCode::NXDomain));
    assert_eq!(ask(LONER, "db", RecordType::A).unwrap(), [LONER]);
}

#[test]
fn other_names_are_forwarded_to_the_askers_own_servers_or_the_hosts() {
    let message = query("example.com", RecordType::A);
    assert_eq!(
        send(WEB, &message, Transport::Udp),
        Outcome::Forward { servers: vec![] }
    );
    assert_eq!(
        send(LONER, &message, Transport::Udp),
        Outcome::Forward {
            servers: vec![ip("192.0.2.53")]
        }
    );
}

#[test]
fn on_internal_networks_other_names_do_not_exist() {
    assert_eq!(
        ask(INTERNAL, "example.com", RecordType::A),
        Err(ResponseCode::NXDomain)
    );
    assert_eq!(ask(INTERNAL, "db", RecordType::A).unwrap(), ["10.2.0.9"]);
}

#[test]
fn localhost_is_localhost() {
    assert_eq!(ask(INTERNAL, "localhost", RecordType::A).unwrap(), ["127.0.0.1"]);
    assert_eq!(ask(INTERNAL, "a.localhost", RecordType::AAAA).unwrap(), ["::1"]);
    assert_eq!(
        ask(INTERNAL, "1.0.0.127.in-addr.arpa", RecordType::PTR).unwrap(),
        ["localhost."]
    );
}

/// Of fd00:1::N.
fn v6_pointer(last: char) -> String {
    format!("{last}.{}1.0.0.0.0.0.d.f.ip6.arpa", "0.".repeat(23))
}

#[test]
fn an_address_has_a_name_for_its_neighbours_only() {
    let webs = "2.0.1.10.in-addr.arpa";
    assert_eq!(ask(DB, webs, RecordType::PTR).unwrap(), ["shop-web-1."]);
    assert_eq!(ask(DB, webs, RecordType::ANY).unwrap(), ["shop-web-1."]);
    assert_eq!(ask(DB, webs, RecordType::TXT), Ok(vec![]));
    assert_eq!(
        ask(DB, &v6_pointer('3'), RecordType::PTR).unwrap(),
        ["shop-web-2."]
    );
    assert_eq!(
        ask(DB, &v6_pointer('3').to_uppercase(), RecordType::PTR).unwrap(),
        ["shop-web-2."]
    );
    assert_eq!(ask(LONER, webs, RecordType::PTR), Err(ResponseCode::NXDomain));
    assert_eq!(
        ask(WEB, "7.0.2.10.in-addr.arpa", RecordType::PTR),
        Err(ResponseCode::NXDomain)
    );
    assert_eq!(
        ask(DB, "7.0.2.10.in-addr.arpa", RecordType::PTR).unwrap(),
        ["batch."]
    );
}

#[test]
fn what_is_asked_about_addresses_of_ours_that_nobody_has_stays_here() {
    for (asker, nobodys) in [
        (WEB, "77.0.1.10.in-addr.arpa".to_owned()),
        (WEB, v6_pointer('9')),
        // Its network is another, but it is one of this host.
        (LONER, "77.0.1.10.in-addr.arpa".to_owned()),
        (WEB, "b._dns-sd._udp.0.1.10.in-addr.arpa".to_owned()),
        (WEB, "x.2.0.1.10.in-addr.arpa".to_owned()),
        (WEB, "53.53.254.169.in-addr.arpa".to_owned()),
        (WEB, format!("1.{}0.8.e.f.ip6.arpa", "0.".repeat(27))),
    ] {
        assert_eq!(
            ask(asker, &nobodys, RecordType::PTR),
            Err(ResponseCode::NXDomain),
            "{nobodys}"
        );
    }
    // There are names below it, so it is there, and has nothing.
    assert_eq!(ask(WEB, "0.1.10.in-addr.arpa", RecordType::SOA), Ok(vec![]));
    assert_eq!(ask(WEB, "0.1.10.in-addr.arpa", RecordType::PTR), Ok(vec![]));
}

#[test]
fn what_is_asked_about_addresses_of_others_is_forwarded() {
    for others in [
        "1.2.0.192.in-addr.arpa",
        "1.1.168.192.in-addr.arpa",
        "10.in-addr.arpa",
        "in-addr.arpa",
        "arpa.example.com",
        "b._dns-sd._udp.0.2.0.192.in-addr.arpa",
    ] {
        let outcome = send(WEB, &query(others, RecordType::PTR), Transport::Udp);
        assert!(matches!(outcome, Outcome::Forward { .. }), "{others}");
    }
}

#[test]
fn a_service_is_found_with_its_port_its_replicas_and_their_addresses() {
    let reply = reply(DB, &query("_80._tcp.web", RecordType::SRV));
    let mut told: Vec<String> = reply
        .answers
        .iter()
        .map(|record| record.data.to_string())
        .collect();
    told.sort();
    assert_eq!(told, ["0 1 80 shop-web-1.", "0 1 80 shop-web-2."]);
    assert!(reply.answers.iter().all(|record| record.ttl == 5));
    let mut addresses: Vec<String> = reply
        .additionals
        .iter()
        .map(|record| format!("{} {}", record.name, record.data))
        .collect();
    addresses.sort();
    assert_eq!(
        addresses,
        [
            "shop-web-1. 10.1.0.2",
            "shop-web-1. fd00:1::2",
            "shop-web-2. 10.1.0.3",
            "shop-web-2. fd00:1::3"
        ]
    );
    assert_eq!(ask(DB, "_443._UDP.Web", RecordType::SRV).unwrap().len(), 2);
    assert_eq!(ask(DB, "_80._tcp.web.shop", RecordType::SRV).unwrap().len(), 2);
    assert_eq!(
        ask(WEB, "_5432._tcp.db", RecordType::SRV).unwrap(),
        ["0 0 5432 db."]
    );
}

#[test]
fn without_a_port_every_port_is_told() {
    assert_eq!(ask(DB, "_tcp.web", RecordType::SRV).unwrap().len(), 4);
    assert_eq!(ask(DB, "_udp.web", RecordType::SRV).unwrap().len(), 2);
    assert_eq!(ask(DB, "_tcp.web", RecordType::ANY).unwrap().len(), 4);
    assert_eq!(
        ask(DB, "_tcp.web", RecordType::A),
        Ok(vec![]),
        "the name is there"
    );
}

#[test]
fn a_service_that_is_not_there_is_not_looked_for_elsewhere() {
    for name in [
        "_81._tcp.web",
        "_080._tcp.web",
        "_http._tcp.web",
        "_udp.db",
        "_sctp.web",
        "_tcp.nobody",
        "_80._tcp.nobody",
        "_dmarc.web",
        "_a._b.web",
    ] {
        assert_eq!(
            ask(WEB, name, RecordType::SRV),
            Err(ResponseCode::NXDomain),
            "{name}"
        );
    }
    assert_eq!(
        ask(LONER, "_80._tcp.web", RecordType::SRV),
        Err(ResponseCode::NXDomain)
    );
    assert_eq!(
        ask(LONER, "_80._tcp.db", RecordType::SRV),
        Err(ResponseCode::NXDomain)
    );
}

#[test]
fn services_and_underscores_of_the_world_are_forwarded() {
    for name in [
        "_xmpp-server._tcp.example.com",
        "_tcp.example.com",
        "_dmarc.com",
        "_dmarc.web.shop",
        "tcp.web",
        "80.tcp.web",
    ] {
        let outcome = send(WEB, &query(name, RecordType::SRV), Transport::Udp);
        assert!(matches!(outcome, Outcome::Forward { .. }), "{name}");
    }
}

#[test]
fn addresses_of_a_services_targets_are_left_out_where_they_do_not_fit() {
    let mut zone = zone();
    let front = zone.networks.get_mut("front").unwrap();
    let many: Vec<String> = (0..14).map(|n| format!("shop-many-{n}")).collect();
    for (n, name) in many.iter().enumerate() {
        front.names.insert(
            name.clone(),
            vec![ip(&format!("10.1.0.{}", 100 + n)), ip(&format!("fd00:1::{n}"))],
        );
    }
    front.names.insert("many".into(), vec![ip("10.1.0.100")]);
    front.locations.insert(
        "_tcp.many".into(),
        vec![Location {
            port: 1,
            targets: many,
        }],
    );
    let bytes = query("_1._tcp.many", RecordType::SRV).to_vec().unwrap();
    let read = |transport| match answer(&zone, ip(WEB), &bytes, transport) {
        Outcome::Reply(reply) => Message::from_vec(&reply).unwrap(),
        outcome => panic!("{outcome:?}"),
    };
    let (udp, tcp) = (read(Transport::Udp), read(Transport::Tcp));
    assert_eq!(
        (udp.answers.len(), udp.additionals.len(), udp.metadata.truncation),
        (14, 0, false)
    );
    assert_eq!(
        (tcp.answers.len(), tcp.additionals.len(), tcp.metadata.truncation),
        (14, 28, false)
    );
}

#[test]
fn the_root_is_there_also_for_those_without_a_way_out() {
    let mut message = query("x", RecordType::NS);
    message.queries[0].set_name(Name::root());
    assert_eq!(
        reply(INTERNAL, &message).metadata.response_code,
        ResponseCode::NoError
    );
    assert!(matches!(
        send(WEB, &message, Transport::Udp),
        Outcome::Forward { .. }
    ));
}

#[test]
fn a_stranger_is_refused_and_a_mapped_address_is_no_stranger() {
    let message = query("db", RecordType::A);
    let Outcome::Refuse(bytes) = send("10.1.0.77", &message, Transport::Udp) else {
        panic!("not refused")
    };
    assert_eq!(
        Message::from_vec(&bytes).unwrap().metadata.response_code,
        ResponseCode::Refused
    );
    assert!(matches!(
        send("::ffff:10.1.0.2", &message, Transport::Udp),
        Outcome::Reply(_)
    ));
}

#[test]
fn edns_is_echoed_with_our_own_size_and_unknown_versions_are_refused() {
    let mut message = query("db", RecordType::A);
    let mut edns = Edns::new();
    edns.set_max_payload(4096);
    message.set_edns(edns.clone());
    assert_eq!(reply(WEB, &message).edns.unwrap().max_payload(), 1232);
    assert!(!reply(WEB, &message).edns.unwrap().flags().dnssec_ok);
    edns.set_dnssec_ok(true);
    message.set_edns(edns.clone());
    assert!(reply(WEB, &message).edns.unwrap().flags().dnssec_ok);
    assert!(reply(WEB, &query("db", RecordType::A)).edns.is_none());
    edns.set_version(1);
    message.set_edns(edns);
    let reply = reply(WEB, &message);
    let high = reply.edns.unwrap().rcode_high();
    assert_eq!(
        (reply.metadata.response_code.low(), high),
        (0, 1),
        "BADVERS is 16"
    );
}

#[test]
fn cookies_are_ignored_and_two_edns_records_are_an_error() {
    let mut bytes = query("db", RecordType::A).to_vec().unwrap();
    bytes[11] = 1;
    let cookie = b"\0\0\x29\x10\0\0\0\0\0\0\x0c\0\x0a\0\x08\x01\x02\x03\x04\x05\x06\x07\x08";
    bytes.extend(cookie);
    let Outcome::Reply(reply) = answer(&zone(), ip(WEB), &bytes, Transport::Udp) else {
        panic!("no reply")
    };
    let message = Message::from_vec(&reply).unwrap();
    assert_eq!(message.answers.len(), 1);
    assert!(message.edns.unwrap().options().as_ref().is_empty());
    bytes[11] = 2;
    bytes.extend(cookie);
    let Outcome::Reply(reply) = answer(&zone(), ip(WEB), &bytes, Transport::Udp) else {
        panic!("no reply")
    };
    assert_eq!(wire::rcode(&reply), wire::FORMERR);
}

#[test]
fn a_big_answer_fits_what_the_asker_takes_and_never_more_than_one_packet() {
    let mut zone = zone();
    let many: Vec<IpAddr> = (0..200).map(|n| ip(&format!("10.1.1.{n}"))).collect();
    zone.networks
        .get_mut("front")
        .unwrap()
        .names
        .insert("many".into(), many);
    for (size, most) in [
        (100, 512),
        (512, 512),
        (1000, 1000),
        (1232, 1232),
        (4096, 1232),
        (65535, 1232),
    ] {
        let mut message = query("many", RecordType::A);
        let mut edns = Edns::new();
        edns.set_max_payload(size);
        message.set_edns(edns);
        let Outcome::Reply(reply) = answer(&zone, ip(WEB), &message.to_vec().unwrap(), Transport::Udp) else {
            panic!("no reply")
        };
        assert!(
            reply.len() <= most && reply.len() > most * 3 / 4,
            "{size}: {}",
            reply.len()
        );
    }
}

#[test]
fn too_many_addresses_for_udp_are_cut_with_tc_and_whole_over_tcp() {
    let mut zone = zone();
    let many: Vec<IpAddr> = (0..200).map(|n| ip(&format!("10.1.1.{n}"))).collect();
    zone.networks
        .get_mut("front")
        .unwrap()
        .names
        .insert("many".into(), many);
    let bytes = query("many", RecordType::A).to_vec().unwrap();
    let Outcome::Reply(udp) = answer(&zone, ip(WEB), &bytes, Transport::Udp) else {
        panic!("no reply")
    };
    assert!(udp.len() <= 512);
    let udp = Message::from_vec(&udp).unwrap();
    assert!(udp.metadata.truncation && udp.answers.len() > 20);
    let Outcome::Reply(tcp) = answer(&zone, ip(WEB), &bytes, Transport::Tcp) else {
        panic!("no reply")
    };
    let tcp = Message::from_vec(&tcp).unwrap();
    assert!(!tcp.metadata.truncation && tcp.answers.len() == 200);
}

#[test]
fn what_is_no_plain_query_is_told_so() {
    let mut other_class = query("db", RecordType::A);
    other_class.queries[0].set_query_class(DNSClass::CH);
    assert_eq!(
        reply(WEB, &other_class).metadata.response_code,
        ResponseCode::NotImp
    );
    let mut notify = query("db", RecordType::A);
    notify.metadata.op_code = OpCode::Notify;
    assert_eq!(reply(WEB, &notify).metadata.response_code, ResponseCode::NotImp);
    assert_eq!(ask(WEB, "db", RecordType::AXFR), Err(ResponseCode::Refused));
    let mut two = query("db", RecordType::A);
    two.queries.push(two.queries[0].clone());
    assert_eq!(reply(WEB, &two).metadata.response_code, ResponseCode::FormErr);
    let cut = &query("db", RecordType::A).to_vec().unwrap()[..15];
    let Outcome::Reply(bytes) = answer(&zone(), ip(WEB), cut, Transport::Udp) else {
        panic!("no reply")
    };
    assert_eq!(wire::rcode(&bytes), wire::FORMERR);
}

#[test]
fn answers_and_crumbs_are_dropped() {
    let mut response = query("db", RecordType::A);
    response.metadata.message_type = MessageType::Response;
    assert_eq!(send(WEB, &response, Transport::Udp), Outcome::Drop);
    assert_eq!(
        answer(&zone(), ip(WEB), &[1, 2, 3], Transport::Udp),
        Outcome::Drop
    );
}

#[test]
fn a_dot_inside_a_label_is_no_way_around() {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(
        Name::from_labels([&b"web.shop"[..]]).unwrap(),
        RecordType::A,
    ));
    assert_eq!(
        reply(WEB, &message).metadata.response_code,
        ResponseCode::NXDomain
    );
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        answer(&zone(), ip(WEB), &bytes, Transport::Udp);
    }

    #[test]
    fn no_damage_to_a_query_makes_it_panic_or_outgrow_udp(
        name in "[a-z.]{0,20}[a-z]", damage in proptest::collection::vec((0usize..64, any::<u8>()), 0..6), cut in 0usize..64,
    ) {
        prop_assume!(name.split('.').all(|label| !label.is_empty()));
        let mut message = query(&name, RecordType::A);
        message.set_edns(Edns::new());
        let mut bytes = message.to_vec().unwrap();
        for (at, value) in damage {
            let length = bytes.len();
            bytes[at % length] = value;
        }
        if cut > 40 {
            bytes.truncate(cut);
        }
        for asker in [WEB, INTERNAL] {
            if let Outcome::Reply(reply) = answer(&zone(), ip(asker), &bytes, Transport::Udp) {
                prop_assert!(reply.len() <= UDP_MAX);
                prop_assert_eq!(wire::id(&reply), wire::id(&bytes));
                prop_assert!(wire::is_response(&reply));
            }
        }
    }
}
