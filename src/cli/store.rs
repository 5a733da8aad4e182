//! `relata store`: independent sets of tuples, each with its own schema.

use clap::{Args, Subcommand};
use serde_json::{Value as Json, json};

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::output::{Format, Item, Output, remark};
use super::settings::Settings;
use super::wire;
use crate::proto;

/// Create, list and delete stores.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata store create staging
  relata store list
  relata store delete staging --yes")]
pub struct Store {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Create a store and print its id.
    #[command(after_help = "Example:\n  relata store create staging")]
    Create {
        /// 1 to 64 letters, digits, `-`, `_` and `.`.
        name: String,
    },
    /// List all stores by name.
    #[command(after_help = "Example:\n  relata store list --output json")]
    List,
    /// Delete a store with everything in it.
    #[command(after_help = "Example:\n  relata store delete staging --yes")]
    Delete {
        /// Name or id.
        #[arg(value_name = "STORE")]
        target: String,
        /// Do it: deleting cannot be undone.
        #[arg(long)]
        yes: bool,
    },
}

/// How many stores to ask for at once.
const PAGE: u32 = 1_000;

impl Store {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        if let Action::Delete { target, yes: false } = &self.action {
            return Err(Failure::usage(format!(
                "deleting store `{target}` with all its tuples cannot be undone"
            ))
            .advise("add --yes to do it"));
        }
        let connection = Connection::open(settings).await?;
        match self.action {
            Action::Create { name } => create(&connection, name, out).await,
            Action::List => list(&connection, out).await,
            Action::Delete { target, yes: _ } => delete(&connection, target, out).await,
        }
    }
}

async fn create(connection: &Connection, name: String, out: &mut Output) -> Result<Exit, Failure> {
    let request = connection.request(proto::CreateStoreRequest { name });
    let answer = connection.stores().create_store(request).await?.into_inner();
    let store = wire::required(answer.store, "store")?;
    match out.format {
        Format::Table => {
            remark(format_args!("created store {}", store.name));
            out.line(store.id)?;
        }
        Format::Json | Format::Jsonl => out.json(&store_json(&store))?,
    }
    Ok(Exit::Success)
}

async fn list(connection: &Connection, out: &mut Output) -> Result<Exit, Failure> {
    let mut items = Vec::new();
    let mut cursor = String::new();
    loop {
        let request = connection.request(proto::ListStoresRequest { page_size: PAGE, cursor });
        let answer = connection.stores().list_stores(request).await?.into_inner();
        items.extend(answer.stores.iter().map(|store| Item {
            cells: vec![
                store.name.clone(),
                store.id.clone(),
                store.created_at.as_ref().map(wire::moment).unwrap_or_default(),
                store.schema_id.clone(),
            ],
            json: store_json(store),
        }));
        cursor = answer.cursor;
        if cursor.is_empty() {
            break;
        }
    }
    out.list("stores", &["NAME", "ID", "CREATED", "SCHEMA"], items, json!({}))?;
    Ok(Exit::Success)
}

async fn delete(connection: &Connection, target: String, out: &mut Output) -> Result<Exit, Failure> {
    let request = connection.request(proto::DeleteStoreRequest { store: target.clone() });
    let answer = connection.stores().delete_store(request).await?.into_inner();
    match out.format {
        Format::Table => remark(format_args!("deleted store {target}")),
        Format::Json | Format::Jsonl => out.json(&json!({ "deleted": target, "zookie": answer.zookie }))?,
    }
    Ok(Exit::Success)
}

fn store_json(store: &proto::Store) -> Json {
    json!({
        "id": store.id,
        "name": store.name,
        "created_at": store.created_at.as_ref().map(wire::moment),
        "schema_id": store.schema_id,
    })
}
