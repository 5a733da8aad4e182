//! Reading all tuples of a store, several key ranges at once.
//!
//! ```text
//!   keys   ├─ first page ─┼─ 10,000 ─┼─ 10,000 ─┼─ 10,000 ─┼─ 10,000 ─┼─ rest ─┤
//!   marks                 ▲          ▲          ▲          ▲          ▲         found one after the other,
//!                                                                               without reading tuples
//!   readers                    1          3          2          1          …    take whichever range is next
//!                               ╲         │         ╱
//!                                └──── pages ──────┘──▶ one index
//! ```
//!
//! Ranges are cut by counting: the database walks so many entries of its index and names the key it
//! has come to. That costs a small part of what reading them costs, and cuts evenly whatever the ids
//! are; guessing cuts from the bytes of the ids would not. And the store's size is known before
//! it is read, so that room is made once, and none for a store that would not fit.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::budget::Bytes;
use super::error::FeedError;
use super::eviction::Claim;
use super::source::Source;
use crate::datastore::{TupleFilter, TuplePage};
use crate::footprint;
use crate::graph::Index;
use crate::revision::{Revision, StoreId, WriteId};
use crate::tuple::{Tuple, TupleKey};

/// Pages to a range: enough that a mark costs little, few enough that readers end together.
const PAGES: u32 = 5;

/// No tuple takes less in memory.
const LEAST_TUPLE_BYTES: usize = 80;

/// Ranges after which those that were read stand for the rest, within a quarter. The first page
/// alone does within a half.
const SAMPLE: usize = 8;

/// Keys after one and up to another, or to the end.
#[derive(Debug, Clone)]
struct Range {
    after: TupleKey,
    upto: Option<TupleKey>,
}

/// The heads that pages were read at. All of them must be of one history, that of the log which is
/// applied over the pages: what a page shows of a write that the database has lost would stay for
/// ever, since no change takes it back.
#[derive(Debug, Default)]
pub(super) struct Heads(BTreeMap<Revision, WriteId>);

impl Heads {
    /// A page was read at this head.
    ///
    /// # Errors
    /// [`FeedError::HistoryDiverged`] if another page was read at another write of that number.
    fn add(&mut self, revision: Revision, write_id: WriteId) -> Result<(), FeedError> {
        if *self.0.entry(revision).or_insert(write_id) == write_id {
            Ok(())
        } else {
            Err(FeedError::HistoryDiverged)
        }
    }

    /// The log has this write at this number.
    ///
    /// # Errors
    /// [`FeedError::HistoryDiverged`] if a page was read at another one.
    pub(super) fn meet(&mut self, revision: Revision, write_id: WriteId) -> Result<(), FeedError> {
        if self.0.remove(&revision).is_none_or(|seen| seen == write_id) {
            Ok(())
        } else {
            Err(FeedError::HistoryDiverged)
        }
    }

    /// Whether the log has come to all of them.
    pub(super) fn are_met(&self) -> bool {
        self.0.is_empty()
    }
}

/// What a reader has read.
struct Portion {
    tuples: Vec<Tuple>,
    /// The head when it was read.
    head: (Revision, WriteId),
    /// Whether it is the last one of its range.
    last: bool,
}

/// Reads every tuple into an index; returns the heads that pages were read at.
pub(super) async fn read_tuples(
    source: &Source,
    store: StoreId,
    index: &mut Index,
    claim: &Claim<'_>,
) -> Result<Heads, FeedError> {
    let first = page(source, store, None).await?;
    let mut seen = Heads::default();
    seen.add(first.head, first.write_id)?;
    apply(source, index, &first.tuples)?;
    claim.reserve(graph(index.bytes())).await?;
    // Room is made for all of a store at once, if it is known how much.
    let Some(after) = first.tuples.last().map(|tuple| tuple.key.clone()).filter(|_| first.more) else {
        return Ok(seen);
    };

    let stride = source.settings.page.max(1).saturating_mul(PAGES);
    let ranges = cut(source, store, after, stride, claim).await?;
    let count = ranges.len();
    let tuples = first.tuples.len() + count * stride as usize;
    // The beginning stands for the rest until more of it has been read.
    let mut expected = estimate(index.bytes(), first.tuples.len(), tuples);
    claim.within(expected / 2)?;
    claim.reserve(graph(sensible(claim, expected, index.bytes()))).await?;

    let (mut done, mut largest) = (0, 0);
    let mut reading = Reading::start(source, store, ranges);
    while let Some(portion) = reading.portions.recv().await {
        let Portion { tuples, head, last } = portion?;
        seen.add(head.0, head.1)?;
        largest = largest.max(tuples.iter().map(tuple_bytes).sum());
        apply(source, index, &tuples)?;
        done += usize::from(last);
        if done >= SAMPLE {
            expected = estimate(index.bytes(), done, count);
            claim.within(expected / 4 * 3)?;
        }
        // What the readers hold ready counts as well.
        let held = largest * reading.pages_held;
        claim.reserve(graph(held + sensible(claim, expected, index.bytes()))).await?;
        // A large store takes seconds; the thread has other stores to follow.
        tokio::task::yield_now().await;
    }
    if done < count {
        tracing::error!(%store, "a task that reads tuples went down");
        return Err(FeedError::Reloading);
    }
    Ok(seen)
}

/// Cuts the keys after one into ranges of so many tuples, the last of fewer.
async fn cut(
    source: &Source,
    store: StoreId,
    mut after: TupleKey,
    stride: u32,
    claim: &Claim<'_>,
) -> Result<Vec<Range>, FeedError> {
    let mut ranges = Vec::new();
    loop {
        let mark = source.ask(source.datastore.key_after(store, Some(&after), stride)).await?;
        let Some(mark) = mark else {
            ranges.push(Range { after, upto: None });
            break;
        };
        ranges.push(Range { after: std::mem::replace(&mut after, mark.clone()), upto: Some(mark) });
        // A store a hundred times too large should not be counted to its end.
        claim.within(ranges.len() * stride as usize * LEAST_TUPLE_BYTES)?;
    }
    // In an order in which those read first are spread over all of them, and stand for the rest.
    let bits = usize::BITS - ranges.len().leading_zeros();
    let mut spread: Vec<(usize, Range)> = ranges
        .into_iter()
        .enumerate()
        .map(|(at, range)| (at.reverse_bits() >> (usize::BITS - bits), range))
        .collect();
    spread.sort_unstable_by_key(|(at, _)| *at);
    Ok(spread.into_iter().map(|(_, range)| range).collect())
}

/// Tasks that read ranges, and where what they read comes out.
struct Reading {
    portions: mpsc::Receiver<Result<Portion, FeedError>>,
    /// Pages that may be in memory and not yet in the index.
    pages_held: usize,
    _tasks: JoinSet<()>,
}

impl Reading {
    fn start(source: &Source, store: StoreId, ranges: Vec<Range>) -> Self {
        let readers = source.settings.load_ranges.clamp(1, ranges.len());
        let waiting = Arc::new(Mutex::new(ranges.into_iter()));
        let (sender, portions) = mpsc::channel(1);
        let mut tasks = JoinSet::new();
        for _ in 0..readers {
            let (source, waiting, sender) = (source.clone(), Arc::clone(&waiting), sender.clone());
            tasks.spawn(async move {
                loop {
                    let range = waiting.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(range) = range else { return };
                    if let Err(error) = read_range(&source, store, range, &sender).await {
                        // Nobody listens once another reader has failed.
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
            });
        }
        // Each reader's, the one that waits, and the one that is being applied.
        Self { portions, pages_held: readers + 2, _tasks: tasks }
    }
}

/// Reads one range page by page.
async fn read_range(
    source: &Source,
    store: StoreId,
    Range { mut after, upto }: Range,
    sender: &mpsc::Sender<Result<Portion, FeedError>>,
) -> Result<(), FeedError> {
    loop {
        let TuplePage { head, write_id, mut tuples, more } = page(source, store, Some(&after)).await?;
        let read = tuples.len();
        if let Some(upto) = &upto {
            tuples.truncate(tuples.partition_point(|tuple| tuple.key <= *upto));
        }
        // Beyond the mark begins another range; at it, this one is over as well.
        let last = !more || tuples.len() < read || tuples.last().map(|tuple| &tuple.key) == upto.as_ref();
        if let Some(end) = tuples.last() {
            after = end.key.clone();
        }
        let portion = Portion { tuples, head: (head, write_id), last };
        if sender.send(Ok(portion)).await.is_err() || last {
            return Ok(());
        }
    }
}

async fn page(source: &Source, store: StoreId, after: Option<&TupleKey>) -> Result<TuplePage, FeedError> {
    let all = TupleFilter::default();
    source.ask(source.datastore.tuples(store, &all, after, source.settings.page.max(1))).await
}

fn apply(source: &Source, index: &mut Index, tuples: &[Tuple]) -> Result<(), FeedError> {
    for tuple in tuples {
        index.apply(&tuple.key, Some(&tuple.attributes))?;
    }
    source.metrics.memory.tuples_loaded.inc_by(tuples.len() as u64);
    Ok(())
}

/// What to reserve: what is expected, unless that is so near to what can be had at most that it may
/// or may not fit. Others are then evicted step by step, and not for nothing.
fn sensible(claim: &Claim<'_>, expected: usize, taken: usize) -> usize {
    if expected > claim.most() { taken } else { expected.max(taken) }
}

/// What a tuple takes while it is on its way.
fn tuple_bytes(tuple: &Tuple) -> usize {
    size_of::<Tuple>() + footprint::key(&tuple.key) + footprint::attributes(&tuple.attributes)
}

/// What all parts take, if they are as the first ones are.
fn estimate(bytes: usize, parts: usize, all: usize) -> usize {
    let all = u128::try_from(all).unwrap_or(u128::MAX);
    let whole = bytes as u128 * all / parts.max(1) as u128;
    usize::try_from(whole).unwrap_or(usize::MAX)
}

fn graph(bytes: usize) -> Bytes {
    Bytes { graph: bytes, ..Bytes::default() }
}
