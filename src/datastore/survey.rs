//! What can be seen of a database without changing it: the words that both surveys share.
//!
//! A survey tells facts, and judges none of them; `doctor` does. What cannot be seen, because the
//! role may not or the database does not say, is told as such, and hinders nothing else.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::time::Timestamp;

/// Something that was looked at, or why it could not be.
pub type Seen<T> = Result<T, String>;

/// How long something took, several times over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Of measurements in any order; none of them is `None`.
    #[must_use]
    pub fn of(mut measured: Vec<Duration>) -> Option<Self> {
        measured.sort_unstable();
        (!measured.is_empty()).then_some(Self(measured))
    }

    /// Half of them took no longer.
    #[must_use]
    pub fn median(&self) -> Duration {
        self.0.get(self.0.len() / 2).copied().unwrap_or_default()
    }

    /// None took longer.
    #[must_use]
    pub fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

/// Of which version the tables are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TablesVersion {
    /// The version of the database: zero without tables.
    pub found: i64,
    /// The newest version that this program knows, which it migrates to.
    pub known: i64,
    /// The oldest version whose programs can work on the tables; tables before version 3 do not
    /// say.
    pub usable_from: Option<i64>,
}

/// A live store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreSize {
    /// Its name.
    pub name: String,
    /// Its newest revision.
    pub revision: u64,
    /// Its live tuples, if they were counted.
    pub tuples: Option<u64>,
}

/// What this machine's clock says.
pub(super) fn machine_now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let samples = Samples::of([9, 1, 5].map(Duration::from_millis).to_vec()).expect("three");
        let found = (samples.median().as_millis(), samples.max().as_millis(), samples.count());
        assert_eq!(found, (5, 9, 3));
        assert_eq!(Samples::of(Vec::new()), None);
    }
}
