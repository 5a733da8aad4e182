//! `relata migrate`: creates or upgrades the tables.

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Format, Output, remark};
use super::record::Record;
use super::serve::with_causes;
use crate::datastore::DatastoreError;
use crate::metrics::Metrics;
use crate::server;

/// Create or upgrade the tables of a database.
///
/// Running it again does nothing. Servers of the version before go on working while it runs.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  RELATA_DATASTORE=postgres://relata@db/relata relata migrate
  relata migrate --datastore sqlite:relata.db
  relata migrate --new-identity --datastore sqlite:staging.db")]
pub struct Migrate {
    #[command(flatten)]
    record: Record,
    /// Also give the database a new identity, after it was copied from another one: zookies and
    /// cursors that the original handed out are then refused here. No server may be running on it.
    #[arg(long)]
    new_identity: bool,
}

impl Migrate {
    pub(super) fn run(&self, out: &mut Output) -> Result<Exit, Failure> {
        let config = self.record.config()?;
        super::args::runtime()?.block_on(async {
            let datastore =
                server::lifecycle::open(&config, Metrics::new()).await.map_err(|error| failure(&error))?;
            let mut done = datastore.migrate().await;
            if done.is_ok() && self.new_identity {
                done = datastore.renew_identity().await.map(drop);
            }
            let name = datastore.name();
            datastore.close().await;
            done.map_err(|error| failure(&error))?;
            match out.format {
                Format::Table if self.new_identity => {
                    remark(format_args!("migrated, with a new identity ({name})"));
                }
                Format::Table => remark(format_args!("migrated ({name})")),
                Format::Json | Format::Jsonl => out.json(&json!({
                    "migrated": true,
                    "new_identity": self.new_identity,
                    "datastore": name,
                }))?,
            }
            Ok(Exit::Success)
        })
    }
}

fn failure(error: &DatastoreError) -> Failure {
    let failure = Failure::new(exit_of(error), with_causes(error));
    if matches!(error, DatastoreError::Unavailable(_)) {
        return failure.advise("check that the database runs, and the address and password in --datastore");
    }
    failure
}

/// How the program ends for want of its record.
pub(super) fn exit_of(error: &DatastoreError) -> Exit {
    match error {
        DatastoreError::Unavailable(_) | DatastoreError::OutcomeUnknown(_) | DatastoreError::InUse(_) => {
            Exit::Unavailable
        }
        DatastoreError::NotMigrated { .. }
        | DatastoreError::TooNew { .. }
        | DatastoreError::StoreNotFound
        | DatastoreError::StoreExists(_)
        | DatastoreError::TooCostly { .. }
        | DatastoreError::Trimmed { .. } => Exit::BadInput,
        DatastoreError::Corrupt(_) | DatastoreError::Other(_) => Exit::Internal,
    }
}
