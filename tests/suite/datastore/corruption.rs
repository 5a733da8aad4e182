//! Rows that make no sense are reported and named, never skipped.

use relata::datastore::{DatastoreError, TupleFilter};
use relata::revision::Revision;

use super::fixture::{Fixture, create, touch, updates_of};

fn corrupt<T: std::fmt::Debug>(result: Result<T, DatastoreError>, named: &str) {
    let Err(DatastoreError::Corrupt(what)) = result else { panic!("not corrupt: {result:?}") };
    assert!(what.contains(named), "`{what}` does not name `{named}`");
}

pub async fn rows_that_are_no_values_are_named(fixture: Fixture) {
    let everything = TupleFilter::default();
    let page = || fixture.datastore.tuples(fixture.store, &everything, None, 10);
    fixture.update(vec![create("doc:1#viewer@user:ann")]).await;
    for (column, value) in [
        ("object_id", "a b"),
        ("object_type", ""),
        ("relation", "x#y"),
        ("subject_id", "a:b"),
        ("subject_relation", "m@n"),
    ] {
        fixture.execute(&format!("UPDATE {{tuple}} SET {column} = '{value}'")).await;
        corrupt(page().await, value);
        fixture.execute("DELETE FROM {tuple}").await;
        fixture.execute("DELETE FROM {change}; DELETE FROM {revision}; UPDATE {store} SET floor = 0").await;
        fixture.update(vec![create("doc:1#viewer@user:ann")]).await;
    }
    fixture.execute("UPDATE {tuple} SET condition_name = 'c', condition_context = '{oops'").await;
    corrupt(page().await, "doc:1#viewer@user:ann");
    // A commit that depends on the row says so too, and leaves everything as it is.
    let write = updates_of(vec![touch("doc:1#viewer@user:ann")]);
    let outcome = fixture.datastore.commit(fixture.store, [write].into()).await;
    corrupt(outcome.map_err(DatastoreError::from), "doc:1#viewer@user:ann");
    assert_eq!(fixture.head().await, Revision(1));

    fixture.execute("UPDATE {change} SET after = '9'").await;
    corrupt(fixture.datastore.log(fixture.store, Revision(1), 10).await, "doc:1#viewer@user:ann");
}

pub async fn a_log_that_contradicts_itself_is_corrupt(fixture: Fixture) {
    for index in 1..=3 {
        fixture.update(vec![create(&format!("doc:{index}#viewer@user:ann"))]).await;
    }
    fixture.execute("DELETE FROM {change} WHERE revision = 2").await;
    corrupt(fixture.datastore.log(fixture.store, Revision(1), 10).await, "revision 2");
    let log = fixture.datastore.log(fixture.store, Revision(3), 10).await.expect("what is whole");
    assert_eq!(log.len(), 1);

    // A missing revision is seen wherever it is missing, and however the log is read.
    fixture.execute("DELETE FROM {revision} WHERE revision = 2").await;
    corrupt(fixture.datastore.log(fixture.store, Revision(1), 10).await, "revision 2");
    corrupt(fixture.datastore.log(fixture.store, Revision(2), 1).await, "revision 2");
    let log = fixture.datastore.log(fixture.store, Revision(1), 1).await.expect("what is whole");
    assert_eq!(log.len(), 1);
    let beyond = fixture.datastore.log(fixture.store, Revision(4), 10).await.expect("nothing");
    assert!(beyond.is_empty());
    fixture.execute("INSERT INTO {change} SELECT store, 3, 7, object_type, 'x', relation, subject_type, subject_id, subject_relation, before, after FROM {change} WHERE revision = 3").await;
    corrupt(fixture.datastore.log(fixture.store, Revision(3), 10).await, "2 changes instead of 1");
}
