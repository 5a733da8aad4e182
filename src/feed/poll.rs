//! Asking the database for heads: one query for many stores, at once when someone needs to know,
//! and regularly because hints may be lost.

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;

use super::clock::Skew;
use super::error::FeedError;
use super::replica::Replica;
use super::shared::Shared;
use crate::datastore::Head;
use crate::metrics::{HintSource, Outcome};
use crate::revision::{Revision, StoreId};

/// Polls to each comparison of clocks.
const CLOCK_POLLS: u32 = 4;

/// Passes hints of other nodes on.
pub(super) async fn listen(shared: Arc<Shared>) {
    let mut hints = shared.source.datastore.hints();
    loop {
        match hints.recv().await {
            Ok(store) => {
                shared.source.metrics.feed.hints.of(HintSource::Elsewhere).inc();
                shared.hint(store);
            }
            Err(RecvError::Lagged(_)) => shared.resident().iter().for_each(|replica| shared.follow(replica)),
            Err(RecvError::Closed) => return,
        }
    }
}

/// Asks for heads until the feed closes.
pub(super) async fn poll(shared: Arc<Shared>) {
    let mut polling = Polling {
        shared,
        waiting: Vec::new(),
        started: 0,
        last_start: Instant::now(),
        answered: 0,
        due: Instant::now(),
        failures: 0,
    };
    let mut queries = FuturesUnordered::new();
    let mut wanted = false;
    loop {
        // Who asks while a query is under way waits for it to end, so that many share the next
        // one; but not for longer than a query should take. One that hangs delays only itself.
        let free_at = match queries.len() {
            0 => None,
            1 => Some(polling.last_start + HANGS),
            _ => Some(far_away()),
        };
        if wanted && free_at.is_none_or(|moment| moment <= Instant::now()) {
            wanted = false;
            queries.push(polling.start());
            continue;
        }
        let next = match free_at {
            None => polling.due,
            Some(free_at) if wanted => free_at,
            Some(free_at) => free_at.max(polling.due),
        };
        tokio::select! {
            () = polling.shared.wake.notified() => wanted = true,
            Some(query) = queries.next(), if !queries.is_empty() => polling.finish(&query),
            () = tokio::time::sleep_until(next.into()) => {
                wanted = false;
                queries.push(polling.start());
            }
        }
    }
}

/// After this time a query is not waited for any longer before one more starts; beside that one
/// there is no third.
const HANGS: Duration = Duration::from_millis(250);

fn far_away() -> Instant {
    Instant::now() + Duration::from_hours(1)
}

/// What the poll remembers from query to query.
struct Polling {
    shared: Arc<Shared>,
    waiting: Vec<Waiting>,
    /// Queries started so far.
    started: u64,
    last_start: Instant,
    /// The newest query that was answered.
    answered: u64,
    /// When to ask although nobody wants to know.
    due: Instant,
    /// Since the last answer.
    failures: u32,
}

/// Someone who waits for a head.
struct Waiting {
    store: StoreId,
    caller: oneshot::Sender<Result<Head, FeedError>>,
    /// The first query that started after the question came. An earlier one may have read the
    /// head before that: it would be older than a write the caller has seen acknowledged.
    first: u64,
}

/// A query that has ended.
struct Query {
    number: u64,
    started: Instant,
    /// Whether it is about all stores.
    regular: bool,
    compared: Vec<(Arc<Replica>, Option<Revision>)>,
    stores: Vec<StoreId>,
    answer: Result<HashMap<StoreId, Head>, FeedError>,
}

impl Polling {
    /// Begins a query for those who wait now, and for all stores if it is time.
    fn start(&mut self) -> impl Future<Output = Query> + Send + use<> {
        self.started += 1;
        let (number, started) = (self.started, Instant::now());
        let new = std::mem::take(&mut *self.shared.heads.lock().unwrap_or_else(PoisonError::into_inner));
        let new = new.into_iter().map(|(store, caller)| Waiting { store, caller, first: number });
        self.waiting.extend(new);
        self.waiting.retain(|waiting| !waiting.caller.is_closed());
        let asked: HashSet<StoreId> = self.waiting.iter().map(|waiting| waiting.store).collect();
        let regular = started >= self.due;
        if regular {
            self.due = started + self.interval();
        }
        self.last_start = started;
        let compared = replicas(&self.shared, regular, &asked);
        let resident = compared.iter().map(|(replica, _)| replica.store());
        let stores: HashSet<StoreId> = resident.chain(asked).collect();
        let stores: Vec<StoreId> = stores.into_iter().collect();
        let shared = Arc::clone(&self.shared);
        async move {
            let answer = ask(&shared, &stores).await;
            Query { number, started, regular, compared, stores, answer }
        }
    }

    /// Without hints the poll is what other nodes' writes are seen by.
    fn interval(&self) -> Duration {
        let settings = &self.shared.source.settings;
        if self.shared.source.datastore.hints_arrive() {
            settings.poll_interval
        } else {
            settings.poll_interval.min(settings.deaf_poll_interval)
        }
    }

    fn finish(&mut self, query: &Query) {
        match &query.answer {
            Ok(heads) => {
                if self.failures > 0 {
                    tracing::info!("the database answers again");
                }
                self.failures = 0;
                self.answered = self.answered.max(query.number);
                let mut last = self.shared.last_answer.lock().unwrap_or_else(PoisonError::into_inner);
                *last = query.started.max(*last);
                drop(last);
                if query.regular {
                    measure_lag(&self.shared, &query.compared, heads);
                }
                // Before anybody is told the head: who asks for everything acknowledged must not
                // get what is gone.
                for (replica, before) in &query.compared {
                    judge(&self.shared, replica, *before, heads, query.started);
                }
            }
            // One that hung while a later one was answered says nothing new.
            Err(_) if query.number < self.answered => {}
            Err(error) => {
                if self.failures == 0 {
                    tracing::warn!(
                        error = error as &dyn std::error::Error,
                        "the database does not answer; going on from memory"
                    );
                }
                self.due = self.due.max(Instant::now() + self.shared.source.backoff(self.failures));
                self.failures = self.failures.saturating_add(1);
            }
        }
        self.tell(query);
    }

    /// Tells the outcome to those whom it concerns.
    fn tell(&mut self, query: &Query) {
        // A query that was started later may still answer those whom this one failed.
        let last = query.number == self.started;
        let concerned = |waiting: &mut Waiting| {
            waiting.first <= query.number
                && query.stores.contains(&waiting.store)
                && (query.answer.is_ok() || last)
        };
        for Waiting { store, caller, .. } in self.waiting.extract_if(.., concerned) {
            let head = query
                .answer
                .as_ref()
                .map_err(Clone::clone)
                .and_then(|heads| heads.get(&store).copied().ok_or(FeedError::StoreNotFound));
            if head.is_ok() {
                self.shared.hint(store);
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
        let (asked_at, asked) = (shared.clock.wall(), Instant::now());
        if let Ok(database) = shared.source.ask(shared.source.datastore.now()).await {
            let skew = shared.clock.note(asked, Skew::of(asked_at, asked.elapsed(), database));
            shared.source.metrics.feed.clock_skew_seconds.set(skew.ahead_seconds());
        }
        tokio::time::sleep(pause).await;
    }
}

/// The replicas to compare with their heads, and what each has **before** they are asked for.
fn replicas(
    shared: &Shared,
    regular: bool,
    asked: &HashSet<StoreId>,
) -> Vec<(Arc<Replica>, Option<Revision>)> {
    let replicas = if regular {
        let mut replicas = shared.resident();
        replicas.extend(shared.watched_from_afar());
        replicas
    } else {
        asked.iter().filter_map(|store| shared.replica(*store)).collect()
    };
    let newest = |replica: &Replica| replica.published().ok().map(|published| published.revision);
    replicas.into_iter().map(|replica| (Arc::clone(&replica), newest(&replica))).collect()
}

async fn ask(shared: &Shared, stores: &[StoreId]) -> Result<HashMap<StoreId, Head>, FeedError> {
    let datastore = &shared.source.datastore;
    if stores.is_empty() {
        shared.source.ask(datastore.ping()).await?;
        return Ok(HashMap::new());
    }
    let begun = Instant::now();
    let heads = shared.source.ask(datastore.heads(stores)).await;
    let metrics = &shared.source.metrics.feed;
    metrics.head_query_seconds.since(begun);
    metrics.head_queries.of(Outcome::from(&heads)).inc();
    Ok(heads?.into_iter().collect())
}

/// How far behind the heads the replicas are, before anything is done about it.
fn measure_lag(
    shared: &Shared,
    compared: &[(Arc<Replica>, Option<Revision>)],
    heads: &HashMap<StoreId, Head>,
) {
    let behind = compared.iter().filter_map(|(replica, before)| {
        let head = heads.get(&replica.store())?.revision.0;
        let lag = head.saturating_sub((*before)?.0);
        (lag > 0).then(|| (lag, replica.staleness()))
    });
    let (lag, longest) =
        behind.fold((0, Duration::ZERO), |(lag, longest), (other, age)| (lag.max(other), longest.max(age)));
    let metrics = &shared.source.metrics.feed;
    metrics.lag_revisions.set(i64::try_from(lag).unwrap_or(i64::MAX));
    metrics.lag_seconds.set(longest.as_secs_f64());
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
        // place. Not one more answer.
        let lost = before.is_some_and(|before| head.revision < before);
        if lost || tag.is_some_and(|tag| tag != head.write_id.tag()) {
            shared.retire(replica, FeedError::HistoryDiverged);
        }
    }
    // Behind, ahead of an old answer, parted from it, or silent: a look at the log tells.
    shared.follow(replica);
}
