//! Runs a search to its end: a first slice where its call is served, the rest on the pool.

use super::node::Node;
use super::status::Error;
use crate::engine::{EngineError, Progress};

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
    let mut first = node.config().slice;
    if let Progress::Done(outcome) = search(&mut first) {
        return Ok(outcome?);
    }
    let seat = node.pool().seat()?;
    let slice = node.config().slice.saturating_mul(POOL_SLICES);
    loop {
        let (returned, progress) = seat
            .run(move || {
                let mut fuel = slice;
                let progress = search(&mut fuel);
                (search, progress)
            })
            .await?;
        match progress {
            Progress::Done(outcome) => return Ok(outcome?),
            Progress::Suspended => search = returned,
        }
    }
}
