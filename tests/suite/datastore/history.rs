//! The log as people ask for it, against the whole log filtered here.

use rand::Rng as _;
use relata::datastore::{DatastoreError, HistoryQuery, LogEntry, Order, TupleFilter, Write};
use relata::revision::{Revision, StoreId};

use super::fixture::{Fixture, updates_of};
use super::world::World;

/// Follows a query to its end, in as many pieces as it takes.
async fn all(fixture: &Fixture, mut query: HistoryQuery) -> Vec<LogEntry> {
    let mut found: Vec<LogEntry> = Vec::new();
    loop {
        let piece = fixture.datastore.history(fixture.store, query.clone()).await.expect("a piece");
        assert!(piece.entries.len() <= query.limit as usize);
        let last = piece.entries.last().map(|entry| entry.revision);
        found.extend(piece.entries);
        if !piece.cut {
            return found;
        }
        let last = last.expect("what is cut has a beginning");
        match query.order {
            Order::NewestFirst => query.to = Revision(last.0 - 1),
            Order::OldestFirst => query.from = last.next(),
        }
    }
}

pub async fn history_is_the_log_filtered(fixture: Fixture) {
    let mut world = World::new(rand::random());
    let mut keys = Vec::new();
    for number in 0..40 {
        let updates = world.updates();
        keys.extend(updates.iter().map(|update| update.key().clone()));
        let principal = ["ann", "bob", ""][number % 3].into();
        fixture.write(Write { principal, ..updates_of(updates) }).await.expect("written");
    }
    let log = fixture.log().await;
    let head = log.last().expect("an entry").revision;
    for _ in 0..200 {
        let (a, b) = (world.random.random_range(0..=head.0 + 2), world.random.random_range(0..=head.0 + 2));
        let principal = ["ann", "bob", "", "nobody"][world.random.random_range(0..4)];
        let key = &keys[world.random.random_range(0..keys.len())];
        let query = HistoryQuery {
            from: Revision(a.min(b)),
            to: Revision(a.max(b)),
            order: if world.random.random() { Order::NewestFirst } else { Order::OldestFirst },
            principal: world.random.random_bool(0.3).then(|| principal.into()),
            filter: world.random.random_bool(0.5).then(|| World::filter(key, world.random.random())),
            limit: world.random.random_range(1..20),
            changes: world.random.random_range(1..20),
        };
        let mut expected: Vec<LogEntry> = log
            .iter()
            .filter(|entry| (query.from..=query.to).contains(&entry.revision))
            .filter(|entry| query.principal.as_ref().is_none_or(|wanted| *wanted == entry.principal))
            .filter(|entry| {
                let matches =
                    |filter: &TupleFilter| entry.changes.iter().any(|change| filter.matches(&change.key));
                query.filter.as_ref().is_none_or(matches)
            })
            .cloned()
            .collect();
        if query.order == Order::NewestFirst {
            expected.reverse();
        }
        assert_eq!(all(&fixture, query.clone()).await, expected, "{query:?}");
    }

    let query = HistoryQuery {
        from: Revision::ZERO,
        to: head,
        order: Order::NewestFirst,
        principal: None,
        filter: None,
        limit: 10,
        changes: 10,
    };
    let nowhere = fixture.datastore.history(StoreId(uuid::Uuid::new_v4()), query).await;
    assert!(matches!(nowhere, Err(DatastoreError::StoreNotFound)), "{nowhere:?}");
}
