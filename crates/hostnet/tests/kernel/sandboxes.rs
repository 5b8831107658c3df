//! Namespaces of containers that are on no network of ours.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use linkspan_plan::IdRange;

use crate::rig::{here, on_a_host, sh, try_sh};

const IDS: IdRange = IdRange {
    first: 1_400_000,
    count: 65_536,
};

#[test]
fn a_container_in_the_hosts_network_has_ids_of_its_own_and_no_right_over_it() {
    on_a_host(async |rig| {
        let user = rig.net.create_users("guest", IDS).await.unwrap();
        assert_eq!(rig.net.create_users("guest", IDS).await.unwrap(), user);
        assert!(!user.with_file_name("net").exists());
        assert_eq!(rig.net.find_sandbox("guest"), None, "there is no network to join");
        let enter = format!("nsenter --user={}", user.display());
        let map = sh(&format!("{enter} cat /proc/self/uid_map"));
        assert_eq!(
            map.split_whitespace().collect::<Vec<_>>(),
            ["0", "1400000", "65536"]
        );
        // It sees the host's links, but only their owner may change them.
        assert!(sh(&format!("{enter} ip link show uplink")).contains("uplink"));
        let tried = try_sh(&format!("{enter} ip link set lo down"));
        assert!(!tried.status.success());
        assert!(String::from_utf8_lossy(&tried.stderr).contains("Operation not permitted"));
        assert!(sh("ip link show lo").contains("LOWER_UP"));

        assert_eq!(rig.net.sandboxes().unwrap(), ["guest".to_owned()].into());
        rig.net.remove_sandbox("guest").await.unwrap();
        assert_eq!(rig.net.sandboxes().unwrap(), [].into());
        rig.net.remove_sandbox("guest").await.unwrap();
    });
}

#[test]
fn a_sandbox_can_be_found_by_who_joins_it() {
    on_a_host(async |rig| {
        assert_eq!(rig.net.find_sandbox("guest"), None);
        let own = rig.net.create_sandbox("guest", Some(IDS)).await.unwrap();
        let plain = rig.net.create_sandbox("plain", None).await.unwrap();
        let next = rig.another_daemon().await;
        assert_eq!(next.find_sandbox("guest"), Some(own.clone()));
        assert_eq!(next.find_sandbox("plain"), Some(plain));
        // On no network it still has its own loopback, and nothing else.
        let links = sh(&format!(
            "nsenter --net={} --user={} ip -o link show up",
            own.net.display(),
            own.user.unwrap().display()
        ));
        assert!(
            links.lines().count() == 1 && links.contains(": lo: <LOOPBACK,UP,LOWER_UP>"),
            "{links}"
        );
        let number = |path: &Path| std::fs::metadata(path).unwrap().ino();
        assert_ne!(number(&own.net), number(&here()));
        rig.net.remove_sandbox("guest").await.unwrap();
        assert_eq!(rig.net.find_sandbox("guest"), None);
        rig.net.remove_sandbox("plain").await.unwrap();
    });
}
