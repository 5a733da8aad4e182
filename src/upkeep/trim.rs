//! Removes revisions beyond the retention from the beginning of each store's log.

use std::time::Duration;

use super::duty::{Left, Round};
use super::settings::{MIN_LOG_RETENTION, UpkeepSettings};
use super::stores::Chore;
use crate::datastore::{self, DatastoreError};
use crate::metrics::Task;
use crate::revision::StoreId;

pub(super) struct Trimming {
    retention: Duration,
    interval: Duration,
    batch: u32,
}

impl Trimming {
    pub(super) fn new(retention: Duration, settings: &UpkeepSettings) -> Self {
        Self {
            retention: retention.max(MIN_LOG_RETENTION),
            interval: settings.trim_interval,
            batch: settings.batch,
        }
    }
}

#[async_trait::async_trait]
impl Chore for Trimming {
    fn task(&self) -> Task {
        Task::Trim
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
        record.stores_with_old_log(self.retention, after, limit).await
    }

    async fn step(&mut self, store: StoreId, round: &Round<'_>) -> anyhow::Result<Left> {
        let trim = round.record.trim(store, self.retention, self.batch).await?;
        round.removed(trim.revisions);
        Ok(if trim.more { Left::More } else { Left::Nothing })
    }
}
