//! How old answers may be: flags of `relata serve`.

use std::time::Duration;

use clap::Args;

use super::exit::Failure;
use crate::config::Config;

/// How old answers may be while the database cannot be reached, and how far clocks may be apart.
#[derive(Debug, Args)]
pub(super) struct Freshness {
    /// How long answers at the newest revision in memory go on while the database cannot be
    /// reached, in seconds; then they are refused, and health says so.
    #[arg(long, env = "RELATA_MAX_STALENESS", value_name = "SECONDS", default_value_t = 10.0)]
    max_staleness: f64,
    /// Go on answering questions for longer than that, up to this age in seconds, and tell each
    /// caller how old the answer may be: revoked rights may go on for as long.
    #[arg(long, env = "RELATA_ALLOW_STALE", value_name = "SECONDS")]
    allow_stale: Option<f64>,
    /// How far this machine's clock may be from the database's before health says not serving, in
    /// seconds.
    #[arg(long, env = "RELATA_MAX_CLOCK_SKEW", value_name = "SECONDS", default_value_t = 1.0)]
    max_clock_skew: f64,
}

impl Freshness {
    pub(super) fn apply(&self, config: &mut Config) -> Result<(), Failure> {
        config.feed.max_staleness = seconds("--max-staleness", self.max_staleness)?;
        config.feed.max_clock_skew = seconds("--max-clock-skew", self.max_clock_skew)?;
        config.allow_stale = self.allow_stale.map(|age| seconds("--allow-stale", age)).transpose()?;
        if config.allow_stale.is_some_and(|age| age < config.feed.max_staleness) {
            return Err(Failure::usage("--allow-stale must not be shorter than --max-staleness"));
        }
        Ok(())
    }
}

/// A duration that is not nothing and not for ever.
pub(super) fn seconds(flag: &str, value: f64) -> Result<Duration, Failure> {
    match Duration::try_from_secs_f64(value) {
        Ok(duration)
            if duration >= Duration::from_millis(1) && duration <= Duration::from_hours(24 * 365) =>
        {
            Ok(duration)
        }
        _ => Err(Failure::usage(format!("{flag}: `{value}` is not between 0.001 and 31536000 seconds"))),
    }
}
