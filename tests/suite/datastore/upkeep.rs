//! What keeps the record small: leases, expired tuples, deleted stores, old log, old keys.

use std::collections::BTreeSet;
use std::time::Duration;

use relata::datastore::{
    Action, DatastoreError, Idempotency, Outcome, Purge, PurgeMark, Trim, TupleFilter, Update, Write,
};
use relata::revision::{Revision, StoreId};
use relata::time::Timestamp;
use uuid::Uuid;

use super::fixture::{Fixture, action, create, delete, expiring, key, plain, touch, updates_of};

const LONG_AGO: Timestamp = Timestamp::from_micros(1_000_000);
const DAY: Duration = Duration::from_hours(24);

fn later() -> Timestamp {
    "2999-01-01T00:00:00Z".parse().expect("a time")
}

pub async fn a_lease_has_one_holder_until_it_ends(fixture: Fixture) {
    let upkeep = fixture.datastore.clone().upkeep();
    let (ann, bob) = (Uuid::from_u128(1), Uuid::from_u128(2));
    let take = async |duty, holder| upkeep.take_lease(duty, holder, DAY).await.expect("an answer");
    assert!(take("sweep", ann).await);
    assert!(!take("sweep", bob).await);
    assert!(take("sweep", ann).await, "a holder may prolong it");
    assert!(take("purge", bob).await, "duties are apart");

    upkeep.return_lease("sweep", bob).await.expect("nothing to give back");
    assert!(!take("sweep", bob).await);
    upkeep.return_lease("sweep", ann).await.expect("given back");
    assert!(take("sweep", bob).await);

    fixture.execute("UPDATE {lease} SET until = 1").await;
    assert!(take("sweep", ann).await, "it had ended");
    // Given by a clock that was far ahead: nobody would get it for as long.
    fixture.execute("UPDATE {lease} SET until = until + 86400000000").await;
    assert!(take("sweep", bob).await);
}

pub async fn expired_tuples_are_found_store_by_store(fixture: Fixture) {
    let (datastore, upkeep) = (&fixture.datastore, fixture.datastore.clone().upkeep());
    let mut stores = vec![fixture.store];
    for name in ["a", "b", "c", "none", "gone"] {
        stores.push(datastore.create_store(name).await.expect("a store").id);
    }
    for (index, store) in stores.iter().enumerate() {
        let mut updates = vec![touch("doc:1#viewer@user:ann")];
        updates.push(Update::Touch(expiring("doc:later#viewer@user:ann", later())));
        for number in 0..if index == 4 { 0 } else { 3 } {
            let earlier = Timestamp::from_micros(LONG_AGO.as_micros() - number);
            updates.push(Update::Touch(expiring(&format!("doc:{number}#viewer@user:bob"), earlier)));
        }
        datastore.commit(*store, [updates_of(updates)].into()).await.expect("written");
    }
    datastore.delete_store(stores[5]).await.expect("deleted");

    let mut expected: Vec<StoreId> = stores[..4].to_vec();
    expected.sort();
    let found = async |after, limit| upkeep.stores_with_expired(after, limit).await.expect("stores");
    assert_eq!(found(None, 10).await, expected);
    assert_eq!(found(None, 3).await, expected[..3]);
    assert_eq!(found(Some(expected[0]), 2).await, expected[1..3]);
    assert!(found(Some(expected[3]), 2).await.is_empty());

    let earliest = ["doc:2#viewer@user:bob", "doc:1#viewer@user:bob", "doc:0#viewer@user:bob"].map(key);
    assert_eq!(upkeep.expired(fixture.store, 10).await.expect("tuples"), earliest);
    assert_eq!(upkeep.expired(fixture.store, 2).await.expect("tuples"), earliest[..2]);
}

pub async fn what_is_written_anew_is_not_swept(fixture: Fixture) {
    let upkeep = fixture.datastore.clone().upkeep();
    let names = ["doc:1#viewer@user:ann", "doc:2#viewer@user:ann", "doc:3#viewer@user:ann"];
    let expired = |name| Update::Touch(expiring(name, LONG_AGO));
    fixture.update(names.map(expired).to_vec()).await;
    let found = upkeep.expired(fixture.store, 10).await.expect("tuples");
    assert_eq!(found.len(), 3);

    // Between finding and removing, one is granted for ever, one until later, one is removed.
    let renewed = expiring(names[1], later());
    fixture.update(vec![touch(names[0]), Update::Touch(renewed.clone()), delete(names[2])]).await;
    let head = fixture.head().await;
    let swept = fixture.update(found.into_iter().map(Update::Expire).collect()).await;
    assert_eq!((swept.revision, swept.changes), (head, 0), "nothing to do takes no revision");
    assert_eq!(fixture.tuples().await, [plain(names[0]), renewed]);

    fixture.update(vec![expired(names[2])]).await;
    let swept = fixture.update(names.map(|name| Update::Expire(key(name))).to_vec()).await;
    assert_eq!((swept.revision, swept.changes), (Revision(head.0 + 2), 1));
    let log = fixture.log().await;
    let change = &log.last().expect("an entry").changes[0];
    assert_eq!(change.before, Some(expiring(names[2], LONG_AGO).attributes));
    assert_eq!((change.key.clone(), &change.after), (key(names[2]), &None));
}

/// Two stores with some of everything; the id of the one that is not the fixture's.
async fn furnish(fixture: &Fixture) -> StoreId {
    let other = fixture.datastore.create_store("other").await.expect("a store").id;
    for store in [fixture.store, other] {
        let schema =
            action(Action::Schema { text: "text".into(), json: "{}".into(), expected: None, judged: None });
        let mut writes =
            vec![schema.clone(), Write { write_id: relata::revision::WriteId::fresh(), ..schema }];
        for number in 0..4 {
            let tuples = (0..3).map(|tuple| touch(&format!("doc:{number}#viewer@user:{tuple}")));
            writes.push(Write {
                idempotency: Some(Idempotency { key: format!("key-{number}").into(), request: [1; 32] }),
                ..updates_of(tuples.collect())
            });
        }
        let outcomes = fixture.datastore.commit(store, writes.into()).await.expect("written");
        assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Committed(_))), "{outcomes:?}");
    }
    other
}

const TABLES: [&str; 5] = ["tuple", "change", "revision", "schema", "idempotency"];

async fn rows(fixture: &Fixture) -> [i64; 5] {
    let mut rows = [0; 5];
    for (table, rows) in TABLES.iter().zip(&mut rows) {
        *rows = fixture.number(&format!("SELECT count(*) FROM {{{table}}}")).await;
    }
    rows
}

/// Purges in steps; how many it took.
async fn purge(fixture: &Fixture, store: StoreId, limit: u32) -> (u64, u32) {
    let upkeep = fixture.datastore.clone().upkeep();
    let (mut mark, mut rows, mut steps) = (PurgeMark::START, 0, 0);
    loop {
        let step = upkeep.purge(store, mark, limit).await.expect("a step");
        assert!(step.rows <= u64::from(limit), "{step:?}");
        rows += step.rows;
        steps += 1;
        match step.next {
            Some(next) => mark = next,
            None => return (rows, steps),
        }
    }
}

pub async fn nothing_is_left_of_a_deleted_store(fixture: Fixture) {
    let upkeep = fixture.datastore.clone().upkeep();
    let other = furnish(&fixture).await;
    let kept = fixture.tuples().await;
    assert_eq!(rows(&fixture).await, [24, 24, 12, 4, 8]);
    let found = async |after| upkeep.deleted_stores(after, 10).await.expect("stores");
    assert!(found(None).await.is_empty());
    assert_eq!(purge(&fixture, other, 100).await.0, 0, "a live store is left alone");

    fixture.datastore.delete_store(other).await.expect("deleted");
    let again = fixture.datastore.create_store("other").await.expect("the name is free");
    assert_eq!(found(None).await, [other]);
    assert!(found(Some(other)).await.is_empty());
    let (removed, steps) = purge(&fixture, other, 5).await;
    assert_eq!(removed, 12 + 12 + 6 + 2 + 4 + 1, "its rows and its own");
    assert!(steps > 8, "in {steps} steps");
    assert!(found(None).await.is_empty());
    assert_eq!(rows(&fixture).await, [12, 12, 6, 2, 4]);
    assert_eq!(fixture.tuples().await, kept);
    assert_eq!(fixture.datastore.store_named("other").await.expect("an answer"), Some(again));
    let nothing = upkeep.purge(other, PurgeMark::START, 5).await.expect("a step");
    assert_eq!(nothing.rows, 0);
}

pub async fn a_purge_that_was_broken_off_begins_anew(fixture: Fixture) {
    let other = furnish(&fixture).await;
    fixture.datastore.delete_store(other).await.expect("deleted");
    // Broken off after each number of steps, by a restart; two who purge at once do no harm.
    let fixture = fixture.reopen().await;
    for steps in 0..6 {
        let upkeep = fixture.datastore.clone().upkeep();
        let mut marks = [PurgeMark::START, PurgeMark::START];
        for _ in 0..steps {
            for mark in &mut marks {
                let Purge { next, .. } = upkeep.purge(other, mark.clone(), 1).await.expect("a step");
                *mark = next.expect("there is more");
            }
        }
    }
    purge(&fixture, other, 100).await;
    assert_eq!(rows(&fixture).await, [12, 12, 6, 2, 4]);
}

pub async fn old_revisions_are_trimmed_and_the_newest_stays(fixture: Fixture) {
    let upkeep = fixture.datastore.clone().upkeep();
    let other = fixture.datastore.create_store("other").await.expect("a store").id;
    fixture
        .datastore
        .commit(other, [updates_of(vec![touch("doc:1#viewer@user:ann")])].into())
        .await
        .expect("written");
    for number in 0..6 {
        let tuples = (0..=number % 3).map(|tuple| create(&format!("doc:{number}#viewer@user:{tuple}")));
        fixture.update(tuples.collect()).await;
    }
    let tuples = fixture.tuples().await;
    let old = async |age| upkeep.stores_with_old_log(age, None, 10).await.expect("stores");
    assert!(old(DAY).await.is_empty(), "nothing is old");

    // Revisions 1 to 4, with 1, 2, 3 and 1 changes, are made ten days old.
    fixture
        .execute("UPDATE {revision} SET committed_at = committed_at - 864000000000 WHERE revision < 5")
        .await;
    assert_eq!(old(DAY).await, [fixture.store], "the other one's only revision is its newest");
    assert!(old(11 * DAY).await.is_empty());
    assert!(upkeep.stores_with_old_log(DAY, Some(fixture.store), 10).await.expect("stores").is_empty());
    let trim = async |age, limit| upkeep.trim(fixture.store, age, limit).await.expect("trimmed");
    assert_eq!(trim(11 * DAY, 100).await, Trim::default());

    assert_eq!(trim(DAY, 1).await, Trim { revisions: 1, changes: 1, more: true });
    assert_eq!(trim(DAY, 4).await, Trim { revisions: 2, changes: 5, more: true }, "whole revisions");
    let log = fixture.datastore.log(fixture.store, Revision(4), 10).await.expect("the log");
    assert_eq!(log.iter().map(|entry| entry.revision.0).collect::<Vec<_>>(), [4, 5, 6]);
    let trimmed = fixture.datastore.log(fixture.store, Revision(3), 10).await;
    assert!(matches!(trimmed, Err(DatastoreError::Trimmed { floor: Revision(4) })), "{trimmed:?}");
    assert_eq!(trim(DAY, 100).await, Trim { revisions: 1, changes: 1, more: false });
    assert_eq!(trim(DAY, 100).await, Trim::default(), "the rest is young");
    assert!(old(DAY).await.is_empty());

    // All are old now.
    fixture.execute("UPDATE {revision} SET committed_at = committed_at - 864000000000").await;
    assert_eq!(old(DAY).await, [fixture.store]);
    assert_eq!(trim(DAY, 100).await, Trim { revisions: 1, changes: 2, more: false });
    assert_eq!(
        fixture.number("SELECT count(*) FROM {change}").await,
        3 + 1,
        "of the newest, and the other store's"
    );
    assert_eq!(upkeep.trim(other, DAY, 100).await.expect("an answer"), Trim::default());
    assert_eq!(fixture.head().await, Revision(6));
    assert_eq!(fixture.tuples().await, tuples, "facts do not age");
    assert_eq!(fixture.update(vec![create("doc:9#viewer@user:ann")]).await.revision, Revision(7));
    let everything =
        fixture.datastore.tuples(other, &TupleFilter::default(), None, 10).await.expect("a page");
    assert_eq!(everything.tuples.len(), 1);
}

pub async fn keys_are_forgotten_after_a_day(fixture: Fixture) {
    let upkeep = fixture.datastore.clone().upkeep();
    let other = fixture.datastore.create_store("other").await.expect("a store").id;
    let with_key = |number: u32, request| Write {
        idempotency: Some(Idempotency { key: format!("key-{number}").into(), request: [request; 32] }),
        ..updates_of(vec![touch(&format!("doc:{number}#viewer@user:{request}"))])
    };
    for store in [fixture.store, other] {
        for number in 0..5 {
            fixture.datastore.commit(store, [with_key(number, 1)].into()).await.expect("written");
        }
    }
    assert_eq!(upkeep.forget_keys(100).await.expect("none"), 0);
    fixture.execute("UPDATE {idempotency} SET at = at - 86410000000 WHERE key < 'key-3'").await;
    assert_eq!(upkeep.forget_keys(4).await.expect("some"), 4);
    assert_eq!(upkeep.forget_keys(100).await.expect("the rest"), 2);
    assert_eq!(upkeep.forget_keys(100).await.expect("none"), 0);

    let mut kept = BTreeSet::new();
    for number in 0..5 {
        if fixture.write(with_key(number, 2)).await.is_err() {
            kept.insert(number);
        }
    }
    assert_eq!(kept, BTreeSet::from([3, 4]), "younger ones are still remembered");
}
