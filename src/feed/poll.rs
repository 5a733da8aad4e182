//! Asking the database for heads: one query for many stores, at once when someone needs to know,
//! and regularly because hints may be lost.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::{Instant, SystemTime};

use tokio::sync::broadcast::error::RecvError;

use super::clock::Skew;
use super::error::FeedError;
use super::replica::Replica;
use super::shared::{HeadAnswer, Shared};
use crate::datastore::Head;
use crate::metrics::Outcome;
use crate::revision::{Revision, StoreId};
use crate::time::Timestamp;

/// Polls to each comparison of clocks.
const CLOCK_POLLS: u32 = 4;

/// Passes hints of other nodes on.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut hints = shared.source.datastore.hints();
    loop {
        match hints.recv().await {
            Ok(store) => shared.hint(store),
            Err(RecvError::Lagged(_)) => shared.resident().iter().for_each(|replica| shared.follow(replica)),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Asks for heads until the feed closes.
pub(super) async fn poll(shared: Arc<Shared>) {
    let mut due = Instant::now();
    let mut failures = 0;
    loop {
        tokio::select! {
            () = shared.wake.notified() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
        // Requests are taken before the query starts, so that none joins a query that may have
        // read the head before the request arrived: the head would be older than a write the
        // caller has seen acknowledged.
        let asked = {
            let mut heads = shared.heads.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut *heads)
        };
        let started = Instant::now();
        let regular = started >= due;
        if asked.is_empty() && !regular {
            continue;
        }
        let compared = replicas(&shared, regular, &asked);
        let answer = ask(&shared, &compared, &asked).await;
        if regular {
            due = started + shared.source.settings.poll_interval;
        }
        match &answer {
            Ok(heads) => {
                if failures > 0 {
                    tracing::info!("the database answers again");
                }
                failures = 0;
                *shared.last_answer.lock().unwrap_or_else(PoisonError::into_inner) = started;
                for (replica, before) in &compared {
                    judge(&shared, replica, *before, heads, started);
                }
            }
            Err(error) => {
                if failures == 0 {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "the database does not answer; going on from memory"
                    );
                }
                due = Instant::now() + shared.source.backoff(failures);
                failures = failures.saturating_add(1);
            }
        }
        for (store, caller) in asked {
            let head = answer
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|heads| heads.get(&store).copied().ok_or(FeedError::StoreNotFound));
            if head.is_ok() {
                shared.hint(store);
            }
            // A caller that no longer waits has gone.
            drop(caller.send(head));
        }
    }
}

/// Compares this node's clock with the database's until the feed closes. A question of its own
/// beside the heads: what takes longer says less.
pub(super) async fn compare_clocks(shared: Arc<Shared>) {
    let settings = Arc::clone(&shared.source.settings);
    let pause = settings.poll_interval * CLOCK_POLLS;
    loop {
        let (asked_at, asked) = (wall_clock(), Instant::now());
        if let Ok(database) = shared.source.ask(shared.source.datastore.now()).await {
            let skew = shared.clock.note(asked, Skew::of(asked_at, asked.elapsed(), database));
            shared.source.metrics.feed.clock_skew_seconds.set(skew.ahead_seconds());
        }
        tokio::time::sleep(pause).await;
    }
}

fn wall_clock() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

/// The replicas to compare with their heads, and what each has **before** they are asked for.
fn replicas(
    shared: &Shared,
    regular: bool,
    asked: &[(StoreId, HeadAnswer)],
) -> Vec<(Arc<Replica>, Option<Revision>)> {
    let replicas = if regular {
        let mut replicas = shared.resident();
        replicas.extend(shared.watched_from_afar());
        replicas
    } else {
        let stores: HashSet<StoreId> = asked.iter().map(|(store, _)| *store).collect();
        stores.into_iter().filter_map(|store| shared.replica(store)).collect()
    };
    let newest = |replica: &Replica| replica.published().ok().map(|published| published.revision);
    replicas.into_iter().map(|replica| (Arc::clone(&replica), newest(&replica))).collect()
}

async fn ask(
    shared: &Shared,
    compared: &[(Arc<Replica>, Option<Revision>)],
    asked: &[(StoreId, HeadAnswer)],
) -> Result<HashMap<StoreId, Head>, FeedError> {
    let datastore = &shared.source.datastore;
    let resident = compared.iter().map(|(replica, _)| replica.store());
    let stores: HashSet<StoreId> = resident.chain(asked.iter().map(|(store, _)| *store)).collect();
    if stores.is_empty() {
        shared.source.ask(datastore.ping()).await?;
        return Ok(HashMap::new());
    }
    let stores: Vec<StoreId> = stores.into_iter().collect();
    let begun = Instant::now();
    let heads = shared.source.ask(datastore.heads(&stores)).await;
    let metrics = &shared.source.metrics.feed;
    metrics.head_query_seconds.since(begun);
    metrics.head_queries.of(Outcome::from(&heads)).inc();
    Ok(heads?.into_iter().collect())
}

/// Compares a replica with its head as it was when the query started, or a little later.
fn judge(
    shared: &Arc<Shared>,
    replica: &Arc<Replica>,
    before: Option<Revision>,
    heads: &HashMap<StoreId, Head>,
    started: Instant,
) {
    let Some(head) = heads.get(&replica.store()) else {
        tracing::info!(store = %replica.store(), "store deleted");
        shared.forget(replica.store());
        return;
    };
    if shared.dormant.contains_key(&replica.store()) {
        replica.announce_head(head.revision);
        return;
    }
    if let Ok(published) = replica.published() {
        let tag = published.write_tag(head.revision);
        if published.revision == head.revision && published.write_id == head.write_id {
            replica.prove(started);
            return;
        }
        // The database has lost what was here before it was asked, or has another write in its
        // place. Not one more answer, and before anybody is told the head: who asks for
        // everything acknowledged must not get what is gone.
        let lost = before.is_some_and(|before| head.revision < before);
        if lost || tag.is_some_and(|tag| tag != head.write_id.tag()) {
            shared.retire(replica, FeedError::HistoryDiverged);
        }
    }
    // Behind, ahead of an old answer, parted from it, or silent: a look at the log tells.
    shared.follow(replica);
}
