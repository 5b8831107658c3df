//! What askers are told.

use std::collections::BTreeMap;

use hickory_proto::op::MessageType;
use proptest::prelude::*;

use super::*;
use crate::ZoneNetwork;

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
    }
}

/// `shop` has a front network with two webs and a db that is on an internal one too; `other` is a project apart.
fn zone() -> Zone {
    let front = names(&[
        ("web", &[WEB, "fd00:1::2", "10.1.0.3", "fd00:1::3"]),
        ("web.shop", &[WEB, "fd00:1::2", "10.1.0.3", "fd00:1::3"]),
        ("shop-web-1", &[WEB, "fd00:1::2"]),
        ("shop-web-2", &["10.1.0.3", "fd00:1::3"]),
        ("db", &[DB]),
        ("my.db_alias", &[DB]),
    ]);
    let back = names(&[("db", &["10.2.0.9"]), ("batch", &[INTERNAL])]);
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

#[test]
fn an_address_has_a_name_for_its_neighbours_only() {
    assert_eq!(
        ask(DB, "2.0.1.10.in-addr.arpa", RecordType::PTR).unwrap(),
        ["shop-web-1."]
    );
    assert_eq!(
        ask(WEB, "9.0.1.10.in-addr.arpa", RecordType::PTR).unwrap(),
        ["db."]
    );
    let v6 = format!("3.{}1.0.0.0.0.0.d.f.ip6.arpa", "0.".repeat(23));
    assert_eq!(ask(DB, &v6, RecordType::PTR).unwrap(), ["shop-web-2."]);
    assert_eq!(
        ask(LONER, "2.0.1.10.in-addr.arpa", RecordType::PTR),
        Err(ResponseCode::NXDomain)
    );
    let outside = query("1.2.0.192.in-addr.arpa", RecordType::PTR);
    assert!(matches!(
        send(WEB, &outside, Transport::Udp),
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
