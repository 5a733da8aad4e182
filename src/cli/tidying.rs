//! What is removed by itself, and when: flags of `relata serve`.

use std::time::Duration;

use clap::Args;

use super::duration;
use super::exit::Failure;
use crate::config::Config;
use crate::upkeep::{MAX_SWEEP_INTERVAL, MIN_LOG_RETENTION};

/// How long the changelog is kept, and how soon expired tuples leave.
#[derive(Debug, Args)]
pub(super) struct Tidying {
    /// Remove revisions from the changelog once they are older than this, such as 90d; at least 1h
    /// [default: keep them for ever].
    ///
    /// What is removed can no longer be watched, asked about or audited. Tuples stay.
    #[arg(long, env = "RELATA_LOG_RETENTION", value_name = "DURATION", value_parser = duration::flag)]
    log_retention: Option<Duration>,
    /// How often expired tuples are looked for, to free what they take and tell those who watch;
    /// they count nowhere from their moment on.
    #[arg(
        long,
        env = "RELATA_SWEEP_INTERVAL",
        value_name = "DURATION",
        default_value = "1s",
        value_parser = duration::flag
    )]
    sweep_interval: Duration,
}

impl Tidying {
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        if self.log_retention.is_some_and(|retention| retention < MIN_LOG_RETENTION) {
            return Err(Failure::usage("--log-retention must be at least 1h")
                .advise("servers and readers that lost their connection catch up from the log"));
        }
        if self.sweep_interval > MAX_SWEEP_INTERVAL {
            return Err(Failure::usage("--sweep-interval must be at most 1h"));
        }
        config.upkeep.log_retention = self.log_retention;
        config.upkeep.sweep_interval = self.sweep_interval;
        Ok(())
    }
}
