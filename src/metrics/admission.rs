//! What is let in at once, and what is not.

use super::declare::{Counter, Gauge, families};
use super::histogram::Durations;
use super::label::{By, labels};

labels! {
    /// What calls take up.
    "resource": Resource {
        /// Calls with one answer that have not ended.
        Calls = "calls",
        /// Calls with a stream of answers that have not ended.
        Streams = "streams",
        /// Streams that ask for no credential, which are those of health.
        Anonymous = "anonymous_streams",
        /// Bytes of requests under way and of answers not taken by their readers.
        Bytes = "bytes",
        /// Time of a thread that serves.
        Time = "time",
    }
}

families! {
    /// What is let in at once, and what is not.
    Admission in "relata_admission_" {
        /// What calls take up now; of time nothing is shown.
        held: By<Resource, Gauge>,
        /// Calls refused, and streams ended, because too much was taken up.
        refusals: By<Resource, Counter>,
        /// How long a call waited for the thread that serves it.
        lag_seconds: Durations,
        /// Streams ended because their readers took nothing for too long.
        stalled_readers: Counter,
    }
}
