//! Making room: which stores leave memory when there is not enough for all.
//!
//! ```text
//!   resident ──evict──▶ dormant ──load──▶ resident        the same [`Replica`] all the while
//! ```
//!
//! The store used longest ago by a request goes first, pinned ones never. What goes is the graph and
//! the recent past; the [`Replica`] stays, silent, so that whoever watches the store hears of news
//! and whoever asks about it has it loaded again. Nothing is evicted for a store that would not fit
//! anyway.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::budget::Bytes;
use super::error::FeedError;
use super::follower::Follower;
use super::replica::Replica;
use super::residence::Residence;
use super::shared::{Seat, Shared, replica_of};
use crate::revision::StoreId;

/// How long a load waits for memory that evicted stores' last readers still hold: a little more
/// than a reader may.
const PATIENCE: Duration = Duration::from_secs(35);

/// How long a store that does not fit is refused without another look.
const REFUSAL: Duration = Duration::from_mins(1);

/// Stores remembered without being in memory. What is kept of one is small, but not nothing.
const DORMANT: usize = 10_000;

/// Whether room could be made.
enum Room {
    /// There is, or will be once what was evicted has been freed.
    Made,
    /// Not by evicting everything that may be evicted. Nothing was.
    Lacking,
}

/// The room of one load: what it has reserved.
pub(super) struct Claim<'a> {
    shared: &'a Arc<Shared>,
    store: StoreId,
    residence: Arc<Residence>,
}

impl<'a> Claim<'a> {
    pub(super) fn new(shared: &'a Arc<Shared>, store: StoreId) -> Self {
        let residence = Residence::new(shared.budget.charge(), Arc::clone(&shared.reaper));
        Self { shared, store, residence }
    }

    /// The stay that begins with the load.
    pub(super) fn residence(&self) -> &Arc<Residence> {
        &self.residence
    }

    /// The most that the store may take.
    pub(super) fn most(&self) -> usize {
        self.shared.budget.limit().saturating_sub(self.shared.pinned_beside(self.store))
    }

    /// Refuses a size that could never be had.
    pub(super) fn within(&self, bytes: usize) -> Result<(), FeedError> {
        self.shared.fits(self.store, bytes)
    }

    /// Reserves so much in all, evicting others if need be.
    ///
    /// # Errors
    /// [`FeedError::TooLarge`] if it could never be had, [`FeedError::Crowded`] if it cannot now.
    pub(super) async fn reserve(&self, bytes: Bytes) -> Result<(), FeedError> {
        if self.shared.pinned.contains(&self.store) {
            self.residence.charge.pin();
        }
        let until = Instant::now() + PATIENCE;
        loop {
            let freed = self.shared.budget.freed();
            tokio::pin!(freed);
            freed.as_mut().enable();
            if self.residence.charge.try_set(bytes) {
                return Ok(());
            }
            self.within(bytes.sum())?;
            let wanted = bytes.sum().saturating_sub(self.residence.bytes().sum());
            if matches!(self.shared.make_room(self.store, wanted), Room::Lacking)
                || tokio::time::timeout_at(until.into(), freed).await.is_err()
            {
                return Err(FeedError::Crowded);
            }
        }
    }
}

impl Shared {
    /// Sees that a store which has grown still fits, evicting others if need be. It takes what it
    /// takes already.
    ///
    /// # Errors
    /// [`FeedError::TooLarge`]: it must leave memory itself.
    pub(super) fn keep_within_budget(self: &Arc<Self>, follower: &Follower) -> Result<(), FeedError> {
        let bytes = follower.bytes();
        follower.residence.charge.set(bytes);
        follower.residence.charge.hold(follower.index.ids());
        if self.budget.staying() <= self.budget.limit() {
            return Ok(());
        }
        self.fits(follower.store, bytes.sum())?;
        // What loads under way have reserved, they give up themselves if it comes to that.
        let _ = self.make_room(follower.store, 0);
        Ok(())
    }

    /// Whether a store of that size can be in memory beside the pinned ones.
    fn fits(&self, store: StoreId, bytes: usize) -> Result<(), FeedError> {
        let (limit, pinned) = (self.budget.limit(), self.pinned_beside(store));
        if bytes.saturating_add(pinned) > limit {
            return Err(FeedError::TooLarge { bytes, limit, pinned });
        }
        Ok(())
    }

    /// What pinned stores take, this one aside.
    fn pinned_beside(&self, store: StoreId) -> usize {
        let others = self.pinned.iter().filter(|pinned| **pinned != store);
        let replicas = others.filter_map(|pinned| self.replica(*pinned));
        replicas.filter_map(|replica| Some(replica.published().ok()?.residence.bytes().sum())).sum()
    }

    /// Evicts the stores used longest ago until `wanted` more bytes fit beside what stays, sparing
    /// one store.
    fn make_room(self: &Arc<Self>, spared: StoreId, wanted: usize) -> Room {
        // One at a time, or two would each evict enough for both.
        let _turn = self.evicting.lock().unwrap_or_else(PoisonError::into_inner);
        let excess = self.budget.staying().saturating_add(wanted).saturating_sub(self.budget.limit());
        if excess == 0 {
            return Room::Made;
        }
        let mut candidates: Vec<_> = self
            .resident()
            .into_iter()
            .filter(|replica| replica.store() != spared && !self.pinned.contains(&replica.store()))
            .filter_map(|replica| {
                let residence = Arc::clone(&replica.published().ok()?.residence);
                (!residence.charge.is_leaving()).then(|| (replica.last_used(), replica, residence))
            })
            .collect();
        let evictable: usize = candidates.iter().map(|(_, _, residence)| residence.bytes().sum()).sum();
        if evictable < excess {
            return Room::Lacking;
        }
        candidates.sort_unstable_by_key(|(last_used, replica, _)| (*last_used, replica.store()));
        let mut evicted = 0;
        for (_, replica, residence) in candidates {
            if evicted >= excess {
                break;
            }
            evicted += residence.bytes().sum();
            self.evict(replica, residence);
        }
        Room::Made
    }

    /// Ends a store's stay in memory, as soon as nobody is just about to change it.
    fn evict(self: &Arc<Self>, replica: Arc<Replica>, residence: Arc<Residence>) {
        if !residence.charge.leave() {
            return;
        }
        let shared = Arc::clone(self);
        self.spawn(async move {
            let mut seat = replica.seat.lock().await;
            // Meanwhile it may have been deleted, or loaded anew.
            let is_same = |follower: &mut Follower| Arc::ptr_eq(&follower.residence, &residence);
            if seat.follower.take_if(is_same).is_some() {
                shared.source.metrics.memory.evictions.inc();
                tracing::debug!(store = %replica.store(), bytes = residence.bytes().sum(), "store evicted");
                shared.lay_to_rest(&replica, &mut seat, FeedError::Evicted);
            }
        });
    }

    /// Takes a store that does not fit out of memory, and remembers that.
    pub(super) fn refuse(&self, replica: &Arc<Replica>, seat: &mut Seat, error: FeedError) {
        self.remember_refusal(replica.store(), error.clone());
        self.lay_to_rest(replica, seat, error);
    }

    /// What a failed load means for who waits, and for who asks next.
    pub(super) fn load_failed(&self, store: StoreId, error: &FeedError) {
        match error {
            FeedError::StoreNotFound => self.forget(store),
            FeedError::TooLarge { .. } => {
                self.remember_refusal(store, error.clone());
                if let Some(replica) = self.dormant.get(&store) {
                    replica.silence(error.clone());
                }
            }
            // The next request tries again.
            FeedError::HistoryDiverged
            | FeedError::HistoryLost { .. }
            | FeedError::Reloading
            | FeedError::Behind { .. }
            | FeedError::OutOfRange { .. }
            | FeedError::Schema { .. }
            | FeedError::Loading
            | FeedError::Evicted
            | FeedError::Crowded
            | FeedError::Full(_)
            | FeedError::Datastore(_)
            | FeedError::Timeout
            | FeedError::ShuttingDown => {}
        }
    }

    fn remember_refusal(&self, store: StoreId, error: FeedError) {
        let now = Instant::now();
        self.refused.retain(|_, (until, _)| *until > now);
        self.refused.insert(store, (now + REFUSAL, error));
    }

    /// Why a store is refused, if it is.
    pub(super) fn refusal(&self, store: StoreId) -> Option<FeedError> {
        let (until, error) = self.refused.get(&store)?.clone();
        (until > Instant::now()).then_some(error)
    }

    /// Silences a replica that has nothing to answer from until its store is loaded again.
    fn lay_to_rest(&self, replica: &Arc<Replica>, seat: &mut Seat, why: FeedError) {
        *seat = Seat::dormant();
        // In both for a moment, so that a load that begins now finds the replica.
        self.dormant.insert(replica.store(), Arc::clone(replica));
        self.stores.remove_if(&replica.store(), |_, loaded| {
            replica_of(loaded).is_some_and(|current| Arc::ptr_eq(&current, replica))
        });
        replica.silence(why);
        if self.dormant.len() > DORMANT {
            // Whoever still holds one finds it silent, and asks for the store's new one.
            let forgotten = self.dormant.iter().filter(|other| !other.is_watched());
            let forgotten = forgotten.map(|other| other.store()).find(|store| *store != replica.store());
            forgotten.map(|store| self.dormant.remove(&store));
        }
    }

    /// The replicas of stores that are not in memory and whose news somebody waits for.
    pub(super) fn watched_from_afar(&self) -> Vec<Arc<Replica>> {
        self.dormant
            .iter()
            .filter(|replica| replica.is_watched())
            .map(|replica| Arc::clone(&replica))
            .collect()
    }
}
