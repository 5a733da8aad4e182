//! `relata schema write`: puts a schema in force.

use clap::Args;
use serde_json::json;

use super::file;
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::cli::settings::Settings;
use crate::proto;
use crate::schema;

/// Put a schema in force.
#[derive(Debug, Args)]
#[command(after_help = "\
The zookie of the write goes to standard output.

Examples:
  relata schema write schema.fga
  relata schema write schema.fga --expected 01JD3K6W7Q8Z9X0V1B2N3M4P5R --note 'editors may share'
  relata schema write - < schema.fga")]
pub struct Write {
    /// Schema file, or `-`.
    #[arg(value_name = "FILE")]
    path: String,
    /// Write only if this version is in force.
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    expected: String,
    /// Kept in the changelog.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// Write even if stored tuples would no longer count; `schema plan` shows which.
    #[arg(long)]
    allow_orphans: bool,
}

impl Write {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let (text, name) = file::read(&self.path)?;
        if let Err(diagnostics) = schema::parse(&text) {
            return file::report(&diagnostics, &name, out);
        }
        let request = proto::WriteSchemaRequest {
            store: settings.store.clone(),
            text,
            expected_schema_id: self.expected,
            note: self.note,
            allow_orphans: self.allow_orphans,
        };
        let connection = Connection::open(settings).await?;
        let answer = connection.schemas().write_schema(connection.request(request)).await?.into_inner();
        match out.format {
            Format::Table => {
                remark(format_args!("schema {} is in force", answer.schema_id));
                out.line(answer.zookie)?;
            }
            Format::Json | Format::Jsonl => {
                out.json(&json!({ "schema_id": answer.schema_id, "zookie": answer.zookie }))?;
            }
        }
        Ok(Exit::Success)
    }
}
