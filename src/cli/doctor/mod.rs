//! `relata doctor`: looks over the database and the server, and says what is wrong and what to do.
//!
//! ```text
//! database  surveys the database that a server with these settings would use
//! server    asks a running server, if one is named
//! report    findings as people and programs read them
//! ```

mod database;
mod report;
mod server;

use std::time::Duration;

use clap::Args;

use super::exit::{Exit, Failure};
use super::output::Output;
use super::record::Record;
use super::settings::Globals;
use crate::config::{DatastoreConfig, MemoryBudget};
use crate::doctor::{Expectations, Finding, Severity};
use crate::server::machine;

/// Look over the database and the server, and say what is wrong and what to do.
///
/// The database is the one that `relata serve` would use with the same flags and variables; nothing
/// in it is changed. With --endpoint, or a context in use, a running server is asked as well; if
/// --datastore is not given then, only the server is.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 if nothing is wrong (warnings may have been given), 1 if something is.

Examples:
  relata doctor
  RELATA_DATASTORE=postgres://relata@db/relata relata doctor
  relata doctor --endpoint https://relata.example.com:8081
  relata doctor --datastore sqlite:relata.db --output json")]
pub struct Doctor {
    #[command(flatten)]
    record: Record,
    /// What stores in memory may take together, as `relata serve` has it [default: half of the
    /// machine's memory, or of the container's].
    #[arg(long, env = "RELATA_MEMORY_BUDGET", value_name = "SIZE")]
    memory_budget: Option<MemoryBudget>,
    /// How far this machine's clock may be from the database's, in seconds, as `relata serve` has it.
    #[arg(long, env = "RELATA_MAX_CLOCK_SKEW", value_name = "SECONDS", default_value_t = 1.0)]
    max_clock_skew: f64,
}

/// What was looked over, and what was found.
struct Section {
    title: String,
    findings: Vec<Finding>,
}

impl Doctor {
    pub(super) fn run(&self, globals: &Globals, out: &mut Output) -> Result<Exit, Failure> {
        let asks_server = globals.names_a_server()?;
        let sections = super::args::runtime()?.block_on(async {
            let mut sections = Vec::new();
            if self.record.is_named() || !asks_server {
                let config = self.record.config()?;
                let expected = self.expectations(&config)?;
                sections.push(database::look_over(&config, &expected).await);
            }
            if asks_server {
                sections.push(server::look_over(&globals.settings()?).await);
            }
            Ok::<_, Failure>(sections)
        })?;
        report::print(&sections, out)?;
        let findings = || sections.iter().flat_map(|section| &section.findings);
        let wrong = findings().any(|finding| finding.severity == Severity::Problem);
        Ok(if wrong { Exit::Denied } else { Exit::Success })
    }

    fn expectations(&self, config: &DatastoreConfig) -> Result<Expectations, Failure> {
        let max_clock_skew = Duration::try_from_secs_f64(self.max_clock_skew)
            .map_err(|_| Failure::usage(format!("--max-clock-skew: `{}` is no time", self.max_clock_skew)))?;
        let machine_memory = machine::memory();
        let bytes = |bytes: usize| u64::try_from(bytes).unwrap_or(u64::MAX);
        Ok(Expectations {
            max_clock_skew,
            connections: match config {
                DatastoreConfig::Postgres(settings) => settings.connections(),
                DatastoreConfig::Sqlite(_) => 0,
            },
            machine_memory: machine_memory.map(bytes),
            memory_budget: self.memory_budget.unwrap_or_default().bytes(machine_memory).map(bytes),
        })
    }
}
