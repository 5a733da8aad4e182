//! Time as questions see it, and how far this node's clock is from the database's.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::wall_clock::WallClock;
use crate::time::Timestamp;

/// How long a sample of the skew counts. Clocks are stepped, and drift.
const WINDOW: Duration = Duration::from_secs(15);

/// Samples kept at most.
const SAMPLES: usize = 64;

/// The clock of a node. It outlives the copies of stores, so that no eviction or reload turns
/// time back.
#[derive(Debug)]
pub(super) struct Clock {
    wall: WallClock,
    /// The greatest moment used for any question, in microseconds.
    last: AtomicI64,
    samples: Mutex<VecDeque<Sample>>,
}

/// One comparison of the two clocks.
#[derive(Debug, Clone, Copy)]
struct Sample {
    taken: Instant,
    skew: Skew,
}

/// How far this node's clock is ahead of the database's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Skew {
    /// Microseconds ahead; negative: behind.
    pub ahead_micros: i64,
    /// How far the truth may be from that: half of what the question took.
    pub uncertainty: Duration,
}

impl Skew {
    /// The least that the clocks differ by, however unlucky the measurement.
    #[must_use]
    pub fn at_least(&self) -> Duration {
        Duration::from_micros(self.ahead_micros.unsigned_abs()).saturating_sub(self.uncertainty)
    }

    /// What the database's clock shows when this node's shows `here`.
    pub(super) fn database(&self, here: Timestamp) -> Timestamp {
        Timestamp::from_micros(here.as_micros().saturating_sub(self.ahead_micros))
    }

    /// Seconds ahead; negative: behind.
    #[must_use]
    pub fn ahead_seconds(&self) -> f64 {
        let seconds = Duration::from_micros(self.ahead_micros.unsigned_abs()).as_secs_f64();
        if self.ahead_micros < 0 { -seconds } else { seconds }
    }

    /// From the database's answer to "what time is it", asked at `asked` by this node's clock and
    /// answered after `took`: the answer is taken to be of the middle.
    pub(super) fn of(asked: Timestamp, took: Duration, database: Timestamp) -> Self {
        let middle = asked.saturating_add(took / 2);
        Self { ahead_micros: middle.as_micros().saturating_sub(database.as_micros()), uncertainty: took / 2 }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new(WallClock::system())
    }
}

impl Clock {
    pub(super) fn new(wall: WallClock) -> Self {
        Self { wall, last: AtomicI64::new(i64::MIN), samples: Mutex::default() }
    }

    /// What this node's clock shows.
    pub(super) fn wall(&self) -> Timestamp {
        self.wall.now()
    }

    /// The moment to judge a question at: `moment`, unless an earlier question's was later.
    pub(super) fn at(&self, moment: Timestamp) -> Timestamp {
        let moment = moment.as_micros();
        Timestamp::from_micros(self.last.fetch_max(moment, Ordering::AcqRel).max(moment))
    }

    /// Takes note of a comparison; returns the best of the last ones.
    pub(super) fn note(&self, taken: Instant, skew: Skew) -> Skew {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        samples.push_back(Sample { taken, skew });
        while samples.len() > SAMPLES {
            samples.pop_front();
        }
        best(&mut samples, taken).unwrap_or(skew)
    }

    /// The best comparison of the last seconds: the one that took the shortest time. `None`: the
    /// database did not answer.
    pub(super) fn skew(&self, now: Instant) -> Option<Skew> {
        best(&mut self.samples.lock().unwrap_or_else(PoisonError::into_inner), now)
    }
}

fn best(samples: &mut VecDeque<Sample>, now: Instant) -> Option<Skew> {
    samples.retain(|sample| now.saturating_duration_since(sample.taken) <= WINDOW);
    samples.iter().map(|sample| sample.skew).min_by_key(|skew| skew.uncertainty)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn skew(asked: i64, took: u64, database: i64) -> Skew {
        let moment = Timestamp::from_micros;
        Skew::of(moment(asked), Duration::from_micros(took), moment(database))
    }

    #[test]
    fn the_answer_is_of_the_middle_of_the_question() {
        let even = skew(1_000, 200, 1_100);
        assert_eq!((even.ahead_micros, even.uncertainty), (0, Duration::from_micros(100)));
        assert_eq!(skew(1_000, 200, 600).ahead_micros, 500);
        assert_eq!(skew(1_000, 200, 1_600).ahead_micros, -500);
        assert_eq!(skew(1_000, 200, 600).at_least(), Duration::from_micros(400));
        assert_eq!(skew(1_000, 200, 1_600).at_least(), Duration::from_micros(400));
        assert_eq!(skew(1_000, 2_000, 1_600).at_least(), Duration::ZERO, "slow answers prove nothing");
    }

    #[test]
    fn the_quickest_of_the_last_answers_counts() {
        let (clock, start) = (Clock::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(clock.skew(start), None);
        let (slow, quick) = (skew(0, 4_000, 10), skew(0, 100, 50));
        assert_eq!(clock.note(after(0), slow), slow);
        assert_eq!(clock.note(after(1), quick), quick);
        assert_eq!(clock.note(after(2), slow), quick);
        // The clock is stepped: the old sample counts no longer than the window lasts.
        let stepped = skew(5_000_000, 300, 0);
        clock.note(after(10), stepped);
        assert_eq!(clock.skew(after(16)), Some(quick));
        assert_eq!(clock.skew(after(17)), Some(stepped));
        assert_eq!(clock.skew(after(26)), None, "the database has been silent");
    }

    #[test]
    fn time_does_not_turn_back() {
        let (clock, moment) = (Clock::default(), Timestamp::from_micros);
        assert_eq!(clock.at(moment(-5)), moment(-5));
        assert_eq!(clock.at(moment(7)), moment(7));
        assert_eq!(clock.at(moment(3)), moment(7));
    }
}
