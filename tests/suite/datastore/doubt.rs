//! Commits that were not answered, and groups that failed: what is found out, what is repeated,
//! what is told, and that nothing is written twice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relata::datastore::committer::{CommitError, CommitterSettings, Committers};
use relata::datastore::faulty::{Fault, Faulty, Hold, Method, Moment};
use relata::datastore::{Committed, DatastoreError, Expectation, Precondition, Write, WriteError};
use relata::metrics::{GroupOutcome, InDoubt, Metrics};
use relata::revision::{Revision, StoreId, WriteId};
use tokio::task::JoinHandle;

use super::fixture::{
    Fixture, Place, conditional, create, delete_existing, filter, plain, soon, touch, updates_of,
};

type Answer = Result<Committed, CommitError>;

/// A committer over a datastore that fails when told to.
struct World {
    fixture: Fixture,
    faulty: Arc<Faulty>,
    metrics: Arc<Metrics>,
    committers: Committers,
}

impl World {
    fn of(fixture: Fixture) -> Self {
        let (faulty, metrics) = (Faulty::over(fixture.datastore.clone()), Metrics::new());
        let quick = CommitterSettings {
            repeat_after: Duration::from_millis(1),
            repeat_at_most: Duration::from_millis(20),
            ..CommitterSettings::default()
        };
        let committers = Committers::new(faulty.clone(), quick, metrics.clone());
        Self { fixture, faulty, metrics, committers }
    }

    fn queue_until(&self, write: Write, deadline: Instant) -> JoinHandle<Answer> {
        let (committers, store) = (self.committers.clone(), self.fixture.store);
        tokio::spawn(async move { committers.write(store, write, deadline).await })
    }

    fn queue(&self, write: Write) -> JoinHandle<Answer> {
        self.queue_until(write, soon())
    }

    /// Holds the committer with one write, so that all others queue up into one group.
    async fn held(&self) -> (Hold, JoinHandle<Answer>) {
        let hold = self.faulty.hold(Method::Commit, Moment::Before);
        let first = self.queue(updates_of(vec![touch("held:1#viewer@user:ann")]));
        hold.reached(1).await;
        (hold, first)
    }

    /// Queues a write behind those that wait.
    async fn queue_next(&self, write: Write, deadline: Instant) -> JoinHandle<Answer> {
        let waiting = self.committers.waiting(self.fixture.store).unwrap_or(0);
        let answer = self.queue_until(write, deadline);
        self.until(|world| world.committers.waiting(world.fixture.store) == Some(waiting + 1)).await;
        answer
    }

    async fn until(&self, holds: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !holds(self) {
            assert!(Instant::now() < deadline, "it did not happen");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    fn settled(&self, how: InDoubt) -> u64 {
        self.metrics.record.in_doubt_groups.of(how).get()
    }

    fn transactions(&self, how: GroupOutcome) -> u64 {
        self.metrics.record.commit_groups.of(how).get()
    }

    /// How often the log has a write.
    async fn in_log(&self, write: WriteId) -> usize {
        let log = self.fixture.log().await;
        for (index, entry) in log.iter().enumerate() {
            assert_eq!(entry.revision.0, index as u64 + 1, "a gap");
        }
        log.iter().filter(|entry| entry.write_id == write).count()
    }
}

fn unknown(answer: &Answer) -> bool {
    matches!(answer, Err(CommitError::Datastore(error)) if matches!(**error, DatastoreError::OutcomeUnknown(_)))
}

fn unavailable(answer: &Answer) -> bool {
    matches!(answer, Err(CommitError::Datastore(error)) if matches!(**error, DatastoreError::Unavailable(_)))
}

/// Those of the group that took a revision, and those that took none, were refused or had to
/// wait, are answered as they were decided.
pub async fn a_commit_that_happened_is_a_success(fixture: Fixture) {
    let world = World::of(fixture);
    world.fixture.update(vec![create("doc:old#viewer@user:ann"), create("any:1#viewer@user:ann")]).await;
    let (hold, first) = world.held().await;
    world.faulty.next(Method::Commit, Fault::After);
    let no_match = Precondition { filter: filter("any _ _ _ _ _"), expectation: Expectation::NoMatch };
    let writes = [
        updates_of(vec![create("doc:1#viewer@user:ann")]),
        updates_of(vec![create("doc:old#viewer@user:ann")]),
        updates_of(vec![touch("doc:old#viewer@user:ann")]),
        updates_of(vec![delete_existing("any:1#viewer@user:ann")]),
        conditional(vec![touch("doc:2#viewer@user:ann")], vec![no_match]),
        updates_of(vec![touch("doc:3#viewer@user:ann")]),
    ];
    let mut answers = Vec::new();
    for write in &writes {
        answers.push(world.queue_next(write.clone(), soon()).await);
    }
    hold.release();
    let before = first.await.expect("a task").expect("committed");
    let mut results = Vec::new();
    for answer in answers {
        results.push(answer.await.expect("a task"));
    }
    let took = |index: usize, revision| match &results[index] {
        Ok(committed) => {
            assert_eq!(
                *committed,
                Committed { revision: Revision(revision), write_id: writes[index].write_id, ..*committed }
            );
            assert!(!committed.replayed);
        }
        other => panic!("{index}: {other:?}"),
    };
    assert_eq!(before.revision, Revision(2));
    took(0, 3);
    assert!(matches!(&results[1], Err(CommitError::Write(WriteError::AlreadyExists { .. }))), "{results:?}");
    let head = results[2].as_ref().expect("nothing to do");
    assert_eq!((head.revision, head.write_id), (Revision(3), writes[0].write_id), "it took no revision");
    took(3, 4);
    took(4, 6);
    took(5, 5);
    for (index, times) in [(0, 1), (1, 0), (2, 0), (3, 1), (4, 1), (5, 1)] {
        assert_eq!(world.in_log(writes[index].write_id).await, times, "{index}");
    }
    assert_eq!((world.settled(InDoubt::Committed), world.settled(InDoubt::Absent)), (1, 0));
    assert_eq!((world.faulty.calls(Method::Commit), world.faulty.calls(Method::Settle)), (3, 1));
}

pub async fn a_commit_that_did_not_happen_is_repeated(fixture: Fixture) {
    let world = World::of(fixture);
    world.faulty.script(Method::Commit, [Some(Fault::Lost), Some(Fault::Before), Some(Fault::Lost)]);
    world.faulty.next(Method::Settle, Fault::Before);
    let write = updates_of(vec![create("doc:1#viewer@user:ann")]);
    let committed = world.queue(write.clone()).await.expect("a task").expect("committed");
    assert_eq!((committed.revision, committed.write_id), (Revision(1), write.write_id));
    assert_eq!(world.in_log(write.write_id).await, 1);
    assert_eq!((world.settled(InDoubt::Committed), world.settled(InDoubt::Absent)), (0, 2));
    assert_eq!(world.faulty.calls(Method::Settle), 3, "once it failed");
    let counted = [GroupOutcome::Committed, GroupOutcome::Failed, GroupOutcome::InDoubt]
        .map(|outcome| world.transactions(outcome));
    assert_eq!(counted, [1, 1, 2]);
    assert_eq!(world.metrics.record.commit_groups_repeated.get(), 3);
}

/// A caller is told at its deadline that nobody knows; what comes later waits until it is known.
pub async fn a_doubt_outlives_its_callers_and_holds_up_what_comes_next(fixture: Fixture) {
    let world = World::of(fixture);
    world.faulty.next(Method::Commit, Fault::After);
    world.faulty.always(Method::Settle, Fault::Before);
    let first = updates_of(vec![create("doc:1#viewer@user:ann")]);
    let deadline = Instant::now() + Duration::from_millis(300);
    let told = world.queue_until(first.clone(), deadline).await.expect("a task");
    assert!(unknown(&told), "{told:?}");
    assert!(Instant::now() >= deadline);

    let next = world.queue(updates_of(vec![create("doc:1#viewer@user:ann")]));
    let calls = world.faulty.calls(Method::Settle);
    world.until(|world| world.faulty.calls(Method::Settle) > calls + 5).await;
    assert_eq!(world.faulty.calls(Method::Commit), 1, "nothing is committed before the doubt is settled");
    world.faulty.heal();
    let next = next.await.expect("a task");
    assert!(matches!(&next, Err(CommitError::Write(WriteError::AlreadyExists { .. }))), "{next:?}");
    assert_eq!(world.in_log(first.write_id).await, 1);
    assert_eq!(world.settled(InDoubt::Committed), 1);
}

/// What was told unknown and turns out absent is not written after all: its caller may have
/// written it anew.
pub async fn a_write_leaves_with_its_caller(fixture: Fixture) {
    let world = World::of(fixture);
    let (hold, first) = world.held().await;
    let early = Instant::now() + Duration::from_millis(300);
    let leaving = updates_of(vec![create("doc:1#viewer@user:ann")]);
    let staying = updates_of(vec![create("doc:2#viewer@user:ann")]);
    let gone = updates_of(vec![create("doc:3#viewer@user:ann")]);
    let told = world.queue_next(leaving.clone(), early).await;
    let stays = world.queue_next(staying.clone(), soon()).await;
    let goes = world.queue_next(gone.clone(), soon()).await;
    world.faulty.next(Method::Commit, Fault::Lost);
    world.faulty.always(Method::Settle, Fault::Before);
    hold.release();
    first.await.expect("a task").expect("committed");
    let told = told.await.expect("a task");
    assert!(unknown(&told), "{told:?}");
    goes.abort();
    let _ = goes.await;
    world.faulty.heal();
    stays.await.expect("a task").expect("committed");
    for (write, times) in [(leaving, 0), (staying, 1), (gone, 0)] {
        assert_eq!(world.in_log(write.write_id).await, times);
    }
}

pub async fn a_database_that_is_away_is_waited_for_until_the_deadline(fixture: Fixture) {
    let world = World::of(fixture);
    world.faulty.always(Method::Commit, Fault::Before);
    let deadline = Instant::now() + Duration::from_millis(300);
    let lost = updates_of(vec![create("doc:1#viewer@user:ann")]);
    let told = world.queue_until(lost.clone(), deadline).await.expect("a task");
    assert!(unavailable(&told), "{told:?}");
    assert!(Instant::now() >= deadline);
    assert!(world.faulty.calls(Method::Commit) > 2);

    let patient = world.queue(updates_of(vec![create("doc:2#viewer@user:ann")]));
    let calls = world.faulty.calls(Method::Commit);
    world.until(|world| world.faulty.calls(Method::Commit) > calls + 2).await;
    world.faulty.heal();
    patient.await.expect("a task").expect("committed");
    assert_eq!(world.fixture.tuples().await, [plain("doc:2#viewer@user:ann")]);
    assert_eq!(world.in_log(lost.write_id).await, 0);
}

/// A server that stops does not wait for a database that is away.
pub async fn closing_gives_up_what_may_never_be_known(fixture: Fixture) {
    let world = World::of(fixture);
    world.faulty.next(Method::Commit, Fault::After);
    world.faulty.always(Method::Settle, Fault::Before);
    let deadline = Instant::now() + Duration::from_millis(300);
    let told = world.queue_until(updates_of(vec![create("doc:1#viewer@user:ann")]), deadline);
    assert!(unknown(&told.await.expect("a task")));
    tokio::time::timeout(Duration::from_secs(20), world.committers.close()).await.expect("closed");
    assert_eq!(world.settled(InDoubt::Unresolved), 1);

    let other = World {
        committers: Committers::new(world.faulty.clone(), CommitterSettings::default(), Metrics::new()),
        ..world
    };
    other.faulty.heal();
    other.faulty.always(Method::Commit, Fault::Before);
    let waiting = other.queue(updates_of(vec![create("doc:2#viewer@user:ann")]));
    other.until(|world| world.faulty.calls(Method::Commit) > 1).await;
    tokio::time::timeout(Duration::from_secs(20), other.committers.close()).await.expect("closed");
    let told = waiting.await.expect("a task");
    assert!(unavailable(&told), "{told:?}");
}

pub async fn nobody_waits_for_a_committer_that_died(fixture: Fixture) {
    let world = World::of(fixture);
    let (hold, first) = world.held().await;
    let second = world.queue_next(updates_of(vec![create("doc:1#viewer@user:ann")]), soon()).await;
    world.faulty.next(Method::Commit, Fault::Panic);
    hold.release();
    first.await.expect("a task").expect("was under way already");
    let told = second.await.expect("a task");
    assert!(unknown(&told), "{told:?}");
    world.queue(updates_of(vec![create("doc:2#viewer@user:ann")])).await.expect("a task").expect("goes on");
}

/// Writes that the database itself refuses, for whatever reason of its own.
pub async fn writes_that_the_database_refuses_fail_alone(fixture: Fixture) {
    const WRITES: usize = 200;
    match &fixture.place {
        Place::Sqlite(_) => {
            let trigger = "CREATE TRIGGER refuse BEFORE INSERT ON tuple WHEN NEW.object_id LIKE 'bad%'
                           BEGIN SELECT RAISE(ABORT, 'refused'); END";
            fixture.execute(trigger).await;
        }
        Place::Postgres(_) => {
            // A bad value, as PostgreSQL says of what a column cannot hold.
            let trigger = "CREATE FUNCTION {refuse}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                               PERFORM NEW.object_id::integer; RETURN NEW; END $$;
                           CREATE TRIGGER refuse BEFORE INSERT ON {tuple} FOR EACH ROW
                               WHEN (NEW.object_id LIKE 'bad%') EXECUTE FUNCTION {refuse}()";
            fixture.execute(trigger).await;
        }
    }
    let world = World::of(fixture);
    let (hold, first) = world.held().await;
    let bad = |index: usize| [20, 21, 137].contains(&index);
    let mut answers = Vec::new();
    for index in 0..WRITES {
        let id = format!("{}{index}", if bad(index) { "bad" } else { "good" });
        let write = updates_of(vec![create(&format!("doc:{id}#viewer@user:ann"))]);
        answers.push(world.queue_next(write, soon()).await);
    }
    hold.release();
    first.await.expect("a task").expect("committed");
    for (index, answer) in answers.into_iter().enumerate() {
        match answer.await.expect("a task") {
            Ok(_) => assert!(!bad(index), "{index} was not refused"),
            Err(CommitError::Datastore(error)) => {
                assert!(bad(index) && matches!(*error, DatastoreError::Other(_)), "{index}: {error:?}");
            }
            Err(other) => panic!("{index}: {other:?}"),
        }
    }
    assert_eq!(world.fixture.tuples().await.len(), WRITES - 3 + 1);
    // Each bad one costs two transactions for each halving of the group.
    let transactions = world.transactions(GroupOutcome::Committed) + world.transactions(GroupOutcome::Failed);
    assert!(transactions < 3 * 2 * 8 + 3, "{transactions} transactions");
}

pub async fn what_became_of_a_commit_is_known_under_the_lock(fixture: Fixture) {
    let (datastore, store) = (fixture.datastore.clone(), fixture.store);
    let nobody = WriteId::fresh();
    let settle = async |revision, write| datastore.settle(store, Revision(revision), write).await;
    assert!(!settle(1, nobody).await.expect("an answer"));
    let mut writes = Vec::new();
    for index in 0..3 {
        writes.push(fixture.update(vec![create(&format!("doc:{index}#viewer@user:ann"))]).await.write_id);
    }
    assert!(settle(1, writes[0]).await.expect("an answer"));
    assert!(settle(3, writes[2]).await.expect("an answer"));
    assert!(!settle(3, writes[0]).await.expect("an answer"), "another write has the number");
    assert!(!settle(4, nobody).await.expect("an answer"));

    // While a commit may be under way there is no answer.
    let held = fixture.hold().await;
    let waiting = tokio::spawn({
        let (datastore, write) = (datastore.clone(), writes[2]);
        async move { datastore.settle(store, Revision(3), write).await }
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!waiting.is_finished(), "it looked without the lock");
    held.release().await;
    assert!(waiting.await.expect("a task").expect("an answer"));

    fixture.execute("UPDATE {store} SET floor = 3; DELETE FROM {revision} WHERE revision < 3").await;
    let trimmed = settle(2, writes[1]).await;
    assert!(matches!(trimmed, Err(DatastoreError::Trimmed { floor: Revision(3) })), "{trimmed:?}");
    datastore.delete_store(store).await.expect("deleted");
    assert!(settle(3, writes[2]).await.expect("a deleted store remembers"));
    let nowhere = datastore.settle(StoreId(uuid::Uuid::new_v4()), Revision(1), nobody).await;
    assert!(matches!(nowhere, Err(DatastoreError::StoreNotFound)), "{nowhere:?}");
}
