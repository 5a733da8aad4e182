//! Which of it is wanted.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::redact::Redactor;

/// What is told of single questions.
#[derive(Debug, Clone)]
pub struct JournalSettings {
    /// Questions that take longer are logged with the reason. Default 1 s; `None`: none are.
    pub slow_question: Option<Duration>,
    /// Where answers are written, if anywhere. Default: nowhere.
    pub decisions: Option<DecisionLogSettings>,
    /// Replaces ids in both. Default: they are written as they are.
    pub redactor: Option<Arc<Redactor>>,
}

impl Default for JournalSettings {
    fn default() -> Self {
        Self { slow_question: Some(Duration::from_secs(1)), decisions: None, redactor: None }
    }
}

/// Where answers are written, and how many of them.
#[derive(Debug, Clone, PartialEq)]
pub struct DecisionLogSettings {
    /// Where to.
    pub place: DecisionPlace,
    /// The part of the answers that is written, from 0 to 1. Default 1: all of them.
    pub ratio: f64,
    /// Answers that may wait to be written; more are left out and counted. Default 16,384: a few
    /// megabytes.
    pub queue: usize,
}

impl DecisionLogSettings {
    /// All answers.
    #[must_use]
    pub fn new(place: DecisionPlace) -> Self {
        Self { place, ratio: 1.0, queue: 16_384 }
    }
}

/// Where answers are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DecisionPlace {
    /// To standard output, between what the server says of itself.
    Stdout,
    /// To the end of a file, which is made if absent.
    File(PathBuf),
}
