//! Stores, and the tables they live in.

use relata::datastore::{DatastoreError, TupleFilter};
use relata::revision::{Revision, StoreId, WriteId};

use super::fixture::{Fixture, create, plain, updates_of};

pub async fn stores_are_made_found_and_listed(fixture: Fixture) {
    let datastore = &fixture.datastore;
    let before = datastore.now().await.expect("the clock");
    let made = datastore.create_store("zoo").await.expect("a store");
    let umlaut = datastore.create_store("äther").await.expect("a store");
    assert_eq!((made.name.as_str(), made.schema), ("zoo", None));
    assert!(made.created_at >= before);
    assert_eq!(datastore.store(made.id).await.expect("an answer"), Some(made.clone()));
    assert_eq!(datastore.store_named("zoo").await.expect("an answer"), Some(made.clone()));
    assert_eq!(datastore.store_named("Zoo").await.expect("an answer"), None);
    assert_eq!(datastore.store(StoreId(uuid::Uuid::new_v4())).await.expect("an answer"), None);

    let exists = datastore.create_store("zoo").await;
    assert!(matches!(&exists, Err(DatastoreError::StoreExists(name)) if name == "zoo"), "{exists:?}");

    let names = async |after, limit| {
        let stores = datastore.stores(after, limit).await.expect("stores");
        stores.into_iter().map(|store| store.name).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 10).await, ["default", "zoo", "äther"]);
    assert_eq!(names(None, 2).await, ["default", "zoo"]);
    assert_eq!(names(Some("zoo"), 2).await, ["äther"]);
    assert_eq!(names(Some("e"), 1).await, ["zoo"]);

    let heads = datastore.heads(&[umlaut.id, made.id]).await.expect("heads");
    assert_eq!(heads.len(), 2);
    for (store, head) in heads {
        assert!([umlaut.id, made.id].contains(&store));
        assert_eq!((head.revision, head.write_id, head.schema), (Revision::ZERO, WriteId::NIL, None));
        assert!(head.committed_at >= before, "before the first write, when the store was created");
    }
}

pub async fn stores_are_independent(fixture: Fixture) {
    let other = fixture.datastore.create_store("other").await.expect("a store").id;
    let tuple = "doc:1#viewer@user:ann";
    for store in [fixture.store, other] {
        for update in [create(tuple), create("doc:2#viewer@user:ann")] {
            let outcomes = fixture.datastore.commit(store, [updates_of(vec![update])].into()).await;
            assert!(matches!(outcomes.expect("a commit")[..], [relata::datastore::Outcome::Committed(_)]));
        }
    }
    fixture.update(vec![super::fixture::delete(tuple)]).await;
    let heads = fixture.datastore.heads(&[fixture.store, other]).await.expect("heads");
    let head = |id| heads.iter().find(|(store, _)| *store == id).expect("a head").1;
    assert_eq!((head(fixture.store).revision, head(other).revision), (Revision(3), Revision(2)));
    let page = fixture.datastore.tuples(other, &TupleFilter::default(), None, 10).await.expect("a page");
    assert_eq!(page.tuples, [plain(tuple), plain("doc:2#viewer@user:ann")]);
}

pub async fn a_deleted_store_is_gone_and_its_name_is_free(fixture: Fixture) {
    let datastore = &fixture.datastore;
    fixture.update(vec![create("doc:1#viewer@user:ann")]).await;
    let deleted = fixture.store;
    datastore.delete_store(deleted).await.expect("deleted");

    assert_eq!(datastore.store(deleted).await.expect("an answer"), None);
    assert_eq!(datastore.store_named("default").await.expect("an answer"), None);
    assert!(datastore.stores(None, 10).await.expect("stores").is_empty());
    assert!(datastore.heads(&[deleted]).await.expect("heads").is_empty());
    let gone = |result: Result<(), DatastoreError>| {
        assert!(matches!(result, Err(DatastoreError::StoreNotFound)), "{result:?}");
    };
    gone(datastore.delete_store(deleted).await);
    gone(datastore.log(deleted, Revision::ZERO, 10).await.map(drop));
    gone(datastore.tuples(deleted, &TupleFilter::default(), None, 10).await.map(drop));
    let write = updates_of(vec![create("doc:2#viewer@user:ann")]);
    gone(datastore.commit(deleted, [write.clone()].into()).await.map(drop).map_err(DatastoreError::from));
    let nowhere = StoreId(uuid::Uuid::new_v4());
    gone(datastore.commit(nowhere, [write].into()).await.map(drop).map_err(DatastoreError::from));

    let again = datastore.create_store("default").await.expect("the name is free");
    assert_ne!(again.id, deleted);
    let page = datastore.tuples(again.id, &TupleFilter::default(), None, 10).await.expect("a page");
    assert!(page.tuples.is_empty());
    let other = datastore.create_store("other").await.expect("a store").id;
    let heads = datastore.heads(&[deleted, other]).await.expect("heads");
    assert_eq!(heads.iter().map(|(store, _)| *store).collect::<Vec<_>>(), [other]);
}

pub async fn migrating_again_changes_nothing(fixture: Fixture) {
    fixture.update(vec![create("doc:1#viewer@user:ann")]).await;
    let identity = fixture.datastore.identity().await.expect("an identity");
    assert!(!identity.cursor_keys.is_empty());
    fixture.datastore.migrate().await.expect("nothing to do");
    fixture.datastore.ping().await.expect("it answers, is migrated and takes writes");
    let again = fixture.datastore.identity().await.expect("an identity");
    assert_eq!((again.database, again.cursor_keys), (identity.database, identity.cursor_keys));
    assert_eq!(fixture.head().await, Revision(1));
    assert!(
        !format!("{:?}", fixture.datastore.identity().await).contains("cursor_keys: ["),
        "keys do not print"
    );
}

pub async fn a_copy_gets_an_identity_of_its_own(fixture: Fixture) {
    fixture.update(vec![create("doc:1#viewer@user:ann")]).await;
    let before = fixture.datastore.identity().await.expect("an identity");
    let renewed = fixture.datastore.renew_identity().await.expect("renewed");
    let after = fixture.datastore.identity().await.expect("an identity");
    assert_eq!((after.database, &after.cursor_keys), (renewed.database, &renewed.cursor_keys));
    assert_ne!(after.database, before.database);
    assert!(after.cursor_keys.iter().all(|key| !before.cursor_keys.contains(key)), "no key is kept");
    assert_eq!(fixture.head().await, Revision(1), "nothing else changes");
    let fixture = fixture.reopen().await;
    let reopened = fixture.datastore.identity().await.expect("an identity");
    assert_eq!(reopened.database, renewed.database);
}
