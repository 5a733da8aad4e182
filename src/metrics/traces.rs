//! Spans on their way to a collector.

use super::declare::{Counter, families};

families! {
    /// Spans on their way to a collector.
    Traces in "relata_trace_" {
        /// Spans that the collector took.
        spans_exported: Counter,
        /// Spans lost: the queue was full, or the collector did not take them.
        spans_dropped: Counter,
    }
}
