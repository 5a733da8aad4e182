//! Runs a search to its end: a first slice where its call is served, the rest on the pool.

use super::node::Node;
use super::status::Error;
use crate::engine::{EngineError, Progress};
use crate::metrics::Place;

/// Slices on the pool are this much larger than the first one: nobody else's call waits behind
/// them, and moving a search between threads should not cost more than the search.
const POOL_SLICES: u64 = 8;

/// What running one slice came to.
pub type Slice<T> = Progress<Result<T, EngineError>>;

/// Runs `search` slice by slice until it is over. Dropping the future ends it after the slice
/// that is under way.
pub async fn run<T, S>(node: &Node, mut search: S) -> Result<T, Error>
where
    T: Send + 'static,
    S: FnMut(&mut u64) -> Slice<T> + Send + 'static,
{
    node.metrics().searches.slices.of(Place::Shard).inc();
    match search(&mut node.config().slice.clone()) {
        Progress::Done(outcome) => Ok(outcome?),
        // Rare, and large: the usual call should not carry it.
        Progress::Suspended => Box::pin(on_the_pool(node, search)).await,
    }
}

async fn on_the_pool<T, S>(node: &Node, mut search: S) -> Result<T, Error>
where
    T: Send + 'static,
    S: FnMut(&mut u64) -> Slice<T> + Send + 'static,
{
    let seat = node.pool().seat()?;
    let slice = node.config().slice.saturating_mul(POOL_SLICES);
    loop {
        node.metrics().searches.slices.of(Place::Pool).inc();
        let (returned, progress) = seat
            .run(move || {
                let progress = search(&mut slice.clone());
                (search, progress)
            })
            .await?;
        match progress {
            Progress::Done(outcome) => return Ok(outcome?),
            Progress::Suspended => search = returned,
        }
    }
}

/// A search whose results leave it while it runs.
pub trait Lister: Send + 'static {
    /// A result as the wire has it.
    type Item: Send + 'static;

    /// Goes on for a slice of fuel.
    fn run(&mut self, fuel: &mut u64) -> Slice<()>;

    /// Takes what was found since the last time.
    fn take(&mut self) -> Vec<Self::Item>;
}

/// Results of a list, and whether the list is over.
#[derive(Debug)]
pub struct Portion<T> {
    /// What was found since the last time.
    pub items: Vec<T>,
    /// Whether nothing follows.
    pub over: bool,
}

/// Runs a list until it has found something or is over. The first call runs a first slice in
/// place; a list that goes on takes its turns on the pool, and gives its place back in between, so
/// that a reader who stalls keeps nobody out.
pub async fn advance<L: Lister>(
    node: &Node,
    mut lister: L,
    begun: bool,
) -> Result<(L, Portion<L::Item>), Error> {
    if !begun {
        node.metrics().searches.slices.of(Place::Shard).inc();
        let progress = lister.run(&mut node.config().slice.clone());
        if let Progress::Done(outcome) = progress {
            outcome?;
            let items = lister.take();
            return Ok((lister, Portion { items, over: true }));
        }
    }
    let seat = if begun { node.pool().seat_when_free().await? } else { node.pool().seat()? };
    let slice = node.config().slice.saturating_mul(POOL_SLICES);
    loop {
        node.metrics().searches.slices.of(Place::Pool).inc();
        let (returned, progress, items) = seat
            .run(move || {
                let progress = lister.run(&mut slice.clone());
                let items = lister.take();
                (lister, progress, items)
            })
            .await?;
        lister = returned;
        match progress {
            Progress::Done(outcome) => {
                outcome?;
                return Ok((lister, Portion { items, over: true }));
            }
            Progress::Suspended if items.is_empty() => {}
            Progress::Suspended => return Ok((lister, Portion { items, over: false })),
        }
    }
}
