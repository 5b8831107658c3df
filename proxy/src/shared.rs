//! What all workers share. Nothing here is locked on the way of a request.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use linkspan_api::feed::{Snapshot, SocketId, ToNetd};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::egress::Egress;
use crate::listen::Crowd;
use crate::middleware::access_log::LogSink;
use crate::middleware::basic_auth::verifier::Verifier;
use crate::names::Names;
use crate::stream::Pipes;
use crate::upstream::hold::HoldCounts;
use crate::world::{Compiler, World};

/// Hints to netd that may wait; further ones are dropped, for they are only hints.
pub(crate) const HINTS: usize = 1024;

pub(crate) struct Shared {
    pub(crate) world: Arc<ArcSwap<World>>,
    /// Generation of the world, for those who wait for the next.
    pub(crate) changed: watch::Sender<u64>,
    pub(crate) tls: Arc<rustls::ServerConfig>,
    pub(crate) egress: Egress,
    pub(crate) hints: mpsc::Sender<ToNetd>,
    pub(crate) log: LogSink,
    /// Cancelled when the proxy stops accepting.
    pub(crate) draining: CancellationToken,
    /// Cancelled when what is under way has had its time to end.
    pub(crate) cut: CancellationToken,
    /// Client connections at this moment.
    pub(crate) connections: AtomicU32,
    /// The same by address.
    pub(crate) crowd: Crowd,
    pub(crate) held: HoldCounts,
    pub(crate) names: Names,
    pub(crate) verifier: Verifier,
    /// Of published TCP ports.
    pub(crate) pipes: Arc<Pipes>,
    pub(crate) workers: usize,
    sockets: Mutex<BTreeMap<SocketId, Arc<OwnedFd>>>,
    compiler: Mutex<Compiler>,
}

impl Shared {
    pub(crate) fn new(
        workers: usize,
        egress: Egress,
        hints: mpsc::Sender<ToNetd>,
        log: LogSink,
        verifier: Verifier,
    ) -> Result<Self, rustls::Error> {
        let world = Arc::new(ArcSwap::from_pointee(World::empty()));
        Ok(Self {
            tls: crate::tls::server_config(Arc::clone(&world))?,
            names: Names::new(Arc::clone(&world), egress.clone()),
            world,
            changed: watch::Sender::new(0),
            egress,
            compiler: Mutex::new(Compiler::telling(hints.clone())),
            hints,
            log,
            draining: CancellationToken::new(),
            cut: CancellationToken::new(),
            connections: AtomicU32::new(0),
            crowd: Crowd::default(),
            held: HoldCounts::default(),
            verifier,
            pipes: Arc::default(),
            workers,
            sockets: Mutex::default(),
        })
    }

    /// Compiles a snapshot and lets all workers serve it from now on. Sockets that it doesn't list are closed.
    pub(crate) fn apply(&self, snapshot: Snapshot) -> u64 {
        let mut compiler = lock(&self.compiler);
        self.egress.name_servers(snapshot.name_servers.clone());
        let world = compiler.compile(snapshot);
        let generation = world.generation();
        let listed: HashSet<_> = world.snapshot.listeners.iter().collect();
        lock(&self.sockets).retain(|id, _| listed.contains(id));
        drop(listed);
        self.world.store(Arc::new(world));
        self.changed.send_replace(generation);
        generation
    }

    /// Takes a listening socket in; a snapshot that lists it brings it into service.
    pub(crate) fn adopt(&self, id: SocketId, socket: OwnedFd) -> io::Result<()> {
        use nix::fcntl::{FcntlArg, OFlag, fcntl};
        use nix::sys::stat::fstat;
        let flags = OFlag::from_bits_retain(fcntl(&socket, FcntlArg::F_GETFL)?);
        fcntl(&socket, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        let mut sockets = lock(&self.sockets);
        // A netd that regained its sockets from us may send them back: what is served goes on undisturbed.
        let same = |held: &Arc<OwnedFd>| Ok::<_, io::Error>(fstat(held)?.st_ino == fstat(&socket)?.st_ino);
        if !sockets.get(&id).map(same).transpose()?.unwrap_or(false) {
            sockets.insert(id, Arc::new(socket));
        }
        Ok(())
    }

    /// All sockets held.
    pub(crate) fn sockets(&self) -> Vec<(SocketId, Arc<OwnedFd>)> {
        lock(&self.sockets)
            .iter()
            .map(|(id, socket)| (id.clone(), Arc::clone(socket)))
            .collect()
    }

    /// Stops accepting and lets go of the listening sockets; whoever else holds them goes on.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
        lock(&self.sockets).clear();
    }
}

/// A panic elsewhere leaves these maps whole: every change of them is one call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
