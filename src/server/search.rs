//! Runs a search to its end: a first slice where its call is served, the rest on the pool.

use std::sync::Arc;

use super::admission;
use super::call::Call;
use super::deadline::Deadline;
use super::node::Node;
use super::pool::{Kind as Asks, Line, Seat};
use super::status::Error;
use crate::engine::{EngineError, Progress};
use crate::metrics::{Label as _, Metrics, Search};
use crate::revision::StoreId;
use crate::trace::{self, Kind, Span};

/// Slices on the pool are this much larger than the first one: nobody else's call waits behind
/// them, and moving a search between threads should not cost more than the search.
const POOL_SLICES: u64 = 8;

/// A first slice is this much smaller while there is more to do than can be done: it is enough for
/// nearly every Check, and what takes longer takes turns with everybody else's.
const PRESSED_SLICE: u64 = 8;

/// What running one slice came to.
pub type Slice<T> = Progress<Result<T, EngineError>>;

/// What one search has used so far. It is recorded when the search is over, however that comes.
#[derive(Debug)]
pub struct Meter<'a> {
    search: Search,
    fuel: u64,
    node: &'a Node,
    span: Option<Span>,
    turn: Turn,
}

/// Whose search it is, and until when it is of use.
#[derive(Debug, Clone)]
pub struct Turn {
    line: Line,
    deadline: Deadline,
}

impl Turn {
    /// Of a search for a call on a store.
    #[must_use]
    pub fn of(call: &Call, store: StoreId, search: Search) -> Self {
        let kind = match search {
            Search::Check | Search::Expand | Search::ListRelations => Asks::One,
            Search::BatchCheck | Search::ListObjects | Search::ListSubjects => Asks::Many,
        };
        Self { line: Line::new(store, &call.principal, kind), deadline: call.deadline }
    }

    /// A place for it on the pool.
    pub async fn seat(&self, node: &Node) -> Result<Seat, Error> {
        node.pool().seat(&self.line, self.deadline).await
    }
}

/// Whether so much is to be done that nothing should be computed where calls are served.
fn is_pressed(node: &Node) -> bool {
    node.pool().is_pressed() || admission::is_lagging()
}

/// Fuel of a first slice.
fn first_slice(node: &Node) -> u64 {
    let slice = node.config().slice;
    if is_pressed(node) { (slice / PRESSED_SLICE).max(1) } else { slice }
}

impl<'a> Meter<'a> {
    /// Of a search that has not begun.
    #[must_use]
    pub fn new(node: &'a Node, call: &Call, store: StoreId, search: Search) -> Self {
        Self {
            search,
            fuel: 0,
            node,
            turn: Turn::of(call, store, search),
            span: trace::child(Kind::Internal, "search"),
        }
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.node.metrics().searches.fuel.of(self.search).observe(self.fuel);
        tell(self.span.as_mut(), self.search, self.fuel);
    }
}

/// Says in its span what a search was and took.
fn tell(span: Option<&mut Span>, search: Search, fuel: u64) {
    if let Some(span) = span {
        span.say("relata.search", search.value());
        span.say("relata.fuel", fuel);
    }
}

/// Runs a slice, and says how much of its fuel it used.
fn metered<T>(allowed: u64, run: impl FnOnce(&mut u64) -> T) -> (T, u64) {
    let mut left = allowed;
    let outcome = run(&mut left);
    (outcome, allowed.saturating_sub(left))
}

/// Runs `search` slice by slice until it is over. Dropping the future ends it after the slice
/// that is under way.
pub async fn run<T, S>(mut meter: Meter<'_>, mut search: S) -> Result<T, Error>
where
    T: Send + 'static,
    S: FnMut(&mut u64) -> Slice<T> + Send + 'static,
{
    let (progress, used) = metered(first_slice(meter.node), &mut search);
    meter.fuel += used;
    match progress {
        Progress::Done(outcome) => Ok(outcome?),
        // Rare, and large: the usual call should not carry it.
        Progress::Suspended => Box::pin(on_the_pool(meter, search)).await,
    }
}

async fn on_the_pool<T, S>(mut meter: Meter<'_>, mut search: S) -> Result<T, Error>
where
    T: Send + 'static,
    S: FnMut(&mut u64) -> Slice<T> + Send + 'static,
{
    let mut seat = meter.turn.seat(meter.node).await?;
    let slice = meter.node.config().slice.saturating_mul(POOL_SLICES);
    loop {
        let (returned, (progress, used)) = seat
            .run(move || {
                let slice = metered(slice, &mut search);
                (search, slice)
            })
            .await?;
        meter.fuel += used;
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

    /// What it is counted as.
    const SEARCH: Search;

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

/// A list that is under way, between two portions.
#[derive(Debug)]
pub struct Listing<L: Lister> {
    lister: L,
    turn: Turn,
    begun: bool,
    /// Between two portions, of a list that has come to the pool.
    seat: Option<Seat>,
    /// Used so far; recorded when the list is over, however that comes.
    fuel: u64,
    metrics: Arc<Metrics>,
    span: Option<Span>,
}

impl<L: Lister> Listing<L> {
    /// A list that has not begun.
    pub fn new(node: &Node, turn: Turn, lister: L) -> Self {
        let (metrics, span) = (Arc::clone(node.metrics()), trace::child(Kind::Internal, "search"));
        Self { lister, turn, begun: false, seat: None, fuel: 0, metrics, span }
    }

    /// Runs the list until it has found something or is over. The first call runs a first slice in
    /// place, unless others wait; a list that goes on takes its turns on the pool, and pauses in
    /// between, so that a reader who stalls keeps nobody out.
    pub async fn advance(mut self, node: &Node) -> Result<(Self, Portion<L::Item>), Error> {
        let begun = std::mem::replace(&mut self.begun, true);
        if !begun
            && !is_pressed(node)
            && let Progress::Done(outcome) = self.slice(node.config().slice)
        {
            outcome?;
            let items = self.lister.take();
            return Ok((self, Portion { items, over: true }));
        }
        let mut seat = match self.seat.take() {
            Some(seat) => seat.go_on().await?,
            None => self.turn.seat(node).await?,
        };
        let slice = node.config().slice.saturating_mul(POOL_SLICES);
        loop {
            let (returned, progress, items) = seat
                .run(move || {
                    let progress = self.slice(slice);
                    let items = self.lister.take();
                    (self, progress, items)
                })
                .await?;
            self = returned;
            match progress {
                Progress::Done(outcome) => {
                    outcome?;
                    return Ok((self, Portion { items, over: true }));
                }
                Progress::Suspended if items.is_empty() => {}
                Progress::Suspended => {
                    seat.pause();
                    self.seat = Some(seat);
                    return Ok((self, Portion { items, over: false }));
                }
            }
        }
    }

    fn slice(&mut self, allowed: u64) -> Slice<()> {
        let (progress, used) = metered(allowed, |fuel| self.lister.run(fuel));
        self.fuel += used;
        progress
    }
}

impl<L: Lister> Drop for Listing<L> {
    fn drop(&mut self) {
        self.metrics.searches.fuel.of(L::SEARCH).observe(self.fuel);
        tell(self.span.as_mut(), L::SEARCH, self.fuel);
    }
}
