//! The clock that a node reads.

use std::sync::{Arc, LazyLock};
use std::time::SystemTime;

use crate::time::Timestamp;

static SYSTEM: LazyLock<WallClock> = LazyLock::new(|| {
    WallClock::reading(|| {
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
    })
});

/// What time a node believes it is: the only clock that the judging of expiries reads, apart from
/// the database's. It may be wrong, and it may be set back.
#[derive(Clone)]
pub struct WallClock(Arc<dyn Fn() -> Timestamp + Send + Sync>);

impl WallClock {
    /// The machine's.
    #[must_use]
    pub fn system() -> Self {
        SYSTEM.clone()
    }

    /// Another one, such as one that can be set.
    pub fn reading(read: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// What it shows.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        (self.0)()
    }
}

impl std::fmt::Debug for WallClock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.now())
    }
}

/// Two are equal that are the same clock.
impl PartialEq for WallClock {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for WallClock {}
