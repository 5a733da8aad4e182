//! The changelog: every revision, in order, with the states before and after.

use relata::datastore::{DatastoreError, Write};
use relata::revision::Revision;

use super::fixture::{Fixture, create, delete, touch, updates_of};

pub async fn the_log_tells_every_revision_in_order(fixture: Fixture) {
    assert_eq!(fixture.head().await, Revision::ZERO);
    assert!(fixture.log().await.is_empty());
    let before = fixture.datastore.now().await.expect("the clock");

    let writes = [
        updates_of(vec![create("doc:1#viewer@user:ann"), create("doc:0#viewer@user:ann")]),
        Write { note: "entfernt ✂".into(), ..updates_of(vec![delete("doc:1#viewer@user:ann")]) },
        Write { principal: "bob".into(), ..updates_of(vec![touch("doc:2#viewer@user:*")]) },
    ];
    for write in writes.clone() {
        fixture.write(write).await.expect("committed");
    }
    let log = fixture.log().await;
    assert_eq!(log.len(), writes.len());
    for (index, (entry, write)) in log.iter().zip(&writes).enumerate() {
        assert_eq!(entry.revision, Revision(index as u64 + 1));
        assert_eq!(entry.write_id, write.write_id);
        assert_eq!((&entry.principal, &entry.note), (&write.principal, &write.note));
        assert_eq!(entry.schema, None);
    }
    assert!(log[0].committed_at >= before, "by the database's clock");
    assert!(log.is_sorted_by(|a, b| a.committed_at < b.committed_at));
    let keys: Vec<_> = log[0].changes.iter().map(|change| change.key.to_string()).collect();
    assert_eq!(keys, ["doc:1#viewer@user:ann", "doc:0#viewer@user:ann"], "in the order of the write");

    let (_, head) = fixture.datastore.heads(&[fixture.store]).await.expect("heads")[0];
    let last = log.last().expect("an entry");
    assert_eq!((head.revision, head.write_id), (last.revision, last.write_id));
    assert_eq!((head.committed_at, head.floor), (last.committed_at, Revision::ZERO));
}

pub async fn the_log_is_read_in_pieces(fixture: Fixture) {
    for write in 0..6 {
        let updates = (0..=write % 3).map(|index| create(&format!("doc:{write}-{index}#viewer@user:ann")));
        fixture.update(updates.collect()).await;
    }
    let revisions = async |from, limit| {
        let log = fixture.datastore.log(fixture.store, Revision(from), limit).await.expect("the log");
        log.into_iter().map(|entry| entry.revision.0).collect::<Vec<_>>()
    };
    // Revisions 1 to 6 make 1, 2, 3, 1, 2 and 3 changes; a piece ends once it has enough.
    assert_eq!(revisions(0, 100).await, [1, 2, 3, 4, 5, 6]);
    assert_eq!(revisions(3, 100).await, [3, 4, 5, 6]);
    assert_eq!(revisions(1, 1).await, [1]);
    assert_eq!(revisions(1, 2).await, [1, 2]);
    assert_eq!(revisions(1, 3).await, [1, 2]);
    assert_eq!(revisions(1, 4).await, [1, 2, 3]);
    assert_eq!(revisions(3, 1).await, [3], "a revision is never cut");
    assert_eq!(revisions(6, 100).await, [6]);
    assert!(revisions(7, 100).await.is_empty());
    assert!(revisions(u64::from(u32::MAX), 100).await.is_empty());
}

pub async fn a_trimmed_log_says_where_it_begins(fixture: Fixture) {
    for write in 0..5 {
        fixture.update(vec![create(&format!("doc:{write}#viewer@user:ann"))]).await;
    }
    // What the trimmer will do.
    fixture
        .execute(
            "UPDATE {store} SET floor = 3; DELETE FROM {change} WHERE revision < 3; \
             DELETE FROM {revision} WHERE revision < 3;",
        )
        .await;
    for from in [0, 1, 2] {
        let trimmed = fixture.datastore.log(fixture.store, Revision(from), 10).await;
        let Err(DatastoreError::Trimmed { floor }) = trimmed else { panic!("{trimmed:?}") };
        assert_eq!(floor, Revision(3));
    }
    let log = fixture.datastore.log(fixture.store, Revision(3), 10).await.expect("the log");
    assert_eq!(log.iter().map(|entry| entry.revision.0).collect::<Vec<_>>(), [3, 4, 5]);
    let heads = fixture.datastore.heads(&[fixture.store]).await.expect("heads");
    assert_eq!((heads[0].1.floor, heads[0].1.revision), (Revision(3), Revision(5)));
    assert_eq!(fixture.update(vec![create("doc:5#viewer@user:ann")]).await.revision, Revision(6));
}
