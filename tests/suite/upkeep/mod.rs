//! What happens to the record by itself, on whole servers: expired tuples leave, deleted stores are
//! removed, the changelog is trimmed, whichever servers die or hang meanwhile.

mod node;
mod purging;
mod sweeping;
mod trimming;

use std::time::{Duration, Instant};

use crate::datastore::fixture::Place;

/// Waits until a query answers a number.
#[track_caller]
fn until(place: &Place, sql: &str, expected: i64) -> impl Future<Output = ()> {
    let (place, sql) = (place.clone(), sql.to_owned());
    async move {
        let begun = Instant::now();
        loop {
            let found = place.number(&sql).await;
            if found == expected {
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(30), "{sql}: {found} instead of {expected}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Runs each test on a fresh database of either kind.
macro_rules! on_each_place {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let directory = tempfile::tempdir().expect("a directory");
                let path = directory.path().join("relata.db").to_str().expect("a path").to_owned();
                super::$name(crate::datastore::fixture::Place::Sqlite(path)).await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let url = tokio::task::spawn_blocking(crate::postgres_server::fresh_database);
                // Says so where PostgreSQL is switched off, and fails where it is missing.
                let Some(url) = url.await.expect("a cluster") else { return };
                super::$name(crate::datastore::fixture::Place::Postgres(url)).await;
            })+
        }
    };
}
use on_each_place;
