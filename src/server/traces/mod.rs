//! Traces on their way to a collector, over OTLP.
//!
//! ```text
//! exporter  a thread of its own: takes spans that have ended, sends them in batches
//!   wire    spans as the protocol has them
//! ```

mod exporter;
mod wire;

pub use exporter::{Exporter, TracesError};
