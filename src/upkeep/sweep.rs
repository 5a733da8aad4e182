//! Removes expired tuples.
//!
//! An expired tuple counts nowhere from its moment on, whether it is swept or not. Sweeping frees
//! its row and the memory of every node, and tells those who watch. It is an ordinary write of
//! [`SWEEPER`], decided under the store's lock: a tuple that was written anew since it was found is
//! left alone.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::duty::{Left, Round};
use super::settings::UpkeepSettings;
use super::stores::Chore;
use crate::datastore::committer::Committers;
use crate::datastore::{self, Action, DatastoreError, Update, Write};
use crate::metrics::Task;
use crate::revision::{StoreId, WriteId};

/// Who the changelog names.
pub const SWEEPER: &str = "system:sweeper";

/// What the changelog notes.
const NOTE: &str = "expired";

/// How long a sweep may wait in the queue of its store. Clients come first: a queue that is full
/// or slow is left to them.
const PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct Sweep {
    committers: Committers,
    interval: Duration,
    batch: u32,
}

impl Sweep {
    pub(super) fn new(committers: Committers, settings: &UpkeepSettings) -> Self {
        Self { committers, interval: settings.sweep_interval, batch: settings.batch }
    }
}

#[async_trait::async_trait]
impl Chore for Sweep {
    fn task(&self) -> Task {
        Task::Sweep
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
        record.stores_with_expired(after, limit).await
    }

    async fn step(&mut self, store: StoreId, round: &Round<'_>) -> anyhow::Result<Left> {
        let expired = round.record.expired(store, self.batch).await?;
        if expired.is_empty() {
            return Ok(Left::Nothing);
        }
        let full = expired.len() >= self.batch as usize;
        let write = Write {
            write_id: WriteId::fresh(),
            principal: Arc::from(SWEEPER),
            note: Arc::from(NOTE),
            idempotency: None,
            action: Action::Tuples {
                updates: expired.into_iter().map(Update::Expire).collect(),
                preconditions: Vec::new(),
                validated_against: None,
            },
        };
        let committed = self.committers.write(store, write, Instant::now() + PATIENCE).await;
        let swept = committed.context("expired tuples were not removed")?.changes;
        round.removed(swept.into());
        // If none was removed, the lock's clock is behind the one they were found by: it takes
        // time, and not another try at once.
        Ok(if full && swept > 0 { Left::More } else { Left::Nothing })
    }
}
