//! Stores in memory: loading and evicting them, and what they take.

use super::declare::{Counter, Gauge, families};
use super::histogram::Durations;
use super::label::{By, labels};

labels! {
    /// How a load ended.
    "outcome": LoadOutcome {
        /// The store is in memory.
        Loaded = "loaded",
        /// The database failed, or what it holds cannot be read.
        Failed = "failed",
        /// The store does not fit.
        TooLarge = "too_large",
        /// There is no such store.
        NotFound = "not_found",
    }

    /// What memory is used for.
    "class": MemoryClass {
        /// The graph of live tuples.
        Graph = "graph",
        /// Recent changes, for earlier revisions.
        Ring = "ring",
        /// Compiled schemas.
        Schemas = "schemas",
    }

    /// What becomes of memory when others need room.
    "stay": Stay {
        /// Of stores that are never evicted.
        Pinned = "pinned",
        /// Of stores that may be evicted.
        Evictable = "evictable",
        /// Of stores that have been evicted, until their last reader has gone.
        Leaving = "leaving",
        /// Of no store: compiled schemas that were asked for by their id.
        Shared = "shared",
    }

    /// Whether an id is still used by a tuple.
    "state": IdState {
        /// Some tuple names it.
        Live = "live",
        /// No tuple names it any more.
        Dead = "dead",
    }
}

families! {
    /// Stores in memory: loading and evicting them, and what they take.
    Memory in "relata_memory_" {
        /// Stores in memory.
        stores_resident: Gauge,
        /// Stores that are silent because they have to be loaded anew.
        stores_reloading: Gauge,
        /// Loads of stores, by how they ended.
        loads: By<LoadOutcome, Counter>,
        /// How long a load took, from its turn to its end.
        load_seconds: Durations = Durations::of_long_work(),
        /// Loads under way.
        loads_in_progress: Gauge,
        /// Loads that wait for their turn.
        loads_waiting: Gauge,
        /// Tuples read by loads.
        tuples_loaded: Counter,
        /// Loads of stores that had been in memory before.
        reloads: Counter,
        /// Stores dropped from memory to make room for others.
        evictions: Counter,
        /// Approximate bytes that stores take, by what for.
        bytes: By<MemoryClass, Gauge>,
        /// The same bytes, by what becomes of them when others need room.
        stay_bytes: By<Stay, Gauge>,
        /// Bytes that stores may take; zero without a bound.
        budget_bytes: Gauge,
        /// Ids of objects and subjects held, by whether a tuple still names them.
        ids: By<IdState, Gauge>,
        /// Retired graphs that wait to be freed.
        graphs_retired: Gauge,
    }
}
