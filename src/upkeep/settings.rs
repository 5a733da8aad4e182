//! What can be set about the upkeep.

use std::time::Duration;

/// Shortest retention of the log. Questions about earlier revisions reach back 15 minutes on every
/// node, and a node that lost its connection or a reader of Watch that was restarted catches up
/// from the log.
pub const MIN_LOG_RETENTION: Duration = Duration::from_hours(1);

/// Longest pause between two sweeps. What expired keeps its row and its memory that long.
pub const MAX_SWEEP_INTERVAL: Duration = Duration::from_hours(1);

/// Settings of [`Upkeep`](super::Upkeep).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpkeepSettings {
    /// How often expired tuples are looked for. Default 1 s. An expired tuple counts nowhere from
    /// its moment on; this bounds how long its row, and its memory on every node, outlive it.
    pub sweep_interval: Duration,
    /// How often deleted stores are looked for. Default 10 s.
    pub purge_interval: Duration,
    /// How often revisions beyond the retention, and idempotency keys that may be forgotten, are
    /// looked for. Default 1 minute.
    pub trim_interval: Duration,
    /// How long the log is retained, at least [`MIN_LOG_RETENTION`]. Default: for ever. What is
    /// trimmed can no longer be watched, asked about, or audited.
    pub log_retention: Option<Duration>,
    /// Rows of one step. Default 1,000: writers of the store wait for a step as they do for any
    /// full group of writes.
    pub batch: u32,
    /// How long a node keeps a duty without prolonging it. Default 15 s. When a node dies, its
    /// duties rest for as long, and a third more until the next one looks.
    pub lease_term: Duration,
}

impl Default for UpkeepSettings {
    fn default() -> Self {
        Self {
            sweep_interval: Duration::from_secs(1),
            purge_interval: Duration::from_secs(10),
            trim_interval: Duration::from_mins(1),
            log_retention: None,
            batch: 1_000,
            lease_term: Duration::from_secs(15),
        }
    }
}
