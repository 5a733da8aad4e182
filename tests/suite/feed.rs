//! The feed against a real record on SQLite, with the faults a database has.

mod forks;
pub mod harness;
mod memory;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use relata::datastore::Datastore;
use relata::datastore::postgres::{Postgres, PostgresSettings};
use relata::feed::{Feed, FeedError, FeedSettings, Published, Replica};
use relata::graph::Snapshot;
use relata::metrics::{Divergence, Metrics};
use relata::revision::{Revision, StoreId, WriteId};
use relata::time::Timestamp;

use crate::postgres_server::fresh_database;
use harness::{Record, SCHEMA, WIDER_SCHEMA, quick, shown, soon};

/// A snapshot as text, to compare what two structures hold.
pub fn held(snapshot: &Snapshot) -> BTreeSet<String> {
    snapshot.tuples().map(|tuple| format!("{} {:?}", tuple.key, tuple.attributes)).collect()
}

async fn at_least(replica: &Replica, revision: Revision) -> Arc<Published> {
    replica.at_least(revision, Instant::now() + Duration::from_secs(20)).await.expect("the revision arrives")
}

/// How often memory went back to a fork, and how often a fork made it load anew.
fn forks(metrics: &Metrics) -> (u64, u64) {
    let divergences = &metrics.feed.divergences;
    (divergences.of(Divergence::Rewound).get(), divergences.of(Divergence::Reloaded).get())
}

/// Waits for a revision through times in which the replica does not answer.
async fn arrival(replica: &Replica, revision: Revision) {
    soon(async {
        while replica.published().map_or(Revision::ZERO, |published| published.revision) < revision {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_write_wakes_who_waits_for_it() {
    let record = Record::temporary().await;
    let feed = Feed::start(
        record.datastore(),
        FeedSettings { poll_interval: Duration::from_mins(5), ..quick() },
        Metrics::new(),
    );
    let replica = feed.replica(record.store).await.expect("a store");
    assert_eq!(replica.published().expect("serving").revision, Revision::ZERO);
    assert_eq!(replica.write_tag(Revision::ZERO), Some(WriteId::NIL.tag()));

    let waiting = tokio::spawn({
        let replica = Arc::clone(&replica);
        async move { at_least(&replica, Revision(1)).await }
    });
    let written = record.write("+doc:plan#owner@user:ann").await;
    feed.hint(record.store);
    let published = waiting.await.expect("no panic");
    assert_eq!((published.revision, published.write_id), (written.revision, written.write_id));
    assert_eq!(held(&published.snapshot).len(), 1);
    assert_eq!(replica.write_tag(Revision(1)), Some(written.write_id.tag()));
    assert!(replica.recognises(Revision(1), written.write_id.tag()).await.expect("an answer"));
    assert!(!replica.recognises(Revision(1), WriteId::fresh().tag()).await.expect("an answer"));

    let missed = replica.at_least(Revision(2), Instant::now() + Duration::from_millis(20)).await;
    assert!(matches!(missed, Err(FeedError::Behind { wanted: Revision(2), newest: Revision(1) })));
    feed.shutdown().await;
}

#[tokio::test]
async fn a_lost_hint_costs_one_poll_and_no_more() {
    let record = Record::temporary().await;
    let feed = Feed::start(record.datastore(), quick(), Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    record.write("+doc:plan#owner@user:ann").await;
    let mut newest = replica.subscribe();
    soon(newest.wait_for(|revision| *revision == Revision(1))).await.expect("announced");
    feed.shutdown().await;
}

#[tokio::test]
async fn stores_are_loaded_once_for_all_who_ask() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, quick(), Metrics::new());
    let asks = (0..20).map(|_| feed.replica(record.store));
    let replicas: Vec<_> =
        futures::future::join_all(asks).await.into_iter().map(|r| r.expect("a store")).collect();
    assert!(replicas.iter().all(|replica| Arc::ptr_eq(replica, &replicas[0])));
    assert_eq!(faults.pages.load(Ordering::SeqCst), 1, "one load reads one page of an empty store");

    let nowhere = StoreId(uuid::Uuid::new_v4());
    assert!(matches!(feed.replica(nowhere).await, Err(FeedError::StoreNotFound)));
    feed.shutdown().await;
}

#[tokio::test]
async fn a_store_loaded_while_it_changes_is_exact() {
    let record = Record::temporary().await;
    for batch in 0..40 {
        record.scramble(batch).await;
    }
    let stepwise = Feed::start(record.datastore(), quick(), Metrics::new());
    let early = stepwise.replica(record.store).await.expect("a store");
    let writer = tokio::spawn({
        let record = record.clone();
        async move {
            let mut last = Revision::ZERO;
            for batch in 40..120 {
                last = record.scramble(batch).await;
                tokio::task::yield_now().await;
            }
            last
        }
    });
    let mut late = Vec::new();
    for _ in 0..4 {
        let feed =
            Feed::start(record.datastore(), FeedSettings { page: 3, batch: 2, ..quick() }, Metrics::new());
        late.push((feed.replica(record.store).await.expect("a store"), feed));
    }
    let last = writer.await.expect("no panic");
    let expected = record.tuples().await;
    assert!(expected.len() > 10, "the store holds something");
    let published = at_least(&early, last).await;
    assert_eq!(held(&published.snapshot), expected);
    for (replica, feed) in late {
        let published = at_least(&replica, last).await;
        assert_eq!(published.revision, last);
        assert_eq!(held(&published.snapshot), expected);
        feed.shutdown().await;
    }
    stepwise.shutdown().await;
}

#[tokio::test]
async fn schemas_come_into_force_with_the_tuples_beside_them() {
    let record = Record::temporary().await;
    let feed = Feed::start(record.datastore(), quick(), Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    assert!(replica.published().expect("serving").schema.is_none());

    let first = record.write_schema(SCHEMA).await;
    record.write("+doc:plan#owner@user:ann").await;
    record.write("+doc:plan#viewer@user:bob").await;
    let second = record.write_schema(WIDER_SCHEMA).await;
    let last = record.write("-doc:plan#owner@user:ann").await.revision;

    let published = at_least(&replica, last).await;
    let schema = published.schema.clone().expect("a schema");
    assert_eq!((schema.id, schema.revision), (second, Revision(4)));
    assert_eq!(published.schema_at(Revision::ZERO).expect("within reach"), None);
    assert_eq!(published.schema_at(Revision(3)).expect("within reach"), Some(first));

    // `viewer` takes users only since the second schema.
    let now = Timestamp::from_micros(0);
    assert_eq!(shown(&mut published.view(&schema, now)), ["doc:plan#viewer@user:bob"]);
    let at = replica.at(Revision(3)).await.expect("within reach");
    let then = at.schema.clone().expect("a schema");
    assert_eq!(then.id, first);
    assert_eq!(shown(&mut at.view(&then, now)), ["doc:plan#owner@user:ann"]);
    assert_eq!(shown(&mut at.view(&schema, now)), ["doc:plan#owner@user:ann", "doc:plan#viewer@user:bob"]);

    // A node that was not there at the time says the same.
    let late = Feed::start(record.datastore(), quick(), Metrics::new());
    let replica = late.replica(record.store).await.expect("a store");
    let at = replica.at(Revision(3)).await.expect("within reach");
    assert_eq!(at.schema.expect("a schema").id, first);
    assert_eq!(replica.at(Revision(1)).await.expect("within reach").schema.expect("a schema").id, first);
    assert!(replica.at(Revision::ZERO).await.expect("within reach").schema.is_none());
    feed.shutdown().await;
    late.shutdown().await;
}

#[tokio::test]
async fn every_earlier_revision_looks_as_it_did() {
    let record = Record::temporary().await;
    record.write_schema(WIDER_SCHEMA).await;
    let feed = Feed::start(record.datastore(), quick(), Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    let now = Timestamp::from_micros(0);
    let mut past = Vec::new();
    for batch in 0..30 {
        let revision = record.scramble(batch).await;
        feed.hint(record.store);
        let published = at_least(&replica, revision).await;
        assert_eq!(published.revision, revision);
        let schema = published.schema.clone().expect("a schema");
        past.push((revision, published.write_id, shown(&mut published.view(&schema, now))));
    }
    assert!(past.iter().map(|(_, _, shown)| shown).collect::<BTreeSet<_>>().len() > 10, "it does change");

    // A node that loads now reads its past from the log.
    let late = Feed::start(record.datastore(), FeedSettings { batch: 7, ..quick() }, Metrics::new());
    let later = late.replica(record.store).await.expect("a store");
    for replica in [&replica, &later] {
        for (revision, write_id, then) in &past {
            let at = replica.at(*revision).await.expect("within reach");
            assert_eq!((at.revision, at.write_tag), (*revision, write_id.tag()));
            let schema = at.schema.clone().expect("a schema");
            assert_eq!(&shown(&mut at.view(&schema, now)), then, "at {revision}");
        }
    }
    let changes =
        replica.published().expect("serving").changes_after(Revision(5), usize::MAX).expect("in memory");
    let expected: Vec<Revision> = past.iter().map(|(revision, ..)| *revision).filter(|r| r.0 > 5).collect();
    assert_eq!(changes.iter().map(|entry| entry.revision).collect::<Vec<_>>(), expected);
    feed.shutdown().await;
    late.shutdown().await;
}

#[tokio::test]
async fn how_far_back_one_can_ask_does_not_depend_on_the_node() {
    let record = Record::temporary().await;
    let settings = FeedSettings {
        reach_changes: 5,
        reach_time: Duration::ZERO,
        ring_changes: 8,
        ring_revisions: 10,
        ..quick()
    };
    let early = Feed::start(record.datastore(), settings.clone(), Metrics::new());
    let first = early.replica(record.store).await.expect("a store");
    for id in 0..20 {
        record.write(&format!("+doc:{id}#owner@user:ann")).await;
    }
    at_least(&first, Revision(20)).await;
    let late = Feed::start(record.datastore(), settings, Metrics::new());
    let second = late.replica(record.store).await.expect("a store");
    for replica in [&first, &second] {
        for revision in 0..=20 {
            let answer = replica.at(Revision(revision)).await;
            assert_eq!(answer.is_ok(), revision >= 15, "revision {revision}");
            if revision < 15 {
                assert!(matches!(answer, Err(FeedError::OutOfRange { .. })));
            }
        }
        assert!(matches!(replica.at(Revision(21)).await, Err(FeedError::Behind { .. })));
        assert!(replica.published().expect("serving").changes_after(Revision(2), usize::MAX).is_none());
    }
    // What memory has forgotten is looked up.
    assert!(second.write_tag(Revision(2)).is_none());
    let tag = record.write_id(Revision(2)).await.tag();
    assert!(second.recognises(Revision(2), tag).await.expect("an answer"));
    assert!(!second.recognises(Revision(2), [7; 8]).await.expect("an answer"));
    early.shutdown().await;
    late.shutdown().await;
}

/// The primary is replaced by a copy that lacks the last writes, and goes on from there: the same
/// numbers name other writes.
#[tokio::test]
async fn a_lost_suffix_is_noticed_and_the_new_history_served() {
    let directory = tempfile::tempdir().expect("a directory");
    let (old, new) = (directory.path().join("old.db"), directory.path().join("new.db"));
    let record = Record::at(&old).await;
    for id in 0..5 {
        record.write(&format!("+doc:{id}#owner@user:ann")).await;
    }
    let copy = record.copied(&old, &new);
    let lost = record.write("+doc:lost#owner@user:ann").await;
    let ahead = record.write("+doc:lost-too#owner@user:ann").await.revision;

    let (faults, metrics) = (record.faults(), Metrics::new());
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, quick(), Arc::clone(&metrics));
    let replica = feed.replica(record.store).await.expect("a store");
    let pages = faults.pages.load(Ordering::SeqCst);
    assert_eq!(replica.published().expect("serving").revision, ahead);
    assert!(replica.recognises(lost.revision, lost.write_id.tag()).await.expect("an answer"));

    // First the copy is only shorter, then it reuses the numbers and overtakes.
    let mut newest = replica.subscribe();
    faults.replace(copy.datastore());
    assert_eq!(soon(feed.head(record.store)).await.expect("a head").revision, Revision(5));
    assert!(!replica.published().is_ok_and(|published| published.revision > Revision(5)));
    soon(newest.wait_for(|revision| *revision == Revision(5))).await.expect("goes back");
    assert_eq!(held(&replica.published().expect("serving").snapshot), copy.tuples().await);
    for id in 0..3 {
        copy.write(&format!("+doc:new{id}#owner@user:bob")).await;
    }
    let published = at_least(&replica, Revision(8)).await;
    assert_eq!(held(&published.snapshot), copy.tuples().await);
    assert!(!replica.recognises(lost.revision, lost.write_id.tag()).await.expect("an answer"));
    assert_eq!(forks(&metrics), (1, 0), "went back, did not load");
    assert_eq!(faults.pages.load(Ordering::SeqCst), pages, "no tuple was read again");
    feed.shutdown().await;
}

/// As above, but the copy has the very same number of revisions, and nobody writes any more.
#[tokio::test]
async fn a_fork_of_equal_length_is_noticed_although_the_store_is_idle() {
    let directory = tempfile::tempdir().expect("a directory");
    let (old, new) = (directory.path().join("old.db"), directory.path().join("new.db"));
    let record = Record::at(&old).await;
    record.write("+doc:kept#owner@user:ann").await;
    let copy = record.copied(&old, &new);
    let lost = record.write("+doc:lost#owner@user:ann").await;
    let won = copy.write("+doc:won#owner@user:ann").await;
    assert_eq!(lost.revision, won.revision);

    let faults = record.faults();
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, quick(), Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    assert_eq!(replica.write_tag(lost.revision), Some(lost.write_id.tag()));
    faults.replace(copy.datastore());
    // No answer from the lost history may come once the database has been asked in full.
    let head = soon(feed.head(record.store)).await.expect("a head");
    assert_eq!(head.write_id, won.write_id);
    soon(async {
        loop {
            match replica.published() {
                Ok(published) => break assert_eq!(published.write_id, won.write_id),
                Err(FeedError::HistoryDiverged) => tokio::task::yield_now().await,
                Err(other) => panic!("unexpected: {other}"),
            }
        }
    })
    .await;
    assert_eq!(held(&replica.published().expect("serving").snapshot), copy.tuples().await);
    feed.shutdown().await;
}

#[tokio::test]
async fn a_gap_in_the_log_is_never_skipped() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, quick(), Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    faults.hide_revision.store(2, Ordering::SeqCst);
    for id in 0..4 {
        record.write(&format!("+doc:{id}#owner@user:ann")).await;
    }
    feed.hint(record.store);
    arrival(&replica, Revision(4)).await;
    let published = replica.published().expect("serving");
    assert_eq!(faults.hide_revision.load(Ordering::SeqCst), 0, "the gap was met");
    assert_eq!(held(&published.snapshot), record.tuples().await);
    feed.shutdown().await;
}

#[tokio::test]
async fn a_panic_while_following_is_not_seen_by_anyone() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, quick(), Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    faults.panic.store(true, Ordering::SeqCst);
    let last = record.write("+doc:plan#owner@user:ann").await.revision;
    feed.hint(record.store);
    arrival(&replica, last).await;
    assert!(!faults.panic.load(Ordering::SeqCst), "the panic happened");
    assert_eq!(held(&replica.published().expect("serving").snapshot), record.tuples().await);
    feed.shutdown().await;
}

#[tokio::test]
async fn a_database_that_goes_away_comes_back_unnoticed_by_readers() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let settings = FeedSettings { max_staleness: Duration::from_millis(150), ..quick() };
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, settings, Metrics::new());
    record.write("+doc:plan#owner@user:ann").await;
    let replica = feed.replica(record.store).await.expect("a store");
    assert!(feed.health().is_serving());

    faults.down.store(true, Ordering::SeqCst);
    let last = record.write("+doc:plan#owner@user:bob").await.revision;
    assert!(matches!(soon(feed.head(record.store)).await, Err(FeedError::Datastore(_))));
    soon(async {
        while feed.health().database_answers() || feed.health().stale.is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let health = feed.health();
    assert!(!health.is_serving());
    assert_eq!(health.stale.iter().map(|(store, _)| *store).collect::<Vec<_>>(), [record.store]);
    assert!(replica.staleness() > Duration::from_millis(150));
    assert_eq!(replica.published().expect("still readable").revision, Revision(1));

    faults.down.store(false, Ordering::SeqCst);
    assert_eq!(at_least(&replica, last).await.revision, last);
    soon(async {
        while !feed.health().is_serving() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    feed.shutdown().await;
}

/// A head query may have read the database before a write that was acknowledged before the
/// request arrived. Joining it would return a head older than that write.
#[tokio::test]
async fn a_full_head_never_joins_a_query_under_way() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let feed = Feed::start(
        Arc::clone(&faults) as Arc<dyn Datastore>,
        FeedSettings { poll_interval: Duration::from_mins(5), ..quick() },
        Metrics::new(),
    );
    for round in 1..=5 {
        // One query is answered, and its answer held back.
        let held_back = faults.hold_next_heads();
        let early = tokio::spawn({
            let (feed, store) = (Arc::clone(&feed), record.store);
            async move { feed.head(store).await }
        });
        soon(held_back.read.notified()).await;
        let written = record.write(&format!("+doc:{round}#owner@user:ann")).await;
        let late = tokio::spawn({
            let (feed, store) = (Arc::clone(&feed), record.store);
            async move { feed.head(store).await }
        });
        tokio::task::yield_now().await;
        held_back.go.notify_one();
        let early = soon(early).await.expect("no panic").expect("a head");
        let late = soon(late).await.expect("no panic").expect("a head");
        // On a slow machine the later query has answered both.
        assert!(early.revision >= Revision(round - 1), "{round}");
        assert_eq!((late.revision, late.write_id), (written.revision, written.write_id));
    }
    feed.shutdown().await;
}

/// A query that hangs is not waited for by those who come later, and who waits for it is told by
/// the next one.
#[tokio::test]
async fn a_head_query_that_hangs_delays_only_itself() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let settings = FeedSettings {
        poll_interval: Duration::from_mins(5),
        query_timeout: Duration::from_mins(5),
        ..quick()
    };
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, settings, Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    let ask = || {
        let (feed, store) = (Arc::clone(&feed), record.store);
        tokio::spawn(async move { feed.head(store).await })
    };
    let held_back = faults.hold_next_heads();
    let early = ask();
    soon(held_back.read.notified()).await;
    let written = record.write("+doc:plan#owner@user:ann").await;
    let late = ask();
    for answer in [late, early] {
        let head = soon(answer).await.expect("no panic").expect("a head");
        assert_eq!(head.write_id, written.write_id);
    }
    assert_eq!(at_least(&replica, written.revision).await.revision, written.revision);
    // Its answer comes in the end, is older, and changes nothing.
    held_back.go.notify_one();
    let written = record.write("+doc:plan#owner@user:bob").await;
    let head = soon(ask()).await.expect("no panic").expect("a head");
    assert_eq!(head.revision, written.revision);
    assert_eq!(at_least(&replica, written.revision).await.write_id, written.write_id);
    feed.shutdown().await;
}

/// The changelog of one store cannot be read for as long as it likes; another store's revocation
/// is seen at once.
#[tokio::test]
async fn a_store_that_reads_slowly_does_not_delay_another() {
    let record = Record::temporary().await;
    let other = record.another("other").await;
    let faults = record.faults();
    let settings = FeedSettings { query_timeout: Duration::from_mins(5), ..quick() };
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, settings, Metrics::new());
    let slow = feed.replica(record.store).await.expect("a store");
    let quick = feed.replica(other.store).await.expect("a store");
    other.write("+doc:plan#owner@user:ann").await;
    at_least(&quick, Revision(1)).await;

    *faults.stuck.lock().expect("not poisoned") = Some(record.store);
    for id in 0..20 {
        record.write(&format!("+doc:{id}#owner@user:ann")).await;
        feed.hint(record.store);
    }
    let revoked = other.write("-doc:plan#owner@user:ann").await.revision;
    let published = soon(at_least(&quick, revoked)).await;
    assert!(published.snapshot.is_empty());
    assert_eq!(slow.published().expect("still readable").revision, Revision::ZERO);
    assert_eq!(soon(feed.head(record.store)).await.expect("a head").revision, Revision(20));
    feed.shutdown().await;
}

/// Where hints do not arrive the poll is quicker.
#[tokio::test]
async fn a_deaf_node_polls_more_often() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let settings = FeedSettings {
        poll_interval: Duration::from_mins(5),
        deaf_poll_interval: Duration::from_millis(10),
        ..quick()
    };
    faults.deaf.store(true, Ordering::SeqCst);
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, settings, Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    let written = record.write("+doc:plan#owner@user:ann").await;
    arrival(&replica, written.revision).await;
    feed.shutdown().await;
}

#[tokio::test]
async fn clocks_that_differ_are_noticed() {
    let record = Record::temporary().await;
    let (faults, metrics) = (record.faults(), Metrics::new());
    let settings = FeedSettings { poll_interval: Duration::from_millis(2), ..quick() };
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, settings, Arc::clone(&metrics));
    let until = async |condition: &dyn Fn(&relata::feed::Health) -> bool| {
        soon(async {
            while !condition(&feed.health()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
        .await;
    };
    until(&|health| health.skew.is_some()).await;
    assert!(feed.health().is_serving(), "{:?}", feed.health());
    for seconds in [5, -5] {
        faults.clock_ahead.store(seconds * 1_000_000, Ordering::SeqCst);
        until(&|health| !health.is_serving() && !health.clocks_agree()).await;
        // By the node's clock, the database's is as far the other way.
        let skew = metrics.feed.clock_skew_seconds.get();
        until(&|health| health.skew.is_some_and(|skew| (skew.ahead_micros > 0) == (seconds < 0))).await;
        assert!(skew.abs() < 6.0, "{skew}");
    }
    faults.clock_ahead.store(0, Ordering::SeqCst);
    until(&relata::feed::Health::is_serving).await;
    feed.shutdown().await;
}

#[tokio::test]
async fn a_deleted_store_is_forgotten() {
    let record = Record::temporary().await;
    let feed = Feed::start(record.datastore(), quick(), Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    let waiting = tokio::spawn({
        let replica = Arc::clone(&replica);
        async move { replica.at_least(Revision(9), Instant::now() + Duration::from_secs(20)).await }
    });
    record.datastore().delete_store(record.store).await.expect("deleted");
    let told = soon(waiting).await.expect("no panic");
    assert!(matches!(told, Err(FeedError::StoreNotFound)), "{told:?}");
    assert!(matches!(feed.replica(record.store).await, Err(FeedError::StoreNotFound)));
    assert!(matches!(feed.head(record.store).await, Err(FeedError::StoreNotFound)));
    feed.shutdown().await;
}

#[tokio::test]
async fn time_never_goes_backwards() {
    let record = Record::temporary().await;
    let feed = Feed::start(record.datastore(), quick(), Metrics::new());
    record.write("+doc:plan#owner@user:ann").await;
    let replica = feed.replica(record.store).await.expect("a store");
    let committed_at = replica.published().expect("serving").committed_at;
    assert_eq!(replica.now(Timestamp::from_micros(0)), committed_at, "the database is ahead");
    let ahead = committed_at.saturating_add(Duration::from_mins(1));
    assert_eq!(replica.now(ahead), ahead);
    assert_eq!(replica.now(committed_at), ahead, "the node's clock was set back");
    feed.shutdown().await;
}

/// A node's way to a database.
async fn node(url: &str) -> Arc<dyn Datastore> {
    let settings = PostgresSettings::new(url.parse().expect("a URL"));
    Arc::new(Postgres::connect(settings, Metrics::new()).await.expect("a connection"))
}

/// Four writers on two nodes that share a record; `nodes` are their ways to it.
async fn write_on_both(record: &Record, nodes: [Arc<dyn Datastore>; 2], settings: FeedSettings) {
    let feeds = nodes.clone().map(|node| Feed::start(node, settings.clone(), Metrics::new()));
    let writers = (0..4).map(|writer| {
        let (record, node) = (record.clone(), Arc::clone(&nodes[writer % 2]));
        let (here, there) = (Arc::clone(&feeds[writer % 2]), Arc::clone(&feeds[(writer + 1) % 2]));
        tokio::spawn(async move {
            let here = (here.replica(record.store).await.expect("a store"), here);
            let there = there.replica(record.store).await.expect("a store");
            for batch in 0..25 {
                let revision = record.scramble(u64::try_from(writer).unwrap() * 1_000 + batch).await;
                here.1.hint(record.store);
                node.notify(&[record.store]).await;
                // Both nodes show what was written, whichever of them heard of it first.
                assert!(at_least(&here.0, revision).await.revision >= revision);
                assert!(at_least(&there, revision).await.revision >= revision);
            }
        })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("no panic");
    }
    let head = record.head().await;
    let expected = record.tuples().await;
    for feed in feeds {
        let replica = feed.replica(record.store).await.expect("a store");
        let published = at_least(&replica, head.revision).await;
        assert_eq!((published.revision, published.write_id), (head.revision, head.write_id));
        assert_eq!(held(&published.snapshot), expected);
        feed.shutdown().await;
    }
}

#[tokio::test]
async fn two_nodes_end_with_equal_graphs() {
    let record = Record::temporary().await;
    write_on_both(&record, [record.datastore(), record.datastore()], quick()).await;
}

#[tokio::test]
async fn two_nodes_on_postgres_end_with_equal_graphs() {
    let Some(url) = fresh_database() else { return };
    let (writer, nodes) = (node(&url).await, [node(&url).await, node(&url).await]);
    let record = Record::of(writer).await;
    write_on_both(&record, nodes.clone(), quick()).await;
    for node in nodes.iter().chain([&record.datastore()]) {
        node.close().await;
    }
}

/// With polls minutes apart, only the hint of the node that wrote can be what tells the other.
#[tokio::test]
async fn a_hint_through_the_database_is_enough() {
    let Some(url) = fresh_database() else { return };
    let (writer, reader) = (node(&url).await, node(&url).await);
    let record = Record::of(Arc::clone(&writer)).await;
    let settings = FeedSettings { poll_interval: Duration::from_mins(5), ..quick() };
    let feed = Feed::start(Arc::clone(&reader), settings, Metrics::new());
    let replica = feed.replica(record.store).await.expect("a store");
    let mut newest = replica.subscribe();
    for id in 1..=5 {
        record.write(&format!("+doc:{id}#owner@user:ann")).await;
        writer.notify(&[record.store]).await;
        soon(newest.wait_for(|revision| *revision == Revision(id))).await.expect("announced");
    }
    feed.shutdown().await;
    reader.close().await;
    writer.close().await;
}

#[tokio::test]
async fn a_feed_that_is_dropped_leaves_nothing_running() {
    let record = Record::temporary().await;
    let faults = record.faults();
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, quick(), Metrics::new());
    feed.replica(record.store).await.expect("a store");
    drop(feed);
    soon(async {
        while Arc::strong_count(&faults) > 1 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}
