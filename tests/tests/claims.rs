//! Networks that Linkspan chooses keep clear of everything that the host knows, or will know once a link comes up.

#![allow(clippy::unwrap_used)]

use linkspan_tests::Rig;

/// Nothing runs, but there is a network.
const EMPTY: &str = "containers: { web: { image: linkspan-demo/web:1, replicas: 0 } }\n";

const POOL: &str = "pools: [{ base: 10.200.0.0/23, size: 24 }]\n";

/// A host whose pool has just two blocks, one of which somebody claims before the daemon starts.
fn chosen(claim: &dyn Fn(&Rig)) -> Option<String> {
    let mut rig = Rig::without_daemon(&[])?;
    rig.settings(POOL);
    claim(&rig);
    rig.start_daemon();
    rig.load_image("demo-web");
    rig.up("shop", EMPTY).ok();
    let chosen = subnets(&rig);
    // The second network has no block left, whichever the first took; and is told who holds them.
    let refused = rig.up("other", EMPTY);
    assert!(
        refused.code != 0 && refused.said().contains("pool") && refused.said().contains("shop_default"),
        "{}",
        refused.said()
    );
    Some(chosen.join(" "))
}

/// IPv4 addresses of our bridges.
fn subnets(rig: &Rig) -> Vec<String> {
    let listed = rig.host().run(&["ip", "-4", "-o", "address"]).ok();
    let ours = listed
        .lines()
        .filter(|line| line.split_whitespace().nth(1).unwrap().starts_with("ls-"));
    ours.map(|line| line.split_whitespace().nth(3).unwrap().to_owned())
        .collect()
}

/// Both blocks in turn, so that one of the two would have been chosen but for the claim.
#[track_caller]
fn is_skipped(claim: impl Fn(&Rig, &str)) {
    for (claimed, left) in [("10.200.0", "10.200.1.1/24"), ("10.200.1", "10.200.0.1/24")] {
        let Some(chosen) = chosen(&|rig: &Rig| claim(rig, claimed)) else {
            return;
        };
        assert_eq!(chosen, left, "with {claimed}.0/24 claimed");
    }
}

fn run(rig: &Rig, line: &str) {
    rig.host().run(&line.split(' ').collect::<Vec<_>>()).ok();
}

#[test]
fn an_address_of_a_link_is_kept_clear_of() {
    is_skipped(|rig, block| run(rig, &format!("ip address add {block}.9/28 dev wan0")));
}

#[test]
fn a_route_is_kept_clear_of_in_any_table() {
    is_skipped(|rig, block| run(rig, &format!("ip route add {block}.128/25 via 192.0.2.2")));
    is_skipped(|rig, block| {
        run(
            rig,
            &format!("ip route add {block}.0/24 via 192.0.2.2 table 51820"),
        );
    });
}

#[test]
fn another_engines_bridge_is_kept_clear_of_while_it_is_down_too() {
    is_skipped(|rig, block| {
        rig.host().docker_bridge(&format!("{block}.1/24"));
        run(rig, "ip link set docker0 down");
    });
}

#[test]
fn a_name_server_is_kept_clear_of() {
    is_skipped(|rig, block| {
        rig.host().replace(
            "/etc/resolv.conf",
            &format!("search lan\nnameserver {block}.53\n"),
        );
    });
}

#[test]
fn a_range_to_avoid_is_kept_clear_of() {
    is_skipped(|rig, block| {
        rig.settings(&format!("{POOL}avoid: [{block}.64/26]\n"));
    });
}

#[test]
fn what_a_vpn_takes_all_of_is_no_claim() {
    let Some(mut rig) = Rig::without_daemon(&[]) else {
        return;
    };
    rig.settings(POOL);
    rig.host().vpn();
    for range in ["0.0.0.0/1", "128.0.0.0/1", "::/1", "8000::/1"] {
        rig.host().vpn_route(range);
    }
    rig.start_daemon();
    rig.load_image("demo-web");
    rig.up("shop", EMPTY).ok();
    assert_eq!(subnets(&rig).len(), 1);
}
#[test]
fn what_a_wireguard_file_allows_is_kept_clear_of() {
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/wireguard/office.conf",
            &format!(
                "[Interface]\nPrivateKey = aaaa\nAddress = 198.18.7.2/32\n\n[Peer]\n# AllowedIPs = 10.200.0.0/16\n\
                 allowedips=fd55::/64, {block}.0/24\nEndpoint = vpn.example.com:51820\n"
            ),
        );
    });
}

#[test]
fn an_openvpn_route_is_kept_clear_of() {
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/openvpn/client/office.conf",
            &format!("client\nremote vpn.example.com\nroute {block}.0 255.255.255.0\n"),
        );
    });
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/openvpn/server.conf",
            &format!("port 1194\nserver {block}.0 255.255.255.0\n"),
        );
    });
}

#[test]
fn podmans_and_cnis_networks_are_kept_clear_of() {
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/containers/networks/shop.json",
            &format!(
                r#"{{"name": "shop", "id": "x", "driver": "bridge", "network_interface": "podman1",
                   "subnets": [{{"subnet": "{block}.0/24", "gateway": "{block}.1"}}], "dns_enabled": true}}"#
            ),
        );
    });
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/cni/net.d/87-shop.conflist",
            &format!(
                r#"{{"cniVersion": "0.4.0", "name": "shop", "plugins": [{{"type": "bridge", "bridge": "cni1",
                   "ipam": {{"type": "host-local", "ranges": [[{{"subnet": "{block}.0/24"}}]]}}}}]}}"#
            ),
        );
    });
}

#[test]
fn a_link_that_systemd_or_netplan_would_make_is_kept_clear_of() {
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/systemd/network/50-office.network",
            &format!(
                "[Match]\nName=wg0\n\n[Network]\nAddress=198.18.7.2/32\n\n[Route]\nDestination={block}.0/24\n"
            ),
        );
    });
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/netplan/50-lab.yaml",
            &format!("network:\n  version: 2\n  ethernets:\n    eth7:\n      addresses: [{block}.5/24]\n"),
        );
    });
}

#[test]
fn libvirts_networks_are_kept_clear_of() {
    is_skipped(|rig, block| {
        rig.host().write(
            "/etc/libvirt/qemu/networks/lab.xml",
            &format!(
                "<network>\n  <name>lab</name>\n  <bridge name='virbr7'/>\n  <ip address='{block}.1' netmask='255.255.255.0'/>\n</network>\n"
            ),
        );
    });
}
