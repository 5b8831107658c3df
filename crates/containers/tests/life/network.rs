//! Whose network a container has.

use std::io::Read;
use std::path::Path;
use std::time::Duration;

use linkspan_containers::{Phase, Sandbox};
use linkspan_plan::{ContainerSpec, NetworkNamespace, Placement};

use crate::rig::{Rig, chain};

/// The namespace of a kind that a process is in.
fn namespace(process: impl std::fmt::Display, kind: &str) -> String {
    let link = std::fs::read_link(format!("/proc/{process}/ns/{kind}")).unwrap();
    link.to_string_lossy().into_owned()
}

/// One that joins the network of another.
fn joining(rig: &Rig, target: &ContainerSpec, script: &str) -> ContainerSpec {
    let mut spec = rig.spec(script);
    spec.network = NetworkNamespace::Container(target.id.clone());
    spec.hostname = String::new();
    spec
}

fn placement(addresses: &[&str], hosts: &[(&str, &str)]) -> Placement {
    let hosts = hosts
        .iter()
        .map(|(address, name)| (address.parse().unwrap(), (*name).to_owned()));
    Placement {
        attachments: Vec::new(),
        addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        hosts: hosts.collect(),
    }
}

/// What a server on the host's loopback answers.
async fn ask(port: u16) -> Option<String> {
    for _ in 0..200 {
        if let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) {
            let mut text = String::new();
            stream.read_to_string(&mut text).unwrap();
            return Some(text);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    None
}

both! {
    on_no_network_there_is_its_own_loopback_and_nothing_else(rig) {
        let spec = rig.spec("sleep 60");
        let pid = rig.up(&spec).await;
        assert_ne!(namespace(pid, "net"), namespace("thread-self", "net"));
        let script = "ls /sys/class/net; ip -o link | cut -d ' ' -f 2,3; tail -n +2 /proc/net/route | wc -l; \
            mkfifo /tmp/open; exec 3<>/tmp/open; (echo hi | nc -l -p 80 -w 5 &) ; until nc -w 5 box 80 <&3; do sleep 0.01; done";
        let (status, text) = rig.exec(&spec.id, script).await;
        assert_eq!(status, Some(0), "{text}");
        assert!(text.starts_with("lo\nlo: <LOOPBACK,UP,LOWER_UP>\n0\n") && text.ends_with("hi\n"), "{text}");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    in_the_hosts_network_it_sees_what_the_host_has_and_rules_none_of_it(rig) {
        rig.on_a_host();
        let hostname = nix::unistd::gethostname().unwrap();
        // A new namespace begins with what the machine has.
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
        for privileged in [false, true] {
            let mut spec = rig.spec("sleep 60");
            spec.network = NetworkNamespace::Host;
            spec.privileged = privileged;
            spec.capabilities.extend(["NET_ADMIN".to_owned(), "SYS_ADMIN".to_owned()]);
            spec.hosts = vec![("203.0.113.9".parse().unwrap(), "extra".to_owned())];
            let pid = rig.up(&spec).await;
            assert_eq!(namespace(pid, "net"), namespace("thread-self", "net"));
            for kind in ["user", "mnt", "pid", "ipc", "uts", "cgroup"] {
                assert_ne!(namespace(pid, kind), namespace("self", kind), "{kind}");
            }
            let (_, text) = rig.exec(&spec.id, "readlink /proc/self/ns/net; ls /sys/class/net; ip -o -4 addr show host0; hostname").await;
            assert!(text.starts_with(&namespace("thread-self", "net")), "{text}");
            assert!(text.contains("\nhost0\n") && text.contains("192.0.2.1/24") && text.ends_with("\nbox\n"), "{text}");

            let tries = [
                "ip link set lo down", "ip link del host0", "ip addr add 203.0.113.1/32 dev host0", "ip route add 203.0.113.0/24 dev host0",
                "ip link add made type bridge", "echo 1 > /proc/sys/net/ipv4/ip_forward", "echo 1400 > /sys/class/net/host0/mtu",
                "touch /sys/x", "mount -o remount,rw /sys", "mount -t sysfs sysfs /tmp", "nc -l -p 80 -w 1",
                "arping -c 1 -w 1 -I host0 192.0.2.9", "ping -c 1 -W 1 192.0.2.1",
            ];
            for tried in tries {
                let (status, text) = rig.exec(&spec.id, &format!("{{ {tried}; }} 2>&1")).await;
                let denied = ["not permitted", "denied", "Read-only"].iter().any(|word| text.contains(word));
                assert!(status != Some(0) && denied, "privileged: {privileged}: `{tried}`: {text}");
            }
            let links = std::process::Command::new("ip").args(["-o", "addr"]).output().unwrap();
            let links = String::from_utf8(links.stdout).unwrap();
            assert!(links.contains("127.0.0.1/8") && links.contains("192.0.2.1/24") && !links.contains("203.0.113"), "{links}");
            assert_eq!(std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap(), "0\n");

            let (_, hosts) = rig.exec(&spec.id, "sed 's/ *$//' /etc/hosts").await;
            let host = std::fs::read_to_string("/etc/hosts").unwrap();
            assert!(hosts.starts_with(host.trim_end()), "{hosts}");
            assert!(hosts.contains("203.0.113.9\textra\n") && hosts.contains("127.0.0.1\tbox\n"), "{hosts}");
            let (_, resolv) = rig.exec(&spec.id, "cat /etc/resolv.conf").await;
            assert_eq!(resolv.trim_end(), std::fs::read_to_string("/etc/resolv.conf").unwrap().trim_end());

            // What it may do: serve on a port that any user of the host may have.
            rig.exec(&spec.id, "(echo from inside | nc -l -p 8080 -w 20 >/dev/null 2>&1 &)").await;
            assert_eq!(ask(8080).await.as_deref(), Some("from inside\n"));
            rig.containers.remove(&spec.id).await.unwrap();
            assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
            assert_eq!(nix::unistd::gethostname().unwrap(), hostname);
        }
    }

    a_container_that_failed_in_the_hosts_network_is_told_of_low_ports(rig) {
        rig.on_a_host();
        let mut spec = rig.spec("nc -l -p 80");
        spec.network = NetworkNamespace::Host;
        let (exit, log) = rig.run(&spec).await;
        assert_ne!(exit.code, Some(0), "{log}");
        let warnings = rig.containers.warnings(&spec.id);
        assert!(warnings[0].contains("below 1024") && warnings[0].contains("userns_mode: host"), "{warnings:?}");
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("hostname; exit 3");
        spec.network = NetworkNamespace::Host;
        spec.hostname = String::new();
        std::fs::write("/proc/sys/net/ipv4/ip_unprivileged_port_start", "0").unwrap();
        let (_, log) = rig.run(&spec).await;
        assert_eq!(log.trim_end(), nix::unistd::gethostname().unwrap().to_str().unwrap());
        assert_eq!(rig.containers.warnings(&spec.id), Vec::<String>::new());
        rig.containers.remove(&spec.id).await.unwrap();
    }

    with_the_hosts_ids_low_ports_of_the_host_are_open_to_it_but_no_parameter(rig) {
        rig.on_a_host();
        rig.sandbox = Sandbox::default();
        let mut spec = rig.spec("echo from inside | nc -l -p 80 -w 20");
        spec.network = NetworkNamespace::Host;
        spec.ids = None;
        rig.up(&spec).await;
        assert_eq!(ask(80).await.as_deref(), Some("from inside\n"));
        assert_eq!(rig.exit().await.code, Some(0));
        rig.containers.remove(&spec.id).await.unwrap();

        let mut spec = rig.spec("ip link set lo down; ip link del host0; sleep 60");
        spec.network = NetworkNamespace::Host;
        spec.ids = None;
        rig.up(&spec).await;
        let (_, text) = rig.exec(&spec.id, "ls /sys/class/net; ip link set host0 down 2>&1").await;
        assert!(text.contains("host0\n") && text.contains("Operation not permitted"), "{text}");
        rig.containers.remove(&spec.id).await.unwrap();
        let start = std::fs::read_to_string("/proc/sys/net/ipv4/ip_unprivileged_port_start").unwrap();
        assert_eq!(start, "1024\n");

        for name in ["net.ipv4.ip_forward", "net/ipv4/ip_forward"] {
            let mut spec = rig.spec("true");
            spec.network = NetworkNamespace::Host;
            spec.ids = None;
            spec.sysctls.insert(name.to_owned(), "1".to_owned());
            let error = chain(&rig.containers.create(&spec, &rig.sandbox).await.unwrap_err());
            assert!(error.contains(&format!("`{name}` belongs to the network namespace, which is that of the host")), "{error}");
        }
        // A sandbox without network for a container that should have its own would be just as bad.
        let spec = rig.spec("true");
        let error = chain(&rig.containers.create(&spec, &rig.sandbox).await.unwrap_err());
        assert!(error.contains("disagree"), "{error}");
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    a_container_shares_the_network_the_ids_and_the_names_of_another(rig) {
        let mut target = rig.spec("sleep 60");
        target.addresses = vec!["10.1.2.3".parse().unwrap()];
        target.search = vec!["corp.example".to_owned()];
        let first = rig.up(&target).await;
        let mut spec = joining(&rig, &target, "sleep 60");
        spec.capabilities.insert("NET_ADMIN".to_owned());
        // Its own are not asked for: the files are the other's.
        spec.addresses = vec!["10.6.6.6".parse().unwrap()];
        let second = rig.up(&spec).await;
        for kind in ["net", "user"] {
            assert_eq!(namespace(first, kind), namespace(second, kind), "{kind}");
        }
        for kind in ["mnt", "pid", "ipc", "uts", "cgroup"] {
            assert_ne!(namespace(first, kind), namespace(second, kind), "{kind}");
        }
        let same = "readlink /proc/self/ns/net; readlink /proc/self/ns/user; hostname; cat /etc/hosts /etc/hostname /etc/resolv.conf; \
            stat -c '%u %i' /etc/hosts /etc/hostname /etc/resolv.conf; id -u";
        let text = rig.exec(&target.id, same).await.1;
        assert_eq!(rig.exec(&spec.id, same).await.1, text);
        assert!(text.contains("\nbox\n") && text.contains("10.1.2.3\tbox\n"), "{text}");
        assert!(text.contains("\nnameserver 169.254.53.53\nsearch corp.example\noptions ndots:0\n"), "{text}");
        assert_eq!(rig.exec(&spec.id, "stat -c %u /bin/busybox; touch /made; stat -c %u /made").await.1, "0\n0\n");

        // One serves, the other asks; and a port is taken for both.
        rig.exec(&target.id, "(echo from the other | nc -l -p 80 -w 20 >/dev/null 2>&1 &)").await;
        let asked = rig.exec(&spec.id, "until nc -w 5 127.0.0.1 80 </dev/null 2>/dev/null; do sleep 0.01; done").await;
        assert_eq!(asked, (Some(0), "from the other\n".to_owned()));
        let text = rig.exec(&spec.id, "ls /sys/class/net; ip addr add 10.3.3.3/32 dev lo && echo added").await.1;
        assert_eq!(text, "lo\nadded\n");
        assert!(rig.exec(&target.id, "ip -o -4 addr").await.1.contains("10.3.3.3/32"));

        // A name that one writes is one that the other knows; a move is a move of both.
        rig.exec(&spec.id, "echo 10.7.7.7 mine >> /etc/hosts").await;
        rig.containers.rewrite_hosts(&target.id, &placement(&["10.4.5.6"], &[])).await.unwrap();
        rig.containers.rewrite_hosts(&spec.id, &placement(&["10.6.6.6"], &[])).await.unwrap();
        for id in [&target.id, &spec.id] {
            let text = rig.exec(id, "cat /etc/hosts").await.1;
            assert!(text.contains("10.4.5.6\tbox\n") && text.contains("10.7.7.7 mine\n"), "{text}");
            assert!(!text.contains("10.1.2.3") && !text.contains("10.6.6.6"), "{text}");
        }
        spec.sysctls.insert("net.ipv4.ip_forward".to_owned(), "1".to_owned());
        rig.containers.renew(&spec.id).await.unwrap();
        let error = chain(&rig.containers.create(&spec, &rig.sandbox).await.unwrap_err());
        assert!(error.contains("that of another container"), "{error}");
        for id in [&spec.id, &target.id] {
            rig.containers.remove(id).await.unwrap();
            assert_eq!(rig.traces(id), Vec::<String>::new());
        }

        let spec = joining(&rig, &target, "true");
        let error = chain(&rig.containers.create(&spec, &rig.sandbox).await.unwrap_err());
        assert!(error.contains(&format!("container `{}`, whose network is to be shared, is not there", target.id)), "{error}");
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    either_of_two_that_share_a_network_may_end_first(rig) {
        for target_first in [true, false] {
            let target = rig.spec("sleep 60");
            rig.up(&target).await;
            let spec = joining(&rig, &target, "trap 'exit 5' TERM; while :; do sleep 0.05; done");
            rig.up(&spec).await;
            if target_first {
                rig.containers.signal(&target.id, 9).await.unwrap();
                assert_eq!(rig.exit().await.code, Some(137));
                assert_eq!(rig.exec(&spec.id, "cat /etc/hostname; ls /sys/class/net").await, (Some(0), "box\nlo\n".to_owned()));
                // It comes back, in the same network and with the same files.
                rig.containers.renew(&target.id).await.unwrap();
                let again = rig.up(&ContainerSpec { addresses: vec!["10.8.8.8".parse().unwrap()], ..target.clone() }).await;
                assert!(rig.exec(&spec.id, "cat /etc/hosts").await.1.contains("10.8.8.8\tbox"));
                assert_eq!(rig.exec(&spec.id, "readlink /proc/self/ns/net").await.1.trim_end(), namespace(again, "net"));
                rig.containers.remove(&target.id).await.unwrap();
                assert_eq!(rig.exit().await.code, Some(137));
                assert_eq!(rig.traces(&target.id), Vec::<String>::new());
                let (_, hosts) = rig.exec(&spec.id, "echo 10.1.1.1 more >> /etc/hosts; cat /etc/hosts").await;
                assert!(hosts.contains("10.8.8.8\tbox\n") && hosts.contains("more"), "{hosts}");
                rig.containers.signal(&spec.id, 15).await.unwrap();
                assert_eq!(rig.exit().await.code, Some(5));
                rig.containers.remove(&spec.id).await.unwrap();
            } else {
                rig.containers.remove(&spec.id).await.unwrap();
                assert_eq!(rig.exit().await.code, Some(137));
                assert_eq!(rig.exec(&target.id, "cat /etc/hostname").await.1, "box\n");
                rig.containers.remove(&target.id).await.unwrap();
                assert_eq!(rig.exit().await.code, Some(137));
            }
            assert_eq!([rig.traces(&target.id), rig.traces(&spec.id)].concat(), Vec::<String>::new());
        }
    }

    a_shared_network_is_adopted(rig) {
        let target = rig.spec("sleep 60");
        rig.up(&target).await;
        let spec = joining(&rig, &target, "sleep 60");
        let pid = rig.up(&spec).await;
        rig.containers.rewrite_hosts(&target.id, &placement(&["10.4.5.6"], &[])).await.unwrap();
        let adopted = rig.forget().await;
        let of = |id| adopted.iter().find(|one| one.id == id).unwrap().clone();
        assert_eq!(of(spec.id.clone()).spec.network, spec.network);
        assert!(matches!(of(spec.id.clone()).phase, Phase::Running { pid: now, .. } if now == pid));
        rig.containers.rewrite_hosts(&target.id, &placement(&["10.5.5.5"], &[])).await.unwrap();
        let (_, hosts) = rig.exec(&spec.id, "sed 's/ *$//' /etc/hosts").await;
        assert!(hosts.contains("10.5.5.5\tbox\n") && !hosts.contains("10.4.5.6"), "{hosts}");
        rig.containers.remove(&target.id).await.unwrap();
        let adopted = rig.forget().await;
        assert_eq!(adopted.len(), 1);
        assert_eq!(rig.exec(&spec.id, "ls /sys/class/net").await.1, "lo\n");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    the_hosts_network_is_adopted(rig) {
        rig.on_a_host();
        let mut spec = rig.spec("sleep 60");
        spec.network = NetworkNamespace::Host;
        rig.up(&spec).await;
        let adopted = rig.forget().await;
        assert_eq!(adopted[0].spec, spec);
        assert!(rig.exec(&spec.id, "ls /sys/class/net").await.1.contains("host0\n"));
        rig.containers.signal(&spec.id, 9).await.unwrap();
        assert_eq!(rig.exit().await.code, Some(137));
        assert_eq!(rig.containers.warnings(&spec.id), Vec::<String>::new(), "it was not denied anything");
        rig.containers.remove(&spec.id).await.unwrap();
        assert_eq!(rig.traces(&spec.id), Vec::<String>::new());
    }

    hosts_are_rewritten_in_place(rig) {
        let mut spec = rig.spec("sleep 60");
        spec.addresses = vec!["10.1.2.3".parse().unwrap()];
        spec.hosts = vec![("10.9.9.9".parse().unwrap(), "db".to_owned())];
        rig.up(&spec).await;
        let text = rig.exec(&spec.id, "cat /etc/hosts; echo 10.7.7.7 mine >> /etc/hosts").await.1;
        assert!(text.contains("10.1.2.3\tbox\n") && text.contains("10.9.9.9\tdb\n"), "{text}");
        let inode = rig.exec(&spec.id, "stat -c %i /etc/hosts").await.1;
        let to = placement(&["10.4.5.6"], &[("10.4.5.7", "db"), ("10.4.5.8", "cache")]);
        for _ in 0..3 {
            rig.containers.rewrite_hosts(&spec.id, &to).await.unwrap();
            let text = rig.exec(&spec.id, "sed 's/ *$//' /etc/hosts").await.1;
            let ours = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n10.4.5.6\tbox\n10.4.5.7\tdb\n10.4.5.8\tcache\n";
            assert_eq!(text, format!("{ours}10.7.7.7 mine\n"));
        }
        assert_eq!(rig.exec(&spec.id, "stat -c %i /etc/hosts").await.1, inode);
        let adopted = rig.forget().await;
        assert_eq!((&adopted[0].spec.addresses, &adopted[0].spec.hosts), (&to.addresses, &to.hosts));

        // A daemon that was killed after it noted the move, and before the file said so.
        let orders = rig.config.state_dir.join("containers").join(spec.id.as_str()).join("spec.json");
        let mut noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&orders).unwrap()).unwrap();
        noted["moved_from"] = serde_json::to_value(&to).unwrap();
        noted["spec"]["addresses"] = serde_json::json!(["10.5.5.5"]);
        noted["spec"]["hosts"] = serde_json::json!([]);
        std::fs::write(&orders, noted.to_string()).unwrap();
        rig.forget().await;
        let text = rig.exec(&spec.id, "sed 's/ *$//' /etc/hosts").await.1;
        assert!(text.contains("10.5.5.5\tbox\n") && text.ends_with("10.7.7.7 mine\n") && !text.contains("10.4.5"), "{text}");
        let noted: serde_json::Value = serde_json::from_slice(&std::fs::read(&orders).unwrap()).unwrap();
        assert!(noted["moved_from"].is_null());

        // What is no list of hosts any more is made one again.
        rig.exec(&spec.id, "head -c 3000000 /dev/zero > /etc/hosts").await;
        rig.containers.rewrite_hosts(&spec.id, &to).await.unwrap();
        let text = rig.exec(&spec.id, "cat /etc/hosts").await.1;
        assert!(text.starts_with("127.0.0.1") && text.ends_with("10.4.5.8\tcache\n") && text.len() < 200, "{text}");
        rig.containers.remove(&spec.id).await.unwrap();
        let error = rig.containers.rewrite_hosts(&spec.id, &to).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
        assert!(!Path::new(&orders).exists());
    }
}
