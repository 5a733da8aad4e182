//! A group of writes on its way into the record, until each of its callers has been answered.
//!
//! ```text
//! commit ──▶ outcomes: each caller is told its own
//!  ▲  │
//!  │  ├──▶ nothing was written, the database may recover: again, until the deadlines pass
//!  ├──┘
//!  │  ┌──▶ a statement was refused: each half by itself, until the write at fault fails alone
//!  │  │
//!  │  └──▶ COMMIT was sent and not answered: settled under the store's lock
//!  │                  │            │
//!  └── it is not in ──┘            └── it is in the record: each caller is told what was decided
//! ```
//!
//! **A write is never written twice.** It is repeated only after a failure that means that nothing
//! was written, or after [`Datastore::settle`](crate::datastore::Datastore::settle) has said so
//! with the lock in hand that its commit would have held.
//!
//! **A caller is told no later than its deadline** while the group waits for the database: that
//! nothing was written, or that nobody knows. It then leaves before the group is repeated, never
//! during a transaction. A doubt is settled even if nobody waits any more, so that what comes
//! next begins on firm ground.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Caller, CommitError, CommitterSettings, Shared, Waiting, announce};
use crate::datastore::{DatastoreError, GroupError, Outcome, Write};
use crate::metrics::{GroupOutcome, InDoubt};
use crate::revision::{Revision, StoreId, WriteId};
use crate::trace::{self, Kind, Span};

/// Writes, and in the same order who waits for them.
pub(super) struct Group {
    writes: Arc<[Write]>,
    callers: Vec<Caller>,
}

/// What became of a commit that was not answered.
enum Fate {
    Committed,
    Absent,
    /// Nobody can say, or will.
    Unknown(Arc<DatastoreError>),
}

impl Group {
    pub(super) fn of(waiting: Vec<Waiting>) -> Self {
        let (writes, callers): (Vec<_>, Vec<_>) =
            waiting.into_iter().map(|waiting| (waiting.write, waiting.caller)).unzip();
        Self { writes: writes.into(), callers }
    }

    fn into_waiting(self) -> Vec<Waiting> {
        let writes = self.writes.iter().cloned();
        writes.zip(self.callers).map(|(write, caller)| Waiting { write, caller }).collect()
    }

    /// Commits the group and answers its callers; returns those that must wait for the next.
    pub(super) async fn commit(mut self, shared: &Arc<Shared>, store: StoreId) -> Vec<Waiting> {
        let mut pace = Pace::of(&shared.settings);
        loop {
            let error = match self.attempt(shared, store).await {
                Ok(outcomes) => return self.tell(shared, store, outcomes),
                Err(GroupError::InDoubt { decided, cause }) => {
                    match self.settle(shared, store, &decided, cause).await {
                        Fate::Committed => return self.tell(shared, store, decided),
                        Fate::Unknown(error) => return self.fail(shared, &error),
                        Fate::Absent => absent(),
                    }
                }
                Err(GroupError::Failed(error)) => match Remedy::of(&error) {
                    Remedy::Repeat if !shared.is_closed() => error,
                    Remedy::Divide if self.callers.len() > 1 => {
                        tracing::warn!(%store, writes = self.callers.len(), %error, "a group of writes failed; trying its parts");
                        return self.divide(shared, store).await;
                    }
                    Remedy::Repeat | Remedy::Divide | Remedy::None => {
                        return self.fail(shared, &Arc::new(error));
                    }
                },
            };
            if pace.is_fresh() {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%store, writes = self.callers.len(), error, "a group of writes failed; trying again");
            }
            let (error, pause) = (Arc::new(error), tokio::time::sleep(pace.next()));
            self.attend(shared, &error, pause).await;
            self.part_with_late(shared, &error);
            self.leave();
            if self.callers.is_empty() {
                return Vec::new();
            }
            shared.metrics.record.commit_groups_repeated.inc();
        }
    }

    /// One transaction.
    async fn attempt(&self, shared: &Shared, store: StoreId) -> Result<Vec<Outcome>, GroupError> {
        let begun = Instant::now();
        let mut spans = self.spans();
        let commit = shared.datastore.commit(store, Arc::clone(&self.writes));
        let result = trace::under(spans.first().map(Span::as_parent), commit).await;
        if result.is_err() {
            spans.iter_mut().for_each(Span::fail);
        }
        drop(spans);
        let record = &shared.metrics.record;
        record.commit_seconds.since(begun);
        let outcome = match &result {
            Ok(_) => GroupOutcome::Committed,
            Err(GroupError::Failed(_)) => GroupOutcome::Failed,
            Err(GroupError::InDoubt { .. }) => GroupOutcome::InDoubt,
        };
        record.commit_groups.of(outcome).inc();
        result
    }

    /// A span for each call that is recorded. What the database is asked is told once, below the
    /// first of them; the others point there.
    fn spans(&self) -> Vec<Span> {
        let calls = self.callers.iter().filter_map(|caller| caller.call.as_ref());
        let mut spans: Vec<Span> = calls.map(|call| call.child(Kind::Internal, "commit")).collect();
        let first = spans.first().map(Span::place);
        for (index, span) in spans.iter_mut().enumerate() {
            span.say("relata.group.writes", self.writes.len());
            if let (Some(first), true) = (first, index > 0) {
                span.link(first);
            }
        }
        spans
    }

    /// Finds out what became of the group, however long that takes.
    async fn settle(
        &mut self,
        shared: &Shared,
        store: StoreId,
        decided: &[Outcome],
        cause: anyhow::Error,
    ) -> Fate {
        // A group that has taken no revision has changed nothing but what is remembered of its
        // idempotency keys, and that the next attempt finds or not.
        let Some((revision, write)) = self.newest(decided) else { return Fate::Absent };
        let unknown = Arc::new(DatastoreError::OutcomeUnknown(cause));
        tracing::warn!(
            %store, %revision, %write, writes = self.callers.len(),
            error = &*unknown as &dyn std::error::Error, "a commit was not answered; looking it up"
        );
        let mut pace = Pace::of(&shared.settings);
        let fate = loop {
            self.attend(shared, &unknown, tokio::time::sleep(pace.next())).await;
            let looked = shared.datastore.settle(store, revision, write);
            let error = match self.attend(shared, &unknown, looked).await {
                Ok(true) => break Fate::Committed,
                Ok(false) => break Fate::Absent,
                Err(error) => error,
            };
            tracing::warn!(
                %store, %revision, %write,
                error = &error as &dyn std::error::Error, "a commit could not be looked up"
            );
            if matches!(error, DatastoreError::StoreNotFound) {
                break Fate::Unknown(Arc::new(error));
            }
            let hopeless = Remedy::of(&error) != Remedy::Repeat;
            if hopeless || (shared.is_closed() && !self.callers.iter().any(Caller::waits)) {
                break Fate::Unknown(unknown);
            }
        };
        let (found, what) = match &fate {
            Fate::Committed => (InDoubt::Committed, "it is in the record"),
            Fate::Absent => (InDoubt::Absent, "it is not in the record"),
            Fate::Unknown(_) => (InDoubt::Unresolved, "nobody knows"),
        };
        shared.metrics.record.in_doubt_groups.of(found).inc();
        tracing::warn!(%store, %revision, %write, "the commit that was not answered: {what}");
        fate
    }

    /// The newest revision that the group itself took.
    fn newest(&self, decided: &[Outcome]) -> Option<(Revision, WriteId)> {
        let taken = decided.iter().filter_map(|outcome| match outcome {
            Outcome::Committed(committed) => Some((committed.revision, committed.write_id)),
            Outcome::Failed(_) | Outcome::Deferred => None,
        });
        taken.filter(|(_, id)| self.writes.iter().any(|write| write.write_id == *id)).max()
    }

    /// Waits for something, and meanwhile tells callers whose deadline passes.
    async fn attend<T>(
        &mut self,
        shared: &Shared,
        late: &Arc<DatastoreError>,
        work: impl Future<Output = T>,
    ) -> T {
        let mut work = pin!(work);
        loop {
            let next =
                self.callers.iter().filter(|caller| caller.waits()).map(|caller| caller.deadline).min();
            let Some(next) = next else { return work.await };
            tokio::select! {
                biased;
                done = &mut work => return done,
                () = tokio::time::sleep_until(next.into()) => {}
            }
            self.part_with_late(shared, late);
        }
    }

    /// Tells callers whose deadline has passed.
    fn part_with_late(&mut self, shared: &Shared, error: &Arc<DatastoreError>) {
        let now = Instant::now();
        for caller in self.callers.iter_mut().filter(|caller| caller.deadline <= now) {
            caller.answer(&shared.metrics, Err(CommitError::Datastore(Arc::clone(error))));
        }
    }

    /// Drops the writes for which nobody waits any more.
    fn leave(&mut self) {
        if self.callers.iter().all(Caller::waits) {
            return;
        }
        let stay: Vec<bool> = self.callers.iter().map(Caller::waits).collect();
        let staying = self.writes.iter().zip(&stay).filter(|(_, stay)| **stay);
        self.writes = staying.map(|(write, _)| write.clone()).collect();
        let mut stay = stay.into_iter();
        self.callers.retain(|_| stay.next() == Some(true));
    }

    /// Commits each half by itself, so that one bad write does not take its neighbours with it and
    /// its many neighbours do not wait for as many transactions.
    async fn divide(self, shared: &Arc<Shared>, store: StoreId) -> Vec<Waiting> {
        shared.metrics.record.commit_groups_split.inc();
        let mut first = self.into_waiting();
        let second = first.split_off(first.len() / 2);
        let mut deferred = Vec::new();
        for half in [first, second] {
            deferred.extend(Box::pin(Self::of(half).commit(shared, store)).await);
        }
        deferred
    }

    /// Tells each caller its outcome; returns those without one.
    fn tell(self, shared: &Arc<Shared>, store: StoreId, outcomes: Vec<Outcome>) -> Vec<Waiting> {
        let mut deferred = Vec::new();
        let mut committed = false;
        for ((write, mut caller), outcome) in self.writes.iter().zip(self.callers).zip(outcomes) {
            match outcome {
                Outcome::Committed(result) => {
                    committed |= !result.replayed;
                    caller.answer(&shared.metrics, Ok(result));
                }
                Outcome::Failed(error) => caller.answer(&shared.metrics, Err(CommitError::Write(error))),
                Outcome::Deferred if caller.waits() => {
                    deferred.push(Waiting { write: write.clone(), caller });
                }
                Outcome::Deferred => {}
            }
        }
        if committed {
            announce(shared, store);
        }
        deferred
    }

    /// Tells every caller of a failure of all.
    fn fail(self, shared: &Shared, error: &Arc<DatastoreError>) -> Vec<Waiting> {
        for mut caller in self.callers {
            caller.answer(&shared.metrics, Err(CommitError::Datastore(Arc::clone(error))));
        }
        Vec::new()
    }
}

fn absent() -> DatastoreError {
    DatastoreError::Unavailable(anyhow::anyhow!("the commit was not answered and did not happen"))
}

/// What can be done about a failure after which nothing has been written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// The same again may succeed.
    Repeat,
    /// It may be the fault of one write's content, and the others would succeed without it.
    Divide,
    /// Nothing.
    None,
}

impl Remedy {
    fn of(error: &DatastoreError) -> Self {
        match error {
            DatastoreError::Unavailable(_) => Self::Repeat,
            DatastoreError::Corrupt(_) | DatastoreError::TooCostly { .. } | DatastoreError::Other(_) => {
                Self::Divide
            }
            DatastoreError::OutcomeUnknown(_)
            | DatastoreError::NotMigrated { .. }
            | DatastoreError::TooNew { .. }
            | DatastoreError::Trimmed { .. }
            | DatastoreError::StoreNotFound
            | DatastoreError::StoreExists(_)
            | DatastoreError::InUse(_) => Self::None,
        }
    }
}

/// How long to wait before each repetition: not at all, then twice as long each time.
struct Pace {
    next: Duration,
    after: Duration,
    at_most: Duration,
}

impl Pace {
    fn of(settings: &CommitterSettings) -> Self {
        Self { next: Duration::ZERO, after: settings.repeat_after, at_most: settings.repeat_at_most }
    }

    /// Whether nothing has been repeated yet.
    fn is_fresh(&self) -> bool {
        self.next.is_zero()
    }

    fn next(&mut self) -> Duration {
        let doubled = self.next.saturating_mul(2).clamp(self.after, self.at_most.max(self.after));
        std::mem::replace(&mut self.next, doubled)
    }
}
