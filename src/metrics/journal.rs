//! What is told of single questions.

use super::declare::{Counter, families};

families! {
    /// What is told of single questions.
    Journal in "relata_" {
        /// Questions that took longer than `--slow-question`.
        slow_questions: Counter,
        /// Lines of the decision log that were written.
        decisions_written: Counter,
        /// Lines that were left out of the decision log because it could not keep up or not be written.
        decisions_lost: Counter,
    }
}
