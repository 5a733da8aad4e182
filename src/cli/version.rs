//! `relata version`: what this program is.

use clap::Args;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::{Format, Output};

/// Print the version of this program.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  relata version --output json")]
pub struct Version {}

/// The package of the API, as gRPC names it.
const API: &str = "relata.v1";

impl Version {
    pub(super) fn run(out: &mut Output) -> Result<Exit, Failure> {
        let version = env!("CARGO_PKG_VERSION");
        match out.format {
            Format::Table => out.line(format_args!("relata {version} (API {API})"))?,
            Format::Json | Format::Jsonl => out.json(&json!({ "version": version, "api": API }))?,
        }
        Ok(Exit::Success)
    }
}
