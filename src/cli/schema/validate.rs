//! `relata schema validate`: every mistake of a schema file, without a server.

use clap::Args;

use super::file;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::schema;

/// Report every mistake of a schema file; no server is needed.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 valid, 65 not.

Examples:
  relata schema validate schema.fga
  relata schema validate - --output json < schema.fga")]
pub struct Validate {
    /// Schema file, or `-`.
    #[arg(value_name = "FILE")]
    path: String,
}

impl Validate {
    pub(super) fn run(&self, out: &mut Output) -> Result<Exit, Failure> {
        let (text, name) = file::read(&self.path)?;
        let (schema, warnings) = match schema::parse_with_warnings(&text) {
            Ok(checked) => checked,
            Err(diagnostics) => return file::report(&diagnostics, &name, out),
        };
        if out.format != Format::Table {
            return file::report(&warnings, &name, out);
        }
        if !warnings.is_empty() {
            file::report(&warnings, &name, out)?;
        }
        let relations: usize = schema.types.iter().map(|definition| definition.relations.len()).sum();
        remark(format_args!(
            "{name}: valid, {} with {} and {}",
            counted(schema.types.len(), "type"),
            counted(relations, "relation"),
            counted(schema.conditions.len(), "condition"),
        ));
        Ok(Exit::Success)
    }
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}
