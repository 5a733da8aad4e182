//! Following one store: reading what is new, applying it, and putting right what does not fit.

use std::sync::Arc;
use std::time::Instant;

use super::error::FeedError;
use super::follower::{Break, Follower, Position};
use super::replica::Replica;
use super::shared::{Seat, Shared};
use super::source::Stop;
use crate::datastore::LogEntry;
use crate::metrics::Divergence;
use crate::revision::Revision;
use crate::time::Timestamp;

/// How often in one go a store is rewound, each time because the database changed once more while
/// it was. The next poll goes on.
const REWINDS: u32 = 8;

/// What is to be counted of entries once they are published.
struct News {
    /// When each was committed, by the database's clock.
    committed: Vec<Timestamp>,
    changes: usize,
}

impl News {
    fn of(entries: &[LogEntry]) -> Self {
        Self {
            committed: entries.iter().map(|entry| entry.committed_at).collect(),
            changes: entries.iter().map(|entry| entry.changes.len()).sum(),
        }
    }
}

impl Shared {
    /// Reads and applies what is new. Where the database has another history, goes back to the
    /// fork; loads the store anew if it cannot be continued at all.
    pub(super) async fn catch_up(self: &Arc<Self>, replica: &Arc<Replica>) {
        let mut seat = replica.seat.lock().await;
        if seat.dormant {
            return;
        }
        if let Some(follower) = seat.follower.take() {
            match self.bring_up(replica, follower).await {
                Ok(follower) => {
                    seat.follower = Some(follower);
                    return;
                }
                Err(FeedError::StoreNotFound) => {
                    self.forget(replica.store());
                    return;
                }
                Err(error @ FeedError::TooLarge { .. }) => {
                    tracing::error!(store = %replica.store(), %error, "the store has outgrown this node");
                    self.refuse(replica, &mut seat, error);
                    return;
                }
                Err(error) => {
                    if !matches!(error, FeedError::HistoryDiverged | FeedError::Reloading) {
                        tracing::error!(
                            store = %replica.store(),
                            error = &error as &dyn std::error::Error,
                            "the store cannot be followed any further and is loaded anew"
                        );
                    }
                    // Schemas may have gone with the history that put them in force.
                    self.schemas.forget_after(replica.store(), Revision::ZERO);
                    self.retire(replica, error);
                }
            }
        }
        self.reload(replica, &mut seat).await;
    }

    /// Brings a store to the head, or as far as the database lets. The error says why its
    /// follower is of no further use.
    async fn bring_up(
        self: &Arc<Self>,
        replica: &Replica,
        mut follower: Follower,
    ) -> Result<Follower, FeedError> {
        let mut rewinds = 0;
        loop {
            let breaks = replica.breaks();
            let broken = match self.advance(replica, &mut follower, breaks).await {
                Ok(true) => continue,
                // Where it does not serve it was rewound, or the database seemed to have another
                // history and has not.
                Ok(false) if replica.is_serving() || replica.publish(follower.publish(), breaks) => {
                    return Ok(follower);
                }
                // What the log said may be of the history that was left while it said so.
                Ok(false) => {
                    rewinds += 1;
                    if rewinds > REWINDS {
                        return Ok(follower);
                    }
                    continue;
                }
                Err(Stop::Failed(error)) if error.is_passing() => return Ok(follower),
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Broken(broken)) => broken,
            };
            let Break::Diverged { held, .. } = broken else {
                tracing::error!(store = %replica.store(), %broken, "the changelog does not continue what is in memory");
                return Err(FeedError::Reloading);
            };
            // Not one more answer from a history that is gone.
            self.retire(replica, FeedError::HistoryDiverged);
            rewinds += 1;
            if rewinds > REWINDS {
                return Ok(follower);
            }
            follower = match self.go_back(replica, follower, broken, held).await {
                Ok(follower) => follower,
                Err((follower, error)) if error.is_passing() => return Ok(follower),
                Err((_, error)) => return Err(error),
            };
        }
    }

    /// Takes back what the database has lost.
    async fn go_back(
        &self,
        replica: &Replica,
        mut follower: Follower,
        broken: Break,
        held: Position,
    ) -> Result<Follower, (Follower, FeedError)> {
        let store = replica.store();
        let divergences = &self.source.metrics.feed.divergences;
        let begun = Instant::now();
        let fork = match self.fork(&follower).await {
            Ok(fork) => fork,
            Err(error) => return Err((follower, error)),
        };
        let Some(fork) = fork else {
            tracing::error!(%store, %broken, "the database's history parts from memory's before what memory can undo");
            divergences.of(Divergence::Reloaded).inc();
            replica.lose(None, held.revision, follower.ring.tags().clone());
            return Err((follower, FeedError::HistoryDiverged));
        };
        let at = fork.at;
        match follower.rewind(fork) {
            Ok(tags) => {
                tracing::error!(
                    %store, %broken, fork = %at.revision, fork_write = %at.write_id, undone = tags.len(),
                    took = ?begun.elapsed(),
                    "the database has lost revisions that were in memory; memory went back to where they part"
                );
                divergences.of(Divergence::Rewound).inc();
                replica.lose(Some(at.revision), held.revision, tags);
                Ok(follower)
            }
            Err(error) => {
                tracing::error!(%store, %broken, fork = %at.revision, %error, "memory cannot go back to the fork");
                divergences.of(Divergence::Reloaded).inc();
                replica.lose(None, held.revision, follower.ring.tags().clone());
                Err((follower, FeedError::HistoryDiverged))
            }
        }
    }

    /// One read of the log, to be shown if there was no break since so many. Returns whether there
    /// is more.
    async fn advance(
        self: &Arc<Self>,
        replica: &Replica,
        follower: &mut Follower,
        breaks: u64,
    ) -> Result<bool, Stop> {
        let _turn = self.workers.acquire().await.map_err(|_| FeedError::ShuttingDown)?;
        let asked = Instant::now();
        let (entries, full) = self.source.continue_from(follower.store, follower.position).await?;
        if !entries.is_empty() {
            let put = entries.iter().rev().find_map(|entry| entry.schema);
            let schema = match put {
                None => follower.schema.clone(),
                Some(_) => self.schemas.in_force(&self.source, follower.store, put).await?,
            };
            let news = News::of(&entries);
            follower.apply(entries, schema)?;
            self.keep_within_budget(follower)?;
            // After a rewind nothing is shown before all of the new branch is there: it would be
            // older than what was shown already.
            if replica.is_serving() && replica.publish(follower.publish(), breaks) {
                self.count(&news);
            }
        }
        if !full {
            replica.prove(asked);
        }
        Ok(full)
    }

    /// Counts what readers have just been shown.
    fn count(&self, news: &News) {
        let metrics = &self.source.metrics.feed;
        metrics.revisions_published.inc_by(news.committed.len() as u64);
        metrics.changes_applied.inc_by(news.changes as u64);
        let here = self.clock.wall();
        let database = self.clock.skew(Instant::now()).map_or(here, |skew| skew.database(here));
        for committed in &news.committed {
            metrics.publish_delay_seconds.observe(database.saturating_since(*committed));
        }
    }

    async fn reload(self: &Arc<Self>, replica: &Arc<Replica>, seat: &mut Seat) {
        if seat.not_before.is_some_and(|moment| Instant::now() < moment) {
            return;
        }
        let breaks = replica.breaks();
        match self.read(replica.store()).await {
            Ok((mut follower, proved)) => {
                *seat = Seat::default();
                replica.prove(proved);
                // If the database left its history once more meanwhile, whoever noticed has it
                // looked at again.
                let shown = replica.publish(follower.publish(), breaks);
                tracing::info!(store = %replica.store(), revision = %follower.position.revision, shown,
                    "store loaded anew");
                seat.follower = Some(follower);
            }
            Err(FeedError::StoreNotFound) => self.forget(replica.store()),
            Err(error @ FeedError::TooLarge { .. }) => self.refuse(replica, seat, error),
            Err(error) => {
                if seat.failures == 0 {
                    tracing::error!(store = %replica.store(), error = &error as &dyn std::error::Error,
                        "store cannot be loaded, trying again from time to time");
                }
                let pause = self.source.backoff(seat.failures);
                seat.failures += 1;
                seat.not_before = Some(Instant::now() + pause);
                if !error.is_passing() {
                    self.retire(replica, error);
                }
            }
        }
    }
}
