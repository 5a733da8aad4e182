//! The feed as the server uses it.

use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::clock::Skew;
use super::error::FeedError;
use super::poll;
use super::replica::Replica;
use super::settings::FeedSettings;
use super::shared::Shared;
use super::source::Source;
use crate::datastore::{Datastore, Head};
use crate::metrics::{HintSource, Metrics};
use crate::revision::{Revision, StoreId, WriteId};

/// Keeps this node's copies of stores current. One per node.
#[derive(Debug)]
pub struct Feed {
    shared: Arc<Shared>,
}

/// Whether a node can answer, and if not, why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// How long ago the database last answered.
    pub database_silent_for: Duration,
    /// How far this node's clock is from the database's; `None`: not known at present.
    pub skew: Option<Skew>,
    /// Stores whose copies were proved current too long ago, and how long ago that was.
    pub stale: Vec<(StoreId, Duration)>,
    /// Stores that are being loaded anew and answer nothing. They do not make the node unhealthy:
    /// the others are served, and another node would fare no better.
    pub reloading: Vec<StoreId>,
    /// Stores in memory that answer.
    pub resident: usize,
    /// How long ago the one of them proved current least recently was proved so; `None` without
    /// any.
    pub oldest_proof: Option<Duration>,
    max_staleness: Duration,
    max_clock_skew: Duration,
}

impl Health {
    /// Whether the database answers.
    #[must_use]
    pub fn database_answers(&self) -> bool {
        self.database_silent_for <= self.max_staleness
    }

    /// Whether this node's clock is as the database's, as far as is known.
    #[must_use]
    pub fn clocks_agree(&self) -> bool {
        self.skew.is_none_or(|skew| skew.at_least() <= self.max_clock_skew)
    }

    /// Whether the node should get requests.
    #[must_use]
    pub fn is_serving(&self) -> bool {
        self.database_answers() && self.stale.is_empty() && self.clocks_agree()
    }
}

impl Feed {
    /// Starts following on the current runtime, which does all the feed's work from then on.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(datastore: Arc<dyn Datastore>, settings: FeedSettings, metrics: Arc<Metrics>) -> Arc<Self> {
        let shared = Shared::new(Source { datastore, settings: Arc::new(settings), metrics });
        shared.spawn(poll::poll(Arc::clone(&shared)));
        shared.spawn(poll::listen(Arc::clone(&shared)));
        shared.spawn(poll::compare_clocks(Arc::clone(&shared)));
        Arc::new(Self { shared })
    }

    /// A store's copy on this node; loads it first if need be, once for all who ask meanwhile. The
    /// load goes on if the caller stops waiting.
    ///
    /// # Errors
    /// [`FeedError::StoreNotFound`], [`FeedError::TooLarge`] if it does not fit into the budget, or
    /// why else the store could not be loaded.
    pub async fn replica(&self, store: StoreId) -> Result<Arc<Replica>, FeedError> {
        let mut loaded = self.shared.loaded(store);
        match loaded.wait_for(Option::is_some).await {
            Ok(outcome) => outcome.clone().unwrap_or(Err(FeedError::ShuttingDown)),
            Err(_) => Err(FeedError::ShuttingDown),
        }
    }

    /// From now on a store is never evicted to make room for others. Loading it is another matter.
    pub fn pin(&self, store: StoreId) {
        self.shared.pinned.insert(store);
        if let Some(published) = self.shared.replica(store).and_then(|replica| replica.published().ok()) {
            published.residence.charge.pin();
        }
    }

    /// A store's copy, if this node has one.
    #[must_use]
    pub fn resident(&self, store: StoreId) -> Option<Arc<Replica>> {
        self.shared.replica(store)
    }

    /// There may be something new in a store: call it after a commit.
    pub fn hint(&self, store: StoreId) {
        self.shared.source.metrics.feed.hints.of(HintSource::Here).inc();
        self.shared.hint(store);
    }

    /// The database has this write at this revision: call it after a commit. If memory has another
    /// write there, it holds what the database has lost, and answers nothing until it is put right.
    pub fn committed(&self, replica: &Replica, revision: Revision, write_id: WriteId) {
        if replica.write_tag(revision).is_some_and(|known| known != write_id.tag()) {
            self.shared.retire(replica, FeedError::HistoryDiverged);
        }
        self.hint(replica.store());
    }

    /// The store's head in the database, read after this call: at least as new as any write that
    /// had been acknowledged before it. Concurrent calls share a query.
    ///
    /// # Errors
    /// [`FeedError::StoreNotFound`], or why the database could not be asked.
    pub async fn head(&self, store: StoreId) -> Result<Head, FeedError> {
        let (caller, answer) = oneshot::channel();
        self.shared.heads.lock().unwrap_or_else(PoisonError::into_inner).push((store, caller));
        self.shared.wake.notify_one();
        answer.await.unwrap_or(Err(FeedError::ShuttingDown))
    }

    /// How the node is.
    #[must_use]
    pub fn health(&self) -> Health {
        let settings = &self.shared.source.settings;
        let max_staleness = settings.max_staleness;
        let last_answer = *self.shared.last_answer.lock().unwrap_or_else(PoisonError::into_inner);
        let (serving, silent): (Vec<_>, Vec<_>) =
            self.shared.resident().into_iter().partition(|replica| replica.is_serving());
        let staleness = |replica: &Arc<Replica>| (replica.store(), replica.staleness());
        Health {
            database_silent_for: Instant::now().saturating_duration_since(last_answer),
            skew: self.shared.clock.skew(Instant::now()),
            resident: serving.len(),
            oldest_proof: serving.iter().map(|replica| replica.staleness()).max(),
            stale: serving.iter().map(staleness).filter(|(_, age)| *age > max_staleness).collect(),
            reloading: silent.iter().map(|replica| replica.store()).collect(),
            max_staleness,
            max_clock_skew: settings.max_clock_skew,
        }
    }

    /// Forgets a store's copy, because it is deleted or no longer wanted here.
    pub fn drop_store(&self, store: StoreId) {
        self.shared.forget(store);
    }

    /// Ends all work. Copies can still be read as they are; nothing new arrives.
    pub async fn shutdown(&self) {
        self.shared.close().await;
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.shared.stop();
    }
}
