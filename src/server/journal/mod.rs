//! What is told of single questions: who may know later what was decided, and why some took long.
//!
//! ```text
//! permission/witness   sees a question from its beginning to its end, however it ends
//!   decision_log       a line of JSON for each answer, sampled, on a thread of its own
//!     decision         what such a line holds
//!     sink             the file, opened anew when it has been moved away, or standard output
//!   slow_log           a warning for each question that took too long
//!     permission/replay  asks it once more, slowly and within bounds, and says where the work went
//! redact               ids as keyed hashes, in both
//! settings             which of it is wanted
//! ```
//!
//! Nothing here may slow a question down or make it fail: what cannot be kept up with is left out and
//! counted.

mod decision;
mod decision_log;
mod redact;
mod settings;
mod sink;
mod slow_log;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use decision::{Decision, Matter};
pub use decision_log::DecisionLog;
pub use redact::{RedactError, Redactor};
pub use settings::{DecisionLogSettings, DecisionPlace, JournalSettings};
pub use slow_log::{Outline, Retold, SlowLog, SlowQuestion};

use crate::metrics::Metrics;

/// Why a journal cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file for decisions cannot be written to.
    #[error("cannot write the decision log `{}`", path.display())]
    Open {
        /// Where it should be.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A thread could not be started.
    #[error("cannot start the thread of a log")]
    Start(#[source] io::Error),
}

/// What a node tells of single questions.
#[derive(Debug)]
pub struct Journal {
    /// Answers, if they are wanted.
    pub decisions: Option<DecisionLog>,
    /// Questions that took long, if they are wanted.
    pub slow: Option<SlowLog>,
}

impl Journal {
    /// Begins what the settings ask for. On a runtime, which hears the signal to open files anew.
    pub fn start(settings: &JournalSettings, metrics: &Arc<Metrics>) -> Result<Arc<Self>, JournalError> {
        let redactor = settings.redactor.clone();
        let decisions = settings.decisions.as_ref();
        let decisions =
            decisions.map(|wanted| DecisionLog::start(wanted, redactor.clone(), Arc::clone(metrics)));
        let slow = settings.slow_question.map(|limit| SlowLog::start(limit, redactor, Arc::clone(metrics)));
        Ok(Arc::new(Self { decisions: decisions.transpose()?, slow: slow.transpose()? }))
    }

    /// Whether anything is wanted at all.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.decisions.is_some() || self.slow.is_some()
    }

    /// Writes what waits to be written, for at most so long. Blocks.
    pub fn close(&self, patience: Duration) {
        if let Some(decisions) = &self.decisions {
            decisions.close(patience);
        }
    }
}
