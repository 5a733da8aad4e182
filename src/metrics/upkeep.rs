//! Work nobody asked for: sweeping, trimming, purging.

use super::declare::{Counter, Gauge, families};
use super::histogram::Durations;
use super::label::{By, labels};

labels! {
    /// What is done from time to time.
    "task": Task {
        /// Expired tuples are removed.
        Sweep = "sweep",
        /// Old entries of the changelog are removed.
        Trim = "trim",
        /// Deleted stores are removed.
        Purge = "purge",
        /// Old idempotency keys are removed.
        Idempotency = "idempotency",
    }
}

families! {
    /// Work nobody asked for: sweeping, trimming, purging.
    Upkeep in "relata_upkeep_" {
        /// Rounds of a task that ended well.
        rounds: By<Task, Counter>,
        /// Rounds of a task that failed; they are tried again.
        failures: By<Task, Counter>,
        /// How long a round took.
        round_seconds: By<Task, Durations> = By::new(Durations::of_long_work),
        /// What a task has removed: tuples swept, revisions trimmed, rows purged, keys forgotten.
        removed: By<Task, Counter>,
        /// When a task last ended a round well, in seconds since 1970; zero before the first.
        last_success_timestamp_seconds: By<Task, Gauge>,
        /// Leases this node holds.
        leases_held: By<Task, Gauge>,
    }
}
