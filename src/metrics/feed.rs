//! Following the changelog: how much, how far behind, and whether it is still the same history.

use super::declare::{Counter, Gauge, Reading, families};
use super::histogram::Durations;
use super::label::{By, Outcome, labels};

labels! {
    /// Where a hint came from.
    "source": HintSource {
        /// A write on this node.
        Here = "here",
        /// Another node, through the database.
        Elsewhere = "elsewhere",
    }

    /// How a copy that had parted from the database was mended.
    "outcome": Divergence {
        /// Undone back to the fork, then along the new branch.
        Rewound = "rewound",
        /// Loaded anew.
        Reloaded = "reloaded",
    }
}

families! {
    /// Following the changelog: how much, how far behind, and whether it is still the same history.
    Feed in "relata_feed_" {
        /// Revisions put before readers.
        revisions_published: Counter,
        /// Changes of tuples applied to graphs.
        changes_applied: Counter,
        /// From a revision's commit, by the database's clock, to its publication here.
        publish_delay_seconds: Durations,
        /// Revisions the store furthest behind has yet to apply, as of the last regular head query.
        lag_revisions: Gauge,
        /// For how long the store longest behind has not been proved current; zero when none is
        /// behind.
        lag_seconds: Reading,
        /// How long ago the store proved current least recently was proved so.
        staleness_seconds: Reading,
        /// Queries for heads, each for all stores that need one.
        head_queries: By<Outcome, Counter>,
        /// How long a query for heads took.
        head_query_seconds: Durations,
        /// Hints that a store has something new.
        hints: By<HintSource, Counter>,
        /// Times the database's history was not the one in memory, by how it was mended.
        divergences: By<Divergence, Counter>,
        /// How far this node's clock is ahead of the database's; negative when it is behind.
        clock_skew_seconds: Reading,
    }
}
