//! Schema versions: immutable, numbered by the same log, the newest in force.

use relata::datastore::{
    Action, Committed, Judge, Judged, ListedSchema, SchemaId, Update, Write, WriteError,
};
use relata::revision::{Revision, WriteId};
use relata::time::Timestamp;

use super::fixture::{Fixture, action, create, delete, expiring};

fn schema(text: &str, expected: Option<SchemaId>) -> Write {
    action(Action::Schema {
        text: text.into(),
        json: format!("{{\"text\":\"{text}\"}}").into(),
        expected,
        judged: None,
    })
}

pub async fn schemas_take_revisions_and_the_newest_is_in_force(fixture: Fixture) {
    let mut ids = Vec::new();
    for text in ["first", "zweites, größer", "third"] {
        let committed = fixture.write(schema(text, ids.last().copied())).await.expect("committed");
        let id = committed.schema.expect("a schema id");
        assert!(ids.last().is_none_or(|last| *last < id), "the newest is the greatest");
        let heads = fixture.datastore.heads(&[fixture.store]).await.expect("heads");
        assert_eq!((heads[0].1.schema, heads[0].1.revision), (Some(id), committed.revision));
        let store = fixture.datastore.store(fixture.store).await.expect("an answer").expect("the store");
        assert_eq!(store.schema, Some(id));

        let stored = fixture.datastore.schema(fixture.store, id).await.expect("an answer").expect("stored");
        assert_eq!((&*stored.text, stored.revision), (text, committed.revision));
        assert_eq!(stored.json, format!("{{\"text\":\"{text}\"}}").into());
        let entry = fixture.log().await.pop().expect("an entry");
        assert_eq!((entry.schema, entry.committed_at), (Some(id), stored.written_at));
        assert!(entry.changes.is_empty());
        let listed = fixture.datastore.schemas(fixture.store, None, 1).await.expect("schemas");
        let expected = ListedSchema { id, revision: stored.revision, written_at: stored.written_at };
        assert_eq!(listed, [expected]);
        ids.push(id);
    }

    let listed = async |before, limit| {
        let schemas = fixture.datastore.schemas(fixture.store, before, limit).await.expect("schemas");
        schemas.into_iter().map(|schema| schema.id).collect::<Vec<_>>()
    };
    assert_eq!(listed(None, 10).await, [ids[2], ids[1], ids[0]]);
    assert_eq!(listed(None, 2).await, [ids[2], ids[1]]);
    assert_eq!(listed(Some(ids[1]), 2).await, [ids[0]]);

    let stale = fixture.write(schema("fourth", Some(ids[1]))).await;
    assert_eq!(stale, Err(WriteError::SchemaChanged { in_force: Some(ids[2]) }));
    let unknown = SchemaId(ulid::Ulid::nil());
    assert_eq!(fixture.datastore.schema(fixture.store, unknown).await.expect("an answer"), None);

    let other = fixture.datastore.create_store("other").await.expect("a store").id;
    let elsewhere = fixture.datastore.schema(other, ids[0]).await.expect("an answer");
    assert_eq!(elsewhere, None, "a schema belongs to one store");
}

pub async fn tuples_validated_against_another_schema_are_refused(fixture: Fixture) {
    let first = fixture.write(schema("first", None)).await.expect("committed").schema;
    let validated = |validated_against| {
        action(Action::Tuples {
            updates: vec![create("doc:1#viewer@user:ann")],
            preconditions: vec![],
            validated_against,
        })
    };
    let second = fixture.write(schema("second", None)).await.expect("committed").schema;
    let result = fixture.write(validated(first)).await;
    assert_eq!(result, Err(WriteError::SchemaChanged { in_force: second }));
    fixture.write(validated(second)).await.expect("validated against the one in force");
}

pub async fn a_schema_is_held_against_what_was_written_since_it_was_judged(fixture: Fixture) {
    let (good, bad) = ("doc:1#viewer@user:good", "doc:2#viewer@user:bad");
    let judged = async |at: &Committed| {
        let judge = Judge::new(|tuple| tuple.key.subject.to_string() != "user:bad");
        let judged = Judged { revision: at.revision, tag: at.write_id.tag(), judge };
        let text = "narrow".into();
        let write = action(Action::Schema { text, json: "{}".into(), expected: None, judged: Some(judged) });
        fixture.write(write).await
    };
    let beginning = Committed {
        revision: Revision::ZERO,
        write_id: WriteId::NIL,
        changes: 0,
        replayed: false,
        schema: None,
    };
    judged(&beginning).await.expect("an empty store");
    let first = fixture.update(vec![create(good)]).await;
    judged(&first).await.expect("nothing was written since");
    let second = fixture.update(vec![create(bad)]).await;
    assert_eq!(judged(&first).await, Err(WriteError::TuplesChanged));
    assert_eq!(judged(&beginning).await, Err(WriteError::TuplesChanged));
    judged(&second).await.expect("it was judged before");
    // Written anew since, it is held against the schema again; gone or expired it is not.
    fixture.update(vec![Update::Touch(expiring(bad, "2999-01-01T00:00:00Z".parse().expect("a time")))]).await;
    assert_eq!(judged(&second).await, Err(WriteError::TuplesChanged));
    fixture.update(vec![Update::Touch(expiring(bad, Timestamp::from_micros(1)))]).await;
    judged(&second).await.expect("it has expired");
    fixture.update(vec![delete(bad)]).await;
    judged(&first).await.expect("it is gone");
    let elsewhere = Committed { write_id: WriteId::fresh(), ..first };
    assert_eq!(judged(&elsewhere).await, Err(WriteError::TuplesChanged), "of another history");
}
