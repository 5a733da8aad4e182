//! How long calls wait for the thread that serves them.
//!
//! A call waits where nobody sees it: its bytes in the socket until its connection's turn, then in
//! the run queue of its shard until its own. So each shard sends a pulse through its queue, a timer
//! that should ring every few milliseconds, and how late it is tells how long everything waits.
//! While it is overdue, it is late by as much already.
//!
//! A long queue is of no use to anybody, since all that is in it is late. So when the wait has been
//! too long for a while, what comes out of the queue is refused instead of answered, until it is
//! short again. A refusal costs a fraction of an answer, so that is soon.

use std::cell::{Cell, OnceCell};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

/// From one pulse to the next, while calls come.
const PULSE: Duration = Duration::from_millis(10);
/// A wait that is long only for so long is a hitch: of the machine, or of one long request.
const WHILE: Duration = Duration::from_millis(100);
/// A wait from which on the thread has more to do than is good for its callers.
const NOTICEABLE: Duration = Duration::from_millis(10);

thread_local! {
    static HERE: Here = const { Here { lag: Cell::new(Lag::NONE), asked: Cell::new(false), wake: OnceCell::new() } };
}

/// What is known on one thread.
struct Here {
    lag: Cell<Lag>,
    /// Whether calls have come since the last pulse.
    asked: Cell<bool>,
    /// Begins pulses after a rest. On a thread without one nothing ever lags.
    wake: OnceCell<Arc<Notify>>,
}

impl Here {
    fn change<T>(&self, change: impl FnOnce(&mut Lag) -> T) -> T {
        let mut lag = self.lag.get();
        let outcome = change(&mut lag);
        self.lag.set(lag);
        outcome
    }
}

/// How late the pulse of one thread is.
#[derive(Debug, Clone, Copy)]
struct Lag {
    /// When the next one should come; `None` while nobody calls.
    due: Option<Instant>,
    /// How late the last one was.
    late: Duration,
    /// Since when calls have waited noticeably.
    since: Option<Instant>,
}

impl Lag {
    const NONE: Self = Self { due: None, late: Duration::ZERO, since: None };

    /// The next pulse is on its way.
    fn expect(&mut self, due: Instant) {
        self.due = Some(due);
    }

    /// It has come.
    fn arrive(&mut self, now: Instant) {
        self.late = self.due.map_or(Duration::ZERO, |due| now.saturating_duration_since(due));
        if self.late <= NOTICEABLE {
            self.since = None;
        }
    }

    /// How long what has its turn now has waited for it.
    fn wait(&self, now: Instant) -> Duration {
        self.due.map_or(Duration::ZERO, |due| self.late.max(now.saturating_duration_since(due)))
    }

    /// A call has its turn. How long it has waited.
    fn call(&mut self, now: Instant) -> Duration {
        let wait = self.wait(now);
        if wait > NOTICEABLE {
            self.since.get_or_insert(now);
        }
        wait
    }

    /// Whether calls have waited for longer than `bound` for a while.
    fn is_standing(&self, now: Instant, bound: Duration) -> bool {
        let (Some(since), Some(due)) = (self.since, self.due) else { return false };
        let crossed = if self.late > bound { since } else { since.max(due + bound) };
        self.wait(now) > bound && now.saturating_duration_since(crossed) >= WHILE
    }
}

/// Sends pulses through the queue of this thread for as long as calls come, and rests otherwise.
/// To be spawned on the runtime of the thread, once.
pub async fn pulse() {
    let wake = Arc::new(Notify::new());
    HERE.with(|here| drop(here.wake.set(Arc::clone(&wake))));
    loop {
        if !HERE.with(|here| here.asked.replace(false)) {
            HERE.with(|here| here.lag.set(Lag::NONE));
            wake.notified().await;
        }
        let due = Instant::now() + PULSE;
        HERE.with(|here| here.change(|lag| lag.expect(due)));
        tokio::time::sleep_until(due.into()).await;
        HERE.with(|here| here.change(|lag| lag.arrive(Instant::now())));
    }
}

/// A call has its turn on this thread. How long it has waited for it.
pub(super) fn begin() -> Duration {
    HERE.with(|here| {
        here.asked.set(true);
        if here.lag.get().due.is_none()
            && let Some(wake) = here.wake.get()
        {
            wake.notify_one();
        }
        here.change(|lag| lag.call(Instant::now()))
    })
}

/// Whether calls of this thread have waited for longer than `bound` for a while.
pub(super) fn is_standing(bound: Duration) -> bool {
    HERE.with(|here| here.lag.get().is_standing(Instant::now(), bound))
}

/// How long what has its turn on this thread now has waited for it.
#[must_use]
pub fn waited() -> Duration {
    HERE.with(|here| here.lag.get().wait(Instant::now()))
}

/// Whether calls wait noticeably for this thread, so that it should not compute what others can.
#[must_use]
pub fn is_lagging() -> bool {
    waited() > NOTICEABLE
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_millis(50);

    fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// A lag whose pulse is due at `start`.
    fn expecting(start: Instant) -> Lag {
        let mut lag = Lag::NONE;
        lag.expect(start);
        lag
    }

    /// Whether each call is refused that has its turn so many milliseconds after the pulse was due.
    fn refused<const N: usize>(lag: &mut Lag, start: Instant, calls: [u64; N]) -> [bool; N] {
        calls.map(|at| {
            let now = start + ms(at);
            lag.call(now);
            lag.is_standing(now, BOUND)
        })
    }

    #[test]
    fn a_standing_queue_is_refused_until_a_pulse_is_in_time() {
        let start = Instant::now();
        let mut lag = expecting(start);
        // One round of the queue, in which the pulse stands behind all of them.
        assert_eq!(
            refused(&mut lag, start, [5, 15, 51, 149, 150, 200]),
            [false, false, false, false, true, true]
        );
        lag.arrive(start + ms(210));
        lag.expect(start + ms(220));
        assert_eq!(refused(&mut lag, start, [211, 219]), [true, true], "they were in the socket meanwhile");
        lag.arrive(start + ms(221));
        lag.expect(start + ms(231));
        assert_eq!(refused(&mut lag, start, [222, 290]), [false, false]);
    }

    #[test]
    fn a_hitch_refuses_nobody() {
        let start = Instant::now();
        let mut lag = expecting(start);
        assert_eq!(refused(&mut lag, start, [900, 901, 950]), [false; 3], "all waited for one thing");
        lag.arrive(start + ms(951));
        lag.expect(start + ms(961));
        assert_eq!(refused(&mut lag, start, [952, 960]), [false; 2]);
        lag.arrive(start + ms(961));
        assert_eq!(lag.wait(start + ms(962)), ms(1), "and it is over");
    }

    #[test]
    fn lag_is_noticed_before_anything_is_refused() {
        let start = Instant::now();
        let mut lag = expecting(start + ms(1));
        assert_eq!(lag.call(start), Duration::ZERO);
        assert_eq!(lag.call(start + ms(21)), ms(20));
        assert!(!lag.is_standing(start + ms(21), BOUND));
        assert_eq!({ Lag::NONE }.call(start), Duration::ZERO, "where nobody calls nobody waits");
    }

    #[tokio::test]
    async fn a_busy_thread_is_late() {
        let pulses = tokio::spawn(pulse());
        tokio::task::yield_now().await;
        begin();
        tokio::time::sleep(PULSE / 2).await;
        std::thread::sleep(PULSE * 5);
        let wait = begin();
        assert!(wait >= PULSE * 3, "{wait:?}");
        assert!(is_lagging());
        let mut rounds = 0;
        while is_lagging() {
            rounds += 1;
            assert!(rounds < 1_000, "it is never in time again");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        pulses.abort();
    }
}
