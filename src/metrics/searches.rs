//! Searches of the graph: what they cost and where they ran.

use super::declare::{Counter, Gauge, families};
use super::histogram::{Durations, Sizes};
use super::label::{By, labels};

labels! {
    /// The questions that search.
    "search": Search {
        /// `Check`.
        Check = "check",
        /// A whole `BatchCheck`.
        BatchCheck = "batch_check",
        /// `Expand`.
        Expand = "expand",
        /// `ListObjects`, one page or stream.
        ListObjects = "list_objects",
        /// `ListSubjects`, one page or stream.
        ListSubjects = "list_subjects",
        /// `ListRelations`.
        ListRelations = "list_relations",
    }

    /// Why a search was turned away before it took a place in the pool.
    "refusal": Refusal {
        /// It would not have begun in time, or did not.
        Late = "late",
        /// As many wait as may.
        QueueFull = "queue_full",
        /// It made room for a store of which fewer wait.
        PushedOut = "pushed_out",
    }
}

families! {
    /// Searches of the graph: what they cost and where they ran.
    Searches in "relata_search_" {
        /// Fuel used by a search, however it ended; a unit is a goal or a tuple looked at.
        fuel: By<Search, Sizes> = By::new(|| Sizes::up_to_ten_to_the(7)),
        /// Slices of searches run on the pool. Nearly every Check ends with its first slice, which
        /// runs where the call is served and is not among these.
        pool_slices: Counter,
        /// Searches that hold a place in the pool.
        seats_taken: Gauge,
        /// Searches that wait for a place in the pool.
        seats_wanted: Gauge,
        /// How long a search waited for a place in the pool.
        seat_wait_seconds: Durations,
        /// Searches turned away, by why.
        refusals: By<Refusal, Counter>,
        /// Slices that wait for a thread of the pool.
        queue_depth: Gauge,
        /// How long a slice waited for a thread of the pool.
        queue_wait_seconds: Durations,
    }
}
