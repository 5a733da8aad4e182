//! How long calls wait for the thread that serves them.
//!
//! A call that has arrived waits in the run queue of its shard. Its wait tells how much there is to
//! do; a long queue is of no use to anybody, since all that is in it is late. So when the wait has
//! been too long for a while, what comes out of the queue is refused instead of answered, until it
//! is short again. A refusal costs a fraction of an answer, so that is soon.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// A wait that is long only for so long is a hitch: of the machine, or of one long request.
const WHILE: Duration = Duration::from_millis(100);
/// Calls further apart than this do not tell anything of each other.
const APART: Duration = Duration::from_millis(500);
/// A wait from which on the thread has more to do than is good for its callers.
const NOTICEABLE: Duration = Duration::from_millis(10);

thread_local! {
    static HERE: Cell<Lag> = const { Cell::new(Lag::NONE) };
}

/// What the calls of one thread have seen.
#[derive(Debug, Clone, Copy)]
struct Lag {
    /// When the last call began, and how long it had waited.
    last: Option<(Instant, Duration)>,
    /// Since when every call has waited too long.
    since: Option<Instant>,
}

impl Lag {
    const NONE: Self = Self { last: None, since: None };

    /// A call begins after a wait. Whether it should be refused, since waits have been longer than
    /// `bound` for a while.
    fn observe(&mut self, now: Instant, waited: Duration, bound: Duration) -> bool {
        let apart = self.last.is_none_or(|(last, _)| now.saturating_duration_since(last) > APART);
        self.last = Some((now, waited));
        if waited <= bound {
            self.since = None;
            return false;
        }
        match self.since {
            Some(since) if !apart => now.saturating_duration_since(since) >= WHILE,
            _ => {
                self.since = Some(now);
                false
            }
        }
    }

    fn is_noticeable(&self, now: Instant) -> bool {
        self.last
            .is_some_and(|(last, waited)| waited > NOTICEABLE && now.saturating_duration_since(last) <= APART)
    }
}

/// A call of this thread begins after a wait. Whether it should be refused.
pub(super) fn observe(waited: Duration, bound: Duration) -> bool {
    HERE.with(|here| {
        let mut lag = here.get();
        let refuse = lag.observe(Instant::now(), waited, bound);
        here.set(lag);
        refuse
    })
}

/// Whether calls wait noticeably for this thread, so that it should not compute what others can.
#[must_use]
pub fn is_lagging() -> bool {
    HERE.with(|here| here.get().is_noticeable(Instant::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(50);

    /// Whether each call is refused; calls are `(milliseconds since the start, waited)`.
    fn refused<const N: usize>(calls: [(u64, u64); N]) -> [bool; N] {
        let start = Instant::now();
        let mut lag = Lag::NONE;
        calls.map(|(at, waited)| {
            lag.observe(start + Duration::from_millis(at), Duration::from_millis(waited), BOUND)
        })
    }

    #[test]
    fn a_standing_queue_is_refused_and_a_hitch_is_not() {
        let standing = [(0, 60), (50, 60), (99, 60), (100, 60), (150, 90), (160, 50), (170, 60)];
        assert_eq!(refused(standing), [false, false, false, true, true, false, false]);
        assert_eq!(refused([(0, 900), (1, 899), (2, 898), (3, 0)]), [false; 4], "all waited for one thing");
        assert_eq!(refused([(0, 60), (5_000, 60), (10_000, 60)]), [false; 3], "nothing in between");
    }

    #[test]
    fn lag_is_noticed_before_anything_is_refused() {
        let now = Instant::now();
        let mut lag = Lag::NONE;
        assert!(!lag.is_noticeable(now));
        assert!(!lag.observe(now, Duration::from_millis(20), BOUND));
        assert!(lag.is_noticeable(now) && !lag.is_noticeable(now + Duration::from_secs(1)));
        lag.observe(now, Duration::from_millis(1), BOUND);
        assert!(!lag.is_noticeable(now));
    }
}
