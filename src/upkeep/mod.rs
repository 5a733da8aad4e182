//! Upkeep: what happens to the record by itself, so that it does not grow without end.
//!
//! | Duty | Does | In |
//! |---|---|---|
//! | sweep | removes expired tuples, as ordinary revisions | `sweep` |
//! | purge | removes the rows of deleted stores | `purge` |
//! | trim | removes the oldest revisions of the log, where a retention is set | `trim` |
//! | idempotency | forgets idempotency keys that need not be remembered | `forget` |
//!
//! Each duty is a task of its own on every node, and one node at a time has its lease (`duty`). It
//! works in rounds, a bounded step for each store that needs one (`stores`), and rests after a
//! round as long as the round took. It asks the database alone what is to be done: no store is
//! loaded for it, and what a killed node left undone the next one finds.
//!
//! A lease saves double work; nothing depends on it. A node that was stopped in the middle of a
//! round and wakes up after its lease has ended finishes the step it was at beside its successor,
//! and both are right: what expired is judged again under the store's lock
//! ([`Update::Expire`](crate::datastore::Update::Expire)), and rows that are gone are not removed
//! twice.

mod duty;
mod forget;
mod purge;
mod settings;
mod stores;
mod sweep;
mod trim;

use std::sync::Arc;

use tokio::sync::{Mutex, watch};
use tokio::task::JoinSet;
use uuid::Uuid;

pub use settings::{MAX_SWEEP_INTERVAL, MIN_LOG_RETENTION, UpkeepSettings};
pub use sweep::SWEEPER;

use self::duty::{Attendant, Duty};
use self::stores::StoreByStore;
use crate::datastore::Datastore;
use crate::datastore::committer::Committers;
use crate::metrics::Metrics;

/// The duties of one node.
#[derive(Debug)]
pub struct Upkeep {
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
}

impl Upkeep {
    /// Begins the duties on the current runtime. What is swept goes through `committers`, in a
    /// group with what else is written.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    #[must_use]
    pub fn start(
        datastore: &Arc<dyn Datastore>,
        committers: &Committers,
        settings: &UpkeepSettings,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let (stop, stopping) = watch::channel(false);
        let holder = Uuid::new_v4();
        let mut tasks = JoinSet::new();
        let mut begin = |duty: Box<dyn Duty>| {
            let attendant = Attendant {
                record: Arc::clone(datastore).upkeep(),
                holder,
                term: settings.lease_term,
                metrics: Arc::clone(metrics),
                stopping: stopping.clone(),
            };
            tasks.spawn(attendant.attend(duty));
        };
        begin(Box::new(StoreByStore::new(sweep::Sweep::new(committers.clone(), settings))));
        begin(Box::new(StoreByStore::new(purge::Purging::new(settings))));
        begin(Box::new(forget::Forget::new(settings)));
        if let Some(retention) = settings.log_retention {
            begin(Box::new(StoreByStore::new(trim::Trimming::new(retention, settings))));
        }
        Self { stop, tasks: Mutex::new(tasks) }
    }

    /// Ends all duties after the steps they are at, and gives their leases back.
    pub async fn stop(&self) {
        // An error means that no duty is left.
        let _ = self.stop.send(true);
        let mut tasks = self.tasks.lock().await;
        while tasks.join_next().await.is_some() {}
    }
}
