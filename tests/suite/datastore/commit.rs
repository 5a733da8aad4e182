//! What a write does, and when it is refused.

use std::collections::BTreeMap;
use std::sync::Arc;

use relata::context::{Context, Value};
use relata::datastore::{Expectation, Idempotency, Outcome, Precondition, Update, Write, WriteError};
use relata::time::Timestamp;
use relata::tuple::{Attributes, Tuple, TupleCondition};

use super::fixture::{
    Fixture, Place, conditional, create, delete, delete_existing, expiring, filter, key, plain, touch,
    updates_of,
};

const TUPLE: &str = "doc:1#viewer@user:ann";
const LONG_AGO: Timestamp = Timestamp::from_micros(1);

/// What becomes of a write.
enum Expect {
    /// A revision with this state after it.
    Change(Option<Tuple>),
    /// No revision.
    Nothing,
    AlreadyExists,
    NotFound,
}

pub async fn create_touch_and_delete_in_every_state(fixture: Fixture) {
    use Expect::{AlreadyExists, Change, NotFound, Nothing};
    let stored = || Some(plain(TUPLE));
    let conditional = || Tuple { attributes: conditioned(&Context::default()), ..plain(TUPLE) };
    let expired = || expiring(TUPLE, LONG_AGO);
    let lasting = || expiring(TUPLE, "2999-01-01T00:00:00Z".parse().unwrap());
    let cases = [
        (None, create(TUPLE), Change(stored())),
        (None, touch(TUPLE), Change(stored())),
        (None, delete(TUPLE), Nothing),
        (None, delete_existing(TUPLE), NotFound),
        (stored(), create(TUPLE), AlreadyExists),
        (stored(), touch(TUPLE), Nothing),
        (stored(), Update::Touch(conditional()), Change(Some(conditional()))),
        (stored(), Update::Touch(lasting()), Change(Some(lasting()))),
        (stored(), Update::Create(conditional()), AlreadyExists),
        (stored(), delete(TUPLE), Change(None)),
        (stored(), delete_existing(TUPLE), Change(None)),
        (Some(conditional()), create(TUPLE), AlreadyExists),
        (Some(conditional()), touch(TUPLE), Change(stored())),
        (Some(conditional()), Update::Touch(conditional()), Nothing),
        (Some(lasting()), create(TUPLE), AlreadyExists),
        (Some(lasting()), delete_existing(TUPLE), Change(None)),
        // Expired and not swept: absent to CREATE and to a DELETE that insists.
        (Some(expired()), create(TUPLE), Change(stored())),
        (Some(expired()), touch(TUPLE), Change(stored())),
        (Some(expired()), delete(TUPLE), Change(None)),
        (Some(expired()), delete_existing(TUPLE), NotFound),
    ];
    for (index, (before, update, expected)) in cases.into_iter().enumerate() {
        fixture.update(vec![delete(TUPLE)]).await;
        if let Some(tuple) = &before {
            fixture.update(vec![Update::Touch(tuple.clone())]).await;
        }
        let head = fixture.head().await;
        let write = updates_of(vec![update]);
        let write_id = write.write_id;
        let result = fixture.write(write).await;
        let (after, revision) = match expected {
            Change(after) => {
                let committed = result.expect("committed");
                assert_eq!((committed.revision, committed.write_id), (head.next(), write_id), "case {index}");
                let entry =
                    fixture.datastore.log(fixture.store, head.next(), 1).await.expect("log").remove(0);
                let [change] = &entry.changes[..] else { panic!("case {index}: {entry:?}") };
                assert_eq!(change.key, key(TUPLE));
                assert_eq!(change.before, before.map(|tuple| tuple.attributes), "case {index}");
                assert_eq!(
                    change.after,
                    after.as_ref().map(|tuple| tuple.attributes.clone()),
                    "case {index}"
                );
                (after, head.next())
            }
            Nothing => {
                assert_eq!(result.expect("committed").revision, head, "case {index}");
                (before, head)
            }
            AlreadyExists => {
                assert_eq!(result, Err(WriteError::AlreadyExists { key: key(TUPLE) }), "case {index}");
                (before, head)
            }
            NotFound => {
                assert_eq!(result, Err(WriteError::NotFound { key: key(TUPLE) }), "case {index}");
                (before, head)
            }
        };
        assert_eq!(fixture.head().await, revision, "case {index}");
        assert_eq!(fixture.tuples().await, Vec::from_iter(after), "case {index}");
    }
}

pub async fn a_write_is_atomic(fixture: Fixture) {
    fixture.update(vec![create("doc:2#viewer@user:ann")]).await;
    let result = fixture
        .write(updates_of(vec![
            create("doc:1#viewer@user:ann"),
            create("doc:2#viewer@user:ann"),
            create("doc:3#viewer@user:ann"),
        ]))
        .await;
    assert_eq!(result, Err(WriteError::AlreadyExists { key: key("doc:2#viewer@user:ann") }));
    assert_eq!(fixture.tuples().await, [plain("doc:2#viewer@user:ann")]);
}

pub async fn one_bad_write_of_a_group_fails_alone(fixture: Fixture) {
    let one = |update| updates_of(vec![update]);
    let outcomes = fixture
        .commit(vec![
            one(create("doc:1#viewer@user:ann")),
            one(create("doc:1#viewer@user:ann")),
            one(create("doc:2#viewer@user:ann")),
            one(delete_existing("doc:1#viewer@user:ann")),
            one(delete_existing("doc:3#viewer@user:ann")),
            one(touch("doc:2#viewer@user:ann")),
        ])
        .await;
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| match outcome {
            Outcome::Committed(committed) => format!("revision {}", committed.revision),
            Outcome::Failed(error) => error.to_string(),
            Outcome::Deferred => "deferred".to_owned(),
        })
        .collect();
    assert_eq!(
        told,
        [
            "revision 1",
            "tuple `doc:1#viewer@user:ann` already exists",
            "revision 2",
            "revision 3",
            "tuple `doc:3#viewer@user:ann` does not exist",
            "revision 3",
        ]
    );
    assert_eq!(fixture.tuples().await, [plain("doc:2#viewer@user:ann")]);
}

pub async fn preconditions_see_the_state_before_the_write(fixture: Fixture) {
    let there = |expectation| Precondition { filter: filter("doc 1 viewer user ann ''"), expectation };
    let write = |expectation| conditional(vec![create(TUPLE)], vec![there(expectation)]);
    let failed = |expectation| Err(WriteError::PreconditionFailed { index: 0, expectation });

    assert_eq!(fixture.write(write(Expectation::Match)).await, failed(Expectation::Match));
    fixture.write(write(Expectation::NoMatch)).await.expect("not there yet");
    assert_eq!(fixture.write(write(Expectation::NoMatch)).await, failed(Expectation::NoMatch));

    // The one that fails is named, and a failed write leaves nothing behind.
    let both = vec![there(Expectation::Match), there(Expectation::NoMatch)];
    let error = fixture.write(conditional(vec![delete(TUPLE)], both)).await.expect_err("the second fails");
    assert_eq!(error, WriteError::PreconditionFailed { index: 1, expectation: Expectation::NoMatch });
    assert_eq!(error.to_string(), "precondition 1 does not hold: a tuple matches");

    // An expired tuple matches nothing, by its key or by a filter.
    fixture.update(vec![Update::Touch(expiring(TUPLE, LONG_AGO))]).await;
    for parts in ["doc 1 viewer user ann ''", "doc _ _ _ _ _", "_ _ _ _ ann _"] {
        let none = Precondition { filter: filter(parts), expectation: Expectation::NoMatch };
        fixture.write(conditional(vec![], vec![none])).await.expect(parts);
    }
}

pub async fn a_filter_sees_the_whole_store(fixture: Fixture) {
    fixture.update(vec![create("doc:1#viewer@user:ann"), create("doc:2#viewer@group:eng#member")]).await;
    let matches = [
        "_ _ _ _ _ _",
        "doc _ _ _ _ _",
        "doc 1 _ _ _ _",
        "_ _ viewer _ _ _",
        "_ _ _ user _ _",
        "_ _ _ group eng _",
        "_ _ _ group eng member",
        "_ _ _ _ _ member",
        "doc _ _ _ _ ''",
        "doc 2 viewer group _ _",
    ];
    let none = [
        "dir _ _ _ _ _",
        "doc 1 owner _ _ _",
        "doc 1 _ group _ _",
        "_ _ _ group eng ''",
        "_ _ _ user ann member",
    ];
    for (filters, matching) in [(&matches[..], true), (&none[..], false)] {
        for parts in filters {
            for expectation in [Expectation::Match, Expectation::NoMatch] {
                let precondition = Precondition { filter: filter(parts), expectation };
                let result = fixture.write(conditional(vec![], vec![precondition])).await;
                assert_eq!(result.is_ok(), matching == (expectation == Expectation::Match), "{parts}");
            }
        }
    }

    // Whether a second one is left after the group's own deletion is for the next group to tell.
    let any = || vec![Precondition { filter: filter("doc _ _ _ _ _"), expectation: Expectation::Match }];
    let outcomes = fixture
        .commit(vec![
            updates_of(vec![delete("doc:1#viewer@user:ann")]),
            conditional(vec![touch("dir:1#viewer@user:ann")], any()),
        ])
        .await;
    assert!(matches!(outcomes[..], [Outcome::Committed(_), Outcome::Deferred]), "{outcomes:?}");
    assert_eq!(fixture.head().await.0, 2, "a deferred write leaves no trace");
}

fn with_key(name: &str, request: u8, updates: Vec<Update>) -> Write {
    let idempotency = Some(Idempotency { key: name.into(), request: [request; 32] });
    Write { idempotency, ..updates_of(updates) }
}

pub async fn idempotency_keys_return_the_first_result(fixture: Fixture) {
    let create = || vec![create(TUPLE)];
    let first = fixture.write(with_key("k", 1, create())).await.expect("committed");
    assert!(!first.replayed);
    fixture.update(vec![touch("doc:2#viewer@user:ann")]).await;

    let again = fixture.write(with_key("k", 1, create())).await.expect("replayed");
    assert!(again.replayed);
    assert_eq!((again.revision, again.write_id), (first.revision, first.write_id));
    assert_eq!(fixture.head().await.0, 2);

    let other_request = fixture.write(with_key("k", 2, vec![delete(TUPLE)])).await;
    assert_eq!(other_request, Err(WriteError::IdempotencyKeyReused));

    // Another principal's key is another key.
    let other_principal = Write { principal: "bob".into(), ..with_key("k", 1, create()) };
    assert_eq!(fixture.write(other_principal).await, Err(WriteError::AlreadyExists { key: key(TUPLE) }));

    // A failure is not remembered.
    let failed = fixture.write(with_key("f", 1, create())).await;
    assert_eq!(failed, Err(WriteError::AlreadyExists { key: key(TUPLE) }));
    fixture.update(vec![delete(TUPLE)]).await;
    assert!(!fixture.write(with_key("f", 1, create())).await.expect("committed").replayed);

    // A write that changed nothing is.
    let nothing = fixture.write(with_key("n", 1, vec![touch(TUPLE)])).await.expect("committed");
    fixture.update(vec![delete(TUPLE)]).await;
    let again = fixture.write(with_key("n", 1, vec![touch(TUPLE)])).await.expect("replayed");
    assert_eq!((again.replayed, again.revision), (true, nothing.revision));
    assert!(fixture.tuples().await.iter().all(|tuple| tuple.key != key(TUPLE)), "nothing was written now");

    // Both in one group.
    let pair = vec![with_key("g", 1, create()), with_key("g", 1, create())];
    let outcomes = fixture.commit(pair).await;
    let [Outcome::Committed(first), Outcome::Committed(second)] = outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!((first.replayed, second.replayed, first.revision), (false, true, second.revision));
}

/// A database may forget a key after a day; SQLite does so by the way.
#[tokio::test(flavor = "multi_thread")]
async fn sqlite_forgets_old_idempotency_keys() {
    let fixture = Fixture::sqlite().await;
    fixture.write(with_key("old", 1, vec![touch(TUPLE)])).await.expect("committed");
    fixture.write(with_key("young", 1, vec![touch(TUPLE)])).await.expect("committed");
    fixture.execute("UPDATE {idempotency} SET at = 0 WHERE key = 'old'").await;
    fixture.write(with_key("other", 1, vec![touch(TUPLE)])).await.expect("committed");
    let anew = fixture.write(with_key("old", 2, vec![delete(TUPLE)])).await.expect("forgotten");
    assert!(!anew.replayed);
    assert!(fixture.write(with_key("young", 1, vec![touch(TUPLE)])).await.expect("kept").replayed);
}

fn conditioned(context: &Context) -> Attributes {
    let condition = TupleCondition { name: "in_office".parse().unwrap(), context: Arc::new(context.clone()) };
    Attributes { condition: Some(condition), expires_at: None }
}

pub async fn what_a_tuple_carries_comes_back_exactly(fixture: Fixture) {
    let doubles = [0.1, -0.0, f64::INFINITY, f64::NEG_INFINITY, f64::NAN, f64::MIN_POSITIVE, 1e300, 1.0];
    let nested = (0..60).fold(Value::Null, |inner, _| Value::List(vec![inner]));
    let context = Context(BTreeMap::from([
        ("large".to_owned(), Value::Int(i64::MIN)),
        ("larger".to_owned(), Value::Uint(u64::MAX)),
        ("small".to_owned(), Value::Uint(7)),
        ("doubles".to_owned(), Value::List(doubles.map(Value::Double).to_vec())),
        ("texts".to_owned(), Value::List(["", "$double 1", "$", "\u{0}", "'\"\\", "ünï"].map(text).to_vec())),
        ("ключ".to_owned(), Value::Map(BTreeMap::from([("$".to_owned(), Value::Bool(true))]))),
        ("nested".to_owned(), nested),
        ("long".to_owned(), Value::String("x".repeat(1_000_000))),
    ]));
    let expires_at = Some("2999-12-31T23:59:59.999999Z".parse().unwrap());
    let tuple = Tuple {
        key: key("größe:日本語/🙂%_'\"\\#größer@gruppe:ä@b.c#mitglied"),
        attributes: Attributes { expires_at, ..conditioned(&context) },
    };
    fixture.update(vec![Update::Touch(tuple.clone())]).await;
    assert_eq!(fixture.tuples().await, std::slice::from_ref(&tuple));
    let log = fixture.log().await;
    assert_eq!(log[0].changes[0].after.as_ref(), Some(&tuple.attributes));

    // Equal is equal, NaN included.
    let again = fixture.update(vec![Update::Touch(tuple.clone())]).await;
    assert_eq!(again.revision.0, 1);
    fixture.update(vec![Update::Delete { key: tuple.key.clone(), must_exist: true }]).await;
    assert_eq!(fixture.log().await[1].changes[0].before, Some(tuple.attributes));
}

fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub async fn a_group_of_a_thousand_tuples_is_one_transaction(fixture: Fixture) {
    let tuple = |write: usize, index: usize| format!("doc:{write:03}-{index:03}#viewer@user:ann");
    let write = |write: usize| updates_of((0..20).map(|index| create(&tuple(write, index))).collect());
    let outcomes = fixture.commit((0..50).map(write).collect()).await;
    for (index, outcome) in outcomes.iter().enumerate() {
        let Outcome::Committed(committed) = outcome else { panic!("{outcome:?}") };
        assert_eq!(committed.revision.0, index as u64 + 1);
    }
    let expected: Vec<_> =
        (0..50).flat_map(|write| (0..20).map(move |index| plain(&tuple(write, index)))).collect();
    assert_eq!(fixture.tuples().await, expected);
    assert!(fixture.log().await.iter().all(|entry| entry.changes.len() == 20));

    // Rewritten and removed in the same way.
    let later: Timestamp = "2999-01-01T00:00:00Z".parse().unwrap();
    let rewrite = (0..1_000).map(|i| match i % 2 {
        0 => Update::Touch(expiring(&tuple(i / 20, i % 20), later)),
        _ => delete_existing(&tuple(i / 20, i % 20)),
    });
    fixture.update(rewrite.collect()).await;
    let kept = fixture.tuples().await;
    assert_eq!(kept.len(), 500);
    assert!(kept.iter().all(|tuple| tuple.attributes.expires_at == Some(later)));
}

/// A database that says it has written and has not: nothing of the write is kept, and its caller is
/// not told that it is.
pub async fn an_insert_that_does_not_come_true_is_not_committed(fixture: Fixture) {
    fixture.update(vec![create("doc:1#viewer@user:bob")]).await;
    let head = fixture.head().await;
    fixture
        .execute(match &fixture.place {
            Place::Sqlite(_) => "CREATE TRIGGER lose BEFORE INSERT ON tuple BEGIN SELECT RAISE(IGNORE); END",
            Place::Postgres(_) => {
                "CREATE FUNCTION {lose}() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
                 CREATE TRIGGER lose BEFORE INSERT ON {tuple} FOR EACH ROW EXECUTE FUNCTION {lose}()"
            }
        })
        .await;
    let many = (0..100).map(|number| create(&format!("doc:{number}#viewer@user:cem"))).collect();
    for updates in
        [vec![touch(TUPLE)], vec![create(TUPLE)], vec![delete("doc:1#viewer@user:bob"), touch(TUPLE)], many]
    {
        let outcome = fixture.datastore.commit(fixture.store, vec![updates_of(updates)].into()).await;
        assert!(outcome.is_err(), "{outcome:?}");
        assert_eq!(fixture.head().await, head);
        assert_eq!(fixture.tuples().await, [plain("doc:1#viewer@user:bob")]);
    }
}
