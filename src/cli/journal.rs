//! What `relata serve` tells of single questions: flags.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use super::serve::with_causes;
use crate::server::journal::{DecisionLogSettings, DecisionPlace, JournalSettings, Redactor};

/// Slow questions and decisions.
#[derive(Debug, Args)]
pub(super) struct JournalFlags {
    /// Log questions that take longer, in seconds, with where the time and the work went; 0 for none.
    #[arg(long, env = "RELATA_SLOW_QUESTION", value_name = "SECONDS", default_value_t = 1.0)]
    slow_question: f64,
    /// Write a line of JSON for each answer to the end of this file, or `-` for standard output.
    #[arg(long, env = "RELATA_DECISION_LOG", value_name = "PATH")]
    decision_log: Option<PathBuf>,
    /// The part of the answers that is written to the decision log, from 0 to 1.
    #[arg(long, env = "RELATA_DECISION_LOG_SAMPLE", value_name = "RATIO", default_value_t = 1.0)]
    decision_log_sample: f64,
    /// File with a key (16 bytes or more) by which ids and callers are hashed in the decision log and
    /// with slow questions.
    #[arg(long, env = "RELATA_REDACT_IDS", value_name = "FILE")]
    redact_ids: Option<PathBuf>,
}

impl JournalFlags {
    pub(super) fn settings(&self) -> Result<JournalSettings, Failure> {
        let slow_question = match Duration::try_from_secs_f64(self.slow_question) {
            Ok(Duration::ZERO) => None,
            Ok(limit) => Some(limit),
            Err(_) => {
                return Err(Failure::usage(format!("--slow-question: `{}` is no time", self.slow_question)));
            }
        };
        let ratio = self.decision_log_sample;
        if !(0.0..=1.0).contains(&ratio) {
            return Err(Failure::usage(format!("--decision-log-sample: `{ratio}` is not between 0 and 1")));
        }
        let place = self.decision_log.as_ref().map(|path| match path.to_str() {
            Some("-") => DecisionPlace::Stdout,
            _ => DecisionPlace::File(path.clone()),
        });
        let redactor = match &self.redact_ids {
            None => None,
            Some(path) => match Redactor::open(path) {
                Ok(redactor) => Some(Arc::new(redactor)),
                Err(error) => return Err(Failure::bad_input(with_causes(&error))),
            },
        };
        let decisions = place.map(|place| DecisionLogSettings { ratio, ..DecisionLogSettings::new(place) });
        Ok(JournalSettings { slow_question, decisions, redactor })
    }
}
