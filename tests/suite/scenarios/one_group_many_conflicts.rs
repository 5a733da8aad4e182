//! **One group, many conflicts.** While the committer is held, a hundred writes queue up that fight
//! each other: equal CREATEs, DELETEs that insist, preconditions on what others delete, one
//! idempotency key for equal and for other requests, writes that the database itself refuses, one
//! beyond the limit.
//!
//! Whatever comes out must be what some serial order gives. The order of those that took a revision
//! is theirs; each of the others must have its result at some point of that order. And no innocent
//! write fails. The same if the commit of the whole group is not answered, or never arrives.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use rand::seq::SliceRandom as _;
use relata::datastore::committer::{CommitError, CommitterSettings, Committers};
use relata::datastore::faulty::{Fault, Faulty, Method, Moment};
use relata::datastore::{
    Committed, DatastoreError, Expectation, Idempotency, Precondition, Write, WriteError,
};
use relata::metrics::Metrics;

use crate::datastore::fixture::{
    Fixture, Place, conditional, create, delete_existing, filter, soon, touch, updates_of,
};

/// What one of the hundred asks for. Tuples are named by their object alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Creates the one that all of these create.
    CreateShared,
    /// Deletes the one that all of these delete, and insists.
    DeleteShared,
    /// Deletes another one if it is there, and writes one of its own.
    DeleteMatching(u32),
    /// Creates a tuple under the key that all of these share.
    Keyed,
    /// Under the same key, something else.
    KeyedOtherwise,
    /// Writes one of its own if any `doc` is there, or if none is.
    IfAny(u32, Expectation),
    /// Writes what may be there already.
    TouchShared,
    /// What the database refuses, and something harmless with it.
    Bad(u32),
}

impl Asked {
    fn hundred() -> Vec<Self> {
        let mut all = Vec::new();
        for n in 0..15 {
            all.extend([Self::CreateShared, Self::DeleteShared, Self::DeleteMatching(n), Self::Keyed]);
        }
        for n in 0..10 {
            all.extend([
                Self::IfAny(2 * n, Expectation::Match),
                Self::IfAny(2 * n + 1, Expectation::NoMatch),
            ]);
        }
        for n in 0..5 {
            all.extend([Self::KeyedOtherwise, Self::TouchShared, Self::TouchShared, Self::Bad(n)]);
        }
        assert_eq!(all.len(), 100);
        all
    }

    fn write(self) -> Write {
        let of = |id: &str| format!("{id}#viewer@user:ann");
        let there = |parts: &str, expectation| vec![Precondition { filter: filter(parts), expectation }];
        let keyed = |request, write| {
            let idempotency = Some(Idempotency { key: "k".into(), request: [request; 32] });
            Write { idempotency, ..write }
        };
        match self {
            Self::CreateShared => updates_of(vec![create(&of("doc:c"))]),
            Self::DeleteShared => updates_of(vec![delete_existing(&of("doc:d"))]),
            Self::DeleteMatching(n) => conditional(
                vec![delete_existing(&of("doc:e")), touch(&of(&format!("log:{n}")))],
                there("doc e viewer user ann ''", Expectation::Match),
            ),
            Self::Keyed => keyed(1, updates_of(vec![create(&of("doc:k"))])),
            Self::KeyedOtherwise => keyed(2, updates_of(vec![touch(&of("doc:o"))])),
            Self::IfAny(n, expectation) => {
                conditional(vec![touch(&of(&format!("any:{n}")))], there("doc _ _ _ _ _", expectation))
            }
            Self::TouchShared => updates_of(vec![touch(&of("doc:c"))]),
            Self::Bad(n) => {
                updates_of(vec![create(&of(&format!("good:{n}"))), create(&of(&format!("bad:{n}")))])
            }
        }
    }
}

/// What a write comes to, in the words of the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Result {
    Written,
    NothingToDo,
    Replayed,
    Exists,
    Absent,
    PreconditionFailed,
    KeyReused,
}

/// All there is, and who used the key.
#[derive(Debug, Clone, Default)]
struct Model {
    there: BTreeSet<String>,
    key: Option<Asked>,
}

impl Model {
    fn ask(&mut self, asked: Asked) -> Result {
        let any_doc = self.there.iter().any(|id| id.starts_with("doc:"));
        if matches!(asked, Asked::Keyed | Asked::KeyedOtherwise) {
            match self.key {
                Some(first) if first == asked => return Result::Replayed,
                Some(_) => return Result::KeyReused,
                None => {}
            }
        }
        match asked {
            Asked::CreateShared => self.create("doc:c"),
            Asked::DeleteShared if self.there.remove("doc:d") => Result::Written,
            Asked::DeleteShared => Result::Absent,
            Asked::DeleteMatching(n) if self.there.remove("doc:e") => {
                self.there.insert(format!("log:{n}"));
                Result::Written
            }
            Asked::Keyed => {
                let result = self.create("doc:k");
                self.key = Some(asked);
                result
            }
            Asked::KeyedOtherwise => {
                self.key = Some(asked);
                self.touch("doc:o")
            }
            Asked::IfAny(n, expectation) if (expectation == Expectation::Match) == any_doc => {
                self.touch(&format!("any:{n}"))
            }
            Asked::DeleteMatching(_) | Asked::IfAny(..) => Result::PreconditionFailed,
            Asked::TouchShared => self.touch("doc:c"),
            Asked::Bad(_) => panic!("no serial order has it"),
        }
    }

    fn create(&mut self, id: &str) -> Result {
        if self.there.insert(id.to_owned()) { Result::Written } else { Result::Exists }
    }

    fn touch(&mut self, id: &str) -> Result {
        if self.there.insert(id.to_owned()) { Result::Written } else { Result::NothingToDo }
    }
}

async fn one_group_many_conflicts(fixture: Fixture, fault: Option<Fault>) {
    refuse_bad_objects(&fixture).await;
    let seed: u64 = rand::random();
    println!("seed {seed}, {fault:?}");
    let before = ["doc:d", "doc:e"];
    fixture.update(before.map(|id| touch(&format!("{id}#viewer@user:ann"))).into()).await;

    let faulty = Faulty::over(fixture.datastore.clone());
    let committers = Committers::new(faulty.clone(), CommitterSettings::default(), Metrics::new());
    let queue = |write: Write| {
        let (committers, store) = (committers.clone(), fixture.store);
        tokio::spawn(async move { committers.write(store, write, soon()).await })
    };
    let hold = faulty.hold(Method::Commit, Moment::Before);
    let first = queue(updates_of(vec![touch("held:1#viewer@user:ann")]));
    hold.reached(1).await;
    let mut asked = Asked::hundred();
    asked.shuffle(&mut StdRng::seed_from_u64(seed));
    let large = (0..1_001).map(|n| touch(&format!("large:{n}#viewer@user:ann"))).collect();
    let refused = committers.write(fixture.store, updates_of(large), soon()).await;
    assert!(matches!(refused, Err(CommitError::TooLarge { tuples: 1_001, limit: 1_000 })), "{refused:?}");
    let mut answers = Vec::new();
    for (number, asked) in asked.into_iter().enumerate() {
        let write = asked.write();
        answers.push((asked, write.clone(), queue(write)));
        let deadline = Instant::now() + Duration::from_secs(20);
        while committers.waiting(fixture.store) != Some(number + 1) {
            assert!(Instant::now() < deadline, "the write does not wait");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    if let Some(fault) = fault {
        // Each part of the group that could be committed is in doubt.
        faulty.script(Method::Commit, std::iter::repeat_n(Some(fault), 7));
    }
    hold.release();
    first.await.expect("a task").expect("the first write");
    let mut results = Vec::new();
    for (asked, write, answer) in answers {
        results.push((asked, write, answer.await.expect("a task")));
    }
    judge(&fixture, &before, results).await;
}

type Answered = (Asked, Write, std::result::Result<Committed, CommitError>);

/// Whether the results are those of some serial order.
async fn judge(fixture: &Fixture, before: &[&str], results: Vec<Answered>) {
    // Those that took a revision, in that order; the states between them.
    let log = fixture.log().await;
    let mut model = Model { there: before.iter().map(|&id| id.to_owned()).collect(), key: None };
    let mut states = Vec::new();
    for entry in &log {
        if let Some((asked, ..)) = results.iter().find(|(_, write, _)| write.write_id == entry.write_id) {
            let was = model.clone();
            assert_eq!(model.ask(*asked), Result::Written, "{asked:?} at {}: {was:?}", entry.revision);
        } else if entry.revision.0 == 2 {
            model.there.insert("held:1".to_owned());
        }
        let mut changed: BTreeSet<String> = states.last().map_or_else(
            || before.iter().map(|&id| id.to_owned()).collect(),
            |(_, last): &(u64, Model)| last.there.clone(),
        );
        for change in &entry.changes {
            let id = change.key.object.to_string();
            let was = if change.after.is_some() { changed.insert(id) } else { changed.remove(&id) };
            assert!(was || entry.revision.0 == 1, "{} of {} changes nothing", change.key, entry.revision);
        }
        assert_eq!(changed, model.there, "at {}", entry.revision);
        states.push((entry.revision.0, model.clone()));
    }
    let stored = fixture.tuples().await;
    assert_eq!(stored.iter().map(|tuple| tuple.key.object.to_string()).collect::<BTreeSet<_>>(), model.there);

    for (asked, write, answer) in &results {
        let entries: Vec<_> = log.iter().filter(|entry| entry.write_id == write.write_id).collect();
        let somewhere = |result| states.iter().any(|(_, state)| state.clone().ask(*asked) == result);
        match answer {
            Ok(committed) if committed.write_id == write.write_id && !committed.replayed => {
                assert_eq!(entries.len(), 1, "{asked:?}");
                assert_eq!(entries[0].revision, committed.revision, "{asked:?}");
                continue;
            }
            Ok(committed) if committed.replayed => {
                let first = log.iter().find(|entry| entry.revision == committed.revision).expect("an entry");
                let made = results.iter().find(|(_, write, _)| write.write_id == first.write_id);
                assert_eq!(made.map(|(made, ..)| made), Some(asked));
                assert_eq!(first.write_id, committed.write_id);
            }
            Ok(committed) => {
                let (_, state) = &states[usize::try_from(committed.revision.0).expect("an index") - 1];
                assert_eq!(state.clone().ask(*asked), Result::NothingToDo, "{asked:?}: {committed:?}");
            }
            Err(CommitError::Write(error)) => {
                let result = match error {
                    WriteError::AlreadyExists { .. } => Result::Exists,
                    WriteError::NotFound { .. } => Result::Absent,
                    WriteError::PreconditionFailed { .. } => Result::PreconditionFailed,
                    WriteError::IdempotencyKeyReused => Result::KeyReused,
                    WriteError::SchemaChanged { .. } | WriteError::TuplesChanged => {
                        panic!("{asked:?}: {error:?}")
                    }
                };
                assert!(somewhere(result), "{asked:?}: {error:?} in no serial order");
            }
            Err(CommitError::Datastore(error)) => {
                let refused = matches!(**error, DatastoreError::Other(_));
                assert!(matches!(asked, Asked::Bad(_)) && refused, "{asked:?}, which is innocent: {error:?}");
            }
            Err(other) => panic!("{asked:?}: {other:?}"),
        }
        assert!(entries.is_empty(), "{asked:?} is in the log, and its caller was told {answer:?}");
    }
    let told = |of: fn(&Asked) -> bool| results.iter().filter(move |(asked, ..)| of(asked));
    let written = |of| {
        told(of).filter(|(_, write, answer)| {
            answer.as_ref().is_ok_and(|committed| committed.write_id == write.write_id && !committed.replayed)
        })
    };
    assert_eq!(written(|asked| *asked == Asked::DeleteShared).count(), 1);
    assert_eq!(written(|asked| matches!(asked, Asked::DeleteMatching(_))).count(), 1);
    let keyed: fn(&Asked) -> bool = |asked| matches!(asked, Asked::Keyed | Asked::KeyedOtherwise);
    assert_eq!(written(keyed).count(), 1, "one key, one write");
    let shared: fn(&Asked) -> bool = |asked| matches!(asked, Asked::CreateShared | Asked::TouchShared);
    assert_eq!(written(shared).count(), 1);
    assert!(told(|asked| matches!(asked, Asked::Bad(_))).all(|(.., answer)| answer.is_err()));
}

/// The database refuses objects of the type `bad`, for a reason that only it knows.
async fn refuse_bad_objects(fixture: &Fixture) {
    let trigger = match &fixture.place {
        Place::Sqlite(_) => {
            "CREATE TRIGGER refuse BEFORE INSERT ON tuple WHEN NEW.object_type = 'bad'
             BEGIN SELECT RAISE(ABORT, 'refused'); END"
        }
        Place::Postgres(_) => {
            "CREATE FUNCTION {refuse}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                 PERFORM NEW.object_type::integer; RETURN NEW; END $$;
             CREATE TRIGGER refuse BEFORE INSERT ON {tuple} FOR EACH ROW
                 WHEN (NEW.object_type = 'bad') EXECUTE FUNCTION {refuse}()"
        }
    };
    fixture.execute(trigger).await;
}

macro_rules! on_both_databases {
    ($($case:ident: $fault:expr;)+) => {
        mod sqlite {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                one_group_many_conflicts(Fixture::sqlite().await, $fault).await;
            })+
        }
        mod postgres {
            use super::*;
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                let Some(fixture) = Fixture::postgres().await else { return };
                one_group_many_conflicts(fixture, $fault).await;
            })+
        }
    };
}

on_both_databases! {
    committed_at_once: None;
    written_and_not_answered: Some(Fault::After);
    sent_and_never_arrived: Some(Fault::Lost);
}
