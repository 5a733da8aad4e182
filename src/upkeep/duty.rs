//! How a duty is attended to: in rounds, by the one node that has its lease.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::datastore::{self, DatastoreError};
use crate::metrics::{Label as _, Metrics, Task};

/// Longest rest between two rounds while there is more to do.
const LONGEST_REST: Duration = Duration::from_secs(1);

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// Work that nobody waits for.
#[async_trait::async_trait]
pub(super) trait Duty: Send {
    /// Its name in leases, logs and metrics.
    fn task(&self) -> Task;

    /// How long to wait when there is nothing more to do.
    fn interval(&self) -> Duration;

    /// Does a bounded amount of work.
    async fn round(&mut self, round: &Round<'_>) -> Result<Left, DatastoreError>;
}

/// Whether something is left to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    Nothing,
    More,
}

/// What a round works with.
pub(super) struct Round<'a> {
    pub(super) record: &'a dyn datastore::Upkeep,
    metrics: &'a Metrics,
    task: Task,
    stopping: &'a watch::Receiver<bool>,
    /// When its lease has to be prolonged.
    until: Instant,
}

impl Round<'_> {
    /// Whether to end after the step it is at: the node stops, or the lease has to be prolonged
    /// first. A node that hung in the middle of a round ends it there when it comes to itself.
    pub(super) fn is_over(&self) -> bool {
        *self.stopping.borrow() || Instant::now() >= self.until
    }

    /// Counts what was removed.
    pub(super) fn removed(&self, rows: u64) {
        self.metrics.upkeep.removed.of(self.task).inc_by(rows);
    }

    /// Counts a failure that does not end the round.
    pub(super) fn failed(&self) {
        self.metrics.upkeep.failures.of(self.task).inc();
    }
}

/// Attends to one duty for as long as the node lives.
pub(super) struct Attendant {
    pub(super) record: Arc<dyn datastore::Upkeep>,
    pub(super) holder: Uuid,
    pub(super) term: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stopping: watch::Receiver<bool>,
}

impl Attendant {
    pub(super) async fn attend(self, mut duty: Box<dyn Duty>) {
        let (task, upkeep) = (duty.task(), &self.metrics.upkeep);
        let mut lease = Lease::default();
        let mut failures: u32 = 0;
        let mut pause = Duration::ZERO;
        while self.rest(pause).await {
            pause = match self.turn(&mut *duty, &mut lease).await {
                Ok(pause) => {
                    if std::mem::take(&mut failures) > 0 {
                        tracing::info!(task = task.value(), "the upkeep works again");
                    }
                    pause
                }
                Err(error) => {
                    upkeep.failures.of(task).inc();
                    if failures == 0 {
                        tracing::warn!(
                            task = task.value(),
                            error = &error as &dyn std::error::Error,
                            "the upkeep failed; trying again from time to time"
                        );
                    }
                    failures = failures.saturating_add(1);
                    backoff(failures)
                }
            };
        }
        if lease.given.is_some()
            && let Err(error) = self.record.return_lease(task.value(), self.holder).await
        {
            // It ends by itself.
            tracing::debug!(task = task.value(), %error, "the lease was not given back");
        }
        upkeep.leases_held.of(task).set(0);
    }

    /// Waits; whether the node still runs afterwards.
    async fn rest(&self, pause: Duration) -> bool {
        let mut stopping = self.stopping.clone();
        // An error in time means that the node is gone without a word.
        let stopped = tokio::time::timeout(pause, stopping.wait_for(|stop| *stop)).await;
        stopped.is_err() && !*self.stopping.borrow()
    }

    /// One round, if this node has the lease; how long to rest afterwards.
    async fn turn(&self, duty: &mut dyn Duty, lease: &mut Lease) -> Result<Duration, DatastoreError> {
        let (task, upkeep) = (duty.task(), &self.metrics.upkeep);
        if !lease.lasts(self.term) {
            let asked = Instant::now();
            let taken = self.record.take_lease(task.value(), self.holder, self.term).await;
            lease.given = matches!(taken, Ok(true)).then_some(asked);
            upkeep.leases_held.of(task).set(i64::from(lease.given.is_some()));
            if !taken? {
                return Ok(self.term / 3);
            }
        }
        let begun = Instant::now();
        let round = Round {
            record: &*self.record,
            metrics: &self.metrics,
            task,
            stopping: &self.stopping,
            until: lease.given.unwrap_or(begun) + self.term * 2 / 3,
        };
        let left = duty.round(&round).await?;
        let took = begun.elapsed();
        upkeep.rounds.of(task).inc();
        upkeep.round_seconds.of(task).observe(took);
        upkeep.last_success_timestamp_seconds.of(task).set(unix_seconds());
        Ok(match left {
            Left::Nothing => duty.interval(),
            Left::More => took.min(LONGEST_REST),
        })
    }
}

/// The lease as this node remembers it.
#[derive(Default)]
struct Lease {
    /// When it was last asked for, and given.
    given: Option<Instant>,
}

impl Lease {
    /// Whether it need not be prolonged yet.
    fn lasts(&self, term: Duration) -> bool {
        self.given.is_some_and(|asked| asked.elapsed() < term / 3)
    }
}

fn backoff(failures: u32) -> Duration {
    let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    FIRST_BACKOFF.saturating_mul(doubled).min(LONGEST_BACKOFF)
}

fn unix_seconds() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}
