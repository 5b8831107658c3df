//! A worker: one thread, one single-threaded runtime, its own listeners, connections, pool and log buffer.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Cache};
use tokio::task::LocalSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::listen;
use crate::middleware::access_log::LogBuffer;
use crate::middleware::basic_auth::Verified;
use crate::shared::Shared;
use crate::upstream::external::Answers;
use crate::upstream::pool::Pool;
use crate::world::World;

/// Everything that belongs to one worker thread.
pub(crate) struct Worker {
    pub(crate) index: usize,
    pub(crate) shared: Arc<Shared>,
    pub(crate) pool: Pool,
    pub(crate) answers: Answers,
    pub(crate) log: LogBuffer,
    /// Who logged in lately.
    pub(crate) verified: Verified,
    /// Cancelled when the proxy drains; this thread's own, so that connections don't meet other threads on it.
    pub(crate) draining: CancellationToken,
    /// Connections and tunnels: all that a drain waits for.
    pub(crate) tasks: TaskTracker,
    cache: RefCell<Cache<Arc<ArcSwap<World>>, Arc<World>>>,
    world: RefCell<Current>,
    turn: Cell<usize>,
    random: Cell<u64>,
}

/// A worker's own handle on the world. Cloned for every request, so it counts on a counter that no other thread touches.
#[derive(Clone)]
pub(crate) struct Current(Rc<Seen>);

struct Seen(Arc<World>);

impl Current {
    fn new(world: &Arc<World>) -> Self {
        Self(Rc::new(Seen(Arc::clone(world))))
    }
}

impl std::ops::Deref for Current {
    type Target = World;
    fn deref(&self) -> &World {
        &self.0.0
    }
}

impl Worker {
    fn new(index: usize, shared: Arc<Shared>) -> Self {
        let mut cache = Cache::new(Arc::clone(&shared.world));
        let world = Current::new(cache.load());
        let log = LogBuffer::new(shared.log.clone());
        // Only spreads requests and names them; without random bytes at start the clock will do.
        let seed =
            getrandom::u64().unwrap_or_else(|_| jiff::Timestamp::now().as_microsecond().unsigned_abs());
        // Without random bytes nobody could guess them either: they only name what this thread has in its own memory.
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).ok();
        Self {
            index,
            shared,
            pool: Pool::default(),
            answers: Answers::default(),
            log,
            verified: Verified::new(secret),
            draining: CancellationToken::new(),
            tasks: TaskTracker::new(),
            cache: RefCell::new(cache),
            world: RefCell::new(world),
            turn: Cell::new(0),
            random: Cell::new(seed),
        }
    }

    /// The world as it is now. Costs one load as long as it stays the same.
    pub(crate) fn world(&self) -> Current {
        let mut cache = self.cache.borrow_mut();
        let current = cache.load();
        let mut known = self.world.borrow_mut();
        if !Arc::ptr_eq(current, &known.0.0) {
            *known = Current::new(current);
            self.pool.retain(current);
        }
        known.clone()
    }

    /// Counts up.
    pub(crate) fn turn(&self) -> usize {
        let turn = self.turn.get();
        self.turn.set(turn.wrapping_add(1));
        turn
    }

    /// Not secret: SplitMix64 over a random seed.
    pub(crate) fn random(&self) -> u64 {
        let state = self.random.get().wrapping_add(0x9E37_79B9_7F4A_7C15);
        self.random.set(state);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Two of them.
    pub(crate) fn random_128(&self) -> u128 {
        u128::from(self.random()) << 64 | u128::from(self.random())
    }
}

/// Spawns what hyper asks for on this worker's own thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LocalExecutor;

impl<F> hyper::rt::Executor<F> for LocalExecutor
where
    F: Future<Output: 'static> + 'static,
{
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}

/// Runs a worker on this thread until the proxy has drained.
///
/// # Errors
/// When the thread's runtime can't be made.
pub(crate) fn run(index: usize, shared: Arc<Shared>) -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let local = LocalSet::new();
    let worker = Rc::new(Worker::new(index, shared));
    local.block_on(&runtime, async {
        let upkeep = tokio::task::spawn_local(upkeep(Rc::clone(&worker)));
        listen::run(&worker).await;
        worker.draining.cancel();
        worker.tasks.close();
        tokio::select! {
            () = worker.tasks.wait() => {}
            () = worker.shared.cut.cancelled() => {}
        }
        upkeep.abort();
    });
    // What is still under way is dropped here, and says so in the log.
    let entered = runtime.enter();
    drop(local);
    drop(entered);
    worker.log.flush();
    Ok(())
}

/// Once a second: flush the log, close idle connections, notice a new world even when nobody asks.
async fn upkeep(worker: Rc<Worker>) {
    let mut second = tokio::time::interval(Duration::from_secs(1));
    second.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let now = second.tick().await;
        worker.world();
        worker.pool.sweep(now);
        worker.log.flush();
    }
}
