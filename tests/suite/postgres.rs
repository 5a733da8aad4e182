//! What only PostgreSQL has to prove: several nodes on one database, real locks, connections
//! that break, tables of other versions. What both databases do is in the shared suite.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relata::datastore::committer::{CommitterSettings, Committers};
use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::datastore::{
    Action, Datastore, DatastoreError, Expectation, Outcome, Precondition, Store, TupleFilter, Update, Write,
    WriteError,
};
use relata::metrics::Metrics;
use relata::revision::{Revision, StoreId, WriteId};
use relata::tuple::{Tuple, TupleKey};
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use crate::postgres_server::{Cluster, Durability, enabled, fresh_database};

async fn node(url: &str) -> Postgres {
    node_with(url, |_| {}).await
}

async fn node_with(url: &str, adjust: impl FnOnce(&mut PostgresSettings)) -> Postgres {
    let mut settings = PostgresSettings::new(url.parse().expect("a URL"));
    adjust(&mut settings);
    Postgres::connect(settings, Metrics::new()).await.expect("a connection")
}

/// A node on a fresh, migrated database with its default store; ends the test where PostgreSQL
/// is skipped.
macro_rules! fresh_node {
    () => {{
        let Some(url) = fresh_database() else { return };
        let node = node(&url).await;
        node.migrate().await.expect("migrated");
        let store = default_store(&node).await;
        (url, node, store)
    }};
}

async fn default_store(node: &Postgres) -> StoreId {
    node.store_named("default").await.expect("an answer").expect("the default store").id
}

/// Says something to the server that the datastore does not know of.
async fn behind_its_back(url: &str, sql: &str) {
    let mut connection = PgConnection::connect(url).await.expect("a connection");
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned())).execute(&mut connection).await.expect("executed");
}

fn key(text: &str) -> TupleKey {
    text.parse().expect("a tuple")
}

fn write(updates: Vec<Update>) -> Write {
    Write {
        write_id: WriteId::fresh(),
        principal: "".into(),
        note: "".into(),
        idempotency: None,
        action: Action::Tuples { updates, preconditions: Vec::new(), validated_against: None },
    }
}

fn create(text: &str) -> Write {
    write(vec![Update::Create(Tuple::from(key(text)))])
}

fn revision(outcome: &Outcome) -> Revision {
    match outcome {
        Outcome::Committed(committed) => committed.revision,
        Outcome::Failed(_) | Outcome::Deferred => panic!("{outcome:?}"),
    }
}

async fn commit_one(node: &Postgres, store: StoreId, write: Write) -> Result<Outcome, DatastoreError> {
    let outcomes = node.commit(store, Arc::from([write])).await?;
    assert_eq!(outcomes.len(), 1);
    Ok(outcomes[0].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_migrate_at_once_agree_on_one_identity_and_one_default_store() {
    let Some(url) = fresh_database() else { return };
    let nodes = futures::future::join_all((0..6).map(|_| node(&url))).await;
    let migrated = futures::future::join_all(nodes.iter().map(Datastore::migrate)).await;
    assert!(migrated.iter().all(Result::is_ok), "{migrated:?}");

    let first = nodes[0].identity().await.expect("an identity");
    assert_eq!(first.cursor_keys.len(), 1);
    for node in &nodes {
        let identity = node.identity().await.expect("an identity");
        assert_eq!((identity.database, &identity.cursor_keys), (first.database, &first.cursor_keys));
        let names: Vec<String> =
            node.stores(None, 10).await.expect("stores").into_iter().map(|store| store.name).collect();
        assert_eq!(names, ["default"]);
        node.migrate().await.expect("a second time");
        node.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_of_another_version_are_refused_with_both_versions() {
    let Some(url) = fresh_database() else { return };
    let node = node(&url).await;
    let refusals = [
        node.ping().await.expect_err("no tables"),
        node.identity().await.expect_err("no tables"),
        node.heads(&[]).await.expect_err("no tables"),
        node.create_store("x").await.expect_err("no tables"),
        commit_one(&node, StoreId(uuid::Uuid::nil()), create("doc:1#viewer@user:ann"))
            .await
            .expect_err("no tables"),
    ];
    for refusal in refusals {
        assert!(matches!(refusal, DatastoreError::NotMigrated { found: 0, needed: 1.. }), "{refusal:?}");
    }

    node.migrate().await.expect("migrated");
    node.ping().await.expect("migrated");
    let newer = "INSERT INTO relata.migration (version, description, success, checksum, execution_time)
                 VALUES (1007, 'of the future', true, '', 0)";
    behind_its_back(&url, newer).await;
    for usable in [node.ping().await, node.migrate().await, node.identity().await.map(drop)] {
        usable.expect("what was only added to can be worked on");
    }
    behind_its_back(&url, "UPDATE relata.database SET usable_from = 1007").await;
    for refusal in [node.ping().await, node.migrate().await, node.identity().await.map(drop)] {
        let refusal = refusal.expect_err("newer tables");
        assert!(matches!(refusal, DatastoreError::TooNew { found: 1007, known: 1.. }), "{refusal:?}");
    }
}

/// Sixteen tasks on two nodes write groups to one store and to four others. Revisions are
/// gapless, every acknowledged write is in the log once, and nothing deadlocks.
#[tokio::test(flavor = "multi_thread")]
async fn writers_on_two_nodes_leave_gapless_revisions() {
    const TASKS: usize = 16;
    const GROUPS: usize = 12;
    let (url, first, shared) = fresh_node!();
    // The second one behind what cannot keep prepared statements.
    let second = node_with(&url, |settings| settings.statement_cache_capacity = Some(0)).await;
    let nodes = [Arc::new(first), Arc::new(second)];
    let mut stores = vec![shared];
    for name in ["a", "b", "c", "d"] {
        stores.push(nodes[0].create_store(name).await.expect("created").id);
    }

    let mut tasks = Vec::new();
    for task in 0..TASKS {
        let (node, stores) = (Arc::clone(&nodes[task % 2]), stores.clone());
        tasks.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for group in 0..GROUPS {
                // Every other group goes to the store that all share.
                let store = stores[if group % 2 == 0 { 0 } else { 1 + (task + group) % 4 }];
                let writes = (0..5)
                    .map(|n| match n {
                        // All tasks fight over these: created here, deleted there.
                        3 => write(vec![Update::Delete {
                            key: key("doc:hot#viewer@user:x"),
                            must_exist: false,
                        }]),
                        4 => create("doc:hot#viewer@user:x"),
                        n => create(&format!("doc:{task}-{group}#viewer@user:{n}")),
                    })
                    .collect::<Vec<_>>();
                let outcomes = node.commit(store, writes.clone().into()).await.expect("committed");
                for (write, outcome) in writes.iter().zip(&outcomes) {
                    match outcome {
                        Outcome::Committed(committed) if committed.write_id == write.write_id => {
                            acknowledged.push((store, committed.revision, write.write_id));
                        }
                        // Deleting what is absent takes no revision.
                        Outcome::Committed(_) => {}
                        Outcome::Failed(_) | Outcome::Deferred => panic!("{outcome:?}"),
                    }
                }
            }
            acknowledged
        }));
    }
    let mut acknowledged = Vec::new();
    for task in tasks {
        acknowledged.extend(task.await.expect("a writer"));
    }
    acknowledged.sort_unstable();

    let mut logged = Vec::new();
    for (store, head) in nodes[1].heads(&stores).await.expect("heads") {
        let mut last = Revision::ZERO;
        let mut last_committed = None;
        while last < head.revision {
            for entry in nodes[0].log(store, last.next(), 7).await.expect("log") {
                assert_eq!(entry.revision, last.next(), "a gap");
                assert!(last_committed.is_none_or(|last| last < entry.committed_at), "time stood still");
                last = entry.revision;
                last_committed = Some(entry.committed_at);
                logged.push((store, entry.revision, entry.write_id));
            }
        }
        assert_eq!(last_committed, Some(head.committed_at));
    }
    logged.sort_unstable();
    assert_eq!(acknowledged, logged);
    assert!(logged.len() > TASKS * GROUPS * 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hint_reaches_the_other_node() {
    let (url, writer, store) = fresh_node!();
    let reader = node(&url).await;
    let mut hints = reader.hints();
    // Announced until heard: the listener may not be there yet, and a hint may be lost.
    let heard = tokio::time::timeout(Duration::from_secs(20), async {
        loop {
            writer.notify(&[store]).await;
            if let Ok(hint) = tokio::time::timeout(Duration::from_millis(100), hints.recv()).await {
                break hint.expect("a hint");
            }
        }
    });
    assert_eq!(heard.await.expect("a hint in time"), store);

    // More stores than one payload holds arrive all.
    let many: Vec<StoreId> = (0..600).map(|n| StoreId(uuid::Uuid::from_u128(n))).collect();
    writer.notify(&many).await;
    let mut missing: std::collections::BTreeSet<StoreId> = many.into_iter().collect();
    while !missing.is_empty() {
        let hint = tokio::time::timeout(Duration::from_secs(20), hints.recv()).await.expect("a hint in time");
        missing.remove(&hint.expect("a hint"));
    }
}

/// Where the connection that listens leads elsewhere, as a pooler's does, the node says so once
/// and goes on without hints.
#[tokio::test]
async fn a_node_that_cannot_hear_itself_says_so() {
    #[derive(Clone, Default)]
    struct Log(Arc<Mutex<Vec<u8>>>);
    impl std::io::Write for Log {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().expect("a log").extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (url, hearing, store) = fresh_node!();
    let elsewhere = fresh_database().expect("a database");
    let deaf =
        node_with(&url, |settings| settings.direct_url = Some(elsewhere.parse().expect("a URL"))).await;

    // Only this thread's events, and this test's tasks run on this thread alone.
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let warnings = || {
        let bytes = log.0.lock().expect("a log");
        String::from_utf8_lossy(&bytes).matches("notifications do not arrive").count()
    };

    let mut hints = hearing.hints();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(warnings(), 0, "a node that hears itself warned");
    deaf.notify(&[store]).await;
    assert_eq!(hints.recv().await.expect("a hint"), store);

    let _ = deaf.hints();
    let deadline = Instant::now() + Duration::from_secs(20);
    while warnings() == 0 {
        assert!(Instant::now() < deadline, "no warning");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    commit_one(&deaf, store, create("doc:1#viewer@user:ann")).await.expect("committed");
    assert_eq!(warnings(), 1);
}

/// The server goes away and comes back: whatever was under way fails as unavailable, nothing
/// acknowledged is lost, and everything works again without help.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_comes_back_is_used_again() {
    if !enabled() {
        return;
    }
    let mut cluster = Cluster::start(Durability::Full);
    let url = cluster.create_database();
    let node = node(&url).await;
    node.migrate().await.expect("migrated");
    let store = default_store(&node).await;
    let mut hints = node.hints();
    commit_one(&node, store, create("doc:1#viewer@user:ann")).await.expect("committed");
    node.heads(&[store]).await.expect("heads");

    cluster.stop();
    let failures = [
        node.ping().await.expect_err("stopped"),
        node.heads(&[store]).await.expect_err("stopped"),
        commit_one(&node, store, create("doc:2#viewer@user:ann")).await.expect_err("stopped"),
        Postgres::connect(PostgresSettings::new(url.parse().expect("a URL")), Metrics::new())
            .await
            .expect_err("stopped"),
    ];
    for failure in failures {
        assert!(matches!(failure, DatastoreError::Unavailable(_)), "{failure:?}");
    }

    cluster.resume();
    node.ping().await.expect("back");
    let outcome = commit_one(&node, store, create("doc:3#viewer@user:ann")).await.expect("back");
    assert_eq!(revision(&outcome), Revision(2));
    let page = node.tuples(store, &TupleFilter::default(), None, 10).await.expect("a page");
    let keys: Vec<String> = page.tuples.iter().map(|tuple| tuple.key.to_string()).collect();
    assert_eq!(keys, ["doc:1#viewer@user:ann", "doc:3#viewer@user:ann"]);

    let heard = tokio::time::timeout(Duration::from_secs(30), async {
        loop {
            node.notify(&[store]).await;
            if tokio::time::timeout(Duration::from_millis(100), hints.recv()).await.is_ok() {
                break;
            }
        }
    });
    heard.await.expect("hints come back too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_never_written_to() {
    if !enabled() {
        return;
    }
    let mut cluster = Cluster::start(Durability::Full);
    let url = cluster.create_database();
    let node = node(&url).await;
    node.migrate().await.expect("migrated");
    let store = default_store(&node).await;
    cluster.stop();
    cluster.demote();
    cluster.resume();
    for failure in [
        node.ping().await.expect_err("a standby"),
        node.heads(&[store]).await.expect_err("a standby"),
        node.migrate().await.expect_err("a standby"),
        commit_one(&node, store, create("doc:2#viewer@user:ann")).await.expect_err("a standby"),
    ] {
        let DatastoreError::Unavailable(cause) = failure else { panic!("{failure:?}") };
        assert!(cause.to_string().contains("read-only"), "{cause}");
    }
}

/// Somebody holds the lock of a store for too long: writes to it give up in bounded time and say
/// so, writes to other stores are not held up, and afterwards all goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_store_locked_by_another_holds_up_nobody_else() {
    let (url, patient, locked) = fresh_node!();
    let free = patient.create_store("free").await.expect("created").id;
    let node = node_with(&url, |settings| settings.round_trip = Duration::from_millis(600)).await;

    let mut other = PgConnection::connect(&url).await.expect("a connection");
    let mut transaction = other.begin().await.expect("a transaction");
    sqlx::query("SELECT FROM relata.store WHERE id = $1 FOR UPDATE")
        .bind(locked.0)
        .execute(&mut *transaction)
        .await
        .expect("locked");

    let started = Instant::now();
    let waiting = commit_one(&node, locked, create("doc:1#viewer@user:ann"));
    let passing = async {
        for n in 0..10 {
            commit_one(&node, free, create(&format!("doc:{n}#viewer@user:ann"))).await.expect("not held up");
        }
        started.elapsed()
    };
    let (waited, passed) = tokio::join!(waiting, passing);
    assert!(matches!(waited, Err(DatastoreError::Unavailable(_))), "{waited:?}");
    assert!(started.elapsed() < Duration::from_secs(5), "gave up after {:?}", started.elapsed());
    assert!(passed < Duration::from_millis(500), "others waited {passed:?}");

    // One that is waiting when the lock is released gets it, and sees what was committed before.
    let waiting = commit_one(&patient, locked, create("doc:1#viewer@user:ann"));
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        transaction.commit().await.expect("released");
    };
    let (waited, ()) = tokio::join!(waiting, releasing);
    assert_eq!(revision(&waited.expect("committed")), Revision(1));
}

/// A question that takes too long is given up by the server as well as by who asked: none is left
/// behind to fill the server with work that nobody waits for.
#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_nobody_waits_for_is_not_answered_on() {
    let (url, _, store) = fresh_node!();
    let mut other = PgConnection::connect(&url).await.expect("a connection");
    let mut transaction = other.begin().await.expect("a transaction");
    sqlx::raw_sql("LOCK TABLE relata.tuple").execute(&mut *transaction).await.expect("locked");
    // With sessions of its own, and as if a pooler shared them out.
    for capacity in [None, Some(0)] {
        let node = node_with(&url, |settings| {
            settings.round_trip = Duration::from_millis(600);
            settings.statement_cache_capacity = capacity;
        })
        .await;
        let outcome = node.tuples(store, &TupleFilter::default(), None, 10).await;
        assert!(matches!(outcome, Err(DatastoreError::Unavailable(_))), "{outcome:?}");
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let statement = "SELECT count(*) FROM pg_stat_activity
                             WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let left: i64 =
                sqlx::query_scalar(statement).fetch_one(&mut *transaction).await.expect("a count");
            if left == 0 {
                break;
            }
            assert!(Instant::now() < deadline, "{left} statements still wait, {capacity:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A precondition that no index serves is looked for during a time that does not hold up other
/// writers, and then refused for good: trying again would take as long.
#[tokio::test(flavor = "multi_thread")]
async fn a_precondition_that_takes_too_long_is_refused_and_not_tried_again() {
    let (url, node, store) = fresh_node!();
    commit_one(&node, store, create("slow:1#viewer@user:bob")).await.expect("committed");
    // Whoever looks at that tuple takes half a minute.
    let slow = "ALTER TABLE relata.tuple RENAME TO stored;
                CREATE VIEW relata.tuple AS SELECT * FROM relata.stored
                WHERE object_type <> 'slow' OR pg_sleep(30) IS NULL";
    behind_its_back(&url, slow).await;
    let asked = |filter| {
        let mut write = create("doc:1#viewer@user:ann");
        let Action::Tuples { preconditions, .. } = &mut write.action else { panic!("tuples are written") };
        preconditions.push(Precondition { filter, expectation: Expectation::Match });
        write
    };
    let sparse = TupleFilter { relation: "viewer".parse().ok(), ..TupleFilter::default() };
    let begun = Instant::now();
    let refused = commit_one(&node, store, asked(sparse)).await;
    assert!(matches!(refused, Err(DatastoreError::TooCostly { .. })), "{refused:?}");
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    // One that an index serves does not come by that tuple.
    let object = TupleFilter {
        object_type: "doc".parse().ok(),
        object_id: Some("1".into()),
        ..TupleFilter::default()
    };
    let judged = commit_one(&node, store, asked(object)).await.expect("judged");
    assert!(matches!(judged, Outcome::Failed(WriteError::PreconditionFailed { .. })), "{judged:?}");
}

/// A writer that waited for the lock decides by what the one before it left, not by what it
/// could see when it began to wait.
#[tokio::test(flavor = "multi_thread")]
async fn a_writer_that_waited_sees_what_it_waited_for() {
    let (url, node, store) = fresh_node!();
    let mut other = PgConnection::connect(&url).await.expect("a connection");
    let mut transaction = other.begin().await.expect("a transaction");
    let sql = format!(
        "SELECT FROM relata.store WHERE id = '{store}' FOR NO KEY UPDATE;
         INSERT INTO relata.revision VALUES ('{store}', 1, '{}', 1, '', '', 1, NULL);
         INSERT INTO relata.change VALUES ('{store}', 1, 0, 'doc', '1', 'viewer', 'user', 'ann', '', NULL, '1');
         INSERT INTO relata.tuple VALUES
             ('{store}', 'doc', '1', 'viewer', 'user', 'ann', '', NULL, NULL, NULL, 1, 0)",
        uuid::Uuid::now_v7()
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut *transaction).await.expect("written");
    let waiting =
        node.commit(store, Arc::from([create("doc:1#viewer@user:ann"), create("doc:2#viewer@user:ann")]));
    let releasing = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        transaction.commit().await.expect("committed");
    };
    let (outcomes, ()) = tokio::join!(waiting, releasing);
    let outcomes = outcomes.expect("an answer");
    let exists = WriteError::AlreadyExists { key: key("doc:1#viewer@user:ann") };
    assert_eq!(outcomes[0], Outcome::Failed(exists));
    assert_eq!(revision(&outcomes[1]), Revision(2));
}

/// A caller who goes away leaves no connection in the middle of a transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_who_goes_away_harms_no_one() {
    let (url, _, store) = fresh_node!();
    let node = node_with(&url, |settings| settings.commit_connections = 2).await;
    for n in 0..60_u64 {
        let writing = commit_one(&node, store, create(&format!("doc:{n}#viewer@user:ann")));
        // From before the first message to after the last one.
        let _ = tokio::time::timeout(Duration::from_micros(n * 80), writing).await;
    }
    commit_one(&node, store, create("doc:last#viewer@user:ann")).await.expect("committed");

    // What was begun is finished, whether or not anybody waits for it.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let page = node.tuples(store, &TupleFilter::default(), None, 1000).await.expect("a page");
        let entries = node.log(store, Revision(1), 1000).await.expect("log");
        let revisions: Vec<u64> = entries.iter().map(|entry| entry.revision.0).collect();
        assert_eq!(revisions, (1..=entries.len() as u64).collect::<Vec<_>>());
        assert_eq!(page.head.0, page.tuples.len() as u64, "a write is half there");
        if entries.len() == 61 {
            break;
        }
        assert!(Instant::now() < deadline, "only {} writes were finished", entries.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_make_no_sense_are_corruption_and_named() {
    let (url, node, store) = fresh_node!();
    commit_one(&node, store, create("doc:1#viewer@user:ann")).await.expect("committed");
    let filter = TupleFilter::default();
    let corrupt = |error: DatastoreError| {
        let DatastoreError::Corrupt(what) = error else { panic!("{error:?}") };
        what
    };

    behind_its_back(&url, "UPDATE relata.tuple SET object_id = 'a b'").await;
    let what = corrupt(node.tuples(store, &filter, None, 10).await.expect_err("corrupt"));
    assert!(what.contains("\"a b\"") && what.contains("a space"), "{what}");
    behind_its_back(&url, "UPDATE relata.tuple SET object_id = '1', condition_context = '{}'").await;
    let what = corrupt(node.tuples(store, &filter, None, 10).await.expect_err("corrupt"));
    assert!(what.contains("`doc:1#viewer@user:ann`"), "{what}");
    let again = commit_one(&node, store, create("doc:1#viewer@user:ann")).await.expect_err("corrupt");
    assert!(corrupt(again).contains("`doc:1#viewer@user:ann`"));

    behind_its_back(&url, "UPDATE relata.change SET after = '9'").await;
    let what = corrupt(node.log(store, Revision(1), 10).await.expect_err("corrupt"));
    assert!(what.contains("`doc:1#viewer@user:ann`"), "{what}");
    behind_its_back(&url, "DELETE FROM relata.change").await;
    let what = corrupt(node.log(store, Revision(1), 10).await.expect_err("corrupt"));
    assert!(what.contains("has 0 changes instead of 1"), "{what}");
    behind_its_back(&url, "UPDATE relata.store SET schema = 'newest'").await;
    let what = corrupt(node.heads(&[store]).await.expect_err("corrupt"));
    assert!(what.contains("`newest`"), "{what}");
}

/// Whoever changes tuples without the lock is found out before anything is committed.
#[tokio::test(flavor = "multi_thread")]
async fn a_net_effect_that_does_not_come_true_is_not_committed() {
    let (url, node, store) = fresh_node!();
    commit_one(&node, store, create("doc:1#viewer@user:ann")).await.expect("committed");
    let sabotage = "CREATE FUNCTION relata.keep() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                    CREATE TRIGGER keep BEFORE DELETE ON relata.tuple FOR EACH ROW EXECUTE FUNCTION relata.keep()";
    behind_its_back(&url, sabotage).await;
    let delete = write(vec![Update::Delete { key: key("doc:1#viewer@user:ann"), must_exist: true }]);
    let error = commit_one(&node, store, delete).await.expect_err("not deleted");
    assert!(error.to_string().contains("0 deletions written instead of 1"), "{error}");
    assert_eq!(node.heads(&[store]).await.expect("heads")[0].1.revision, Revision(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_stores_name_is_free_and_its_writes_are_refused() {
    let (_, node, _) = fresh_node!();
    let Store { id, .. } = node.create_store("team").await.expect("created");
    let error = node.create_store("team").await.expect_err("taken");
    assert!(matches!(&error, DatastoreError::StoreExists(name) if name == "team"), "{error:?}");
    node.delete_store(id).await.expect("deleted");
    assert!(matches!(node.delete_store(id).await, Err(DatastoreError::StoreNotFound)));
    let write = commit_one(&node, id, create("doc:1#viewer@user:ann")).await;
    assert!(matches!(write, Err(DatastoreError::StoreNotFound)), "{write:?}");
    assert!(node.heads(&[id]).await.expect("heads").is_empty());
    assert_ne!(node.create_store("team").await.expect("free again").id, id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_datastore_leaves_no_connection_behind() {
    let (url, node, store) = fresh_node!();
    let mut hints = node.hints();
    commit_one(&node, store, create("doc:1#viewer@user:ann")).await.expect("committed");
    node.close().await;
    assert!(matches!(node.heads(&[store]).await, Err(DatastoreError::Unavailable(_))));
    drop(node);
    assert!(hints.recv().await.is_err(), "the source of hints is gone");

    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let others: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()
               AND backend_type = 'client backend'",
        )
        .fetch_one(&mut connection)
        .await
        .expect("a count");
        if others == 0 {
            break;
        }
        assert!(Instant::now() < deadline, "{others} connections are left");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The server keeps plans. One that was made while the store was all but empty must still follow
/// keys when the store has grown, or each group reads the whole store for each of its tuples.
#[tokio::test(flavor = "multi_thread")]
async fn plans_made_for_a_small_store_serve_a_large_one() {
    const TUPLES: i64 = 12_000;
    let (url, _, store) = fresh_node!();
    let node = node_with(&url, |settings| settings.commit_connections = 1).await;
    for n in 0..12 {
        let group =
            [create(&format!("doc:{n}#viewer@user:ann")), create(&format!("doc:{n}#viewer@user:bob"))];
        node.commit(store, Arc::from(group)).await.expect("committed");
        let delete = Update::Delete { key: key(&format!("doc:{n}#viewer@user:bob")), must_exist: true };
        commit_one(&node, store, write(vec![delete])).await.expect("committed");
        node.log(store, Revision(1), 10).await.expect("log");
        node.tuples(store, &TupleFilter::default(), None, 10).await.expect("a page");
    }
    for group in 0..TUPLES / 1000 {
        let key = |n| key(&format!("doc:{group}-{n}#viewer@user:ann"));
        let touch = |n| Update::Touch(Tuple::from(key(n)));
        let delete = |n| Update::Delete { key: key(n), must_exist: true };
        node.commit(store, Arc::from([write((0..1000).map(touch).collect())])).await.expect("committed");
        node.commit(store, Arc::from([write((0..100).map(delete).collect())])).await.expect("committed");
        node.log(store, node.heads(&[store]).await.expect("heads")[0].1.revision, 10).await.expect("log");
    }
    // What a connection did is accounted for at the latest when it ends.
    node.close().await;

    let mut connection = PgConnection::connect(&url).await.expect("a connection");
    let deadline = Instant::now() + Duration::from_secs(10);
    let read = loop {
        let (written, read): (i64, i64) = sqlx::query_as(
            "SELECT sum(n_tup_ins)::bigint, sum(seq_tup_read + coalesce(idx_tup_fetch, 0))::bigint
             FROM pg_stat_user_tables WHERE relname IN ('tuple', 'revision', 'change')",
        )
        .fetch_one(&mut connection)
        .await
        .expect("statistics");
        if written > 2 * TUPLES {
            break read;
        }
        assert!(Instant::now() < deadline, "only {written} rows accounted for");
        tokio::time::sleep(Duration::from_millis(50)).await;
    };
    assert!(read < 10 * TUPLES, "{read} rows were read to write {TUPLES} tuples");
}

/// Prints rates; asserts nothing, since rates depend on the machine. Run it with
/// `RELATA_MEASURE=1 cargo test --release --test suite postgres::measure -- --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn measure_acknowledged_writes_against_raw_inserts() {
    const TIME: Duration = Duration::from_secs(4);
    if std::env::var_os("RELATA_MEASURE").is_none() || !enabled() {
        return;
    }
    let cluster = Cluster::start(Durability::Full);
    let url = cluster.create_database();
    let node = Arc::new(node(&url).await);
    node.migrate().await.expect("migrated");
    let store = default_store(&node).await;

    behind_its_back(&url, "CREATE TABLE raw (id bigserial PRIMARY KEY, text text)").await;
    let raw = (0..16).map(|_| {
        let url = url.clone();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.expect("a connection");
            let (started, mut count) = (Instant::now(), 0_u64);
            while started.elapsed() < TIME {
                let insert = sqlx::query("INSERT INTO raw (text) VALUES ($1)").bind("doc:1#viewer@user:ann");
                insert.execute(&mut connection).await.expect("inserted");
                count += 1;
            }
            count
        })
    });
    let raw = per_second(TIME, futures::future::join_all(raw).await);

    let committers = Committers::new(node.clone(), CommitterSettings::default(), Metrics::new());
    let clients = (0..64).map(|client| {
        let committers = committers.clone();
        tokio::spawn(async move {
            let (started, mut count) = (Instant::now(), 0_u64);
            while started.elapsed() < TIME {
                let write = create(&format!("doc:{client}-{count}#viewer@user:ann"));
                let deadline = Instant::now() + Duration::from_secs(5);
                committers.write(store, write, deadline).await.expect("acknowledged");
                count += 1;
            }
            count
        })
    });
    let grouped = per_second(TIME, futures::future::join_all(clients).await);
    println!("raw inserts, 16 connections: {raw}/s");
    println!(
        "acknowledged writes, 64 clients of one store: {grouped}/s, {}% of raw",
        grouped * 100 / raw.max(1)
    );

    for size in [1, 64, 1000] {
        let (started, mut groups, mut worst) = (Instant::now(), 0_u64, Duration::ZERO);
        while started.elapsed() < TIME {
            let group = (0..size).map(|n| create(&format!("doc:{size}-{groups}-{n}#viewer@user:bob")));
            let asked = Instant::now();
            node.commit(store, group.collect()).await.expect("committed");
            worst = worst.max(asked.elapsed());
            groups += 1;
        }
        let rate = per_second(TIME, [Ok(groups * size)]);
        println!("groups of {size}: {rate} writes/s, {} groups/s, worst {worst:?}", rate / size);
    }
}

fn per_second(time: Duration, counts: impl IntoIterator<Item = Result<u64, tokio::task::JoinError>>) -> u64 {
    let count: u64 = counts.into_iter().map(|count| count.expect("a count")).sum();
    count / time.as_secs()
}
