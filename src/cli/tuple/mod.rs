//! `relata tuple`: write, read and watch tuples, and look back at what was changed.

mod batch;
mod change;
mod delete_matching;
mod filter;
mod log;
mod read;
mod watch;

use clap::{Args, Subcommand};

use super::exit::{Exit, Failure};
use super::output::Output;
use super::settings::Settings;
use crate::proto::update::Operation;

/// Write, read and watch tuples.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata tuple write doc:plan viewer user:ann
  relata tuple touch tuples.csv
  relata tuple read doc:plan#viewer
  relata tuple watch --output jsonl
  relata tuple log doc:plan --since 7d
  relata tuple delete-matching @user:ann --dry-run")]
pub struct Tuple {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Write tuples; one that exists already is refused.
    #[command(after_help = change::EXAMPLES, override_usage = change::USAGE)]
    Write(change::Change),
    /// Write tuples; one that exists already is replaced, with its condition and expiry.
    #[command(after_help = change::EXAMPLES, override_usage = change::USAGE)]
    Touch(change::Change),
    /// Remove tuples.
    #[command(after_help = change::EXAMPLES, override_usage = change::USAGE)]
    Delete(change::Change),
    DeleteMatching(delete_matching::DeleteMatching),
    Read(read::Read),
    Watch(watch::Watch),
    Log(log::Log),
}

impl Tuple {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        match self.action {
            Action::Write(change) => change.run(Operation::Create, settings, out).await,
            Action::Touch(change) => change.run(Operation::Touch, settings, out).await,
            Action::Delete(change) => change.run(Operation::Delete, settings, out).await,
            Action::Read(read) => read.run(settings, out).await,
            Action::Watch(watch) => watch.run(settings, out).await,
            Action::DeleteMatching(delete) => delete.run(settings, out).await,
            Action::Log(log) => log.run(settings, out).await,
        }
    }
}
