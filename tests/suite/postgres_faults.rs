//! Connections to PostgreSQL that fail in every way: silent, refused, fenced, led to a standby.
//! Whatever happens, a caller hears in bounded time, and everything works again by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relata::datastore::committer::{CommitError, CommitterSettings, Committers};
use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::datastore::{Action, Committed, Datastore, DatastoreError, TupleFilter, Update, Write};
use relata::metrics::{InDoubt, Lane, Metrics};
use relata::revision::{Revision, StoreId, WriteId};
use relata::tuple::{Tuple, TupleKey};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::faults::{Cut, Gate, Moment, Proxy, Side, Target, Trap};
use crate::postgres_server::{Cluster, Durability, enabled, fresh_database};

/// One round trip at most, in these tests.
const ROUND_TRIP: Duration = Duration::from_millis(500);

/// A node that reaches its database through a proxy.
struct Node {
    proxy: Proxy,
    postgres: Arc<Postgres>,
    metrics: Arc<Metrics>,
    store: StoreId,
}

impl Node {
    async fn before(url: &str) -> Self {
        let (proxy, through) = Proxy::before_database(url);
        let mut settings = PostgresSettings::new(through.parse().expect("a URL"));
        settings.round_trip = ROUND_TRIP;
        let metrics = Metrics::new();
        let postgres = Postgres::connect(settings, metrics.clone()).await.expect("a connection");
        postgres.migrate().await.expect("migrated");
        let store = postgres.store_named("default").await.expect("an answer").expect("a store").id;
        Self { proxy, postgres: Arc::new(postgres), metrics, store }
    }

    async fn fresh() -> Option<Self> {
        let url = tokio::task::spawn_blocking(fresh_database).await.expect("a cluster")?;
        Some(Self::before(&url).await)
    }

    async fn commit(&self, write: Write) -> Result<(), DatastoreError> {
        self.postgres.commit(self.store, Arc::from([write])).await?;
        Ok(())
    }

    fn committers(&self) -> Committers {
        Committers::new(self.postgres.clone(), CommitterSettings::default(), self.metrics.clone())
    }

    /// Opens several connections of the commit lane at once, and leaves them idle.
    async fn warm(&self) {
        let connected = || self.metrics.database.connections_idle.of(Lane::Commit).get();
        for round in 0.. {
            let writes =
                (0..4).map(|n| self.commit(create(&format!("doc:warm-{round}-{n}#viewer@user:ann"))));
            for written in futures::future::join_all(writes).await {
                written.expect("committed");
            }
            if connected() > 1 {
                return;
            }
        }
    }

    async fn tuples(&self) -> usize {
        let all = TupleFilter::default();
        let page = self.postgres.tuples(self.store, &all, None, 1000);
        page.await.expect("a page").tuples.len()
    }
}

fn create(text: &str) -> Write {
    let key: TupleKey = text.parse().expect("a tuple");
    let updates = vec![Update::Create(Tuple::from(key))];
    Write {
        write_id: WriteId::fresh(),
        principal: "".into(),
        note: "".into(),
        idempotency: None,
        action: Action::Tuples { updates, preconditions: Vec::new(), validated_against: None },
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

async fn execute(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("executed");
}

fn read_only(result: Result<(), DatastoreError>) {
    let Err(DatastoreError::Unavailable(cause)) = result else { panic!("{result:?}") };
    assert!(cause.to_string().contains("read-only"), "{cause}");
}

/// A network that swallows everything: a commit on a kept connection and on a new one, a look-up
/// and connecting itself all end in a few round trips.
#[tokio::test(flavor = "multi_thread")]
async fn a_silent_database_is_given_up_in_bounded_time() {
    let Some(node) = Node::fresh().await else { return };
    node.commit(create("doc:1#viewer@user:ann")).await.expect("committed");
    node.proxy.gate(Gate::BlackHole);
    let bounded = |what: &'static str, asked: Instant, result: Result<(), DatastoreError>| {
        let took = asked.elapsed();
        assert!(matches!(result, Err(DatastoreError::Unavailable(_))), "{what}: {result:?}");
        assert!(took >= ROUND_TRIP && took < 20 * ROUND_TRIP, "{what} took {took:?}");
    };
    let asked = Instant::now();
    bounded("a kept connection", asked, node.commit(create("doc:2#viewer@user:ann")).await);
    let asked = Instant::now();
    bounded("a new connection", asked, node.commit(create("doc:2#viewer@user:ann")).await);
    let asked = Instant::now();
    let settled = node.postgres.settle(node.store, Revision(1), WriteId::fresh()).await;
    bounded("a look-up", asked, settled.map(drop));

    node.proxy.gate(Gate::Refuse);
    node.proxy.cut_all(Cut::Reset);
    let refused = node.commit(create("doc:2#viewer@user:ann")).await;
    assert!(matches!(refused, Err(DatastoreError::Unavailable(_))), "{refused:?}");
    node.proxy.gate(Gate::Open);
    node.commit(create("doc:2#viewer@user:ann")).await.expect("committed");
    assert_eq!(node.tuples().await, 2, "nothing of what was given up is there");
}

/// The answer to COMMIT never comes, and the connection does not end either.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_is_never_answered_is_looked_up() {
    let Some(node) = Node::fresh().await else { return };
    let committers = node.committers();
    for (index, (side, moment)) in [
        (Side::Client, Moment::Before),
        (Side::Client, Moment::After),
        (Side::Server, Moment::Before),
        (Side::Client, Moment::Late(ROUND_TRIP / 4)),
    ]
    .into_iter()
    .enumerate()
    {
        let trap = Trap::at(side, moment).since("BEGIN ISOLATION").when(|message| message.says("COMMIT\0"));
        // What is late arrives although the connection is gone.
        let cut = if matches!(moment, Moment::Late(_)) { Cut::Reset } else { Cut::Hang };
        let sprung = node.proxy.set(trap.by(cut));
        let write = create(&format!("doc:{index}#viewer@user:ann"));
        let Committed { revision, write_id, .. } =
            committers.write(node.store, write.clone(), soon()).await.expect("committed");
        assert!(sprung.yet());
        assert_eq!((revision, write_id), (Revision(index as u64 + 1), write.write_id));
    }
    assert_eq!(node.tuples().await, 4);
    let settled = |how| node.metrics.record.in_doubt_groups.of(how).get();
    assert_eq!((settled(InDoubt::Committed), settled(InDoubt::Absent)), (3, 1));
}

/// An operator, or what manages a failover, may fence a primary by making it read-only. Whoever
/// meets the fence gives up every connection it keeps: one of them might still write.
#[tokio::test(flavor = "multi_thread")]
async fn a_fenced_primary_is_not_written_to() {
    if !enabled() {
        return;
    }
    let cluster = Cluster::start(Durability::None);
    let url = cluster.create_database();
    let node = Node::before(&url).await;
    node.warm().await;
    let before = node.tuples().await;
    execute(&url, "ALTER SYSTEM SET default_transaction_read_only = on").await;
    execute(&url, "SELECT pg_reload_conf()").await;
    let idle = || node.metrics.database.connections_idle.of(Lane::Commit).get();
    assert!(idle() > 1);
    // A session takes up new settings between two of its statements.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        if let Err(error) = node.commit(create("doc:fenced#viewer@user:ann")).await {
            break read_only(Err(error));
        }
        // The fence may come down between two statements; `READ WRITE` passes it.
        execute(&url, "BEGIN READ WRITE; DELETE FROM relata.tuple WHERE object_id = 'fenced'; COMMIT").await;
        assert!(Instant::now() < deadline, "the fence does not hold");
    }
    assert_eq!(idle(), 0, "connections to a fenced primary were kept");
    read_only(node.commit(create("doc:fenced#viewer@user:ann")).await);
    read_only(node.postgres.ping().await);

    execute(&url, "ALTER SYSTEM RESET default_transaction_read_only").await;
    execute(&url, "SELECT pg_reload_conf()").await;
    let patient = node.committers().write(node.store, create("doc:late#viewer@user:ann"), soon()).await;
    patient.expect("the fence is gone");
    assert_eq!(node.tuples().await, before + 1);
}

/// An operator who has every commit wait for a standby hears of none before the standby has it, however
/// long it is away: no time limit of ours ends that wait, and what is not known is not acknowledged.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_waits_for_a_standby_is_not_acknowledged() {
    if !enabled() {
        return;
    }
    let cluster = Cluster::start(Durability::Process);
    let node = Node::before(&cluster.create_database()).await;
    node.warm().await;
    let before = node.tuples().await;
    let committers = node.committers();
    cluster.set("synchronous_standby_names = 'absent'");
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut acknowledged = 0;
    let told = loop {
        let write = create(&format!("doc:waits-{acknowledged}#viewer@user:ann"));
        match committers.write(node.store, write, Instant::now() + ROUND_TRIP * 4).await {
            // The server has not taken up the setting yet.
            Ok(_) => acknowledged += 1,
            Err(error) => break format!("{error:?}"),
        }
        assert!(Instant::now() < deadline, "writes are acknowledged that no standby has");
    };
    assert!(told.contains("OutcomeUnknown"), "{told}");
    cluster.set("synchronous_standby_names = ''");
    committers.write(node.store, create("doc:after#viewer@user:ann"), soon()).await.expect("committed");
    // What waited was committed when the wait was over, once.
    assert_eq!(node.tuples().await, before + acknowledged + 2);
}

/// In mid-conversation the way leads elsewhere: first nowhere, then to a standby, then to the
/// primary again. Who waits long enough does not notice.
#[tokio::test(flavor = "multi_thread")]
async fn a_failover_in_mid_conversation_is_outlasted() {
    if !enabled() {
        return;
    }
    let primary = Cluster::start(Durability::None);
    let url = primary.create_database_named("moving");
    let mut standby = Cluster::start(Durability::None);
    standby.create_database_named("moving");
    standby.stop();
    standby.demote();
    standby.resume();
    let node = Node::before(&url).await;
    node.warm().await;
    let before = node.tuples().await;
    let committers = node.committers();

    let trap = Trap::at(Side::Client, Moment::Before).since("BEGIN ISOLATION").nth(3);
    let sprung = node.proxy.set(trap);
    node.proxy.lead_to(Target::Unix(standby.socket()));
    let failures = || node.metrics.database.connects.of(relata::metrics::Outcome::Failed).get();
    let waiting = tokio::spawn({
        let (committers, store) = (committers.clone(), node.store);
        async move { committers.write(store, create("doc:patient#viewer@user:ann"), soon()).await }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    while !sprung.yet() || failures() < 3 {
        assert!(Instant::now() < deadline, "the standby was not met");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let hasty = committers.write(node.store, create("doc:hasty#viewer@user:ann"), Instant::now());
    let hasty = hasty.await.expect_err("no primary in time");
    assert!(matches!(hasty, CommitError::DeadlinePassed), "{hasty:?}");
    let reads = node.postgres.heads(&[node.store]).await.map(drop);
    assert!(node.proxy.cut_all(Cut::Close) > 0);
    read_only(node.postgres.heads(&[node.store]).await.map(drop));
    drop(reads);

    node.proxy.lead_to(Target::Unix(primary.socket()));
    waiting.await.expect("a task").expect("committed");
    assert_eq!(node.tuples().await, before + 1);
}
