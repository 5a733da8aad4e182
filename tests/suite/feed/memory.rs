//! Loading in several ranges, and stores that share a budget.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use relata::datastore::Datastore;
use relata::feed::{Feed, FeedError, FeedSettings, Replica};
use relata::metrics::{LoadOutcome, MemoryClass, Metrics};
use relata::revision::Revision;

use super::harness::{Record, quick, soon};
use super::{at_least, held};

/// What all stores of a feed are counted with.
fn counted(metrics: &Metrics) -> usize {
    let classes = [MemoryClass::Graph, MemoryClass::Ring, MemoryClass::Schemas];
    let bytes: i64 = classes.iter().map(|class| metrics.memory.bytes.of(*class).get()).sum();
    usize::try_from(bytes).expect("not negative")
}

/// A feed whose stores may take so many bytes together.
fn bounded(record: &Record, bytes: usize) -> (Arc<Feed>, Arc<Metrics>) {
    let metrics = Metrics::new();
    let settings = FeedSettings { memory_budget: Some(bytes), ..quick() };
    (Feed::start(record.datastore(), settings, Arc::clone(&metrics)), metrics)
}

/// Fills a store with so many members of a group, a thousand to a revision.
async fn fill(record: &Record, from: usize, members: usize) {
    let numbers: Vec<usize> = (from..from + members).collect();
    for some in numbers.chunks(1_000) {
        let text: Vec<String> =
            some.iter().map(|number| format!("+group:all#member@user:{number:07}")).collect();
        record.write(&text.join(" ")).await;
    }
}

/// What a store takes once it is in memory.
async fn size(record: &Record) -> usize {
    let (feed, metrics) = bounded(record, usize::MAX);
    feed.replica(record.store).await.expect("a store");
    feed.shutdown().await;
    counted(&metrics)
}

fn is_evicted(replica: &Replica) -> bool {
    matches!(replica.published(), Err(FeedError::Evicted))
}

async fn evicted(replica: &Replica) {
    soon(async {
        while !is_evicted(replica) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
}

/// Ranges of a few tuples, of one huge object and of many small ones, while writes go on.
#[tokio::test]
async fn a_store_loaded_in_ranges_while_it_changes_is_exact() {
    let record = Record::temporary().await;
    fill(&record, 0, 700).await;
    let small: Vec<String> = (0..300).map(|number| format!("+doc:{}#owner@user:ann", number * 7)).collect();
    record.write(&small.join(" ")).await;
    let writer = tokio::spawn({
        let record = record.clone();
        async move {
            let mut last = Revision::ZERO;
            for batch in 0..60 {
                // New tuples at every place of the order, old ones gone.
                let (new, gone) = (batch * 11 % 700, batch * 13 % 700);
                let text = format!(
                    "+group:all#member@user:{new:07}a -group:all#member@user:{gone:07} +doc:{batch}b#owner@user:ann -doc:{}#owner@user:ann",
                    batch * 7
                );
                record.write(&text).await;
                last = record.scramble(batch).await;
            }
            last
        }
    });
    let mut loaded = Vec::new();
    for load_ranges in [1, 2, 3, 8] {
        for page in [1, 3, 7, 50] {
            let settings = FeedSettings { page, load_ranges, batch: 50, ..quick() };
            let feed = Feed::start(record.datastore(), settings, Metrics::new());
            loaded.push((feed.replica(record.store).await.expect("a store"), feed));
        }
    }
    let last = writer.await.expect("no panic");
    let expected = record.tuples().await;
    assert!(expected.len() > 900, "the store holds something");
    for (replica, feed) in loaded {
        let published = at_least(&replica, last).await;
        assert_eq!(published.revision, last);
        assert_eq!(held(&published.snapshot), expected);
        feed.shutdown().await;
    }
}

#[tokio::test]
async fn the_store_used_longest_ago_leaves_and_comes_back_when_it_is_asked_for() {
    let first = Record::temporary().await;
    let (second, third) = (first.another("second").await, first.another("third").await);
    for record in [&first, &second, &third] {
        fill(record, 0, 400).await;
    }
    let one = size(&first).await;
    let (feed, metrics) = bounded(&first, one * 5 / 2);
    let mut replicas = Vec::new();
    for record in [&first, &second] {
        replicas.push(feed.replica(record.store).await.expect("a store"));
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    replicas[0].touch();
    replicas.push(feed.replica(third.store).await.expect("a store"));
    evicted(&replicas[1]).await;
    assert!(replicas[0].published().is_ok() && replicas[2].published().is_ok());
    assert_eq!(metrics.memory.evictions.get(), 1);
    assert!(counted(&metrics) <= one * 5 / 2, "{} of {}", counted(&metrics), one * 5 / 2);

    // What was written meanwhile is there when it comes back, as the same replica.
    let revision = second.write("+doc:late#owner@user:ann").await.revision;
    let published = at_least(&replicas[1], revision).await;
    assert_eq!(held(&published.snapshot), second.tuples().await);
    assert!(Arc::ptr_eq(&replicas[1], &feed.replica(second.store).await.expect("a store")));
    assert_eq!((metrics.memory.evictions.get(), metrics.memory.reloads.get()), (2, 1));
    evicted(&replicas[0]).await;

    // A reader keeps what it holds, and the budget counts it until it has gone.
    let reader = replicas[2].published().expect("serving");
    replicas[1].touch();
    let waiting = tokio::spawn({
        let (feed, store) = (Arc::clone(&feed), first.store);
        async move { feed.replica(store).await }
    });
    evicted(&replicas[2]).await;
    assert_eq!(held(&reader.snapshot), third.tuples().await);
    assert!(!waiting.is_finished(), "there is no room before the reader has gone");
    drop(reader);
    soon(waiting).await.expect("no panic").expect("a store");
    feed.shutdown().await;
}

#[tokio::test]
async fn a_store_that_does_not_fit_drives_nobody_out() {
    let small = Record::temporary().await;
    let (pinned, huge) = (small.another("pinned").await, small.another("huge").await);
    fill(&small, 0, 200).await;
    fill(&pinned, 0, 200).await;
    fill(&huge, 0, 5_000).await;
    let one = size(&small).await;
    let faults = small.faults();
    let metrics = Metrics::new();
    let settings = FeedSettings { memory_budget: Some(one * 4), page: 100, ..quick() };
    let feed = Feed::start(Arc::clone(&faults) as Arc<dyn Datastore>, settings, Arc::clone(&metrics));
    feed.pin(pinned.store);
    let here = feed.replica(small.store).await.expect("a store");
    let there = feed.replica(pinned.store).await.expect("a store");

    let refused = feed.replica(huge.store).await;
    let Err(FeedError::TooLarge { bytes, limit, pinned: beside }) = refused else { panic!("{refused:?}") };
    assert!(bytes + beside > limit && limit == one * 4 && beside > 0);
    assert_eq!(metrics.memory.loads.of(LoadOutcome::TooLarge).get(), 1);
    assert_eq!(metrics.memory.evictions.get(), 0, "nobody had to leave for nothing");
    // Refused without reading it again.
    let pages = faults.pages.load(Ordering::SeqCst);
    assert!(matches!(feed.replica(huge.store).await, Err(FeedError::TooLarge { .. })));
    assert_eq!(faults.pages.load(Ordering::SeqCst), pages);

    // The others are followed as ever.
    for (record, replica) in [(&small, &here), (&pinned, &there)] {
        let revision = record.write("+doc:new#owner@user:ann").await.revision;
        assert_eq!(held(&at_least(replica, revision).await.snapshot), record.tuples().await);
    }
    soon(async {
        while counted(&metrics) > one * 4 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    feed.shutdown().await;
}

#[tokio::test]
async fn a_store_that_grows_drives_others_out_and_in_the_end_itself() {
    let quiet = Record::temporary().await;
    let (pinned, busy) = (quiet.another("pinned").await, quiet.another("busy").await);
    for record in [&quiet, &pinned, &busy] {
        fill(record, 0, 300).await;
    }
    let one = size(&quiet).await;
    let (feed, metrics) = bounded(&quiet, one * 7 / 2);
    feed.pin(pinned.store);
    let stays = feed.replica(pinned.store).await.expect("a store");
    let leaves = feed.replica(quiet.store).await.expect("a store");
    let grows = feed.replica(busy.store).await.expect("a store");
    fill(&busy, 1_000, 300).await;
    evicted(&leaves).await;
    assert!(stays.published().is_ok(), "pinned");
    fill(&busy, 2_000, 1_000).await;
    soon(async {
        while !matches!(grows.published(), Err(FeedError::TooLarge { .. })) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    })
    .await;
    assert!(stays.published().is_ok(), "pinned");
    assert!(matches!(feed.replica(busy.store).await, Err(FeedError::TooLarge { .. })));
    let back = feed.replica(quiet.store).await.expect("there is room again");
    assert_eq!(held(&back.published().expect("serving").snapshot), quiet.tuples().await);
    assert!(counted(&metrics) <= one * 7 / 2);
    feed.shutdown().await;
}

#[tokio::test]
async fn who_watches_a_store_that_left_memory_hears_of_news() {
    let watched = Record::temporary().await;
    let other = watched.another("other").await;
    fill(&watched, 0, 300).await;
    fill(&other, 0, 300).await;
    let (feed, metrics) = bounded(&watched, size(&watched).await * 3 / 2);
    let replica = feed.replica(watched.store).await.expect("a store");
    let mut news = replica.subscribe();
    feed.replica(other.store).await.expect("a store");
    evicted(&replica).await;
    news.mark_unchanged();
    let revision = watched.write("+doc:new#owner@user:ann").await.revision;
    soon(news.wait_for(|newest| *newest == revision)).await.expect("announced");
    assert!(is_evicted(&replica), "watching does not bring it back");
    assert_eq!(metrics.memory.reloads.get(), 0);
    // A store that is deleted says so.
    watched.datastore().delete_store(watched.store).await.expect("deleted");
    soon(async {
        while !matches!(replica.published(), Err(FeedError::StoreNotFound)) {
            news.changed().await.expect("a replica");
        }
    })
    .await;
    feed.shutdown().await;
}

#[tokio::test]
async fn many_loads_at_once_stay_within_the_budget() {
    let first = Record::temporary().await;
    let mut records = vec![first.clone()];
    for number in 1..12 {
        records.push(first.another(&format!("store{number}")).await);
    }
    for (number, record) in records.iter().enumerate() {
        fill(record, 0, 100 + 50 * number).await;
    }
    let largest = size(&records[11]).await;
    let metrics = Metrics::new();
    let settings = FeedSettings { memory_budget: Some(largest * 2), loads: 4, page: 40, ..quick() };
    let feed = Feed::start(first.datastore(), settings, Arc::clone(&metrics));
    let mut most = 0;
    for round in 0..3 {
        let loads = records.iter().map(|record| async {
            let replica = feed.replica(record.store).await.expect("a store");
            let published =
                replica.at_least(Revision(1), std::time::Instant::now() + Duration::from_secs(20));
            assert_eq!(held(&published.await.expect("in memory").snapshot), record.tuples().await, "{round}");
        });
        soon(futures::future::join_all(loads)).await;
        most = most.max(counted(&metrics));
    }
    assert!(most <= largest * 2, "{most} of {}", largest * 2);
    assert!(metrics.memory.evictions.get() >= 20, "{}", metrics.memory.evictions.get());
    feed.shutdown().await;
}
