//! Networks that can not be.

use expect_test::expect;

use crate::lines;

#[test]
fn networks_that_are_wrong() {
    lines(
        "containers:\n  a: { image: x, networks: { bak: {}, n: { ipv4_address: 10.9.1.5 }, default: { ipv4_address: 10.0.0.1 } } }\n  b: { image: x, networks: { n: { ipv4_address: 10.9.0.1, aliases: ['a b'] } } }\n  c: { image: x, networks: [] }\nnetworks:\n  n: { subnet: 10.9.0.0/24 }\n  back: { subnet: 10.9.0.128/25 }\n  s: { subnet: 10.8.0.1/24 }\n  t: { subnet: 10.7.0.0/30 }\n  u: { subnet: 127.0.0.0/8, gateway: 10.0.0.1 }\n  v: { subnet: [10.6.0.0/24, 10.5.0.0/24, 'fd00::/48'], gateway: 10.4.0.1 }\n  w: { subnet: ten, internal: perhaps, driver: macvlan }\n",
        expect![[r#"
            line 2, column 30: network `bak` isn't in this file (did you mean `back`?)
            line 2, column 58: `10.9.1.5` is no usable address of network `n`
            line 2, column 95: a fixed address needs a subnet, and network `default` has none (write `networks: { default: { subnet: 10.20.0.0/24 } }` at the top level)
            line 3, column 49: `10.9.0.1` is the bridge's address on network `n`
            line 3, column 69: `aliases` are wrong: host name `a b` may hold only a-z, 0-9, `-` and `.`
            line 4, column 28: a container without any network is not supported yet (remove the key to join `default`, or join a network with `internal: true`)
            line 7, column 19: subnet `10.9.0.128/25` overlaps `10.9.0.0/24` of network `n`
            line 8, column 16: subnet `10.8.0.1/24` has bits beyond its prefix (did you mean `10.8.0.0/24`?)
            line 9, column 16: subnet `10.7.0.0/30` is too small (prefixes are /8 to /29: the bridge and the resolver take an address each)
            line 10, column 16: subnet `127.0.0.0/8` is reserved (such as `10.20.0.0/24`)
            line 10, column 38: `gateway` needs a `subnet`
            line 11, column 30: the network has a second IPv4 subnet
            line 11, column 43: IPv6 subnet `fd00::/48` is no /64 (such as `fd00:20::/64`)
            line 11, column 66: gateway `10.4.0.1` is no usable address of `10.6.0.0/24` (such as `10.6.0.1`)
            line 12, column 16: `ten` is no subnet (such as `10.20.0.0/24`)
            line 12, column 31: `internal` must be `true` or `false`
            line 12, column 48: driver `macvlan` is not supported yet (only `bridge` is)
        "#]],
    );
}
