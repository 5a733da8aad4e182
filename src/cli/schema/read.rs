//! `relata schema read`: the schema in force, or an earlier one.

use clap::Args;
use serde_json::json;

use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::cli::settings::Settings;
use crate::cli::wire;
use crate::proto;

/// Print the schema in force, or an earlier version.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata schema read > schema.fga
  relata schema read 01JD3K6W7Q8Z9X0V1B2N3M4P5R
  relata schema read --json > model.json")]
pub struct Read {
    /// Version to print [default: the one in force].
    #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
    schema_id: String,
    /// Print OpenFGA's JSON form of it instead of the text.
    #[arg(long)]
    json: bool,
}

impl Read {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let request = proto::ReadSchemaRequest { store: settings.store.clone(), schema_id: self.schema_id };
        let connection = Connection::open(settings).await?;
        let answer = connection.schemas().read_schema(connection.request(request)).await?.into_inner();
        let schema = wire::required(answer.schema, "schema")?;
        let written_at = schema.written_at.as_ref().map(wire::moment).unwrap_or_default();
        match out.format {
            Format::Table if self.json => out.line(schema.json.trim_end())?,
            Format::Table => {
                remark(format_args!("schema {} of {written_at}, revision {}", schema.id, schema.revision));
                out.line(schema.text.trim_end())?;
            }
            Format::Json | Format::Jsonl => {
                let model: serde_json::Value = serde_json::from_str(&schema.json).unwrap_or_default();
                out.json(&json!({
                    "id": schema.id,
                    "text": schema.text,
                    "model": model,
                    "written_at": written_at,
                    "revision": schema.revision,
                    "zookie": answer.zookie,
                }))?;
            }
        }
        Ok(Exit::Success)
    }
}
