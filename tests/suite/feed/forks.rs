//! The database's history is another one than memory's: memory goes back to where they part.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use relata::datastore::{Datastore, SchemaId};
use relata::feed::{Feed, FeedError, FeedSettings, LostRevision, Replica};
use relata::metrics::Metrics;
use relata::revision::{Revision, WriteId};
use relata::time::Timestamp;

use super::harness::{Faults, Record, SCHEMA, WIDER_SCHEMA, quick, shown, soon};
use super::{at_least, forks, held};

/// A record in a file, its copies, and a feed that follows whichever of them is put in place.
struct World {
    directory: tempfile::TempDir,
    copies: usize,
    record: Record,
    path: PathBuf,
    faults: Arc<Faults>,
    metrics: Arc<Metrics>,
    feed: Arc<Feed>,
    replica: Arc<Replica>,
}

impl World {
    /// With so many revisions before the feed starts, schemas among them.
    async fn with(revisions: u64, settings: FeedSettings) -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("0.db");
        let record = Record::at(&path).await;
        record.write_schema(SCHEMA).await;
        for seed in 1..revisions {
            record.scramble(seed).await;
        }
        let (faults, metrics) = (record.faults(), Metrics::new());
        let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, settings, Arc::clone(&metrics));
        let replica = feed.replica(record.store).await.expect("a store");
        Self { directory, copies: 0, record, path, faults, metrics, feed, replica }
    }

    /// A copy of the record in place, going its own way from here.
    fn copy(&mut self) -> (Record, PathBuf) {
        self.copies += 1;
        let path = self.directory.path().join(format!("{}.db", self.copies));
        (self.record.copied(&self.path, &path), path)
    }

    /// From now on the database is this one.
    fn replace(&mut self, (record, path): (Record, PathBuf)) {
        self.faults.replace(record.datastore());
        (self.record, self.path) = (record, path);
    }

    /// Waits until memory has what the database has.
    async fn settled(&self) {
        let head = self.record.head().await;
        soon(async {
            loop {
                match self.replica.published() {
                    Ok(published) if published.write_id == head.write_id => break,
                    Ok(_) | Err(FeedError::HistoryDiverged | FeedError::Reloading) => {
                        tokio::time::sleep(Duration::from_millis(1)).await;
                    }
                    Err(other) => panic!("unexpected: {other}"),
                }
            }
        })
        .await;
        let published = self.replica.published().expect("serving");
        assert_eq!(
            (published.revision, published.schema.as_ref().map(|s| s.id)),
            (head.revision, head.schema)
        );
        assert_eq!(held(&published.snapshot), self.record.tuples().await);
    }

    /// What memory shows at each revision within reach, to compare with a node that loaded now.
    async fn past(replica: &Replica) -> Vec<(Revision, [u8; 8], Option<SchemaId>, Vec<String>)> {
        let newest = replica.published().expect("serving").revision;
        let mut past = Vec::new();
        for revision in (0..=newest.0).map(Revision) {
            let at = replica.at(revision).await.expect("within reach");
            let id = at.schema.as_ref().map(|schema| schema.id);
            let shown =
                at.schema.clone().map(|schema| shown(&mut at.view(&schema, Timestamp::from_micros(0))));
            past.push((revision, at.write_tag, id, shown.unwrap_or_default()));
        }
        past
    }
}

/// Wherever the fork is, schemas on either side of it: memory ends as a node that loads now, in
/// its newest state and in every earlier one, and loads nothing itself.
#[tokio::test]
async fn every_fork_within_the_ring_is_gone_back_to() {
    for lost in [1, 2, 3, 7, 12] {
        let mut world = World::with(12 - lost, quick()).await;
        let copy = world.copy();
        for seed in 0..lost {
            if seed % 3 == 1 {
                world.record.write_schema(WIDER_SCHEMA).await;
            } else {
                world.record.scramble(1_000 + seed).await;
            }
        }
        world.settled().await;
        let pages = world.faults.pages.load(Ordering::SeqCst);
        for seed in 0..lost / 2 {
            if seed == 1 {
                copy.0.write_schema(&format!("{WIDER_SCHEMA}\n# another")).await;
            } else {
                copy.0.scramble(2_000 + seed).await;
            }
        }
        world.replace(copy);
        world.settled().await;
        assert_eq!(forks(&world.metrics), (1, 0), "{lost} lost");
        assert_eq!(world.faults.pages.load(Ordering::SeqCst), pages, "nothing is loaded");

        let late = Feed::start(world.record.datastore(), quick(), Metrics::new());
        let fresh = late.replica(world.record.store).await.expect("a store");
        assert_eq!(World::past(&world.replica).await, World::past(&fresh).await, "{lost} lost");
        late.shutdown().await;
        world.feed.shutdown().await;
    }
}

/// The new history is already longer when it is noticed, and nobody writes or asks.
#[tokio::test]
async fn a_longer_history_is_noticed_although_the_store_is_idle() {
    let mut world = World::with(5, quick()).await;
    let copy = world.copy();
    world.record.scramble(100).await;
    world.settled().await;
    for seed in 200..210 {
        copy.0.scramble(seed).await;
    }
    world.replace(copy);
    let poll = Instant::now();
    world.settled().await;
    assert!(poll.elapsed() < Duration::from_secs(5), "{:?}", poll.elapsed());
    assert_eq!(forks(&world.metrics), (1, 0));
    world.feed.shutdown().await;
}

/// The log is read, the database is replaced, and that is noticed before the log has been applied.
#[tokio::test]
async fn what_was_read_before_the_fork_was_noticed_is_not_shown_after() {
    let mut world = World::with(4, quick()).await;
    let copy = world.copy();
    world.record.write("+doc:1#owner@user:lost").await;
    world.settled().await;
    let late = world.faults.hold_next_log();
    world.record.write("+doc:2#owner@user:lost").await;
    soon(late.read.notified()).await;
    world.replace(copy);
    soon(async {
        while !matches!(world.replica.published(), Err(FeedError::HistoryDiverged)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    // Whatever memory makes of the late answer, the next one finds it done.
    let next = world.faults.hold_next_log();
    late.go.notify_one();
    soon(next.read.notified()).await;
    let shown = world.replica.published().map(|published| published.revision);
    assert!(matches!(shown, Err(FeedError::HistoryDiverged)), "{shown:?}");
    next.go.notify_one();
    world.settled().await;
    assert_eq!(forks(&world.metrics), (1, 0));
    world.feed.shutdown().await;
}

/// Memory went on since the head was read, perhaps by what is lost: the head is answered, and no
/// more. A head of another history is not.
#[tokio::test]
async fn a_head_is_answered_without_what_came_after_it() {
    let world = World::with(3, quick()).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    let head = world.record.head().await;
    let before = world.replica.at_head(&head, deadline).await.expect("an answer").expect("the head");
    world.record.write("+doc:1#owner@user:later").await;
    world.settled().await;
    let at = world.replica.at_head(&head, deadline).await.expect("an answer").expect("the head");
    assert_eq!((at.revision, at.write_tag), (head.revision, head.write_id.tag()));
    let view = |at: &relata::feed::At| {
        let schema = at.schema.clone().expect("a schema");
        shown(&mut at.view(&schema, Timestamp::from_micros(0)))
    };
    assert_eq!(view(&at), view(&before));
    let other = relata::datastore::Head { write_id: WriteId::fresh(), ..head };
    assert!(world.replica.at_head(&other, deadline).await.expect("an answer").is_none());
    world.feed.shutdown().await;
}

#[tokio::test]
async fn a_fork_older_than_the_ring_is_loaded_anew() {
    let settings = FeedSettings { ring_changes: 3, reach_changes: 3, reach_time: Duration::ZERO, ..quick() };
    let mut world = World::with(4, settings).await;
    let copy = world.copy();
    let mut lost = Vec::new();
    for id in 0..8 {
        lost.push(world.record.write(&format!("+doc:{id}#owner@user:lost")).await);
    }
    world.settled().await;
    copy.0.write("+doc:0#owner@user:won").await;
    world.replace(copy);
    world.settled().await;
    assert_eq!(forks(&world.metrics), (0, 1));
    // Numbers that the new history has yet to reach are known to be lost as well.
    let end = lost.last().expect("some");
    assert_eq!(
        world.replica.lost(end.revision, end.write_id.tag()),
        Some(LostRevision { fork: None }),
        "where the histories part is not known"
    );
    world.feed.shutdown().await;
}

/// A trimmed log ends what can be compared; memory must not guess.
#[tokio::test]
async fn a_fork_older_than_the_log_is_loaded_anew() {
    let mut world = World::with(6, quick()).await;
    let copy = world.copy();
    for seed in 0..4 {
        world.record.scramble(1_000 + seed).await;
    }
    world.settled().await;
    for seed in 0..4 {
        copy.0.scramble(2_000 + seed).await;
    }
    // What the two have in common is no longer kept.
    let connection = rusqlite::Connection::open(&copy.1).expect("the file");
    connection
        .execute_batch(
            "DELETE FROM change WHERE revision < 9; DELETE FROM revision WHERE revision < 9; UPDATE store SET floor = 9",
        )
        .expect("trimmed");
    world.replace(copy);
    world.settled().await;
    assert_eq!(forks(&world.metrics), (0, 1));
    world.feed.shutdown().await;
}

/// The branch that was left and the one that came instead have different schemas under one id.
#[tokio::test]
async fn a_schema_of_the_lost_branch_is_not_taken_for_one_of_the_new() {
    let mut world = World::with(3, quick()).await;
    let copy = world.copy();
    let id = world.record.write_schema(WIDER_SCHEMA).await;
    world.settled().await;
    let narrow = format!("{SCHEMA}\ntype extra\n");
    let other = copy.0.write_schema(&narrow).await;
    // As it happens when both were made while the clock stood behind the last schema's.
    let connection = rusqlite::Connection::open(&copy.1).expect("the file");
    for table in [
        "UPDATE schema SET id = ?1 WHERE id = ?2",
        "UPDATE revision SET schema = ?1 WHERE schema = ?2",
        "UPDATE store SET schema = ?1 WHERE schema = ?2",
    ] {
        connection.execute(table, [id.0.to_string(), other.0.to_string()]).expect("renamed");
    }
    world.replace(copy);
    world.settled().await;
    let schema = world.replica.published().expect("serving").schema.clone().expect("a schema");
    assert_eq!((schema.id, &*schema.stored.text), (id, narrow.as_str()));
    let asked = world.replica.schema(id).await.expect("an answer").expect("a schema");
    assert_eq!(&*asked.stored.text, narrow.as_str());
    world.feed.shutdown().await;
}

/// A schema that only the lost branch had is unknown afterwards.
#[tokio::test]
async fn a_lost_schema_is_unknown() {
    let mut world = World::with(3, quick()).await;
    let copy = world.copy();
    let lost = world.record.write_schema(WIDER_SCHEMA).await;
    world.settled().await;
    assert!(world.replica.schema(lost).await.expect("an answer").is_some());
    world.replace(copy);
    world.settled().await;
    assert!(world.replica.schema(lost).await.expect("an answer").is_none());
    world.feed.shutdown().await;
}

/// Who waits for a lost write hears so although its number has not come again; a number that has
/// come again is not the write.
#[tokio::test]
async fn a_lost_write_is_not_waited_for() {
    let mut world = World::with(5, quick()).await;
    let copy = world.copy();
    let mut lost = Vec::new();
    for seed in 0..6 {
        lost.push(world.record.write(&format!("+doc:{seed}#owner@user:lost")).await);
    }
    world.settled().await;
    let (first, end) = (lost[0], lost[5]);
    let far = Instant::now() + Duration::from_mins(1);

    // Someone already waits for a revision that never came.
    let waiting = tokio::spawn({
        let (replica, beyond) = (Arc::clone(&world.replica), end.revision.next());
        async move { replica.at_least(beyond, Instant::now() + Duration::from_secs(20)).await }
    });
    copy.0.scramble(7).await;
    world.replace(copy);
    world.settled().await;
    let tag = |written: &relata::datastore::Committed| written.write_id.tag();
    let told = soon(world.replica.at_least_of(end.revision, tag(&end), far)).await;
    assert!(matches!(told, Err(FeedError::HistoryLost { fork: Some(Revision(5)) })), "{told:?}");
    assert_eq!(world.replica.lost(end.revision, tag(&end)), Some(LostRevision { fork: Some(Revision(5)) }));
    // Its number is taken by another write.
    assert!(!world.replica.recognises(first.revision, tag(&first)).await.expect("an answer"));
    // A write nobody here has seen may yet come.
    let soon_over = Instant::now() + Duration::from_millis(50);
    let unknown = world.replica.at_least_of(end.revision, WriteId::fresh().tag(), soon_over).await;
    assert!(matches!(unknown, Err(FeedError::Behind { .. })), "{unknown:?}");

    // The new history goes on past everything.
    while world.record.head().await.revision <= end.revision {
        world.record.scramble(world.record.head().await.revision.0 + 50).await;
    }
    let arrived = soon(waiting).await.expect("no panic").expect("it waited through the fork");
    assert!(arrived.revision > end.revision);
    assert!(!world.replica.recognises(end.revision, tag(&end)).await.expect("an answer"));
    world.feed.shutdown().await;
}

/// Time went on while the lost branch was followed, and does not turn back with it.
#[tokio::test]
async fn going_back_does_not_turn_back_time() {
    let mut world = World::with(3, quick()).await;
    let copy = world.copy();
    let ahead = world.replica.now(Timestamp::from_micros(0)).saturating_add(Duration::from_mins(5));
    world.record.scramble(9).await;
    world.settled().await;
    assert_eq!(world.replica.now(ahead), ahead);
    world.replace(copy);
    world.settled().await;
    assert_eq!(world.replica.now(Timestamp::from_micros(0)), ahead);
    // Nor does it when the copy is dropped and loaded again.
    world.feed.drop_store(world.record.store);
    let again = world.feed.replica(world.record.store).await.expect("a store");
    assert!(!Arc::ptr_eq(&again, &world.replica));
    assert_eq!(again.now(Timestamp::from_micros(0)), ahead);
    world.feed.shutdown().await;
}

/// A database that changes again at any moment while memory goes back: memory ends with the one
/// that stays.
#[tokio::test]
async fn a_fork_while_going_back_is_a_fork() {
    let settings = FeedSettings { poll_interval: Duration::from_millis(5), ..quick() };
    for queries in 0..10 {
        let mut world = World::with(6, settings.clone()).await;
        let (second, third) = (world.copy(), world.copy());
        for seed in 0..8 {
            world.record.scramble(1_000 + seed).await;
        }
        world.settled().await;
        for seed in 0..5 {
            second.0.scramble(2_000 + seed).await;
        }
        for seed in 0..3 {
            third.0.scramble(3_000 + seed).await;
        }
        world.faults.replace_after(queries, third.0.datastore());
        world.faults.replace(second.0.datastore());
        (world.record, world.path) = third;
        world.settled().await;
        let (rewound, reloaded) = forks(&world.metrics);
        assert!(rewound >= 1 && reloaded == 0, "after {queries} queries: {rewound} and {reloaded}");
        world.feed.shutdown().await;
    }
}

/// A tree of databases, and memory follows whichever of them is there: a long random walk.
#[tokio::test]
async fn databases_that_come_and_go_are_followed() {
    let mut world = World::with(4, FeedSettings { poll_interval: Duration::from_millis(2), ..quick() }).await;
    let mut state = 7_u64;
    let mut roll = move |sides: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from((state >> 33) % u64::try_from(sides).expect("few")).expect("few")
    };
    let mut places = vec![(world.record.clone(), world.path.clone())];
    let mut seen: BTreeSet<WriteId> = BTreeSet::new();
    for step in 0..120_u64 {
        match roll(4) {
            0 if places.len() < 6 => places.push(world.copy()),
            0 | 1 => {
                let place = places[roll(places.len())].clone();
                world.replace(place);
            }
            _ => {
                for _ in 0..=roll(4) {
                    world.record.scramble(10_000 + step).await;
                }
            }
        }
        // Sometimes the next change comes before memory has followed the last one.
        if roll(3) > 0 {
            world.settled().await;
            // A late answer of a database that is gone may silence it for a moment.
            seen.insert(at_least(&world.replica, Revision::ZERO).await.write_id);
        }
    }
    world.settled().await;
    let (rewound, reloaded) = forks(&world.metrics);
    assert!(rewound > 10 && reloaded == 0, "{rewound} and {reloaded}");
    assert!(seen.len() > 20);
    let last = world.record.head().await.revision;
    assert_eq!(at_least(&world.replica, last).await.revision, last);
    world.feed.shutdown().await;
}

/// A graph that is not what the log says it should be cannot be put right by undoing.
#[tokio::test]
async fn an_undo_that_does_not_fit_is_a_load() {
    let mut world = World::with(3, quick()).await;
    let copy = world.copy();
    world.record.write("+doc:odd#owner@user:ann").await;
    let connection = rusqlite::Connection::open(&world.path).expect("the file");
    connection.execute("UPDATE change SET after = NULL WHERE object_id = 'odd'", []).expect("falsified");
    // Tuples and log are read, and contradict each other.
    world.feed.drop_store(world.record.store);
    world.replica = world.feed.replica(world.record.store).await.expect("a store");
    world.settled().await;
    world.replace(copy);
    world.settled().await;
    assert_eq!(forks(&world.metrics), (0, 1));
    world.feed.shutdown().await;
}
