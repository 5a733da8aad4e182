//! What the feed's tasks share, and how a store is followed.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use dashmap::{DashMap, DashSet};
use futures::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, oneshot, watch};
use tokio::task::JoinSet;

use super::budget::Budget;
use super::clock::Clock;
use super::error::FeedError;
use super::follower::Follower;
use super::reaper::Reaper;
use super::replica::Replica;
use super::schemas::Schemas;
use super::source::Source;
use crate::datastore::Head;
use crate::revision::StoreId;

/// A store that is resident or on its way. Clones wait for the same load.
pub(super) type Loaded = watch::Receiver<Option<Result<Arc<Replica>, FeedError>>>;

/// Who waits for a store's head.
pub(super) type HeadAnswer = oneshot::Sender<Result<Head, FeedError>>;

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) source: Source,
    pub(super) schemas: Schemas,
    /// No guard of it is held across an await.
    pub(super) stores: DashMap<StoreId, Loaded>,
    /// The replicas of stores that left memory.
    pub(super) dormant: DashMap<StoreId, Arc<Replica>>,
    /// Stores that do not fit, until when that need not be tried again, and why.
    pub(super) refused: DashMap<StoreId, (Instant, FeedError)>,
    /// Stores that never leave memory to make room.
    pub(super) pinned: DashSet<StoreId>,
    pub(super) budget: Arc<Budget>,
    pub(super) reaper: Arc<Reaper>,
    /// Held while it is chosen who leaves.
    pub(super) evicting: Mutex<()>,
    pub(super) began: Instant,
    /// Waiting for the next head query to **start**.
    pub(super) heads: Mutex<Vec<(StoreId, HeadAnswer)>>,
    /// Wakes the poll.
    pub(super) wake: Notify,
    pub(super) closing: watch::Sender<bool>,
    pub(super) last_answer: Mutex<Instant>,
    pub(super) clock: Arc<Clock>,
    pub(super) workers: Arc<Semaphore>,
    pub(super) loads: Arc<Semaphore>,
    /// The runtime the feed was started on. Requests come from other ones, which must not have
    /// to do the feed's work.
    pub(super) runtime: Handle,
    tasks: Mutex<JoinSet<()>>,
}

impl Shared {
    pub(super) fn new(source: Source) -> Arc<Self> {
        let settings = Arc::clone(&source.settings);
        let budget = Budget::new(settings.memory_budget, Arc::clone(&source.metrics));
        Arc::new(Self {
            schemas: Schemas::new(settings.schemas, &budget),
            stores: DashMap::new(),
            dormant: DashMap::new(),
            refused: DashMap::new(),
            pinned: DashSet::new(),
            budget,
            reaper: Arc::new(Reaper::start(Arc::clone(&source.metrics))),
            evicting: Mutex::default(),
            began: Instant::now(),
            heads: Mutex::default(),
            wake: Notify::new(),
            closing: watch::Sender::new(false),
            last_answer: Mutex::new(Instant::now()),
            clock: Arc::new(Clock::new(settings.clock.clone())),
            workers: Arc::new(Semaphore::new(settings.workers.max(1))),
            loads: Arc::new(Semaphore::new(settings.loads.max(1))),
            runtime: Handle::current(),
            tasks: Mutex::default(),
            source,
        })
    }

    /// Runs a task on the feed's runtime until it ends or the feed closes.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if *self.closing.borrow() {
            return;
        }
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &self.runtime);
    }

    /// Stops all tasks without waiting for them to end.
    pub(super) fn stop(&self) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        self.closing.send_replace(true);
        tasks.abort_all();
    }

    /// Ends all tasks. What is published can still be read.
    pub(super) async fn close(&self) {
        let mut tasks = {
            let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
            self.closing.send_replace(true);
            std::mem::take(&mut *tasks)
        };
        tasks.shutdown().await;
    }

    /// The replicas that are loaded.
    pub(super) fn resident(&self) -> Vec<Arc<Replica>> {
        self.stores.iter().filter_map(|loaded| replica_of(loaded.value())).collect()
    }

    /// A store's load: the one under way or done, or else a new one.
    pub(super) fn loaded(self: &Arc<Self>, store: StoreId) -> Loaded {
        if let Some(loaded) = self.stores.get(&store) {
            return loaded.clone();
        }
        if let Some(error) = self.refusal(store) {
            return watch::channel(Some(Err(error))).1;
        }
        let (announce, loaded) = watch::channel(None);
        match self.stores.entry(store) {
            dashmap::Entry::Occupied(other) => return other.get().clone(),
            dashmap::Entry::Vacant(place) => drop(place.insert(loaded.clone())),
        }
        let (shared, mine) = (Arc::clone(self), loaded.clone());
        self.spawn(async move {
            let outcome = shared.load(store).await;
            if outcome.is_err() {
                // The next request tries again.
                shared.stores.remove_if(&store, |_, current| current.same_channel(&mine));
            }
            announce.send_replace(Some(outcome.clone()));
            // A store dropped while it was being loaded is followed by nobody.
            let is_mine = shared.stores.get(&store).is_some_and(|current| current.same_channel(&mine));
            if let (Ok(replica), false) = (outcome, is_mine) {
                shared.retire(&replica, FeedError::StoreNotFound);
            }
        });
        loaded
    }

    async fn load(self: &Arc<Self>, store: StoreId) -> Result<Arc<Replica>, FeedError> {
        let read = self.read(store).await;
        let (follower, proved) = read.inspect_err(|error| self.load_failed(store, error))?;
        let revision = follower.position.revision;
        let dormant = self.dormant.remove(&store);
        tracing::info!(%store, %revision, again = dormant.is_some(), "store loaded");
        let Some((_, replica)) = dormant else { return Ok(Replica::new(follower, proved, self)) };
        self.source.metrics.memory.reloads.inc();
        replica.resume(follower, proved).await;
        Ok(replica)
    }

    /// There may be something new in a store.
    pub(super) fn hint(self: &Arc<Self>, store: StoreId) {
        if let Some(replica) = self.replica(store) {
            self.follow(&replica);
        } else if let Some(replica) = self.dormant.get(&store) {
            replica.announce();
        }
    }

    /// A store's replica, if it is loaded.
    pub(super) fn replica(&self, store: StoreId) -> Option<Arc<Replica>> {
        self.stores.get(&store).and_then(|loaded| replica_of(&loaded))
    }

    /// Sees to it that a store is looked at after this call, by one task at a time.
    pub(super) fn follow(self: &Arc<Self>, replica: &Arc<Replica>) {
        replica.hinted.store(true, Ordering::SeqCst);
        if replica.following.swap(true, Ordering::SeqCst) {
            return;
        }
        let (shared, replica) = (Arc::clone(self), Arc::clone(replica));
        self.spawn(async move {
            loop {
                while replica.hinted.swap(false, Ordering::SeqCst) {
                    let catching_up = AssertUnwindSafe(shared.catch_up(&replica));
                    if catching_up.catch_unwind().await.is_err() {
                        // The follower went down with it, half applied; nothing of it was seen.
                        tracing::error!(store = %replica.store(), "applying changes panicked");
                        shared.retire(&replica, FeedError::Reloading);
                        shared.wake.notify_one();
                    }
                }
                replica.following.store(false, Ordering::SeqCst);
                if !replica.hinted.load(Ordering::SeqCst) || replica.following.swap(true, Ordering::SeqCst) {
                    return;
                }
            }
        });
    }

    /// A store that is deleted or no longer wanted here.
    pub(super) fn forget(&self, store: StoreId) {
        let loaded = self.stores.remove(&store).and_then(|(_, loaded)| replica_of(&loaded));
        let dormant = self.dormant.remove(&store).map(|(_, replica)| replica);
        for replica in loaded.into_iter().chain(dormant) {
            self.retire(&replica, FeedError::StoreNotFound);
        }
    }

    /// Stops a replica's answers.
    #[expect(clippy::unused_self, reason = "what retires a replica is the feed")]
    pub(super) fn retire(&self, replica: &Replica, why: FeedError) {
        replica.silence(if why.is_telling() { why } else { FeedError::Reloading });
    }
}

/// The replica of a load that succeeded.
pub(super) fn replica_of(loaded: &Loaded) -> Option<Arc<Replica>> {
    loaded.borrow().as_ref()?.as_ref().ok().cloned()
}

/// Where a replica's follower sits while no task uses it.
#[derive(Debug, Default)]
pub(super) struct Seat {
    /// `None` while the store has to be loaded anew.
    pub(super) follower: Option<Follower>,
    /// How often that failed in a row.
    pub(super) failures: u32,
    /// When to try again.
    pub(super) not_before: Option<Instant>,
    /// Whether the store has left memory and is not to be loaded before it is asked for.
    pub(super) dormant: bool,
}

impl Seat {
    pub(super) fn taken(follower: Follower) -> Self {
        Self { follower: Some(follower), ..Self::default() }
    }

    pub(super) fn dormant() -> Self {
        Self { dormant: true, ..Self::default() }
    }
}
