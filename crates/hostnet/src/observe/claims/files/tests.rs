//! Files of others, read only when they changed, within bounds.

use std::fs::FileTimes;
use std::os::unix::fs::symlink;

use tempfile::TempDir;

use super::*;

/// A host's files.
struct Host {
    root: TempDir,
    files: Files,
}

impl Host {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let files = Files::below(root.path());
        Self { root, files }
    }

    fn path(&self, path: &str) -> PathBuf {
        below(self.root.path(), path)
    }

    fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }

    fn claims(&mut self) -> Vec<String> {
        let found = self.files.read();
        let mut told: Vec<_> = found
            .claims
            .iter()
            .map(|claim| format!("{} {}", claim.range, claim.source))
            .collect();
        told.sort();
        told
    }

    fn notes(&mut self) -> Vec<String> {
        self.files.read().notes
    }
}

#[test]
fn a_host_without_any_of_these_programs_says_nothing() {
    assert_eq!(Host::new().files.read(), Found::default());
}

#[test]
fn every_program_is_asked() {
    let mut host = Host::new();
    for (path, text) in [
        ("/etc/resolv.conf", "nameserver 10.0.0.53\n"),
        ("/etc/docker/daemon.json", r#"{"bip": "10.1.0.1/24"}"#),
        (
            "/etc/containers/networks/foo.json",
            r#"{"name": "foo", "subnets": [{"subnet": "10.2.0.0/24"}]}"#,
        ),
        (
            "/etc/cni/net.d/10-lab.conflist",
            r#"{"name": "lab", "plugins": [{"ipam": {"subnet": "10.3.0.0/24"}}]}"#,
        ),
        (
            "/etc/libvirt/qemu/networks/default.xml",
            "<network><name>default</name><ip address='10.4.0.1' prefix='24'/></network>",
        ),
        ("/etc/wireguard/wg0.conf", "[Peer]\nAllowedIPs = 10.5.0.0/24\n"),
        ("/etc/openvpn/a.conf", "route 10.6.0.0 255.255.255.0\n"),
        ("/etc/openvpn/client/a.ovpn", "route 10.6.1.0 255.255.255.0\n"),
        ("/etc/openvpn/server/a.conf", "server 10.6.2.0 255.255.255.0\n"),
        (
            "/etc/systemd/network/a.network",
            "[Network]\nAddress=10.7.0.1/24\n",
        ),
        (
            "/run/systemd/network/b.network",
            "[Network]\nAddress=10.7.1.1/24\n",
        ),
        (
            "/etc/netplan/01.yaml",
            "network: {ethernets: {eth0: {addresses: [10.8.0.1/24]}}}\n",
        ),
        (
            "/etc/network/interfaces",
            "iface eth0 inet static\naddress 10.9.0.1/24\n",
        ),
        (
            "/etc/network/interfaces.d/eth1",
            "iface eth1 inet static\naddress 10.9.1.1/24\n",
        ),
        (
            "/etc/NetworkManager/system-connections/office.nmconnection",
            "[connection]\nid=office\n[ipv4]\naddress1=10.10.0.1/24\n",
        ),
        ("/etc/swanctl/conf.d/a.conf", "net { remote_ts = 10.11.0.0/24 }\n"),
        ("/etc/ipsec.conf", "conn a\n  rightsubnet=10.11.1.0/24\n"),
    ] {
        host.write(path, text);
    }
    assert_eq!(
        host.claims(),
        [
            "10.0.0.53/32 name server in /etc/resolv.conf",
            "10.1.0.0/24 Docker's default network in /etc/docker/daemon.json",
            "10.10.0.0/24 address of connection `office` in /etc/NetworkManager/system-connections/office.nmconnection:4",
            "10.11.0.0/24 IPsec peer in /etc/swanctl/conf.d/a.conf:1",
            "10.11.1.0/24 IPsec peer in /etc/ipsec.conf:2",
            "10.2.0.0/24 Podman network `foo` in /etc/containers/networks/foo.json",
            "10.3.0.0/24 CNI network `lab` in /etc/cni/net.d/10-lab.conflist",
            "10.4.0.0/24 libvirt network `default` in /etc/libvirt/qemu/networks/default.xml",
            "10.5.0.0/24 peer in /etc/wireguard/wg0.conf:2",
            "10.6.0.0/24 OpenVPN route in /etc/openvpn/a.conf:1",
            "10.6.1.0/24 OpenVPN route in /etc/openvpn/client/a.ovpn:1",
            "10.6.2.0/24 OpenVPN server in /etc/openvpn/server/a.conf:1",
            "10.7.0.0/24 systemd-networkd address in /etc/systemd/network/a.network:2",
            "10.7.1.0/24 systemd-networkd address in /run/systemd/network/b.network:2",
            "10.8.0.0/24 address of `eth0` in /etc/netplan/01.yaml",
            "10.9.0.0/24 address of `eth0` in /etc/network/interfaces:2",
            "10.9.1.0/24 address of `eth1` in /etc/network/interfaces.d/eth1:2",
        ]
    );
    assert_eq!(host.notes(), [""; 0]);
}

#[test]
fn behind_a_stub_the_real_name_servers_count() {
    let mut host = Host::new();
    host.write("/run/systemd/resolve/resolv.conf", "nameserver 10.0.0.53\n");
    host.write("/etc/resolv.conf", "nameserver 10.0.0.1\n");
    assert_eq!(host.claims(), ["10.0.0.1/32 name server in /etc/resolv.conf"]);
    host.write("/etc/resolv.conf", "nameserver 127.0.0.53\noptions edns0\n");
    assert_eq!(
        host.claims(),
        ["10.0.0.53/32 name server in /run/systemd/resolve/resolv.conf"]
    );
}

#[test]
fn a_file_hides_those_of_its_name_in_later_folders() {
    let mut host = Host::new();
    host.write(
        "/usr/lib/systemd/network/a.network",
        "[Network]\nAddress=10.7.0.1/24\n",
    );
    host.write(
        "/run/systemd/network/a.network",
        "[Network]\nAddress=10.7.1.1/24\n",
    );
    assert_eq!(
        host.claims(),
        ["10.7.1.0/24 systemd-networkd address in /run/systemd/network/a.network:2"]
    );
    std::fs::create_dir_all(host.path("/etc/systemd/network")).unwrap();
    symlink("/dev/null", host.path("/etc/systemd/network/a.network")).unwrap();
    assert_eq!(host.claims(), [""; 0]);
    host.write(
        "/etc/systemd/network/a.network.d/more.conf",
        "[Route]\nDestination=10.7.2.0/24\n",
    );
    host.write(
        "/etc/systemd/network/a.network.d/README",
        "[Route]\nDestination=10.99.0.0/24\n",
    );
    assert_eq!(
        host.claims(),
        ["10.7.2.0/24 systemd-networkd route in /etc/systemd/network/a.network.d/more.conf:2"]
    );
}

#[test]
fn what_editors_and_package_managers_leave_is_passed_over() {
    let mut host = Host::new();
    for name in ["eth0~", ".eth0.swp", "eth0.dpkg-old", "eth0.rpmsave", "eth0.bak"] {
        host.write(
            &format!("/etc/network/interfaces.d/{name}"),
            "iface eth0 inet static\naddress 10.9.0.1/24\n",
        );
    }
    host.write(
        "/etc/wireguard/wg0.conf.old",
        "[Peer]\nAllowedIPs = 10.5.0.0/24\n",
    );
    assert_eq!(host.files.read(), Found::default());
}

#[test]
fn a_file_that_cannot_be_read_is_noted_and_hides_no_other() {
    let mut host = Host::new();
    host.write(
        "/etc/wireguard/good.conf",
        "[Peer]\nAllowedIPs = 10.5.0.0/24\nAllowedIPs = x\n",
    );
    host.write("/etc/wireguard/large.conf", vec![b'#'; LARGEST as usize + 1]);
    host.write(
        "/etc/wireguard/latin.conf",
        b"# caf\xe9\n[Peer]\nAllowedIPs = 10.5.1.0/24\n",
    );
    host.write("/etc/docker/daemon.json", "{");
    symlink("loop.conf", host.path("/etc/wireguard/loop.conf")).unwrap();
    symlink("nowhere", host.path("/etc/wireguard/dangling.conf")).unwrap();
    std::fs::create_dir(host.path("/etc/wireguard/folder.conf")).unwrap();
    nix::unistd::mkfifo(
        &host.path("/etc/wireguard/pipe.conf"),
        nix::sys::stat::Mode::S_IRWXU,
    )
    .unwrap();
    assert_eq!(
        host.claims(),
        [
            "10.5.0.0/24 peer in /etc/wireguard/good.conf:2",
            "10.5.1.0/24 peer in /etc/wireguard/latin.conf:3",
        ]
    );
    let expected = [
        "/etc/docker/daemon.json:1: EOF while parsing an object at line 1 column 1",
        "/etc/wireguard/good.conf:3: `x` is no address range",
        "/etc/wireguard/large.conf is larger than 1 MiB and not looked at",
        "/etc/wireguard/loop.conf can't be read: Too many levels of symbolic links (os error 40)",
    ];
    assert_eq!(host.notes(), expected);
    assert_eq!(host.notes(), expected, "told as long as it is so");
    host.write("/etc/docker/daemon.json", "{}");
    assert_eq!(host.notes(), expected[1..]);
}

#[test]
fn no_more_than_256_files_of_a_folder_are_read() {
    let mut host = Host::new();
    for number in 0..300 {
        host.write(
            &format!("/etc/wireguard/wg{number:03}.conf"),
            format!("[Peer]\nAllowedIPs = 10.5.{}.{}/32\n", number / 250, number % 250),
        );
    }
    assert_eq!(host.claims().len(), 256);
    assert_eq!(
        host.notes(),
        ["/etc/wireguard: only 256 of its files are looked at"]
    );
}

#[test]
fn an_unchanged_file_is_not_read_again_and_a_changed_one_is() {
    let mut host = Host::new();
    host.write("/etc/wireguard/a.conf", "[Peer]\nAllowedIPs = 10.5.0.0/24\n");
    host.write("/etc/wireguard/b.conf", "[Peer]\nAllowedIPs = 10.5.1.0/24\n");
    let a = "10.5.0.0/24 peer in /etc/wireguard/a.conf:2";
    let b = "10.5.1.0/24 peer in /etc/wireguard/b.conf:2";
    assert_eq!(host.claims(), [a, b]);
    // Until they have settled, they are read each time.
    assert_eq!(host.claims(), [a, b]);
    assert_eq!(host.files.opened, 4);
    std::thread::sleep(SETTLED + Duration::from_millis(100));
    assert_eq!(host.claims(), [a, b]);
    assert_eq!(host.files.opened, 6);
    for _ in 0..10 {
        assert_eq!(host.claims(), [a, b]);
    }
    assert_eq!(host.files.opened, 6);
    // Same size, and its time set back.
    let path = host.path("/etc/wireguard/a.conf");
    let before = std::fs::metadata(&path).unwrap().modified().unwrap();
    host.write("/etc/wireguard/a.conf", "[Peer]\nAllowedIPs = 10.5.9.0/24\n");
    let file = File::options().write(true).open(&path).unwrap();
    file.set_times(FileTimes::new().set_modified(before)).unwrap();
    assert_eq!(host.claims(), [b, "10.5.9.0/24 peer in /etc/wireguard/a.conf:2"]);
    assert_eq!(host.files.opened, 7);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(host.claims(), [b]);
    host.write("/etc/wireguard/c.conf", "[Peer]\nAllowedIPs = 10.5.2.0/24\n");
    assert_eq!(host.claims(), [b, "10.5.2.0/24 peer in /etc/wireguard/c.conf:2"]);
    std::fs::remove_dir_all(host.path("/etc/wireguard")).unwrap();
    assert_eq!(host.claims(), [""; 0]);
    assert!(host.files.pages.is_empty() && host.files.folders.is_empty());
}
