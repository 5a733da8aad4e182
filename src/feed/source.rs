//! What the feed reads from, and how: every query with a time limit of its own.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use super::error::FeedError;
use super::follower::{Break, Position, continuation};
use super::settings::FeedSettings;
use crate::datastore::{Datastore, DatastoreError, LogEntry};
use crate::metrics::Metrics;
use crate::revision::{Revision, StoreId};

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

    /// The next entries that continue a position, and whether there may be more.
    ///
    /// # Errors
    /// [`FeedError::HistoryDiverged`] or [`FeedError::Reloading`] if they do not continue it.
    pub(super) async fn read_after(
        &self,
        store: StoreId,
        held: Position,
    ) -> Result<(Vec<LogEntry>, bool), FeedError> {
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
        match continuation(held, entries) {
            Ok(fresh) => Ok((fresh, full)),
            Err(broken) => {
                tracing::warn!(%store, %broken, "the changelog does not continue what is in memory");
                Err(match broken {
                    Break::Diverged { .. } => FeedError::HistoryDiverged,
                    Break::Gap { .. } => FeedError::Reloading,
                })
            }
        }
    }

    /// How long to wait after so many failures in a row.
    pub(super) fn backoff(&self, failures: u32) -> Duration {
        let doubled = 1_u32.checked_shl(failures).unwrap_or(u32::MAX);
        self.settings.poll_interval.saturating_mul(doubled).min(self.settings.max_backoff)
    }
}

/// What entries count against a limit. A revision without changes counts as one with one.
fn weight(entries: &[LogEntry]) -> usize {
    entries.iter().map(|entry| entry.changes.len().max(1)).sum()
}
