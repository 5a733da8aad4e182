//! Counts that many threads add to at once without getting in each other's way.
//!
//! A number that every shard adds to with every call is a cache line that travels between their
//! cores. Here each thread adds to a copy of its own, or nearly so, and a scrape adds the copies up.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread::available_parallelism;

/// More copies than this would cost a scrape more than they save.
const MOST_COPIES: usize = 64;

/// An array of counts, in one copy for each processor.
#[derive(Debug)]
pub(super) struct Cells(Box<[Copy]>);

/// On cache lines of its own.
#[derive(Debug)]
#[repr(align(128))]
struct Copy(Box<[AtomicU64]>);

impl Cells {
    /// So many counts, all zero.
    pub(super) fn new(cells: usize) -> Self {
        let copies = available_parallelism().map_or(1, NonZeroUsize::get).min(MOST_COPIES);
        // The counts of a copy fill whole cache lines, lest two copies meet on one.
        let padded = cells.next_multiple_of(16);
        let copy = || Copy((0..padded).map(|_| AtomicU64::new(0)).collect());
        Self((0..copies).map(|_| copy()).collect())
    }

    /// Adds to some of the counts. A count out of range is ignored.
    pub(super) fn add<const N: usize>(&self, additions: [(usize, u64); N]) {
        let Some(Copy(mine)) = self.0.get(place() % self.0.len()) else { return };
        for (cell, value) in additions {
            if let Some(cell) = mine.get(cell) {
                cell.fetch_add(value, Ordering::Relaxed);
            }
        }
    }

    /// One count. Counts that were also taken from may be read as a wrapped negative number.
    pub(super) fn read(&self, cell: usize) -> u64 {
        let cells = self.0.iter().filter_map(|Copy(copy)| copy.get(cell));
        cells.fold(0, |sum, cell| sum.wrapping_add(cell.load(Ordering::Relaxed)))
    }
}

/// A number of the thread's own.
fn place() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
    }
    PLACE.get().unwrap_or_else(|| {
        let place = NEXT.fetch_add(1, Ordering::Relaxed);
        PLACE.set(Some(place));
        place
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_threads_add_is_added_up() {
        let cells = Cells::new(3);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..1_000).for_each(|_| cells.add([(0, 1), (2, 5)])));
            }
        });
        assert_eq!([0, 1, 2, 99].map(|cell| cells.read(cell)), [8_000, 0, 40_000, 0]);
    }

    #[test]
    fn taking_on_another_thread_is_no_loss() {
        let cells = Cells::new(1);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| cells.add([(0, 1)]));
            }
        });
        (0..4).for_each(|_| cells.add([(0, u64::MAX)]));
        assert_eq!(cells.read(0), 0);
    }
}
