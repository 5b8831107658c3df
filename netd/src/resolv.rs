//! The host's name servers: whom the data plane forwards to, and news when they change.
//!
//! `/etc/resolv.conf` is rewritten, replaced, mounted over, or a link to a file that comes and goes with a VPN. No watch
//! on one inode or folder sees all of that, so the few bytes are read again each second.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use linkspan_plan::RESOLVER_ADDRESS;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

use crate::reconcile::Reconciler;

/// Where the host's programs look.
pub(crate) const FILE: &str = "/etc/resolv.conf";
const PERIOD: Duration = Duration::from_secs(1);
const DNS_PORT: u16 = 53;

/// The name servers in a file, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Resolv {
    servers: watch::Receiver<Vec<SocketAddr>>,
    task: JoinHandle<()>,
}

impl Drop for Resolv {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Resolv {
    /// Reads the file, and goes on doing so. The first [`changed`](Self::changed) answers at once.
    pub(crate) fn watch(path: &Path) -> Self {
        let (sender, mut servers) = watch::channel(name_servers(&std::fs::read(path).unwrap_or_default()));
        servers.mark_changed();
        let task = tokio::spawn(follow(path.to_owned(), sender));
        Self { servers, task }
    }

    /// As they were less than a moment ago.
    pub(crate) fn servers(&self) -> Vec<SocketAddr> {
        self.servers.borrow().clone()
    }

    /// Waits for others. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if self.servers.changed().await.is_err() {
            // The task has failed: what was read last stays.
            std::future::pending::<()>().await;
        }
    }
}

async fn follow(path: PathBuf, sender: watch::Sender<Vec<SocketAddr>>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Between a removal and the new file there is none for an instant; only one that stays away counts.
    let mut missing = false;
    loop {
        ticks.tick().await;
        let text = tokio::fs::read(&path).await;
        let gone = text.is_err();
        if gone && !missing {
            missing = true;
            continue;
        }
        missing = gone;
        let now = name_servers(&text.unwrap_or_default());
        sender.send_if_modified(|known| {
            let differs = *known != now;
            *known = now;
            differs
        });
    }
}

/// Name servers as resolv.conf(5) writes them. Without any it is the one on this machine.
fn name_servers(text: &[u8]) -> Vec<SocketAddr> {
    let text = String::from_utf8_lossy(text);
    let mut servers: Vec<SocketAddr> = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some("nameserver"), Some(server)) = (words.next(), words.next().and_then(server))
            && !servers.contains(&server)
        {
            servers.push(server);
        }
    }
    if servers.is_empty() {
        servers.push(SocketAddr::from(([127, 0, 0, 1], DNS_PORT)));
    }
    servers
}

/// `192.0.2.1`, or `fe80::1%eth0`: a link-local address is none without its link.
fn server(text: &str) -> Option<SocketAddr> {
    let (address, link) = text.split_once('%').unwrap_or((text, ""));
    match address.parse().ok()? {
        IpAddr::V6(ip) if !link.is_empty() => {
            let index = link
                .parse()
                .ok()
                .or_else(|| nix::net::if_::if_nametoindex(link).ok())?;
            Some(SocketAddrV6::new(ip, DNS_PORT, 0, index).into())
        }
        ip => Some(SocketAddr::new(ip, DNS_PORT)),
    }
}

impl Reconciler {
    /// Whom forwarded questions go to. Never our own resolver: it would be asked what it asks.
    pub(crate) fn name_servers(&self) -> Vec<SocketAddr> {
        let mut servers = self.wanted_name_servers();
        servers.retain(|server| !self.is_own_resolver(server.ip()));
        servers
    }

    fn wanted_name_servers(&self) -> Vec<SocketAddr> {
        let given = &self.settings.name_servers;
        if given.is_empty() {
            return self.resolv.servers();
        }
        given.iter().map(|ip| SocketAddr::new(*ip, DNS_PORT)).collect()
    }

    fn is_own_resolver(&self, ip: IpAddr) -> bool {
        ip == RESOLVER_ADDRESS
            || self
                .leases
                .networks
                .values()
                .any(|lease| lease.resolvers().any(|own| own == ip))
    }

    /// The host asks others now.
    pub(crate) fn learn_name_servers(&mut self) {
        let wanted = self.wanted_name_servers();
        let list = |servers: &[SocketAddr]| -> String {
            let servers: Vec<String> = servers.iter().map(|server| server.ip().to_string()).collect();
            servers.join(", ")
        };
        tracing::info!(servers = list(&wanted), "the host's name servers");
        let own: Vec<SocketAddr> = wanted
            .into_iter()
            .filter(|server| self.is_own_resolver(server.ip()))
            .collect();
        if own.is_empty() {
            self.troubles.remove("name servers");
        } else {
            let why = format!(
                "{} is the containers' resolver, which asks the host's name servers what it doesn't know: \
                 it is left out; name another in `{FILE}` or in the setting `name_servers`",
                list(&own)
            );
            self.trouble("name servers", why);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;

    fn read(text: &str) -> Vec<String> {
        name_servers(text.as_bytes())
            .iter()
            .map(ToString::to_string)
            .collect()
    }

    #[test]
    fn name_servers_are_read_as_resolv_conf_writes_them() {
        let text = "# x\nsearch lan\nnameserver 192.0.2.1 # the router\nnameserver\t2001:db8::1\n\
                    nameserver fe80::1%lo\noptions ndots:1\nnameserver 192.0.2.1\nnameservers 192.0.2.9\nnameserver x\n";
        assert_eq!(read(text), ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"]);
    }

    #[test]
    fn without_a_name_server_it_is_the_one_on_this_machine() {
        assert_eq!(read("search lan\n"), ["127.0.0.1:53"]);
        assert_eq!(read(""), ["127.0.0.1:53"]);
        assert_eq!(name_servers(b"\xff\xfe\0"), name_servers(b""));
    }

    async fn next(resolv: &mut Resolv) -> String {
        timeout(Duration::from_secs(5), resolv.changed())
            .await
            .expect("it is heard of");
        resolv.servers()[0].ip().to_string()
    }

    #[tokio::test]
    async fn every_way_to_change_the_file_is_heard_of() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let file =
            |name: &str, ip: u8| std::fs::write(at(name), format!("nameserver 192.0.2.{ip}\n")).unwrap();
        file("stub", 1);
        std::os::unix::fs::symlink("stub", at("resolv.conf")).unwrap();
        let mut resolv = Resolv::watch(&at("resolv.conf"));
        assert_eq!(next(&mut resolv).await, "192.0.2.1", "at once");
        file("stub", 2);
        assert_eq!(next(&mut resolv).await, "192.0.2.2", "written behind the link");
        file("new", 3);
        std::fs::rename(at("new"), at("stub")).unwrap();
        assert_eq!(
            next(&mut resolv).await,
            "192.0.2.3",
            "renamed over behind the link"
        );
        file("other", 4);
        std::os::unix::fs::symlink("other", at("link")).unwrap();
        std::fs::rename(at("link"), at("resolv.conf")).unwrap();
        assert_eq!(next(&mut resolv).await, "192.0.2.4", "another link");
        std::fs::remove_file(at("resolv.conf")).unwrap();
        assert_eq!(next(&mut resolv).await, "127.0.0.1", "removed");
        file("resolv.conf", 5);
        assert_eq!(
            next(&mut resolv).await,
            "192.0.2.5",
            "a file in place of the link"
        );
    }

    #[tokio::test]
    async fn an_instant_without_the_file_is_no_change() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let mut resolv = Resolv::watch(&path);
        resolv.changed().await;
        std::fs::remove_file(&path).unwrap();
        tokio::time::sleep(PERIOD).await;
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert!(timeout(2 * PERIOD, resolv.changed()).await.is_err());
    }
}
