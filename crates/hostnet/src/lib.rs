//! All the kernel networking: links, bridges, veths, addresses, routes, namespaces and one nftables table.
//!
//! Every call is idempotent: it looks, then makes what is missing. Whoever calls need not know whether a bridge
//! exists; he says what should be, and calls again when a [`Hint`] arrives. Nothing here decides: addresses, names
//! and ports come finished from `plan`.

mod attach;
mod bound;
mod coexist;
mod conntrack;
mod error;
mod foreign;
mod inside;
mod lan;
mod link;
mod mirror;
mod netlink;
mod netns;
mod network;
mod nft;
mod observe;
mod pair;
mod resolver;
mod sandbox;
mod state;
mod sysctl;
mod watch;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use linkspan_plan::{Attachment, Firewall, IdRange, Lan, NetworkSpec};
use tokio::sync::mpsc;

use conntrack::Stale;
use foreign::Rulesets;
use lan::Answers;
use link::Links;
use mirror::Mirror;
use netlink::NetfilterSocket;
use nft::Table;
use observe::{Files, Observer};
use watch::{SandboxWatch, Watch};

pub use coexist::{Accept, AcceptChange};
pub use error::*;
pub use foreign::{Backend, Flow, ForeignChain, ForeignEffect, Outcome, Owner};
pub use nft::{RuleView, SetView};
pub use sandbox::sandbox_main;
pub use state::*;
pub use watch::SandboxHints;

/// What the networking of a daemon needs to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where namespaces are pinned (below `ns/`); `/run/linkspan` as a rule.
    pub run_dir: PathBuf,
    /// Our own executable; its role `sandbox` is the single-threaded helper that clones namespaces.
    pub binary: PathBuf,
    /// Below it are `etc`, `run` and `usr`, where other programs keep what they use: `/`, but in tests.
    pub root: PathBuf,
}

/// The networking of the network namespace in which it was opened. Cheap to clone.
#[derive(Debug, Clone)]
pub struct HostNet {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Config,
    host: Arc<Mirror>,
    resolver: Arc<Mirror>,
    observer: tokio::sync::Mutex<Observer>,
    table: Arc<Mutex<Table>>,
    flows: Arc<Mutex<NetfilterSocket>>,
    files: Arc<Mutex<Files>>,
    watch: Watch,
    sandboxes: SandboxWatch,
    answers: Mutex<Answers>,
}

impl HostNet {
    /// Opens the sockets, and makes or adopts the resolver's namespace. Call it inside a tokio runtime, on a thread of
    /// the network namespace that is to be worked in, as must be all the runtime's threads.
    pub async fn open(config: Config) -> Result<Self, OpenError> {
        if !privileged() {
            return Err(OpenError::Privilege);
        }
        let pins = pins(&config.run_dir);
        std::fs::create_dir_all(&pins).map_err(|source| OpenError::Folder {
            path: pins.clone(),
            source,
        })?;
        let inside = resolver::open(&resolver::path(&config.run_dir)).await?;
        let socket = |family| move |source| OpenError::Socket { family, source };
        let changes = mirror::open().map_err(socket("changes"))?;
        let host = Mirror::new(changes, Links::here().map_err(socket("route"))?);
        let host = Arc::new(host.map_err(socket("changes"))?);
        let changes = netns::within(&resolver::path(&config.run_dir), mirror::open).await?;
        let resolver = Arc::new(Mirror::new(changes, inside).map_err(socket("changes"))?);
        let table = Table::open().map_err(socket("netfilter"))?;
        let flows = NetfilterSocket::open().map_err(socket("netfilter"))?;
        let files = Arc::new(Mutex::new(Files::below(&config.root)));
        let mirrors = [Arc::clone(&host), Arc::clone(&resolver)];
        let watch =
            Watch::start(mirrors, table.port(), table.stale(), &config.root).map_err(socket("changes"))?;
        let sandboxes = SandboxWatch::start().map_err(socket("changes inside sandboxes"))?;
        let (table, flows) = (Arc::new(Mutex::new(table)), Arc::new(Mutex::new(flows)));
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                host,
                resolver,
                observer: tokio::sync::Mutex::new(Observer::here()),
                table,
                flows,
                files,
                watch,
                sandboxes,
                answers: Mutex::default(),
            }),
        })
    }

    /// Where the resolver's network namespace is pinned; the data plane enters it for its sockets.
    pub fn resolver_netns(&self) -> PathBuf {
        resolver::path(&self.inner.config.run_dir)
    }

    /// Everything that is: ours, and the ranges that others use. Costs what has changed since the last time.
    pub async fn observe(&self) -> Result<Observed, ObserveError> {
        let table = blocking(&self.inner.table, Table::state).await?;
        let files = blocking(&self.inner.files, Files::read).await;
        let mut observer = self.inner.observer.lock().await;
        observer
            .observe(&self.inner.host, &self.inner.resolver, table, files)
            .await
    }

    /// The same, and nothing that was known before counts: everything is listed anew.
    pub async fn observe_anew(&self) -> Result<Observed, ObserveError> {
        self.inner.host.distrust();
        self.inner.resolver.distrust();
        self.observe().await
    }

    /// All ranges that somebody was found to use, with those that don't count.
    pub async fn claims(&self) -> Result<Claims, ObserveError> {
        let files = blocking(&self.inner.files, Files::read).await;
        Ok(observe::claims(&self.inner.host, files).await?)
    }

    /// The names of all sandboxes, also half made ones that a crash has left.
    pub fn sandboxes(&self) -> Result<BTreeSet<String>, ObserveError> {
        observe::sandboxes(&self.pins())
    }

    /// Who is known to be on the LAN behind a link.
    pub async fn lan(&self, parent: &str) -> Result<Lan, KernelError> {
        let mut lan = lan::look(&self.inner.host, parent).await?;
        self.answers().add_to(parent, &mut lan);
        Ok(lan)
    }

    /// Makes a network's bridge and resolver leg, or repairs what is missing of them. Also lets the host forward packets.
    pub async fn ensure_network(&self, spec: &NetworkSpec) -> Result<(), NetworkError> {
        network::ensure(
            self.host(),
            (self.inner.resolver.links(), &self.resolver_netns()),
            spec,
        )
        .await
    }

    /// Lets the host pass packets on between its links. Networks need that, and making one does it too.
    pub fn forward(&self) -> Result<(), SysctlError> {
        sysctl::forward()
    }

    /// Removes a network's bridge and resolver leg, if they are there.
    pub async fn remove_network(&self, bridge: &str, leg: &str) -> Result<(), NetworkError> {
        network::remove(self.host(), bridge, leg).await
    }

    /// Makes and pins the namespaces of a container: with ids of its own when `ids` says so. One that exists is kept.
    pub async fn create_sandbox(&self, name: &str, ids: Option<IdRange>) -> Result<Sandbox, SandboxError> {
        sandbox::create(&self.pins().join(name), &self.inner.config.binary, name, ids).await
    }

    /// Makes and pins a user namespace alone, for a container in the host's network; gives where. One that exists is kept.
    /// [`HostNet::remove_sandbox`] lets go of it.
    pub async fn create_users(&self, name: &str, ids: IdRange) -> Result<PathBuf, SandboxError> {
        sandbox::create_users(&self.pins().join(name), &self.inner.config.binary, name, ids).await
    }

    /// The pinned namespaces of a container, for another one that joins its network; absent when it has none.
    pub fn find_sandbox(&self, name: &str) -> Option<Sandbox> {
        sandbox::find(&self.pins().join(name))
    }

    /// Lets go of a container's namespaces; the kernel frees them when its last process is gone.
    pub async fn remove_sandbox(&self, name: &str) -> Result<(), SandboxError> {
        self.inner.sandboxes.forget(name);
        Ok(sandbox::remove(&self.pins().join(name))?)
    }

    /// Puts a sandbox on a network, or repairs that. Returns when the link carries frames, so that a port published
    /// afterwards answers its first packet.
    pub async fn attach(&self, sandbox: &str, attachment: &Attachment) -> Result<(), AttachError> {
        let netns = self.pins().join(sandbox).join("net");
        let attached = attach::attach(self.host(), &netns, attachment).await;
        if let (Err(AttachError::Answered { address, mac, .. }), Some(parent)) =
            (&attached, attachment.driver.parent())
        {
            self.answers().note(parent, *address, mac);
        }
        attached?;
        self.follow(sandbox, &netns).await;
        Ok(())
    }

    /// What is missing inside a sandbox of these links, by the names of their host ends, in words for people. What was put
    /// there beside it, or in its place, is left alone. From now on, changes inside are told, see
    /// [`HostNet::watch_sandboxes`].
    pub async fn missing_inside(
        &self,
        sandbox: &str,
        attachments: &[Attachment],
    ) -> Result<BTreeMap<String, Vec<String>>, LookError> {
        let netns = self.pins().join(sandbox).join("net");
        self.follow(sandbox, &netns).await;
        inside::missing(&netns, attachments).await
    }

    fn answers(&self) -> MutexGuard<'_, Answers> {
        self.inner.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn follow(&self, sandbox: &str, netns: &Path) {
        match self.host().number_of(netns).await {
            Ok(number) => self.inner.sandboxes.follow(number, sandbox),
            // It works; only what others change inside is noticed late.
            Err(error) => tracing::warn!(
                sandbox,
                error = &error as &dyn std::error::Error,
                "changes inside are not told"
            ),
        }
    }

    /// The sockets inside a sandbox that wait for peers at one of these very addresses, not at all addresses: whoever has
    /// them would not be reached at another.
    pub async fn bound_to(&self, sandbox: &str, addresses: &[IpAddr]) -> Result<Vec<Bound>, NamespaceError> {
        bound::bound_to(&self.pins().join(sandbox).join("net"), addresses).await
    }

    /// Removes a container's link by the name of its host end, if it is there.
    pub async fn detach(&self, host_link: &str) -> Result<(), AttachError> {
        Ok(self.host().delete(host_link).await?)
    }

    /// Takes a sandbox off a network, whatever the network's driver is. It need not be on it, nor exist.
    pub async fn detach_from(&self, sandbox: &str, attachment: &Attachment) -> Result<(), AttachError> {
        attach::detach(self.host(), &self.pins().join(sandbox).join("net"), attachment).await
    }

    /// Makes the table hold exactly `desired`, in one transaction, and forgets tracked datagram flows through ports that
    /// lead elsewhere now.
    pub async fn apply_firewall(&self, desired: &Firewall) -> Result<FirewallChange, FirewallError> {
        let desired = desired.clone();
        let applied = blocking(&self.inner.table, move |table| table.apply(&desired)).await?;
        let mut stale = Stale::of_ports(&applied.published, &applied.unpublished);
        if !stale.is_empty() {
            let addresses = self.host().addresses().await.unwrap_or_default();
            stale.local = addresses.iter().map(|address| address.ip.ip()).collect();
            // The table is as desired; a flow that lives on is no reason to call that a failure.
            if let Err(error) = self.forget(stale).await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "stale datagram flows live on"
                );
            }
        }
        Ok(applied.change)
    }

    /// Every rule of our table in words, with what stands behind it. Empty when the table isn't there as we write it.
    pub async fn explain_firewall(&self) -> Result<Vec<RuleView>, FirewallError> {
        blocking(&self.inner.table, Table::explain).await
    }

    /// Can nobody but us change our table? Else it is watched, and restored when somebody did.
    pub async fn owns_firewall(&self) -> bool {
        blocking(&self.inner.table, |table| table.is_owned()).await
    }

    /// What chains of others do to our traffic, and what to change.
    pub async fn foreign_chains(&self) -> Result<Vec<ForeignChain>, CoexistError> {
        let uplink = self.inner.host.look(|kept| observe::uplink(kept)).await?;
        let mut rulesets = blocking(&self.inner.flows, Rulesets::read)
            .await
            .map_err(|source| CoexistError::Read { source })?;
        rulesets.read_legacy().await;
        Ok(rulesets.judge(&uplink))
    }

    /// Tells other firewalls, where they have a place for it, that our bridges' traffic is ours to judge: or takes that
    /// back. To be called again whenever they may have changed ([`Hint::Foreign`], and on a slow timer, since the older
    /// packet filter tells nobody). All are tried; the first failure is returned, and names the command that a person can
    /// use.
    pub async fn coexist(&self, on: bool) -> Result<Vec<Accept>, CoexistError> {
        let nftables = blocking(&self.inner.flows, move |socket| {
            (coexist::in_nftables(socket, on), coexist::firewalld(socket))
        });
        let (nftables, firewalld) = nftables.await;
        let legacy = coexist::in_legacy(on).await;
        let firewalld = match firewalld {
            Ok((runs, there)) => coexist::in_firewalld(runs, there, on).await,
            Err(error) => Err(error),
        };
        let mut accepts = nftables?;
        accepts.extend(legacy?);
        accepts.extend(firewalld?);
        Ok(accepts)
    }

    /// Forgets tracked connections from, to or translated to these addresses. Returns how many.
    pub async fn flush_flows(&self, addresses: &[IpAddr]) -> Result<usize, FlowError> {
        let addresses: BTreeSet<_> = addresses.iter().copied().collect();
        if addresses.is_empty() {
            return Ok(0);
        }
        self.forget(Stale {
            addresses,
            ..Stale::default()
        })
        .await
    }

    /// Tells when something changed that [`HostNet::observe`] would show; what we change ourselves may be told too. Drop the
    /// receiver to stop.
    pub fn watch(&self) -> mpsc::Receiver<Hint> {
        self.inner.watch.subscribe()
    }

    /// Tells in which sandboxes something changed that [`HostNet::missing_inside`] would show, of all that were attached or
    /// looked at; what we change ourselves is told too. There is one who is told.
    pub fn watch_sandboxes(&self) -> SandboxHints {
        self.inner.sandboxes.subscribe()
    }

    /// Removes everything that is ours: links, sandboxes, the resolver's namespace, the table, and our accept in others'.
    /// All is tried; the first failure is returned. This handle is of no use afterwards.
    pub async fn remove_all(&self) -> Result<(), RemoveError> {
        let mut failures: Vec<RemoveError> = Vec::new();
        // The table last: as long as there is a way into containers, it is guarded.
        failures.extend(self.remove_links().await.err());
        let names = observe::sandboxes(&self.pins()).unwrap_or_default();
        failures.extend(
            names
                .iter()
                .filter_map(|name| sandbox::remove(&self.pins().join(name)).err().map(Into::into)),
        );
        failures.extend(self.coexist(false).await.err().map(Into::into));
        failures.extend(netns::unpin(&self.resolver_netns()).err().map(Into::into));
        // Not ours to judge if somebody put something else there.
        let _ = std::fs::remove_dir(self.pins());
        failures.extend(
            blocking(&self.inner.table, Table::remove)
                .await
                .err()
                .map(Into::into),
        );
        failures.into_iter().next().map_or(Ok(()), Err)
    }

    async fn remove_links(&self) -> Result<(), RemoveError> {
        let mut failures = Vec::new();
        for link in self
            .host()
            .list()
            .await?
            .iter()
            .filter(|link| observe::ours(link))
        {
            failures.extend(self.host().delete(&link.name).await.err());
        }
        failures
            .into_iter()
            .next()
            .map_or(Ok(()), |error| Err(error.into()))
    }

    async fn forget(&self, stale: Stale) -> Result<usize, FlowError> {
        blocking(&self.inner.flows, move |socket| conntrack::flush(socket, &stale))
            .await
            .map_err(|source| FlowError { source })
    }

    fn host(&self) -> &Links {
        self.inner.host.links()
    }

    fn pins(&self) -> PathBuf {
        pins(&self.inner.config.run_dir)
    }
}

/// Where namespaces are pinned.
fn pins(run_dir: &Path) -> PathBuf {
    run_dir.join("ns")
}

/// Runs work on a socket that answers within the call, but may take a few milliseconds of the kernel's time.
async fn blocking<S: Send + 'static, T: Send + 'static>(
    socket: &Arc<Mutex<S>>,
    work: impl FnOnce(&mut S) -> T + Send + 'static,
) -> T {
    let socket = Arc::clone(socket);
    let run = move || work(&mut socket.lock().unwrap_or_else(PoisonError::into_inner));
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => match error.try_into_panic() {
            // That is a bug, and goes on where it came from.
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is going away, and we with it.
            Err(_) => std::future::pending().await,
        },
    }
}

/// Does this thread have the capabilities that networking takes?
fn privileged() -> bool {
    /// Bits of `CAP_NET_ADMIN` and `CAP_SYS_ADMIN` (`linux/capability.h`).
    const NEEDED: u64 = 1 << 12 | 1 << 21;
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = effective.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    effective.is_some_and(|effective| effective & NEEDED == NEEDED)
}
