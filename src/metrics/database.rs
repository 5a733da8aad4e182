//! Connections to the database, by the lane they belong to.

use super::declare::{Counter, Gauge, families};
use super::histogram::Durations;
use super::label::{By, Outcome, labels};

labels! {
    /// What a connection is for. Lanes cannot starve one another.
    "lane": Lane {
        /// Transactions of writes.
        Commit = "commit",
        /// Heads and the changelog.
        Feed = "feed",
        /// Everything else that is read.
        General = "general",
        /// Sweeping, trimming, purging.
        Upkeep = "upkeep",
        /// Telling other nodes.
        Notify = "notify",
    }
}

families! {
    /// Connections to the database, by the lane they belong to.
    Database in "relata_database_" {
        /// Connections open, idle ones included.
        connections_open: By<Lane, Gauge>,
        /// Connections open that nobody uses.
        connections_idle: By<Lane, Gauge>,
        /// Attempts to connect.
        connects: By<Outcome, Counter>,
        /// How long a conversation waited for a connection of its lane, connecting included.
        connection_wait_seconds: By<Lane, Durations>,
        /// How long the database took to answer one round trip; on SQLite one job of a thread.
        round_trip_seconds: By<Lane, Durations>,
        /// Round trips that failed, time limits included.
        round_trip_failures: By<Lane, Counter>,
    }
}
