//! Pages of an earlier revision.

use std::collections::BTreeMap;

use rand::Rng as _;
use relata::datastore::page::{PageError, PinnedReader};
use relata::datastore::{DatastoreError, TupleFilter, Update};
use relata::revision::{Revision, WriteId};
use relata::tuple::{Attributes, Tuple, TupleKey};

use super::fixture::{Fixture, Place, create, delete};
use super::world::World;

type State = BTreeMap<TupleKey, Attributes>;

fn apply(state: &mut State, updates: &[Update]) {
    for update in updates {
        match update {
            Update::Touch(tuple) | Update::Create(tuple) => {
                state.insert(tuple.key.clone(), tuple.attributes.clone());
            }
            Update::Delete { key, .. } => {
                state.remove(key);
            }
            Update::Expire(_) => unreachable!("random worlds do not sweep"),
        }
    }
}

fn expected(state: &State, filter: &TupleFilter) -> Vec<Tuple> {
    let matching = state.iter().filter(|(key, _)| filter.matches(key));
    matching.map(|(key, attributes)| Tuple { key: key.clone(), attributes: attributes.clone() }).collect()
}

/// A revision as the database has it; of one that it has not, or no longer, nothing is known.
async fn made(fixture: &Fixture, at: Revision) -> (Revision, [u8; 8]) {
    let found = fixture.datastore.write_ids(fixture.store, at, 1).await.expect("an answer");
    let found = found.first().filter(|(revision, _)| *revision == at);
    (at, found.map_or(WriteId::NIL, |(_, write_id)| *write_id).tag())
}

async fn reader(fixture: &Fixture, at: Revision, filter: &TupleFilter) -> PinnedReader {
    let at = made(fixture, at).await;
    PinnedReader::new(fixture.datastore.clone(), fixture.store, at, filter.clone(), 10_000)
}

/// Writes until `count` revisions exist; the state at each.
async fn history(fixture: &Fixture, world: &mut World, count: usize) -> Vec<State> {
    let mut states = vec![State::new()];
    while states.len() <= count {
        let updates = world.updates();
        let mut state = states.last().expect("a state").clone();
        apply(&mut state, &updates);
        let revision = fixture.update(updates).await.revision;
        if revision.0 == states.len() as u64 {
            states.push(state);
        }
    }
    states
}

pub async fn pages_of_an_earlier_revision_are_exact(fixture: Fixture) {
    let mut world = World::new(2);
    let states = history(&fixture, &mut world, 60).await;
    for (at, state) in states.iter().enumerate() {
        let given = world.random.random_range(0..64);
        for filter in [TupleFilter::default(), World::filter(&world.key(), given)] {
            let mut reader = reader(&fixture, Revision(at as u64), &filter).await;
            let limit = world.random.random_range(1..10);
            let mut tuples: Vec<Tuple> = Vec::new();
            loop {
                let after = tuples.last().map(|tuple| tuple.key.clone());
                let page = reader.page(after.as_ref(), limit).await.expect("a page");
                assert!(page.tuples.len() <= limit as usize);
                assert!(!page.more || page.tuples.len() == limit as usize, "only the last page is short");
                tuples.extend(page.tuples);
                if !page.more {
                    break;
                }
            }
            assert_eq!(tuples, expected(state, &filter), "{filter:?} at {at}");
        }
    }
}

pub async fn a_reader_stays_at_its_revision_while_others_write(fixture: Fixture) {
    let mut world = World::new(3);
    let states = history(&fixture, &mut world, 40).await;
    let filter = TupleFilter::default();
    let expected = expected(&states[30], &filter);

    // One reader for the whole stream, and a fresh one for each page, as on another node.
    let mut stream = reader(&fixture, Revision(30), &filter).await;
    let (mut streamed, mut paged) = (Vec::<Tuple>::new(), Vec::<Tuple>::new());
    loop {
        let after = streamed.last().map(|tuple| tuple.key.clone());
        let page = stream.page(after.as_ref(), 3).await.expect("a page");
        let fresh =
            reader(&fixture, Revision(30), &filter).await.page(after.as_ref(), 3).await.expect("a page");
        streamed.extend(page.tuples);
        paged.extend(fresh.tuples);
        if !page.more {
            break;
        }
        // Everything that is left to read is rewritten, removed and joined by others.
        fixture.update(world.updates()).await;
        let removed = expected.last().expect("a tuple").key.clone();
        fixture.update(vec![Update::Delete { key: removed, must_exist: false }]).await;
        fixture.update(vec![create("zzz:1#viewer@user:a"), create("aaa:1#viewer@user:a")]).await;
        fixture.update(vec![delete("zzz:1#viewer@user:a"), delete("aaa:1#viewer@user:a")]).await;
    }
    assert_eq!(streamed, expected);
    assert_eq!(paged, expected);
}

pub async fn what_cannot_be_undone_is_an_error(fixture: Fixture) {
    for write in 0..10 {
        fixture.update(vec![create(&format!("doc:{write}#viewer@user:ann"))]).await;
    }
    let filter = TupleFilter::default();
    let page = async |at, reach| {
        let at = made(&fixture, Revision(at)).await;
        PinnedReader::new(fixture.datastore.clone(), fixture.store, at, filter.clone(), reach)
            .page(None, 100)
            .await
    };
    assert_eq!(page(10, 0).await.expect("the newest needs no undoing").tuples.len(), 10);
    assert_eq!(page(6, 4).await.expect("within reach").tuples.len(), 6);
    let error = page(6, 3).await.expect_err("out of reach");
    assert!(matches!(error, PageError::OutOfReach { at: Revision(6), reach: 3 }), "{error:?}");
    let error = page(11, 100).await.expect_err("not written yet");
    assert_eq!(error.to_string(), "revision 11 does not exist yet, the newest is 10");

    fixture.execute("UPDATE {store} SET floor = 5").await;
    assert_eq!(page(4, 100).await.expect("all changes since are there").tuples.len(), 4);
    let error = page(3, 100).await.expect_err("a change since has been trimmed");
    let PageError::Datastore(DatastoreError::Trimmed { floor }) = error else { panic!("{error:?}") };
    assert_eq!(floor, Revision(5));
}

/// The database is replaced by one that has other writes from a revision on.
async fn replace_from(fixture: &Fixture, revision: u64) {
    let other = match fixture.place {
        Place::Sqlite(_) => "randomblob(16)",
        Place::Postgres(_) => "gen_random_uuid()",
    };
    let replaced = format!("UPDATE {{revision}} SET write_id = {other} WHERE revision >= {revision}");
    fixture.execute(&replaced).await;
}

pub async fn what_is_of_another_history_is_not_mixed_in(fixture: Fixture) {
    for write in 0..6 {
        fixture.update(vec![create(&format!("doc:{write}#viewer@user:ann"))]).await;
    }
    let filter = TupleFilter::default();
    let lost = |outcome| matches!(outcome, Err(PageError::Lost { .. }));
    // It has been at the newest, and it begins at the newest.
    let mut old = reader(&fixture, Revision(3), &filter).await;
    assert_eq!(old.page(None, 2).await.expect("a page").tuples.len(), 2);
    let mut newest = reader(&fixture, Revision(6), &filter).await;
    replace_from(&fixture, 6).await;
    assert!(lost(old.page(None, 2).await), "the page is of another revision 6 than what was undone");
    assert!(lost(newest.page(None, 2).await));
    // One that has not been as far does not notice, and need not.
    let mut early = reader(&fixture, Revision(4), &filter).await;
    replace_from(&fixture, 5).await;
    assert_eq!(early.page(None, 9).await.expect("a page").tuples.len(), 4);
    let mut early = reader(&fixture, Revision(4), &filter).await;
    replace_from(&fixture, 4).await;
    assert!(lost(early.page(None, 9).await), "the log goes on from another revision 4");
}
