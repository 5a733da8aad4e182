//! Shares and quantiles of many questions.

use std::time::Duration;

use super::load::{End, Kind, Sample};

/// Some of the samples.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Of those answered in time, ascending.
    took: Vec<Duration>,
    pub asked: usize,
    pub refused: usize,
    pub late: usize,
    pub exhausted: usize,
    /// Of those refused, ascending.
    refused_after: Vec<Duration>,
}

impl Tally {
    /// Of the samples of a kind, of one store or of all.
    pub fn of(samples: &[Sample], kind: Kind, store: Option<&str>) -> Self {
        let mut tally = Self::default();
        let those = samples
            .iter()
            .filter(|sample| sample.kind == kind && store.is_none_or(|store| store == sample.store));
        for sample in those {
            tally.asked += 1;
            match sample.end {
                End::Answered => tally.took.push(sample.took),
                End::Refused => {
                    tally.refused += 1;
                    tally.refused_after.push(sample.took);
                }
                End::Exhausted => tally.exhausted += 1,
                End::Late => tally.late += 1,
            }
        }
        tally.took.sort();
        tally.refused_after.sort();
        tally
    }

    pub fn answered(&self) -> usize {
        self.took.len()
    }

    /// The part that was answered in time.
    pub fn share(&self) -> f64 {
        if self.asked == 0 { 1.0 } else { count(self.answered()) / count(self.asked) }
    }

    /// How long those answered took at most, but for one in a hundred.
    pub fn p99(&self) -> Duration {
        quantile(&self.took, 0.99)
    }

    /// How long a refusal took, in the middle and but for one in a hundred.
    pub fn refused_after(&self) -> (Duration, Duration) {
        (quantile(&self.refused_after, 0.5), quantile(&self.refused_after, 0.99))
    }
}

/// Of ascending durations.
pub fn quantile(sorted: &[Duration], part: f64) -> Duration {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a place in the list")]
    let at = (count(sorted.len()) * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "small numbers")]
pub fn count(number: usize) -> f64 {
    number as f64
}

/// A duration in milliseconds, for people.
pub fn ms(duration: Duration) -> String {
    let milliseconds = duration.as_secs_f64() * 1_000.0;
    if milliseconds < 10.0 { format!("{milliseconds:.1}") } else { format!("{milliseconds:.0}") }
}
