//! The bytes that copies of stores may take together, and who takes how many.
//!
//! ```text
//!   limit ├──────────────────────────────────────────────────────────────┤
//!   used  ├── store a ──┼── store b ──┼─ c, being loaded: reserved ─┼ d ╌┤
//!                                                                     └ leaving: evicted, and in
//!                                                                       memory until its last reader
//!                                                                       has gone
//! ```
//!
//! A [`Charge`] is as old as the memory it stands for: it is released when that has been freed, and
//! not when somebody decided that it should be.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::graph::Ids;
use crate::metrics::{IdState, MemoryClass, Metrics, Stay};

/// What a copy of a store takes, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Bytes {
    /// Live tuples, or the room reserved for them.
    pub(super) graph: usize,
    /// Recent changes.
    pub(super) ring: usize,
    /// Compiled schemas.
    pub(super) schemas: usize,
}

impl Bytes {
    /// All of it.
    pub(super) fn sum(self) -> usize {
        self.graph + self.ring + self.schemas
    }
}

/// The bound and all charges against it.
#[derive(Debug)]
pub(super) struct Budget {
    limit: Option<usize>,
    ledger: Mutex<Ledger>,
    /// Told when memory has been freed.
    freed: Notify,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Ledger {
    used: usize,
    /// Of what is used, what will be freed without further ado.
    leaving: usize,
}

impl Budget {
    /// A budget of so many bytes; `None`: without bound.
    pub(super) fn new(limit: Option<usize>, metrics: Arc<Metrics>) -> Arc<Self> {
        metrics.memory.budget_bytes.set(limit.map_or(0, signed));
        Arc::new(Self { limit, ledger: Mutex::default(), freed: Notify::new(), metrics })
    }

    /// The bound.
    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(usize::MAX)
    }

    /// Begins to count a store that takes nothing yet.
    pub(super) fn charge(self: &Arc<Self>) -> Charge {
        self.begin(Stay::Evictable)
    }

    /// Begins to count what belongs to no store.
    pub(super) fn shared_charge(self: &Arc<Self>) -> Charge {
        self.begin(Stay::Shared)
    }

    fn begin(self: &Arc<Self>, stay: Stay) -> Charge {
        let state = State { bytes: Bytes::default(), ids: Ids::default(), stay };
        Charge { budget: Arc::clone(self), state: Mutex::new(state) }
    }

    /// What is used and will stay, in bytes.
    pub(super) fn staying(&self) -> usize {
        let ledger = self.ledger();
        ledger.used - ledger.leaving
    }

    /// Resolves when memory has been freed after it was enabled. Not a promise that it is enough.
    pub(super) fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A share of the budget. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Charge {
    budget: Arc<Budget>,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
struct State {
    bytes: Bytes,
    ids: Ids,
    stay: Stay,
}

impl Charge {
    /// What it stands for.
    pub(super) fn bytes(&self) -> Bytes {
        self.state().bytes
    }

    /// The bound of the budget it belongs to.
    pub(super) fn most(&self) -> usize {
        self.budget.limit()
    }

    /// Whether it will be given back without further ado.
    pub(super) fn is_leaving(&self) -> bool {
        self.state().stay == Stay::Leaving
    }

    /// Says that it will stay, whoever needs room; unless it is leaving already.
    pub(super) fn pin(&self) {
        let mut state = self.state();
        if state.stay == Stay::Evictable {
            self.turn(&mut state, Stay::Pinned);
        }
    }

    /// Stands for so much from now on: it is in memory already, whether or not it should be.
    pub(super) fn set(&self, bytes: Bytes) {
        self.change(bytes, |_| true);
    }

    /// As above, unless that is more than before and more than there is room for.
    pub(super) fn try_set(&self, bytes: Bytes) -> bool {
        let limit = self.budget.limit();
        self.change(bytes, |used| used <= limit)
    }

    /// Holds so many ids from now on. They are told, and bounded by their bytes.
    pub(super) fn hold(&self, ids: Ids) {
        let before = std::mem::replace(&mut self.state().ids, ids);
        let gauges = &self.budget.metrics.memory.ids;
        for (state, before, after) in
            [(IdState::Live, before.live, ids.live), (IdState::Dead, before.dead, ids.dead)]
        {
            gauges.of(state).inc_by(signed(after) - signed(before));
        }
    }

    fn change(&self, bytes: Bytes, fits: impl FnOnce(usize) -> bool) -> bool {
        let mut state = self.state();
        let (before, after) = (state.bytes, bytes);
        let mut ledger = self.budget.ledger();
        let used = ledger.used - before.sum() + after.sum();
        if used > ledger.used && !fits(used) {
            return false;
        }
        let shrunk = used < ledger.used;
        ledger.used = used;
        if state.stay == Stay::Leaving {
            ledger.leaving = ledger.leaving - before.sum() + after.sum();
        }
        drop(ledger);
        state.bytes = after;
        let stay = state.stay;
        self.budget.metrics.memory.stay_bytes.of(stay).inc_by(signed(after.sum()) - signed(before.sum()));
        drop(state);
        self.budget.meter(before, after);
        if shrunk {
            self.budget.freed.notify_waiters();
        }
        true
    }

    /// Says that it will be given back. Returns whether that is news.
    pub(super) fn leave(&self) -> bool {
        let mut state = self.state();
        if state.stay == Stay::Leaving {
            return false;
        }
        self.turn(&mut state, Stay::Leaving);
        self.budget.ledger().leaving += state.bytes.sum();
        true
    }

    fn turn(&self, state: &mut State, stay: Stay) {
        let (gauges, bytes) = (&self.budget.metrics.memory.stay_bytes, signed(state.bytes.sum()));
        gauges.of(std::mem::replace(&mut state.stay, stay)).dec_by(bytes);
        gauges.of(stay).inc_by(bytes);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.change(Bytes::default(), |_| true);
        self.hold(Ids::default());
    }
}

impl Budget {
    fn meter(&self, before: Bytes, after: Bytes) {
        for (class, before, after) in [
            (MemoryClass::Graph, before.graph, after.graph),
            (MemoryClass::Ring, before.ring, after.ring),
            (MemoryClass::Schemas, before.schemas, after.schemas),
        ] {
            self.metrics.memory.bytes.of(class).inc_by(signed(after) - signed(before));
        }
    }
}

fn signed(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(bytes: usize) -> Bytes {
        Bytes { graph: bytes, ..Bytes::default() }
    }

    #[test]
    fn what_is_charged_is_given_back_when_it_is_dropped() {
        let metrics = Metrics::new();
        let budget = Budget::new(Some(100), Arc::clone(&metrics));
        let (one, other) = (budget.charge(), budget.charge());
        assert!(one.try_set(Bytes { graph: 40, ring: 15, schemas: 5 }));
        assert!(!other.try_set(graph(41)));
        assert!(other.try_set(graph(40)));
        assert_eq!(budget.staying(), 100);
        assert_eq!(metrics.memory.bytes.of(MemoryClass::Graph).get(), 80);

        assert!(one.leave() && !one.leave());
        assert_eq!(budget.staying(), 40);
        assert!(!other.try_set(graph(41)), "what is leaving is still there");
        one.set(graph(70));
        assert_eq!(budget.staying(), 40);
        drop(one);
        assert_eq!(budget.staying(), 40);
        assert!(other.try_set(graph(100)));
        assert!(other.try_set(graph(7)), "less is always fine");
        drop(other);
        assert_eq!(budget.staying(), 0);
        for class in [MemoryClass::Graph, MemoryClass::Ring, MemoryClass::Schemas] {
            assert_eq!(metrics.memory.bytes.of(class).get(), 0);
        }
    }

    #[test]
    fn what_is_there_is_counted_even_beyond_the_bound() {
        let budget = Budget::new(Some(100), Metrics::new());
        let (grown, other) = (budget.charge(), budget.charge());
        grown.set(graph(150));
        assert_eq!(budget.staying(), 150);
        assert!(!other.try_set(graph(1)));
        assert!(grown.try_set(graph(120)), "on the way back");
        let boundless = Budget::new(None, Metrics::new());
        assert!(boundless.charge().try_set(graph(usize::MAX / 2)));
    }

    #[test]
    fn all_bytes_are_told_by_what_becomes_of_them() {
        let metrics = Metrics::new();
        let budget = Budget::new(Some(1_000), Arc::clone(&metrics));
        let told = || {
            [Stay::Pinned, Stay::Evictable, Stay::Leaving, Stay::Shared]
                .map(|stay| metrics.memory.stay_bytes.of(stay).get())
        };
        let (pinned, other, schemas) = (budget.charge(), budget.charge(), budget.shared_charge());
        pinned.set(graph(100));
        other.set(Bytes { graph: 10, ring: 5, schemas: 5 });
        schemas.set(Bytes { schemas: 3, ..Bytes::default() });
        assert_eq!(told(), [0, 120, 0, 3]);
        pinned.pin();
        pinned.pin();
        schemas.pin();
        assert_eq!(told(), [100, 20, 0, 3]);
        pinned.set(graph(90));
        assert!(other.leave() && !other.leave());
        other.pin();
        assert_eq!(told(), [90, 0, 20, 3]);
        other.set(graph(7));
        assert_eq!(told(), [90, 0, 7, 3]);
        drop((pinned, other, schemas));
        assert_eq!(told(), [0; 4]);
    }

    #[tokio::test]
    async fn whoever_waits_hears_that_memory_was_freed() {
        let budget = Budget::new(Some(100), Metrics::new());
        let charge = budget.charge();
        charge.set(graph(60));
        let waiting = budget.freed();
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        charge.set(graph(70));
        assert!(futures::poll!(waiting.as_mut()).is_pending(), "growth frees nothing");
        drop(charge);
        assert!(futures::poll!(waiting).is_ready());
    }
}
