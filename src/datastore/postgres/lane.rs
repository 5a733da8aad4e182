//! Connections, in lanes that cannot starve one another: commits, the feed, other reads.
//!
//! Not the driver's pool, for three reasons. A connection goes back only when the conversation
//! on it ended well, and is dropped in every other case, a panic included; there is no way to
//! cancel a conversation half way, because it runs in a task of its own; and neither taking nor
//! returning a connection costs a round trip.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use sqlx::postgres::{PgArguments, PgConnectOptions, PgRow};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection, Postgres};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::failure::Failure;
use super::rows::{Columns, corrupt};
use super::sessions::Sessions;
use crate::datastore::DatastoreError;
use crate::metrics::{self, Gauge, Metrics, Outcome};
use crate::trace::{self, Kind, Parent, Span};

/// An idle connection older than this is not trusted: firewalls forget silent ones.
const TRUSTED_IDLE: Duration = Duration::from_mins(1);

/// How a lane's statements are planned. The planner knows little of tables that grow from nothing
/// to millions of rows within minutes, and keeps plans it made while they were small.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Planning {
    /// Once for all: every statement of the lane has one right plan, which follows a key.
    Once,
    /// For each question, because the best index depends on what is asked.
    Each,
}

impl Planning {
    /// Settings of a session.
    fn of_session(self) -> &'static str {
        match self {
            Self::Once => "SET enable_seqscan = off; SET jit = off;",
            Self::Each => "SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_custom_plan;",
        }
    }

    /// Settings of one transaction, in which nothing is planned twice.
    fn of_transaction() -> &'static str {
        "SET LOCAL enable_seqscan = off; SET LOCAL jit = off;"
    }
}

/// How a session notices by itself that we are gone. A connection that died without a word while
/// a transaction was open would otherwise keep the store's lock for hours, because a server waits
/// for the next message without a time limit. (Meaningless, and harmless, on a local socket.)
const KEEPALIVE: &str = "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3; SET tcp_user_timeout = 10000;";

/// The longest a statement may run, in milliseconds. The server gives up a little before we give
/// up on the server: what nobody waits for any more would otherwise go on, and the next question
/// would open another connection beside it.
fn statement_limit(round_trip: Duration) -> u128 {
    (round_trip.saturating_mul(9) / 10).as_millis()
}

/// A bounded set of connections for one purpose.
#[derive(Debug)]
pub(super) struct Lane {
    name: metrics::Lane,
    metrics: Arc<Metrics>,
    options: Options,
    /// Where connections live. The runtime of a caller may end, or be busy with other things.
    runtime: Handle,
    planning: Planning,
    sessions: Sessions,
    round_trip: Duration,
    permits: Arc<Semaphore>,
    size: u32,
    idle: Mutex<Vec<(Open, Instant)>>,
}

/// A connection that counts as open for as long as it lives.
#[derive(Debug)]
struct Open {
    connection: PgConnection,
    _counted: Counted,
}

#[derive(Debug)]
struct Counted(Gauge);

impl Counted {
    fn one(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Connection options, which hold a password and print it.
struct Options(PgConnectOptions);

impl std::fmt::Debug for Options {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("connection options")
    }
}

/// One conversation with the server.
pub(super) struct Session {
    open: Open,
    name: metrics::Lane,
    metrics: Arc<Metrics>,
    round_trip: Duration,
    sessions: Sessions,
    in_transaction: bool,
    /// Round trips that were answered in this conversation.
    answered: u32,
    /// What the conversation is a part of, if that is recorded.
    parent: Option<Parent>,
    /// What the next round trip is called in a trace.
    next: &'static str,
}

/// What a round trip is called that has no name of its own: what the conversation is for is in the
/// span above it.
const ROUND_TRIP: &str = "db.round_trip";

impl Lane {
    /// A lane of at most `size` connections, none open yet, on the present runtime.
    pub(super) fn new(
        name: metrics::Lane,
        options: PgConnectOptions,
        planning: Planning,
        sessions: Sessions,
        size: u32,
        round_trip: Duration,
        metrics: Arc<Metrics>,
    ) -> Arc<Self> {
        let size = size.max(1);
        Arc::new(Self {
            name,
            metrics,
            options: Options(options),
            runtime: Handle::current(),
            planning,
            sessions,
            round_trip,
            permits: Arc::new(Semaphore::new(size as usize)),
            size,
            idle: Mutex::default(),
        })
    }

    /// Holds a conversation in a task of its own: dropping the returned future drops only the
    /// answer. A conversation that finds a kept connection dead at its first word is held again
    /// on a new one, so its first word must not be one that changes something by itself.
    pub(super) async fn talk<T, F>(self: &Arc<Self>, conversation: F) -> Result<T, Failure>
    where
        T: Send + 'static,
        F: for<'s> Fn(&'s mut Session) -> BoxFuture<'s, Result<T, Failure>> + Send + Sync + 'static,
    {
        let lane = Arc::clone(self);
        let conversation = trace::carried(async move { lane.converse(conversation).await });
        let task = self.runtime.spawn(conversation);
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_cancelled() => Err(Failure::Closed),
            Err(error) => Err(DatastoreError::Other(error.into()).into()),
        }
    }

    async fn converse<T, F>(&self, conversation: F) -> Result<T, Failure>
    where
        F: for<'s> Fn(&'s mut Session) -> BoxFuture<'s, Result<T, Failure>>,
    {
        let waited = self.metrics.database.connection_wait_seconds.of(self.name);
        let asked = Instant::now();
        let _permit = self.permit().await?;
        if let Some(open) = self.take_idle() {
            waited.since(asked);
            let mut session = self.session(open);
            let result = conversation(&mut session).await;
            match &result {
                Err(failure) if failure.is_of_connection() && session.answered == 0 => self.forget_idle(),
                _ => return self.keep(session, result),
            }
        }
        let connected = self.connect().await;
        self.metrics.database.connects.of(Outcome::from(&connected)).inc();
        waited.since(asked);
        let mut session = connected?;
        let result = conversation(&mut session).await;
        self.keep(session, result)
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Failure> {
        match timeout(self.round_trip, Arc::clone(&self.permits).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_closed)) => Err(Failure::Closed),
            Err(_elapsed) => Err(Failure::Busy(self.round_trip)),
        }
    }

    /// Keeps the connection only if the conversation ended where another may begin.
    fn keep<T>(&self, session: Session, result: Result<T, Failure>) -> Result<T, Failure> {
        match &result {
            Ok(_) if !self.permits.is_closed() => {
                let mut idle = self.idle();
                idle.push((session.open, Instant::now()));
                self.count_idle(idle.len());
            }
            Err(failure) if failure.is_of_connection() => self.forget_idle(),
            _ => {}
        }
        result
    }

    async fn connect(&self) -> Result<Session, Failure> {
        let _span = trace::child(Kind::Client, "db.connect");
        let connecting = PgConnection::connect_with(&self.options.0);
        let connection = match timeout(self.round_trip, connecting).await {
            Ok(connection) => connection.map_err(Failure::from_connecting)?,
            Err(_elapsed) => return Err(Failure::TimedOut(self.round_trip)),
        };
        let counted = Counted::one(self.metrics.database.connections_open.of(self.name));
        let mut session = self.session(Open { connection, _counted: counted });
        session.step("db.connect.check");
        let settings = if self.sessions.are_shared() {
            String::new()
        } else {
            let limit = statement_limit(self.round_trip);
            format!("{} {KEEPALIVE} SET statement_timeout = {limit};", self.planning.of_session())
        };
        let rows = session.script(format!("{settings} SELECT pg_is_in_recovery()")).await?;
        session.answered = 0;
        refuse_standby(&rows)?;
        Ok(session)
    }

    fn session(&self, open: Open) -> Session {
        let (name, metrics) = (self.name, Arc::clone(&self.metrics));
        Session {
            open,
            name,
            metrics,
            round_trip: self.round_trip,
            sessions: self.sessions,
            in_transaction: false,
            answered: 0,
            parent: trace::current(),
            next: ROUND_TRIP,
        }
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Open, Instant)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count_idle(&self, idle: usize) {
        let idle = i64::try_from(idle).unwrap_or(i64::MAX);
        self.metrics.database.connections_idle.of(self.name).set(idle);
    }

    fn take_idle(&self) -> Option<Open> {
        let mut idle = self.idle();
        // The newest is taken first, so the oldest ones are in front.
        let stale = idle.partition_point(|(_, since)| since.elapsed() > TRUSTED_IDLE);
        idle.drain(..stale);
        let newest = idle.pop().map(|(open, _)| open);
        self.count_idle(idle.len());
        newest
    }

    /// One connection has failed: those kept have most likely died with it, or lead to the same
    /// server that is no longer the primary.
    fn forget_idle(&self) {
        self.idle().clear();
        self.count_idle(0);
    }

    /// Waits for conversations to end, then closes every connection. None can begin afterwards.
    pub(super) async fn close(&self) {
        // Each conversation ends by itself, because each of its round trips has a time limit.
        if let Ok(all) = self.permits.acquire_many(self.size).await {
            self.permits.close();
            drop(all);
        }
        let idle = std::mem::take(&mut *self.idle());
        self.count_idle(0);
        for (open, _) in idle {
            let _ = timeout(self.round_trip, open.connection.close()).await;
        }
    }
}

impl Session {
    /// Where the conversation is counted.
    pub(super) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The longest a round trip may take.
    pub(super) fn round_trip(&self) -> Duration {
        self.round_trip
    }

    /// Names the next round trip, for traces.
    pub(super) fn step(&mut self, name: &'static str) {
        self.next = name;
    }

    /// The span of a round trip that begins now, if it is recorded.
    fn span(&mut self) -> Option<Span> {
        let name = std::mem::replace(&mut self.next, ROUND_TRIP);
        self.parent.as_ref().map(|parent| parent.child(Kind::Client, name))
    }

    /// Begins a transaction, in the same round trip with what is to be done first.
    pub(super) async fn begin(&mut self, modes: &str, first: &str) -> Result<Vec<PgRow>, Failure> {
        let settings = if self.sessions.are_shared() {
            let limit = statement_limit(self.round_trip);
            format!("{} SET LOCAL statement_timeout = {limit};", Planning::of_transaction())
        } else {
            String::new()
        };
        let rows = self.script(format!("BEGIN {modes}; {settings} {first}")).await?;
        self.in_transaction = true;
        Ok(rows)
    }

    /// Ends a transaction with effect. Unless the server says that it failed, the outcome of a
    /// failure is unknown.
    pub(super) async fn commit(&mut self) -> Result<(), Failure> {
        self.in_transaction = false;
        self.step("db.transaction.commit");
        self.script("COMMIT".to_owned()).await.map(drop).map_err(Failure::of_commit)
    }

    /// Ends a transaction without effect.
    pub(super) async fn rollback(&mut self) -> Result<(), Failure> {
        self.in_transaction = false;
        self.step("db.transaction.rollback");
        self.script("ROLLBACK".to_owned()).await.map(drop)
    }

    /// One statement, one round trip once it is prepared: all rows of its answer.
    ///
    /// Where sessions are shared out, it is prepared without a name and in a transaction, which no
    /// other client comes between.
    pub(super) async fn rows(
        &mut self,
        query: Query<'_, Postgres, PgArguments>,
    ) -> Result<Vec<PgRow>, Failure> {
        match self.sessions {
            Sessions::Own | Sessions::SharedAndPrepared => self.fetch(query).await,
            Sessions::Shared if self.in_transaction => self.fetch(query.persistent(false)).await,
            Sessions::Shared => {
                let name = std::mem::replace(&mut self.next, "db.transaction.begin");
                // The session may be another server's than the last time.
                let standby = self.begin("", "SELECT pg_is_in_recovery()").await?;
                refuse_standby(&standby)?;
                self.step(name);
                let rows = self.fetch(query.persistent(false)).await?;
                self.in_transaction = false;
                self.step("db.transaction.commit");
                // Not `commit`: as with a statement by itself, a lost answer is a lost connection.
                self.script("COMMIT".to_owned()).await?;
                Ok(rows)
            }
        }
    }

    async fn fetch(&mut self, query: Query<'_, Postgres, PgArguments>) -> Result<Vec<PgRow>, Failure> {
        let (asked, span) = (Instant::now(), self.span());
        let answer = timeout(self.round_trip, query.fetch_all(&mut self.open.connection)).await;
        self.judge(asked, span, answer)
    }

    /// Several statements in one round trip, without parameters: all rows of all answers.
    pub(super) async fn script(&mut self, sql: String) -> Result<Vec<PgRow>, Failure> {
        let script = sqlx::raw_sql(AssertSqlSafe(sql));
        let (asked, span) = (Instant::now(), self.span());
        let answer = timeout(self.round_trip, script.fetch_all(&mut self.open.connection)).await;
        self.judge(asked, span, answer)
    }

    /// A statement that answers one value.
    pub(super) async fn scalar<T>(&mut self, sql: &'static str) -> Result<T, Failure>
    where
        T: for<'r> sqlx::Decode<'r, Postgres> + sqlx::Type<Postgres>,
    {
        let rows = self.rows(sqlx::query(sql)).await?;
        let row = rows.first().ok_or_else(|| corrupt(format!("no row answers `{sql}`")))?;
        Columns::of(row).next()
    }

    fn judge<T>(
        &mut self,
        asked: Instant,
        mut span: Option<Span>,
        answer: Result<Result<T, sqlx::Error>, tokio::time::error::Elapsed>,
    ) -> Result<T, Failure> {
        let database = &self.metrics.database;
        database.round_trip_seconds.of(self.name).since(asked);
        if !matches!(answer, Ok(Ok(_))) {
            database.round_trip_failures.of(self.name).inc();
            span.as_mut().into_iter().for_each(Span::fail);
        }
        drop(span);
        match answer {
            Ok(Ok(value)) => {
                self.answered += 1;
                Ok(value)
            }
            Ok(Err(error)) => Err(error.into()),
            Err(_elapsed) => Err(Failure::TimedOut(self.round_trip)),
        }
    }
}

/// Judges the answer to `SELECT pg_is_in_recovery()`: after a failover a name may still lead to
/// the old primary.
fn refuse_standby(rows: &[PgRow]) -> Result<(), Failure> {
    let standby = rows.first().map(|row| Columns::of(row).next()).transpose()?;
    if standby == Some(false) { Ok(()) } else { Err(Failure::ReadOnly) }
}
