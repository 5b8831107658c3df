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
            line 4, column 28: `networks` is empty (remove the key to join `default`, or write `network_mode: none` for a container without any network)
            line 7, column 19: subnet `10.9.0.128/25` overlaps `10.9.0.0/24` of network `n`
            line 8, column 16: subnet `10.8.0.1/24` has bits beyond its prefix (did you mean `10.8.0.0/24`?)
            line 9, column 16: subnet `10.7.0.0/30` is too small (prefixes are /8 to /29: the bridge and the resolver take an address each)
            line 10, column 16: subnet `127.0.0.0/8` is reserved (such as `10.20.0.0/24`)
            line 10, column 38: `gateway` needs a `subnet`
            line 11, column 30: the network has a second IPv4 subnet
            line 11, column 43: IPv6 subnet `fd00::/48` is no /64 (such as `fd00:20::/64`)
            line 11, column 66: gateway `10.4.0.1` is no usable address of `10.6.0.0/24` (such as `10.6.0.1`)
            line 12, column 3: a macvlan network needs the `subnet` of the LAN that it joins (and a `gateway`, if that is not its first address)
            line 12, column 6: a macvlan network needs a `parent`, the link of the host that it is put on (`driver_opts: { parent: eth0 }`)
            line 12, column 16: `ten` is no subnet (such as `10.20.0.0/24`)
            line 12, column 21: a macvlan network has no `internal` (only a bridge has)
            line 12, column 31: `internal` must be `true` or `false`
        "#]],
    );
}

#[test]
fn drivers_and_external_networks_that_are_wrong() {
    lines(
        "containers:\n  a: { image: x, networks: [a, b, c, d, e, f] }\n  b: { image: x, replicas: 2, networks: [e] }\nnetworks:\n  a: { driver: overlay, driver_opts: { parent: eth0 } }\n  b: { driver: macvlan, isolated: true }\n  c: { driver: ipvlan, driver_opts: { parent: 'a/b', ipvlan_mode: l4, macvlan_mode: vepa }, subnet: 10.1.0.0/24 }\n  d: { external: true, subnet: 10.2.0.0/24 }\n  e: { driver: macvlan, driver_opts: { parent: eth0, macvlan_mode: passthru }, subnet: 10.3.0.0/24 }\n  f: { name: other, mtu: 576, on_conflict: run, isolated: 7 }\n",
        expect![[r#"
            line 3, column 42: network `e` is `passthru` and has room for one container only
            line 3, column 42: network `e` is `passthru` and has room for one replica only
            line 5, column 16: `driver` can't be `overlay` (`bridge`, `macvlan`, `ipvlan`)
            line 5, column 40: a bridge network has no `parent`
            line 6, column 3: a macvlan network needs the `subnet` of the LAN that it joins (and a `gateway`, if that is not its first address)
            line 6, column 6: a macvlan network needs a `parent`, the link of the host that it is put on (`driver_opts: { parent: eth0 }`)
            line 6, column 25: a macvlan network has no `isolated` (only a bridge has)
            line 7, column 47: `parent` must be the name of a link, at most 15 characters, not `a/b`
            line 7, column 67: `ipvlan_mode` can't be `l4` (did you mean `l2`?)
            line 7, column 71: an ipvlan network has no `macvlan_mode`
            line 8, column 24: `subnet` can't be set for an external network (`linkspan network create` has an option for it)
            line 10, column 8: only an external network has a `name` (the network of this file is called by its key, with the project's name before it on the host)
            line 10, column 26: `mtu` must be from 1280 to 65535, not 576
            line 10, column 44: `on_conflict` can't be `run` (`move`, `report`)
            line 10, column 59: `isolated` must be `true` or `false`
        "#]],
    );
}

#[test]
fn network_modes_that_are_wrong() {
    lines(
        "routes: { x.test: 'none:80' }\ncontainers:\n  a: { image: x, network_mode: hots }\n  b: { image: x, network_mode: bridge }\n  c: { image: x, network_mode: host, ports: ['80'], sysctls: { net.core.somaxconn: 1 } }\n  d: { image: x, network_mode: 'container:zzz' }\n  e: { image: x, network_mode: 'container:e' }\n  f: { image: x, network_mode: 'container:c', hostname: f }\n  g: { image: x, network_mode: 'container:h' }\n  h: { image: x, replicas: 2, depends_on: [g], mac_address: '01:00:00:00:00:00' }\n  none: { image: x, network_mode: none, networks: [default] }\n  i: { image: x, dns_search: ['a_b'], networks: { default: { gw_priority: high, mac_address: 02 } } }\n",
        expect![[r#"
            line 1, column 19: the route goes to container `none`, which has no network
            line 3, column 32: `network_mode` can't be `hots` (`host`, `none` or `container:NAME`)
            line 4, column 32: `network_mode` can't be `bridge` (leave it out: the container joins `default`, or what `networks` names)
            line 5, column 38: with `network_mode: host`, the container has no `ports` of its own
            line 5, column 53: kernel parameter `net.core.somaxconn` belongs to the network namespace, which is that of the host
            line 6, column 32: container `d` depends on `zzz`, which isn't in this file
            line 7, column 32: container `e` depends on itself
            line 8, column 32: container `c` has the network of the host (write `network_mode: host` here too)
            line 8, column 47: with `network_mode: container:c`, the container has no `hostname` of its own
            line 9, column 32: `g` can't share the network of `h` when there are replicas of one of them
            line 9, column 32: containers depend on each other in a circle: `g` → `h` → `g`
            line 10, column 61: `mac_address` must be the address of one station, and 01:00:00:00:00:00 is a group's
            line 11, column 41: with `network_mode: none`, the container has no `networks` of its own
            line 12, column 31: host name `a_b` holds `_`, which no host name may
            line 12, column 75: `gw_priority` must be a whole number from -2147483648 to 2147483647, not `high`
            line 12, column 94: `mac_address` must be a hardware address such as `02:00:00:00:00:07`, not `02`
        "#]],
    );
}

#[test]
fn hardware_addresses_that_are_not_one_links_own() {
    lines(
        "containers:\n  a: { image: x, replicas: 2, mac_address: '02:00:00:00:00:07' }\n  b: { image: x, networks: { default: { mac_address: 02-00-00-00-00-07 }, w: {} } }\n  c: { image: x, networks: { s: { mac_address: '02:00:00:00:00:08' } } }\n  d: { image: x, networks: { w: { mac_address: '02:00:00:00:00:08' }, i: { mac_address: '02:00:00:00:00:08' } } }\n  e: { image: x, networks: { i: { mac_address: '02:00:00:00:00:07' } } }\nnetworks:\n  s: { external: true, name: office }\n  w: { external: true, name: office }\n  i: { driver: ipvlan, driver_opts: { parent: eth0 }, subnet: 10.1.0.0/24 }\n",
        expect![[r#"
            line 2, column 44: 2 replicas can't share the hardware address `02:00:00:00:00:07` (leave it out: each gets one of its own)
            line 3, column 54: hardware address `02:00:00:00:00:07` is also that of container `a` on network `default`
            line 5, column 48: hardware address `02:00:00:00:00:08` is also that of container `c` on network `w`
            line 5, column 89: network `i` is an ipvlan, whose members have the hardware address of its parent (a macvlan gives each its own)
            line 6, column 48: network `i` is an ipvlan, whose members have the hardware address of its parent (a macvlan gives each its own)
        "#]],
    );
}
