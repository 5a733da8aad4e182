//! Groups against a model that runs one write at a time and knows nothing of overlays.

use std::collections::BTreeMap;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::context::Context;
use crate::datastore::Judge;
use crate::tuple::TupleCondition;

/// The clock stands still, so that `committed_at` must grow by itself.
const NOW: Timestamp = Timestamp::from_micros(1_000);

fn key(text: &str) -> TupleKey {
    text.parse().expect("a tuple")
}

fn plain(text: &str) -> Tuple {
    Tuple::from(key(text))
}

fn expiring(text: &str, micros: i64) -> Tuple {
    let expires_at = Some(Timestamp::from_micros(micros));
    Tuple { attributes: Attributes { condition: None, expires_at }, ..plain(text) }
}

fn tuples(updates: Vec<Update>, preconditions: Vec<Precondition>) -> Write {
    action(Action::Tuples { updates, preconditions, validated_against: None })
}

fn action(action: Action) -> Write {
    Write { write_id: WriteId::fresh(), principal: "ann".into(), note: "".into(), idempotency: None, action }
}

fn schema(expected: Option<SchemaId>) -> Write {
    action(Action::Schema { text: "text".into(), json: "{}".into(), expected, judged: None })
}

fn delete(text: &str) -> Update {
    Update::Delete { key: key(text), must_exist: false }
}

fn empty_head() -> Head {
    Head {
        revision: Revision::ZERO,
        write_id: WriteId::NIL,
        floor: Revision::ZERO,
        schema: None,
        committed_at: Timestamp::from_micros(10),
    }
}

/// A database, in which groups are decided by the code under test.
#[derive(Debug)]
struct Database {
    head: Head,
    tuples: BTreeMap<TupleKey, Attributes>,
    written: BTreeMap<TupleKey, (Revision, u32)>,
    remembered: HashMap<Scope, Remembered>,
    log: Vec<LogEntry>,
    schemas: Vec<StoredSchema>,
}

impl Database {
    fn new() -> Self {
        Self {
            head: empty_head(),
            tuples: BTreeMap::new(),
            written: BTreeMap::new(),
            remembered: HashMap::new(),
            log: Vec::new(),
            schemas: Vec::new(),
        }
    }

    fn commit(&mut self, group: &[Write]) -> Vec<Outcome> {
        let needs = Needs::of(group);
        let live = |filter: &TupleFilter| {
            self.tuples.iter().any(|(key, attributes)| filter.matches(key) && attributes.is_live_at(NOW))
        };
        let found = Found {
            now: NOW.max(self.head.committed_at),
            head: self.head,
            tuples: needs
                .keys
                .iter()
                .filter_map(|key| Some((key.clone(), self.tuples.get(key)?.clone())))
                .collect(),
            matching: needs.filters.iter().filter(|filter| live(filter)).cloned().collect(),
            remembered: needs
                .idempotency
                .iter()
                .filter_map(|scope| Some((scope.clone(), self.remembered.get(scope)?.clone())))
                .collect(),
            since: needs.since.iter().map(|revision| (*revision, self.since(*revision))).collect(),
        };
        let Decision { outcomes, plan } = decide(found, group);
        self.apply(plan);
        outcomes
    }

    fn since(&self, revision: Revision) -> Since {
        let entry = self.log.iter().find(|entry| entry.revision == revision);
        let later = self.written.iter().filter(|(_, (written, _))| *written > revision);
        let tuple = |key: &TupleKey| Tuple { key: key.clone(), attributes: self.tuples[key].clone() };
        Since {
            write_id: entry.map(|entry| entry.write_id),
            tuples: later.map(|(key, _)| tuple(key)).take(UNJUDGED_AT_MOST as usize + 1).collect(),
        }
    }

    fn apply(&mut self, plan: Plan) {
        if plan.is_empty() {
            assert_eq!(plan, Plan::default());
        }
        for key in plan.deletes {
            assert!(self.tuples.remove(&key).is_some(), "deleted what is not there: {key}");
            self.written.remove(&key);
        }
        for Upsert { tuple, revision, ordinal } in plan.upserts {
            self.written.insert(tuple.key.clone(), (revision, ordinal));
            self.tuples.insert(tuple.key, tuple.attributes);
        }
        for entry in plan.entries {
            self.head = Head {
                revision: entry.revision,
                write_id: entry.write_id,
                committed_at: entry.committed_at,
                schema: entry.schema.or(self.head.schema),
                ..self.head
            };
            self.log.push(entry);
        }
        self.schemas.extend(plan.schemas);
        for (scope, first) in plan.remembered {
            assert_eq!(self.remembered.insert(scope, first), None, "a key was remembered twice");
        }
    }
}

/// The request and the result that an idempotency key stands for.
type First = ([u8; 32], Committed);

/// What the same writes do one at a time.
#[derive(Debug, Default)]
struct Model {
    tuples: BTreeMap<TupleKey, Attributes>,
    log: Vec<(WriteId, Vec<Change>)>,
    schema: Option<SchemaId>,
    first: HashMap<(Arc<str>, Arc<str>), First>,
}

impl Model {
    fn live(&self, key: &TupleKey) -> bool {
        self.tuples.get(key).is_some_and(|attributes| attributes.is_live_at(NOW))
    }

    /// `made` is the schema id that the database made, if it did.
    fn run(&mut self, write: &Write, made: Option<SchemaId>) -> Result<Committed, WriteError> {
        let remembered =
            write.idempotency.as_ref().map(|i| (i.request, (write.principal.clone(), i.key.clone())));
        if let Some((request, scope)) = &remembered
            && let Some((first_request, first)) = self.first.get(scope)
        {
            return if request == first_request {
                Ok(Committed { replayed: true, changes: 0, ..*first })
            } else {
                Err(WriteError::IdempotencyKeyReused)
            };
        }
        let (mut schema, mut count) = (None, 0);
        match &write.action {
            Action::Schema { expected, .. } => {
                if expected.is_some() && *expected != self.schema {
                    return Err(WriteError::SchemaChanged { in_force: self.schema });
                }
                assert!(made > self.schema, "schema ids grow");
                (self.schema, schema) = (made, made);
                self.log.push((write.write_id, Vec::new()));
            }
            Action::Tuples { updates, preconditions, validated_against } => {
                if validated_against.is_some() && *validated_against != self.schema {
                    return Err(WriteError::SchemaChanged { in_force: self.schema });
                }
                for (index, Precondition { filter, expectation }) in preconditions.iter().enumerate() {
                    let matches = self.tuples.keys().any(|key| filter.matches(key) && self.live(key));
                    if matches != (*expectation == Expectation::Match) {
                        return Err(WriteError::PreconditionFailed { index, expectation: *expectation });
                    }
                }
                let mut next = self.tuples.clone();
                for update in updates {
                    let key = update.key().clone();
                    match update {
                        Update::Create(_) if self.live(&key) => {
                            return Err(WriteError::AlreadyExists { key });
                        }
                        Update::Delete { must_exist: true, .. } if !self.live(&key) => {
                            return Err(WriteError::NotFound { key });
                        }
                        Update::Create(tuple) | Update::Touch(tuple) => {
                            next.insert(key, tuple.attributes.clone());
                        }
                        Update::Expire(_) if self.live(&key) => {}
                        Update::Delete { .. } | Update::Expire(_) => {
                            next.remove(&key);
                        }
                    }
                }
                let changes = updates.iter().map(Update::key).filter_map(|key| {
                    let (before, after) = (self.tuples.get(key).cloned(), next.get(key).cloned());
                    (before != after).then(|| Change { key: key.clone(), before, after })
                });
                let changes: Vec<_> = changes.collect();
                count = u32::try_from(changes.len()).expect("few");
                if !changes.is_empty() {
                    self.log.push((write.write_id, changes));
                }
                self.tuples = next;
            }
        }
        let committed = Committed {
            revision: Revision(self.log.len() as u64),
            write_id: self.log.last().map_or(WriteId::NIL, |(write_id, _)| *write_id),
            changes: count,
            replayed: false,
            schema,
        };
        if let Some((request, scope)) = remembered {
            self.first.insert(scope, (request, committed));
        }
        Ok(committed)
    }
}

/// Commits groups, and runs the same writes on the model in the order they were decided in.
fn check(groups: Vec<Vec<Write>>) {
    let (mut database, mut model) = (Database::new(), Model::default());
    for group in groups {
        let mut group = group;
        while !group.is_empty() {
            let outcomes = database.commit(&group);
            assert_eq!(outcomes.len(), group.len());
            assert_ne!(outcomes[0], Outcome::Deferred, "the first write of a group is always decided");
            let mut deferred = Vec::new();
            for (write, outcome) in group.into_iter().zip(outcomes) {
                let made = match &outcome {
                    Outcome::Deferred => {
                        deferred.push(write);
                        continue;
                    }
                    Outcome::Committed(Committed { schema, .. }) => *schema,
                    Outcome::Failed(_) => None,
                };
                let expected = match model.run(&write, made) {
                    Ok(committed) => Outcome::Committed(committed),
                    Err(error) => Outcome::Failed(error),
                };
                assert_eq!(outcome, expected, "{write:?}");
            }
            group = deferred;
        }
    }

    assert_eq!(database.tuples, model.tuples);
    assert_eq!(database.head.schema, model.schema);
    assert_eq!(database.schemas.last().map(|schema| schema.id), model.schema);
    let logged: Vec<_> = database.log.iter().map(|e| (e.write_id, e.changes.clone())).collect();
    assert_eq!(logged, model.log);
    let revisions = database.log.iter().map(|entry| entry.revision.0);
    assert!(revisions.eq(1..=model.log.len() as u64), "revisions are gapless");
    assert!(database.log.is_sorted_by(|a, b| a.committed_at < b.committed_at), "moments grow");
    for (key, (revision, ordinal)) in &database.written {
        let change =
            &database.log[usize::try_from(revision.0).expect("small") - 1].changes[*ordinal as usize];
        assert_eq!((&change.key, change.after.as_ref()), (key, database.tuples.get(key)));
    }
}

fn any_key() -> impl Strategy<Value = TupleKey> {
    let object = prop::sample::select(vec!["doc:1", "doc:2", "dir:1"]);
    let subject = prop::sample::select(vec!["user:a", "user:*", "group:g#member", "group:g#owner"]);
    (object, subject).prop_map(|(object, subject)| key(&format!("{object}#viewer@{subject}")))
}

fn any_attributes() -> impl Strategy<Value = Attributes> {
    let condition =
        TupleCondition { name: "c".parse().expect("a name"), context: Arc::new(Context::default()) };
    prop_oneof![
        3 => Just(Attributes::default()),
        1 => Just(Attributes { condition: Some(condition), expires_at: None }),
        1 => Just(Attributes { condition: None, expires_at: Some(Timestamp::from_micros(2_000)) }),
        1 => Just(Attributes { condition: None, expires_at: Some(Timestamp::from_micros(500)) }),
        // The moment itself no longer counts.
        1 => Just(Attributes { condition: None, expires_at: Some(NOW) }),
    ]
}

fn any_update(key: TupleKey) -> impl Strategy<Value = Update> {
    let tuple = any_attributes().prop_map({
        let key = key.clone();
        move |attributes| Tuple { key: key.clone(), attributes }
    });
    (tuple, 0..5_u8).prop_map(move |(tuple, operation)| match operation {
        0 => Update::Touch(tuple),
        1 => Update::Create(tuple),
        2 => Update::Delete { key: key.clone(), must_exist: false },
        3 => Update::Expire(key.clone()),
        _ => Update::Delete { key: key.clone(), must_exist: true },
    })
}

fn any_filter() -> impl Strategy<Value = TupleFilter> {
    (any_key(), 0..64_u8, any::<bool>()).prop_map(|(key, given, whole)| {
        let given = |bit: u8| whole || given & (1 << bit) != 0;
        TupleFilter {
            object_type: given(0).then(|| key.object.object_type().clone()),
            object_id: given(1).then(|| key.object.id().as_str().into()),
            relation: given(2).then(|| key.relation.clone()),
            subject_type: given(3).then(|| key.subject.subject_type().clone()),
            subject_id: given(4).then(|| key.subject.id().into()),
            subject_relation: given(5).then(|| key.subject.relation().cloned()),
        }
    })
}

fn any_write() -> impl Strategy<Value = Write> {
    let updates = prop::collection::btree_set(any_key(), 0..4)
        .prop_flat_map(|keys| keys.into_iter().map(any_update).collect::<Vec<_>>());
    let expectation = prop::sample::select(vec![Expectation::Match, Expectation::NoMatch]);
    let precondition =
        (any_filter(), expectation).prop_map(|(filter, expectation)| Precondition { filter, expectation });
    // The nil ULID is never in force.
    let wanted = prop_oneof![9 => Just(None), 1 => Just(Some(SchemaId(ulid::Ulid::nil())))];
    let action = prop_oneof![
        9 => (updates, prop::collection::vec(precondition, 0..3), wanted.clone()).prop_map(
            |(updates, preconditions, validated_against)| {
                Action::Tuples { updates, preconditions, validated_against }
            }
        ),
        1 => wanted.prop_map(|expected| {
            Action::Schema { text: "text".into(), json: "{}".into(), expected, judged: None }
        }),
    ];
    let idempotency = prop::option::weighted(0.3, (0..3_u8, 0..2_u8)).prop_map(|chosen| {
        chosen.map(|(key, request)| Idempotency { key: key.to_string().into(), request: [request; 32] })
    });
    (action, idempotency, 0..2_u8, any::<u128>()).prop_map(|(action, idempotency, principal, id)| Write {
        write_id: WriteId(Uuid::from_u128(id)),
        principal: principal.to_string().into(),
        note: "".into(),
        idempotency,
        action,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_group_fares_as_its_writes_do_one_by_one(
        groups in prop::collection::vec(prop::collection::vec(any_write(), 1..10), 1..4)
    ) {
        check(groups);
    }
}

#[test]
fn each_write_of_a_group_sees_those_before_it() {
    let mut database = Database::new();
    let a = "doc:1#viewer@user:a";
    let outcomes = database.commit(&[
        tuples(vec![Update::Create(plain(a))], vec![]),
        tuples(vec![Update::Create(plain(a))], vec![]),
        tuples(vec![Update::Delete { key: key(a), must_exist: true }], vec![]),
        tuples(vec![Update::Delete { key: key(a), must_exist: true }], vec![]),
    ]);
    let revisions: Vec<_> = database.log.iter().map(|entry| entry.revision.0).collect();
    assert_eq!(revisions, [1, 2]);
    assert!(matches!(
        &outcomes[..],
        [
            Outcome::Committed(_),
            Outcome::Failed(WriteError::AlreadyExists { .. }),
            Outcome::Committed(_),
            Outcome::Failed(WriteError::NotFound { .. })
        ]
    ));
    assert!(database.tuples.is_empty(), "what the group both wrote and removed is not stored");
}

#[test]
fn what_changes_nothing_returns_the_head() {
    let mut database = Database::new();
    let a = "doc:1#viewer@user:a";
    let first = tuples(vec![Update::Touch(plain(a))], vec![]);
    let outcomes = database.commit(&[
        tuples(vec![delete(a)], vec![]),
        first.clone(),
        tuples(vec![Update::Touch(plain(a))], vec![]),
    ]);
    let head = |revision, write_id, changes| {
        Outcome::Committed(Committed {
            revision: Revision(revision),
            write_id,
            changes,
            replayed: false,
            schema: None,
        })
    };
    assert_eq!(outcomes, [head(0, WriteId::NIL, 0), head(1, first.write_id, 1), head(1, first.write_id, 0)]);
    assert_eq!(database.log.len(), 1);
}

#[test]
fn a_filter_waits_only_for_what_cannot_be_told() {
    let doc_1 = TupleFilter {
        object_type: Some("doc".parse().expect("a type")),
        object_id: Some("1".into()),
        ..TupleFilter::default()
    };
    let when = |expectation| vec![Precondition { filter: doc_1.clone(), expectation }];
    let (a, b) = ("doc:1#viewer@user:a", "doc:1#viewer@user:b");
    let marker = || Update::Touch(plain("dir:1#viewer@user:a"));

    // Added by the group: it matches. Removed while nothing else matched before: it does not.
    let mut database = Database::new();
    let outcomes = database.commit(&[
        tuples(vec![Update::Create(plain(a))], vec![]),
        tuples(vec![marker()], when(Expectation::Match)),
        tuples(vec![delete(a)], vec![]),
        tuples(vec![marker()], when(Expectation::NoMatch)),
    ]);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Committed(_))), "{outcomes:?}");

    // Removed while something matched before: another tuple may, or may not, be left.
    database.commit(&[tuples(vec![Update::Create(plain(a)), Update::Create(plain(b))], vec![])]);
    let outcomes =
        database.commit(&[tuples(vec![delete(a)], vec![]), tuples(vec![marker()], when(Expectation::Match))]);
    assert!(matches!(outcomes[..], [Outcome::Committed(_), Outcome::Deferred]), "{outcomes:?}");
}

#[test]
fn preconditions_and_creation_take_the_expired_for_absent() {
    let mut database = Database::new();
    let a = "doc:1#viewer@user:a";
    database.commit(&[tuples(vec![Update::Touch(expiring(a, 500))], vec![])]);
    assert_eq!(database.tuples.len(), 1, "stored, although expired");
    let exactly = TupleFilter {
        object_type: Some("doc".parse().expect("a type")),
        object_id: Some("1".into()),
        relation: Some("viewer".parse().expect("a relation")),
        subject_type: Some("user".parse().expect("a type")),
        subject_id: Some("a".into()),
        subject_relation: Some(None),
    };
    assert_eq!(exactly.exact(), Some(key(a)));
    let absent = vec![Precondition { filter: exactly, expectation: Expectation::NoMatch }];
    let outcomes = database.commit(&[
        tuples(vec![Update::Delete { key: key(a), must_exist: true }], absent.clone()),
        tuples(vec![Update::Create(plain(a))], absent),
    ]);
    assert_eq!(outcomes[0], Outcome::Failed(WriteError::NotFound { key: key(a) }));
    assert!(matches!(outcomes[1], Outcome::Committed(_)));
    let change = &database.log[1].changes[0];
    assert_eq!(change.before, Some(expiring(a, 500).attributes));
    assert_eq!(change.after, Some(Attributes::default()));
}

#[test]
fn schema_ids_grow_although_the_clock_does_not() {
    let mut database = Database::new();
    let outcomes = database.commit(&[schema(None), schema(None), schema(None)]);
    let ids: Vec<_> = database.schemas.iter().map(|schema| schema.id).collect();
    assert!(ids.is_sorted_by(|a, b| a < b), "{ids:?}");
    assert_eq!(outcomes.len(), 3);

    // A write validated against the schema that the same group replaces must be validated anew.
    let old = database.head.schema;
    let validated = action(Action::Tuples {
        updates: vec![Update::Touch(plain("doc:1#viewer@user:a"))],
        preconditions: vec![],
        validated_against: old,
    });
    let outcomes = database.commit(&[validated.clone(), schema(old), validated, schema(old)]);
    let in_force = database.head.schema;
    assert!(in_force > old);
    assert!(matches!(outcomes[0], Outcome::Committed(_)));
    assert!(matches!(outcomes[1], Outcome::Committed(Committed { schema, .. }) if schema == in_force));
    assert_eq!(outcomes[2], Outcome::Failed(WriteError::SchemaChanged { in_force }));
    assert_eq!(outcomes[3], Outcome::Failed(WriteError::SchemaChanged { in_force }));
}

/// A schema that allows no tuple of `user:bad`, held against what is stored at `revision`.
fn judged(database: &Database, revision: u64) -> Write {
    let revision = Revision(revision);
    let entry = database.log.iter().find(|entry| entry.revision == revision);
    let judge = Judge::new(|tuple| tuple.key.subject.to_string() != "user:bad");
    let judged = Judged { revision, tag: entry.map_or(WriteId::NIL, |entry| entry.write_id).tag(), judge };
    action(Action::Schema { text: "text".into(), json: "{}".into(), expected: None, judged: Some(judged) })
}

#[test]
fn a_schema_is_held_against_what_was_written_since_it_was_judged() {
    let (good, bad) = ("doc:1#viewer@user:good", "doc:1#viewer@user:bad");
    let touch = |text| tuples(vec![Update::Touch(plain(text))], vec![]);
    let remove = |text| tuples(vec![delete(text)], vec![]);
    let expired = tuples(vec![Update::Touch(expiring(bad, NOW.as_micros() - 1))], vec![]);
    let refused = Outcome::Failed(WriteError::TuplesChanged);
    let committed = |outcome: &Outcome| matches!(outcome, Outcome::Committed(_));

    let mut database = Database::new();
    database.commit(&[touch(good)]);
    assert!(committed(&database.commit(&[judged(&database, 1)])[0]), "nothing was written since");
    assert!(committed(&database.commit(&[judged(&database, 0)])[0]), "all of it is allowed");
    database.commit(&[touch(bad)]);
    let after = database.head.revision.0;
    assert_eq!(database.commit(&[judged(&database, 1)]), std::slice::from_ref(&refused));
    // What is stored at its own revision was judged before, and is taken on trust.
    assert!(committed(&database.commit(&[judged(&database, after)])[0]));
    // It is gone again: in the database, or in the group, or by time.
    database.commit(&[remove(bad)]);
    assert!(committed(&database.commit(&[judged(&database, 1)])[0]));
    let outcomes = database.commit(&[touch(bad), judged(&database, 1), remove(bad), judged(&database, 1)]);
    assert!(outcomes[1] == refused && committed(&outcomes[3]), "{outcomes:?}");
    database.commit(&[touch(bad)]);
    let outcomes = database.commit(&[remove(bad), judged(&database, 1)]);
    assert!(committed(&outcomes[1]), "{outcomes:?}");
    database.commit(&[expired]);
    assert!(committed(&database.commit(&[judged(&database, 1)])[0]));

    // Of another history: nobody knows what was written since.
    let mut other = judged(&database, 1);
    if let Action::Schema { judged: Some(judged), .. } = &mut other.action {
        judged.tag = WriteId::fresh().tag();
    }
    assert_eq!(database.commit(&[other]), std::slice::from_ref(&refused));
    // More than are looked at while others wait.
    for some in 0..2 {
        let many =
            (0..=UNJUDGED_AT_MOST / 2).map(|number| plain(&format!("doc:{some}-{number}#viewer@user:a")));
        let before = database.head.revision.0;
        database.commit(&[tuples(many.map(Update::Touch).collect(), vec![])]);
        assert!(committed(&database.commit(&[judged(&database, before)])[0]));
    }
    assert_eq!(database.commit(&[judged(&database, 1)]), [refused]);
}
