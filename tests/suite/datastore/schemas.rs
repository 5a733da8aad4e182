//! Schema versions: immutable, numbered by the same log, the newest in force.

use relata::datastore::{Action, SchemaId, Write, WriteError};

use super::fixture::{Fixture, action, create};

fn schema(text: &str, expected: Option<SchemaId>) -> Write {
    action(Action::Schema { text: text.into(), json: format!("{{\"text\":\"{text}\"}}").into(), expected })
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
