//! What was acknowledged is there afterwards.

use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};

use relata::datastore::committer::{CommitterSettings, Committers};
use relata::datastore::sqlite::Sqlite;
use relata::datastore::{Datastore, DatastoreError};
use relata::metrics::Metrics;

use super::fixture::{Fixture, Place, create, key, soon, updates_of};

/// Tells a child process of this binary which database to write to.
const KIND: &str = "RELATA_TEST_WRITER_KIND";
const PLACE: &str = "RELATA_TEST_WRITER_PLACE";
const ACKNOWLEDGED: &str = "acknowledged";

/// Not a test by itself: writes for ever and tells what was acknowledged, until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the writer that another test starts and kills"]
async fn writer() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let place = match std::env::var(KIND).as_deref() {
        Ok("sqlite") => Place::Sqlite(place),
        _ => Place::Postgres(place),
    };
    let datastore = place.open().await;
    let store = datastore.store_named("default").await.expect("an answer").expect("a store").id;
    let committers = Committers::new(datastore, CommitterSettings::default(), Metrics::new());
    let writers = (0..4).map(|writer| {
        let committers = committers.clone();
        tokio::spawn(async move {
            for write in 0.. {
                let tuple = format!("doc:{writer}-{write}#viewer@user:ann");
                let write = updates_of(vec![create(&tuple)]);
                let committed = committers.write(store, write, soon()).await.expect("committed");
                println!("{ACKNOWLEDGED} {} {tuple}", committed.revision);
            }
        })
    });
    futures::future::join_all(writers).await;
}

pub async fn a_killed_writer_loses_nothing_acknowledged(fixture: Fixture) {
    // SQLite belongs to one process at a time.
    fixture.datastore.close().await;
    let (kind, place) = match &fixture.place {
        Place::Sqlite(path) => ("sqlite", path),
        Place::Postgres(url) => ("postgres", url),
    };
    let mut child = Command::new(std::env::current_exe().expect("this binary"))
        .args(["--exact", "--ignored", "--nocapture", "datastore::durability::writer"])
        .env(KIND, kind)
        .env(PLACE, place)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("a child");
    let output = child.stdout.take().expect("its output");
    let killed = tokio::task::spawn_blocking(move || {
        let mut acknowledged = Vec::new();
        for line in BufReader::new(output).lines() {
            let line = line.expect("a line");
            if let Some(["", revision, tuple]) =
                line.split_once(ACKNOWLEDGED).map(|(_, rest)| rest.split(' ').collect::<Vec<_>>()).as_deref()
            {
                acknowledged.push((revision.parse::<usize>().expect("a revision"), key(tuple)));
            }
            // In the middle of whatever it is doing; what it said before is read to the end.
            if acknowledged.len() == 200 {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        acknowledged
    });
    let acknowledged = killed.await.expect("a reader");
    assert!(acknowledged.len() >= 200, "only {} writes were acknowledged", acknowledged.len());

    let fixture = fixture.reopen().await;
    let log = fixture.log().await;
    assert!(log.iter().map(|entry| entry.revision.0).eq(1..=log.len() as u64), "revisions are gapless");
    let stored: Vec<_> = fixture.tuples().await.into_iter().map(|tuple| tuple.key).collect();
    assert_eq!(stored.len(), log.len(), "each revision wrote one tuple");
    for (revision, tuple) in &acknowledged {
        assert_eq!(log[revision - 1].changes[0].key, *tuple);
        assert!(stored.binary_search(tuple).is_ok(), "{tuple} is lost");
    }
    fixture.update(vec![create("after:1#viewer@user:ann")]).await;
}

pub async fn a_reopened_database_is_the_same(fixture: Fixture) {
    let committed = fixture.update(vec![create("doc:1#viewer@user:ann")]).await;
    let identity = fixture.datastore.identity().await.expect("an identity");
    let (tuples, log) = (fixture.tuples().await, fixture.log().await);

    let fixture = fixture.reopen().await;
    fixture.datastore.migrate().await.expect("nothing to do");
    assert_eq!(fixture.datastore.identity().await.expect("an identity").database, identity.database);
    assert_eq!((fixture.tuples().await, fixture.log().await), (tuples, log));
    assert_eq!(
        fixture.update(vec![create("doc:2#viewer@user:ann")]).await.revision,
        committed.revision.next()
    );

    fixture.datastore.close().await;
    let closed = fixture.datastore.heads(&[fixture.store]).await;
    assert!(matches!(closed, Err(DatastoreError::Unavailable(_))), "{closed:?}");
}

#[tokio::test]
async fn a_file_belongs_to_one_process_at_a_time() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("relata.db");
    let first = Sqlite::open(&path, Metrics::new()).expect("opened");
    let second = Sqlite::open(&path, Metrics::new()).expect_err("in use");
    assert!(matches!(second, DatastoreError::InUse(_)), "{second:?}");
    assert_eq!(
        second.to_string(),
        format!("`{}` is in use by another process; stop that one or name another file", path.display())
    );
    Datastore::close(&first).await;
    Sqlite::open(&path, Metrics::new()).expect("free again");
}

#[tokio::test]
async fn a_temporary_database_leaves_nothing_behind() {
    let datastore = Sqlite::temporary(Metrics::new()).expect("opened");
    let directory = datastore.path().parent().expect("a directory").to_owned();
    Datastore::migrate(&datastore).await.expect("migrated");
    assert!(datastore.path().exists());
    Datastore::close(&datastore).await;
    assert!(!directory.exists(), "{} was left behind", directory.display());
}
