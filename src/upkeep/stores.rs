//! Duties that go from store to store: a bounded step in each, so that none waits for another.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

use super::duty::{Duty, Left, Round};
use crate::datastore::{self, DatastoreError};
use crate::metrics::{Label as _, Task};
use crate::revision::StoreId;

/// Stores looked at in one round.
const STORES: u32 = 1_000;

const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What is done in a store.
#[async_trait::async_trait]
pub(super) trait Chore: Send {
    /// The duty it belongs to.
    fn task(&self) -> Task;

    /// How long to wait when there is nothing more to do in any store.
    fn interval(&self) -> Duration;

    /// Stores that need it, in order of their ids, after one, at most `limit`.
    async fn stores(
        &mut self,
        record: &dyn datastore::Upkeep,
        after: Option<StoreId>,
        limit: u32,
    ) -> Result<Vec<StoreId>, DatastoreError>;

    /// A bounded step in one store.
    async fn step(&mut self, store: StoreId, round: &Round<'_>) -> anyhow::Result<Left>;
}

/// A duty of steps in stores. A store in which a step failed is left alone for a while, so that it
/// neither holds up the others nor fills the log.
pub(super) struct StoreByStore<C> {
    chore: C,
    /// Where the next round begins.
    after: Option<StoreId>,
    troubles: HashMap<StoreId, Trouble>,
}

struct Trouble {
    not_before: Instant,
    pause: Duration,
}

impl<C: Chore> StoreByStore<C> {
    pub(super) fn new(chore: C) -> Self {
        Self { chore, after: None, troubles: HashMap::new() }
    }

    async fn step(&mut self, store: StoreId, round: &Round<'_>) -> Left {
        if self.troubles.get(&store).is_some_and(|trouble| trouble.not_before > Instant::now()) {
            return Left::Nothing;
        }
        let task = self.chore.task().value();
        match self.chore.step(store, round).await {
            Ok(left) => {
                if self.troubles.remove(&store).is_some() {
                    tracing::info!(task, %store, "the upkeep of the store works again");
                }
                left
            }
            Err(error) => {
                round.failed();
                let known = self.troubles.get(&store);
                if known.is_none() {
                    let error: &dyn std::error::Error = error.as_ref();
                    tracing::warn!(
                        task, %store, error,
                        "the upkeep of the store failed; trying again from time to time"
                    );
                }
                let pause = known.map_or(FIRST_PAUSE, |known| (known.pause * 2).min(LONGEST_PAUSE));
                self.troubles.insert(store, Trouble { not_before: Instant::now() + pause, pause });
                Left::Nothing
            }
        }
    }
}

#[async_trait::async_trait]
impl<C: Chore> Duty for StoreByStore<C> {
    fn task(&self) -> Task {
        self.chore.task()
    }

    fn interval(&self) -> Duration {
        self.chore.interval()
    }

    async fn round(&mut self, round: &Round<'_>) -> Result<Left, DatastoreError> {
        let begin = self.after;
        let stores = self.chore.stores(round.record, begin, STORES).await?;
        let mut left = Left::Nothing;
        if stores.len() < STORES as usize {
            self.after = None;
            // Those that were left alone and need nothing any more, or are gone.
            self.troubles.retain(|_, trouble| trouble.not_before.elapsed() < LONGEST_PAUSE);
        } else {
            self.after = stores.last().copied();
            left = Left::More;
        }
        let mut done = begin;
        for store in stores {
            if round.is_over() {
                // The next round goes on where this one ended.
                self.after = done;
                return Ok(Left::More);
            }
            if self.step(store, round).await == Left::More {
                left = Left::More;
            }
            done = Some(store);
        }
        Ok(left)
    }
}
