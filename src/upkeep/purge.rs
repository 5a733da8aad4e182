//! Removes the rows of deleted stores.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::duty::{Left, Round};
use super::settings::UpkeepSettings;
use super::stores::Chore;
use crate::datastore::{self, DatastoreError, PurgeMark};
use crate::metrics::Task;
use crate::revision::StoreId;

/// How often the log says how far a large store has come.
const NEWS: Duration = Duration::from_secs(30);

pub(super) struct Purging {
    interval: Duration,
    batch: u32,
    under_way: HashMap<StoreId, Progress>,
}

/// How far the purge of a store has come.
struct Progress {
    mark: PurgeMark,
    rows: u64,
    begun: Instant,
    told: Instant,
}

impl Progress {
    fn begin() -> Self {
        let now = Instant::now();
        Self { mark: PurgeMark::START, rows: 0, begun: now, told: now }
    }
}

impl Purging {
    pub(super) fn new(settings: &UpkeepSettings) -> Self {
        Self { interval: settings.purge_interval, batch: settings.batch, under_way: HashMap::new() }
    }
}

#[async_trait::async_trait]
impl Chore for Purging {
    fn task(&self) -> Task {
        Task::Purge
    }

    fn interval(&self) -> Duration {
        self.interval
    }

    async fn stores(
        &mut self,
        record: &dyn datastore::Upkeep,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError> {
        let stores = record.deleted_stores(after, limit).await?;
        if stores.is_empty() {
            // Another node has finished what this one began.
            self.under_way.clear();
        }
        Ok(stores)
    }

    async fn step(&mut self, store: StoreId, round: &Round<'_>) -> anyhow::Result<Left> {
        let progress = self.under_way.entry(store).or_insert_with(Progress::begin);
        let purge = round.record.purge(store, progress.mark.clone(), self.batch).await?;
        progress.rows += purge.rows;
        round.removed(purge.rows);
        let rows = progress.rows;
        let Some(next) = purge.next else {
            let seconds = progress.begun.elapsed().as_secs_f64();
            tracing::info!(%store, rows, seconds, "the rows of a deleted store are removed");
            self.under_way.remove(&store);
            return Ok(Left::Nothing);
        };
        progress.mark = next;
        if progress.told.elapsed() >= NEWS {
            progress.told = Instant::now();
            tracing::info!(%store, rows, "removing the rows of a deleted store");
        }
        Ok(Left::More)
    }
}
