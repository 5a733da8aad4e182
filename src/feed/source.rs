//! What the feed reads from, and how: every query with a time limit of its own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::error::FeedError;
use super::follower::{Break, Position, continuation};
use super::ring::Tags;
use super::settings::FeedSettings;
use crate::datastore::{Datastore, DatastoreError, LogEntry};
use crate::metrics::Metrics;
use crate::revision::{Revision, StoreId, WriteId};

/// Write ids read at once.
const TAGS_PER_PAGE: u32 = 10_000;

/// The database, the settings it is read with, and what is counted.
#[derive(Debug, Clone)]
pub(super) struct Source {
    pub(super) datastore: Arc<dyn Datastore>,
    pub(super) settings: Arc<FeedSettings>,
    pub(super) metrics: Arc<Metrics>,
}

impl Source {
    /// Waits for an answer, but not for ever. Dropping a question to the datastore drops only the
    /// answer, never a connection in the middle of something.
    pub(super) async fn ask<T>(
        &self,
        question: impl Future<Output = Result<T, DatastoreError>>,
    ) -> Result<T, FeedError> {
        match tokio::time::timeout(self.settings.query_timeout, question).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(FeedError::Timeout),
        }
    }

    /// Log entries from a revision on, whole revisions, until about `limit` changes. Revision zero
    /// has no entry.
    pub(super) async fn read_log(
        &self,
        store: StoreId,
        from: Revision,
        limit: u32,
    ) -> Result<Vec<LogEntry>, FeedError> {
        self.ask(self.datastore.log(store, from.max(Revision(1)), limit)).await
    }

    /// The write id of a revision; `None`: the log has no such revision, or no longer.
    pub(super) async fn write_id(
        &self,
        store: StoreId,
        revision: Revision,
    ) -> Result<Option<WriteId>, FeedError> {
        let found = self.ask(self.datastore.write_ids(store, revision, 1)).await?;
        Ok(found.first().filter(|(found, _)| *found == revision).map(|(_, write_id)| *write_id))
    }

    /// The tags of the last revisions up to one, itself included, at most so many, as far as the
    /// log goes without a gap.
    pub(super) async fn tags_up_to(
        &self,
        store: StoreId,
        last: Revision,
        count: usize,
    ) -> Result<Tags, FeedError> {
        let mut tags = Tags::new();
        let mut next = Revision((last.0 + 1).saturating_sub(count as u64).max(1));
        while next <= last {
            let left = u32::try_from(last.0 - next.0 + 1).unwrap_or(u32::MAX);
            let page = self.ask(self.datastore.write_ids(store, next, left.min(TAGS_PER_PAGE))).await?;
            if page.is_empty() {
                // The log ends before: what there is does not lead up to the revision.
                return Ok(Tags::new());
            }
            for (revision, write_id) in page {
                if revision != next {
                    tags.clear();
                }
                tags.push_back(write_id.tag());
                next = revision.next();
            }
        }
        // A trimmed log may begin after the revision.
        Ok(if next == last.next() { tags } else { Tags::new() })
    }

    /// The next entries that continue a position, and whether there may be more.
    pub(super) async fn continue_from(
        &self,
        store: StoreId,
        held: Position,
    ) -> Result<(Vec<LogEntry>, bool), Stop> {
        let mut limit = self.settings.batch.max(1);
        let entries = loop {
            let entries = self.read_log(store, held.revision, limit).await?;
            // The revision already held comes first, and may alone be as large as a batch.
            if entries.len() > 1 || weight(&entries) < limit as usize || limit > u32::MAX / 2 {
                break entries;
            }
            limit *= 2;
        };
        let full = weight(&entries) >= limit as usize;
        Ok((continuation(held, entries)?, full))
    }

    /// As [`Source::continue_from`], for a load, which begins again however it fails.
    ///
    /// # Errors
    /// [`FeedError::HistoryDiverged`] or [`FeedError::Reloading`] if they do not continue it.
    pub(super) async fn read_after(
        &self,
        store: StoreId,
        held: Position,
    ) -> Result<(Vec<LogEntry>, bool), FeedError> {
        self.continue_from(store, held).await.map_err(|stop| match stop {
            Stop::Failed(error) => error,
            Stop::Broken(broken) => {
                tracing::warn!(%store, %broken, "the changelog does not continue what is being loaded");
                match broken {
                    Break::Diverged { .. } => FeedError::HistoryDiverged,
                    Break::Gap { .. } => FeedError::Reloading,
                }
            }
        })
    }

    /// How long to wait after so many failures in a row.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.settings.poll_interval.saturating_mul(doubled).min(self.settings.max_backoff)
    }
}

/// Why a position could not be continued.
#[derive(Debug)]
pub(super) enum Stop {
    /// The log says something that does not follow.
    Broken(Break),
    /// It could not be read, or not be applied.
    Failed(FeedError),
}

impl From<Break> for Stop {
    fn from(broken: Break) -> Self {
        Self::Broken(broken)
    }
}

impl From<FeedError> for Stop {
    fn from(error: FeedError) -> Self {
        Self::Failed(error)
    }
}

/// What entries count against a limit. A revision without changes counts as one with one.
fn weight(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.changes.len().max(1)).sum()
}
