//! Committers: grouping, deadlines, refusals, shutdown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::Rng as _;
use relata::context::{Context, Value};
use relata::datastore::committer::{CommitError, CommitterSettings, Committers};
use relata::datastore::{Committed, DatastoreError, Update, Write};
use relata::metrics::Metrics;
use relata::revision::Revision;
use relata::tuple::{Attributes, Tuple, TupleCondition};

use super::fixture::{Fixture, create, key, plain, soon, touch, updates_of};
use super::world::World;

type Answer = Result<Committed, CommitError>;

fn committers(fixture: &Fixture) -> Committers {
    Committers::new(fixture.datastore.clone(), CommitterSettings::default(), Metrics::new())
}

/// Queues a write; the answer is awaited later.
fn queue(committers: &Committers, fixture: &Fixture, write: Write) -> tokio::task::JoinHandle<Answer> {
    let (committers, store) = (committers.clone(), fixture.store);
    tokio::spawn(async move { committers.write(store, write, soon()).await })
}

/// Waits until a condition holds that depends on tasks only, not on time.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Holds the database, and has one write begun that waits for it, so that all others queue up.
async fn held(
    fixture: &Fixture,
    committers: &Committers,
) -> (super::fixture::Held, tokio::task::JoinHandle<Answer>) {
    let held = fixture.hold().await;
    let first = queue(committers, fixture, updates_of(vec![touch("held:1#viewer@user:ann")]));
    until("the first write being begun", || committers.waiting(fixture.store) == Some(0)).await;
    (held, first)
}

pub async fn writers_on_all_nodes_leave_one_gapless_history(fixture: Fixture) {
    let nodes = fixture.nodes().await;
    let all: Vec<Committers> = nodes
        .iter()
        .map(|node| Committers::new(node.clone(), CommitterSettings::default(), Metrics::new()))
        .collect();
    let mut writers = Vec::new();
    for writer in 0..12_usize {
        let (committers, store) = (all[writer % all.len()].clone(), fixture.store);
        writers.push(tokio::spawn(async move {
            let mut acknowledged = Vec::new();
            for write in 0..25 {
                let tuple = format!("doc:{writer}-{write}#viewer@user:ann");
                let write = updates_of(vec![create(&tuple)]);
                let write_id = write.write_id;
                let committed = committers.write(store, write, soon()).await.expect("committed");
                assert_eq!(committed.write_id, write_id);
                acknowledged.push((committed.revision, write_id, key(&tuple)));
            }
            assert!(acknowledged.is_sorted(), "what one writer does one after the other keeps its order");
            acknowledged
        }));
    }
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.expect("a writer"));
    }
    acknowledged.sort();
    let log = fixture.log().await;
    assert!(log.is_sorted_by(|a, b| a.committed_at < b.committed_at));
    let told: Vec<_> =
        log.into_iter().map(|entry| (entry.revision, entry.write_id, entry.changes[0].key.clone())).collect();
    assert_eq!(told, acknowledged);
    let revisions = acknowledged.iter().map(|(revision, ..)| revision.0);
    assert!(revisions.eq(1..=12 * 25), "revisions are gapless");
}

/// Test 3 of the ten most likely to catch a wrong implementation.
pub async fn an_innocent_write_survives_a_neighbour_the_database_refuses(fixture: Fixture) {
    let committers = committers(&fixture);
    let (held, first) = held(&fixture, &committers).await;
    // The border refuses such a context; should one get through, it must harm nobody else.
    let deep = (0..110).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let context = Arc::new(Context(BTreeMap::from([("deep".to_owned(), deep)])));
    let condition = Some(TupleCondition { name: "c".parse().unwrap(), context });
    let attributes = Attributes { condition, expires_at: None };
    let bad = Update::Touch(Tuple { attributes, ..plain("doc:bad#viewer@user:ann") });

    let before = queue(&committers, &fixture, updates_of(vec![create("doc:1#viewer@user:ann")]));
    let bad = queue(&committers, &fixture, updates_of(vec![create("doc:2#viewer@user:ann"), bad]));
    let after = queue(&committers, &fixture, updates_of(vec![create("doc:3#viewer@user:ann")]));
    until("three writes waiting", || committers.waiting(fixture.store) == Some(3)).await;
    held.release().await;
    first.await.expect("a task").expect("committed");
    before.await.expect("a task").expect("committed");
    after.await.expect("a task").expect("committed");
    let refused = bad.await.expect("a task");
    let Err(CommitError::Datastore(error)) = refused else { panic!("{refused:?}") };
    assert!(matches!(&*error, DatastoreError::Other(_)), "{error:?}");
    let stored: Vec<_> = fixture.tuples().await.into_iter().map(|tuple| tuple.key.to_string()).collect();
    assert_eq!(stored, ["doc:1#viewer@user:ann", "doc:3#viewer@user:ann", "held:1#viewer@user:ann"]);
}

pub async fn a_deadline_ends_waiting_and_nothing_else(fixture: Fixture) {
    let committers = committers(&fixture);
    let past =
        committers.write(fixture.store, updates_of(vec![touch("doc:0#viewer@user:ann")]), Instant::now());
    assert!(matches!(past.await, Err(CommitError::DeadlinePassed)));

    let held = fixture.hold().await;
    let deadline = Instant::now() + Duration::from_secs(1);
    let (begun, store) = (committers.clone(), fixture.store);
    let begun = tokio::spawn(async move {
        begun.write(store, updates_of(vec![touch("doc:1#viewer@user:ann")]), deadline).await
    });
    until("the first write being begun", || committers.waiting(fixture.store) == Some(0)).await;
    let waiting = committers.write(fixture.store, updates_of(vec![touch("doc:2#viewer@user:ann")]), deadline);
    assert!(matches!(waiting.await, Err(CommitError::DeadlinePassed)), "it left the queue");
    assert!(Instant::now() >= deadline);
    assert!(!begun.is_finished(), "what is being committed is awaited beyond its deadline");
    held.release().await;
    begun.await.expect("a task").expect("committed");
    assert_eq!(fixture.tuples().await, [plain("doc:1#viewer@user:ann")]);
}

pub async fn a_caller_who_goes_away_takes_back_only_what_waits(fixture: Fixture) {
    let committers = committers(&fixture);
    let (held, begun) = held(&fixture, &committers).await;
    let waiting = queue(&committers, &fixture, updates_of(vec![touch("doc:1#viewer@user:ann")]));
    until("one write waiting", || committers.waiting(fixture.store) == Some(1)).await;
    waiting.abort();
    begun.abort();
    until("the waiting write having left", || committers.waiting(fixture.store) == Some(0)).await;
    held.release().await;
    committers.close().await;
    assert_eq!(fixture.tuples().await, [plain("held:1#viewer@user:ann")]);
}

pub async fn a_full_queue_refuses(fixture: Fixture) {
    let few = CommitterSettings { queued_writes: 2, queued_bytes: 5_000, ..CommitterSettings::default() };
    let committers = Committers::new(fixture.datastore.clone(), few, Metrics::new());
    let (held, first) = held(&fixture, &committers).await;

    let small = |index| updates_of(vec![touch(&format!("doc:{index}#viewer@user:ann"))]);
    let second = queue(&committers, &fixture, small(2));
    until("one write waiting", || committers.waiting(fixture.store) == Some(1)).await;
    let noted = Write { note: "x".repeat(5_000).into(), ..small(3) };
    let refused = committers.write(fixture.store, noted, soon()).await;
    assert!(matches!(refused, Err(CommitError::QueueFull)), "by bytes: {refused:?}");
    let third = queue(&committers, &fixture, small(3));
    until("two writes waiting", || committers.waiting(fixture.store) == Some(2)).await;
    let refused = committers.write(fixture.store, small(4), soon()).await;
    assert!(matches!(refused, Err(CommitError::QueueFull)), "by number: {refused:?}");

    held.release().await;
    for answer in [first, second, third] {
        answer.await.expect("a task").expect("committed");
    }
    committers.write(fixture.store, small(5), soon()).await.expect("there is room again");
    until("a store without writes costing nothing", || committers.waiting(fixture.store).is_none()).await;
}

pub async fn closing_answers_what_waits_and_refuses_what_comes(fixture: Fixture) {
    let committers = committers(&fixture);
    let (held, first) = held(&fixture, &committers).await;
    let second = queue(&committers, &fixture, updates_of(vec![touch("doc:2#viewer@user:ann")]));
    until("one write waiting", || committers.waiting(fixture.store) == Some(1)).await;
    let closing = tokio::spawn({
        let committers = committers.clone();
        async move { committers.close().await }
    });
    let late = || committers.write(fixture.store, updates_of(vec![touch("doc:3#viewer@user:ann")]), soon());
    // `close` refuses from its first moment, which the task may not have had yet.
    let deadline = Instant::now() + Duration::from_secs(20);
    while !matches!(
        tokio::time::timeout(Duration::from_millis(10), late()).await,
        Ok(Err(CommitError::ShuttingDown))
    ) {
        assert!(Instant::now() < deadline, "a closing committer takes writes");
    }
    assert!(!closing.is_finished());
    held.release().await;
    closing.await.expect("closed");
    for answer in [first, second] {
        assert!(answer.is_finished() || answer.await.expect("a task").is_ok(), "answered");
    }
    assert!(fixture.tuples().await.contains(&plain("doc:2#viewer@user:ann")));
}

pub async fn hints_follow_commits(fixture: Fixture) {
    let nodes = fixture.nodes().await;
    let listener = nodes.last().expect("a node");
    let mut hints = listener.hints();
    let committers = committers(&fixture);
    let mut world = World::new(5);
    // A node begins to listen in its own time, and hints may be lost: write until one arrives.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        assert!(Instant::now() < deadline, "no hint arrived");
        let tuple = format!("doc:{}#viewer@user:ann", world.random.random::<u32>());
        let write = updates_of(vec![touch(&tuple)]);
        let committed = committers.write(fixture.store, write, soon()).await.expect("committed");
        assert!(committed.revision > Revision::ZERO);
        if let Ok(hint) = tokio::time::timeout(Duration::from_millis(200), hints.recv()).await {
            assert_eq!(hint.expect("a hint"), fixture.store);
            return;
        }
    }
}
