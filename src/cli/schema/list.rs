//! `relata schema list`: all versions.

use clap::Args;
use serde_json::json;

use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Item, Output};
use crate::cli::settings::Settings;
use crate::cli::wire;
use crate::proto;

/// List all versions of the schema, the newest first.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata schema list
  relata schema list --output json")]
pub struct List {}

/// How many versions to ask for at once.
const PAGE: u32 = 100;

impl List {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let connection = Connection::open(settings).await?;
        let mut items = Vec::new();
        let mut cursor = String::new();
        loop {
            let request =
                proto::ListSchemasRequest { store: settings.store.clone(), page_size: PAGE, cursor };
            let answer = connection.schemas().list_schemas(connection.request(request)).await?.into_inner();
            for schema in &answer.schemas {
                let written_at = schema.written_at.as_ref().map(wire::moment).unwrap_or_default();
                let in_force = items.is_empty();
                items.push(Item {
                    cells: vec![
                        schema.id.clone(),
                        written_at.clone(),
                        schema.revision.to_string(),
                        if in_force { "in force" } else { "" }.to_owned(),
                    ],
                    json: json!({
                        "id": schema.id,
                        "written_at": written_at,
                        "revision": schema.revision,
                        "in_force": in_force,
                    }),
                });
            }
            cursor = answer.cursor;
            if cursor.is_empty() {
                break;
            }
        }
        out.list("schemas", &["ID", "WRITTEN", "REVISION", ""], items, json!({}))?;
        Ok(Exit::Success)
    }
}
