//! What happens to the record by itself, on whole servers: expired tuples leave, deleted stores are
//! removed, the changelog is trimmed, whichever servers die or hang meanwhile.

mod node;
mod purging;
mod sweeping;
mod trimming;

use std::time::{Duration, Instant};

use crate::datastore::fixture::Place;

/// Waits until a query answers a number.
async fn until(place: &Place, sql: &str, expected: i64) {
    let begun = Instant::now();
    loop {
        let found = place.number(sql).await;
        if found == expected {
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{sql}: {found} instead of {expected}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
