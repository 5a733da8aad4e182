//! Pages of tuples: complete, in key order, with any filter and any page size.

use std::collections::BTreeSet;

use rand::Rng as _;
use relata::datastore::{TupleFilter, Update};
use relata::tuple::{Tuple, TupleKey};

use super::fixture::{Fixture, create, plain};
use super::world::{World, columns};

/// All pages of a filter, one after the other.
async fn paged(fixture: &Fixture, filter: &TupleFilter, limit: u32) -> Vec<TupleKey> {
    let mut keys: Vec<TupleKey> = Vec::new();
    loop {
        let page = fixture.datastore.tuples(fixture.store, filter, keys.last(), limit).await.expect("a page");
        assert!(page.tuples.len() <= limit as usize);
        assert!(!page.more || page.tuples.len() == limit as usize, "a page that is not the last is full");
        keys.extend(page.tuples.into_iter().map(|tuple| tuple.key));
        if !page.more {
            return keys;
        }
    }
}

pub async fn pages_with_every_filter_are_complete_and_in_order(fixture: Fixture) {
    let mut world = World::new(1);
    let stored: BTreeSet<TupleKey> = (0..120).map(|_| world.key()).collect();
    fixture.update(stored.iter().map(|key| Update::Touch(Tuple::from(key.clone()))).collect()).await;
    // Another store's tuples never show.
    let other = fixture.datastore.create_store("other").await.expect("a store").id;
    let everything = super::fixture::updates_of(vec![create("doc:other#viewer@user:a")]);
    fixture.datastore.commit(other, [everything].into()).await.expect("committed");

    for given in 0..64_u8 {
        for _ in 0..3 {
            let filter = World::filter(&world.key(), given);
            let mut expected: Vec<_> = stored.iter().filter(|key| filter.matches(key)).cloned().collect();
            expected.sort_by(|a, b| columns(a).cmp(&columns(b)));
            let limit = world.random.random_range(1..20);
            assert_eq!(paged(&fixture, &filter, limit).await, expected, "{filter:?} by {limit}");

            // After any key, whether or not it matches or exists.
            let after = world.key();
            let page = fixture.datastore.tuples(fixture.store, &filter, Some(&after), 1_000).await;
            let keys: Vec<_> = page.expect("a page").tuples.into_iter().map(|tuple| tuple.key).collect();
            expected.retain(|key| columns(key) > columns(&after));
            assert_eq!(keys, expected, "{filter:?} after {after}");
        }
    }
}

pub async fn a_key_so_many_tuples_on_is_found(fixture: Fixture) {
    let mut world = World::new(2);
    let stored: BTreeSet<TupleKey> = (0..90).map(|_| world.key()).collect();
    fixture.update(stored.iter().map(|key| Update::Touch(Tuple::from(key.clone()))).collect()).await;
    let other = fixture.datastore.create_store("other").await.expect("a store").id;
    let mut sorted: Vec<TupleKey> = stored.into_iter().collect();
    sorted.sort_by(|a, b| columns(a).cmp(&columns(b)));
    for distance in [1, 2, 7, 40, 1_000] {
        for start in [None, Some(0), Some(1), Some(33), Some(sorted.len() - 1)] {
            let after = start.map(|at| &sorted[at]);
            let found = fixture.datastore.key_after(fixture.store, after, distance).await.expect("an answer");
            let expected = sorted.get(start.map_or(0, |at| at + 1) + distance as usize - 1);
            assert_eq!(found.as_ref(), expected, "{distance} after {after:?}");
        }
        assert_eq!(fixture.datastore.key_after(other, None, distance).await.expect("an answer"), None);
    }
    // After any key, whether or not it exists.
    for _ in 0..50 {
        let after = world.key();
        let found = fixture.datastore.key_after(fixture.store, Some(&after), 3).await.expect("an answer");
        let expected = sorted.iter().filter(|key| columns(key) > columns(&after)).nth(2);
        assert_eq!(found.as_ref(), expected, "after {after}");
    }
}

pub async fn ids_sort_as_bytes(fixture: Fixture) {
    // In the order of their bytes, which no collation of a natural language has.
    let ids =
        ["!", "-", "0", "10", "2", "A", "Z", "_", "a", "a-", "a.b", "aB", "ab", "z", "ä", "é", "日", "🙂"];
    assert!(ids.is_sorted());
    let tuple = |id: &str| format!("doc:{id}#viewer@user:{id}");
    for id in ids.iter().rev() {
        fixture.update(vec![create(&tuple(id))]).await;
    }
    let expected: Vec<_> = ids.iter().map(|id| plain(&tuple(id))).collect();
    assert_eq!(fixture.tuples().await, expected);
    let by_page: Vec<_> =
        paged(&fixture, &TupleFilter::default(), 1).await.into_iter().map(Tuple::from).collect();
    assert_eq!(by_page, expected);

    // Case and accents make different ids, in tuples and in filters.
    for id in ids {
        let filter = TupleFilter { object_id: Some(id.into()), ..TupleFilter::default() };
        assert_eq!(paged(&fixture, &filter, 10).await, [plain(&tuple(id)).key]);
    }
}

pub async fn a_page_and_its_head_are_of_one_moment(fixture: Fixture) {
    // Each revision adds one tuple, so a page of everything has as many as its head says.
    let writer = async {
        for write in 0..60 {
            fixture.update(vec![create(&format!("doc:{write}#viewer@user:ann"))]).await;
        }
    };
    let reader = async {
        loop {
            let page = fixture.datastore.tuples(fixture.store, &TupleFilter::default(), None, 1_000).await;
            let page = page.expect("a page");
            assert_eq!(page.tuples.len() as u64, page.head.0);
            if page.head.0 == 60 {
                return;
            }
        }
    };
    tokio::join!(writer, reader);
}
