//! Histograms of whole numbers. Recording is a search for the bucket and two additions, without a
//! lock and without touching what other threads touch: every shard records with every call.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::cells::Cells;

/// Bounds for what a caller waits for, in seconds.
const LATENCIES: &[Duration] = &[
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2_500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Bounds for what goes on in the background.
const LONG: &[Duration] = &[
    Duration::from_millis(1),
    Duration::from_millis(5),
    Duration::from_millis(25),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_secs(1),
    Duration::from_millis(2_500),
    Duration::from_secs(5),
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_mins(1),
    Duration::from_mins(2),
    Duration::from_mins(5),
    Duration::from_mins(10),
    Duration::from_mins(30),
];

/// How often each range of values came up, and their sum.
struct Buckets {
    /// Upper bounds, ascending; what exceeds the last counts only in the last of the counts.
    bounds: Box<[u64]>,
    /// A count for each bound, one for what exceeds them all, and the sum.
    cells: Cells,
}

impl Buckets {
    fn new(bounds: impl IntoIterator<Item = u64>) -> Self {
        let bounds: Box<[u64]> = bounds.into_iter().collect();
        let cells = Cells::new(bounds.len() + 2);
        Self { bounds, cells }
    }

    fn observe(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        self.cells.add([(place, 1), (self.bounds.len() + 1, value)]);
    }

    fn counts(&self) -> impl Iterator<Item = u64> {
        (0..=self.bounds.len()).map(|place| self.cells.read(place))
    }

    fn count(&self) -> u64 {
        self.counts().sum()
    }

    fn sum(&self) -> u64 {
        self.cells.read(self.bounds.len() + 1)
    }

    /// Each count is read once, so that the total agrees with the buckets while others record.
    #[expect(clippy::cast_precision_loss, reason = "a sum of more than 2^53 may be a little off")]
    fn encode(&self, mut encoder: MetricEncoder<'_>, unit: f64) -> fmt::Result {
        let bounds = self.bounds.iter().map(|bound| *bound as f64 / unit).chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.zip(self.counts()).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(self.sum() as f64 / unit, count, &buckets, None)
    }
}

/// How long things took. Kept in nanoseconds, exposed in seconds.
#[derive(Clone)]
pub struct Durations(Arc<Buckets>);

impl Durations {
    const NANOS: f64 = 1e9;

    /// Of what a caller waits for: 50 µs to 10 s.
    #[must_use]
    pub fn of_calls() -> Self {
        Self::within(LATENCIES)
    }

    /// Of what goes on in the background: 1 ms to half an hour.
    #[must_use]
    pub fn of_long_work() -> Self {
        Self::within(LONG)
    }

    fn within(bounds: &[Duration]) -> Self {
        Self(Arc::new(Buckets::new(bounds.iter().map(|bound| nanos(*bound)))))
    }

    /// Records a duration.
    pub fn observe(&self, duration: Duration) {
        self.0.observe(nanos(duration));
    }

    /// Records the time since a moment.
    pub fn since(&self, moment: Instant) {
        self.observe(moment.elapsed());
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.0.sum())
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Default for Durations {
    fn default() -> Self {
        Self::of_calls()
    }
}

impl fmt::Debug for Durations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {:?}", self.count(), self.sum())
    }
}

impl TypedMetric for Durations {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Durations {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder, Self::NANOS)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// How large things were.
#[derive(Clone)]
pub struct Sizes(Arc<Buckets>);

impl Sizes {
    /// With bounds at 1, 2, 5, 10, 20, 50 … up to a power of ten.
    #[must_use]
    pub fn up_to_ten_to_the(exponent: u32) -> Self {
        let steps = (0..exponent).flat_map(|power| [1, 2, 5].map(|step| step * 10_u64.saturating_pow(power)));
        Self(Arc::new(Buckets::new(steps.chain([10_u64.saturating_pow(exponent)]))))
    }

    /// Records a size.
    pub fn observe(&self, size: u64) {
        self.0.observe(size);
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// Their sum.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.0.sum()
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self::up_to_ten_to_the(4)
    }
}

impl fmt::Debug for Sizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}", self.count(), self.sum())
    }
}

impl TypedMetric for Sizes {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for Sizes {
    fn encode(&self, encoder: MetricEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder, 1.0)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_includes_itself() {
        let sizes = Sizes::up_to_ten_to_the(1);
        assert_eq!(&*sizes.0.bounds, [1, 2, 5, 10]);
        for size in [0, 1, 2, 3, 10, 11, u64::from(u32::MAX)] {
            sizes.observe(size);
        }
        assert_eq!(sizes.0.counts().collect::<Vec<_>>(), [2, 1, 1, 1, 2]);
        assert_eq!((sizes.count(), sizes.sum()), (7, 27 + u64::from(u32::MAX)));
    }

    #[test]
    fn durations_keep_their_nanoseconds() {
        let durations = Durations::of_calls();
        durations.observe(Duration::from_nanos(1));
        durations.observe(Duration::from_hours(24));
        assert_eq!(durations.sum(), Duration::from_hours(24) + Duration::from_nanos(1));
        for bounds in [LATENCIES, LONG] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
