//! `relata tuple read`: the stored tuples, as stored.

use clap::Args;
use serde_json::json;

use super::filter;
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Item, Output, remark};
use crate::cli::settings::Settings;
use crate::cli::wire;
use crate::proto;

/// Print stored tuples; rules are not followed and conditions are not evaluated.
#[derive(Debug, Args)]
#[command(after_help = "\
A filter is [TYPE[:ID]][#RELATION][@TYPE[:ID][#RELATION]]; what is left out matches anything.

Examples:
  relata tuple read
  relata tuple read doc:plan
  relata tuple read doc:plan#viewer
  relata tuple read 'doc#viewer@group:eng#member'
  relata tuple read @user:ann --output jsonl > ann.jsonl
  relata tuple read doc --page-size 100")]
pub struct Read {
    /// Which tuples; all, if left out.
    #[arg(default_value = "", hide_default_value = true, hide_possible_values = true)]
    filter: String,
    /// Read at least as fresh as this zookie [default: the newest in the database].
    #[arg(long, value_name = "ZOOKIE", default_value = "", hide_default_value = true)]
    at_least: String,
    /// Print one page of at most this many, and the cursor of the next.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    page_size: u32,
    /// Where the page before ended.
    #[arg(
        long,
        value_name = "CURSOR",
        default_value = "",
        hide_default_value = true,
        requires = "page_size"
    )]
    cursor: String,
}

/// Rows of one table; more go into a table of their own, so that memory stays bounded.
const ROWS: usize = 1_000;
const HEADER: &[&str] = &["OBJECT", "RELATION", "SUBJECT", "CONDITION", "EXPIRES"];

impl Read {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let request = proto::ReadRequest {
            store: settings.store.clone(),
            filter: Some(filter::parse(&self.filter)?),
            at_least: self.at_least,
            page_size: self.page_size,
            cursor: self.cursor,
        };
        let connection = Connection::open(settings).await?;
        let mut answers = connection.tuples().read(connection.request(request)).await?.into_inner();
        let mut items = Vec::new();
        let mut count = 0_usize;
        let (mut cursor, mut zookie) = (String::new(), String::new());
        while let Some(answer) = answers.message().await? {
            count += answer.tuples.len();
            cursor = answer.cursor;
            zookie = answer.zookie;
            if out.format == Format::Jsonl {
                answer.tuples.iter().try_for_each(|tuple| out.line(wire::tuple_json(tuple)))?;
                out.flush()?;
                continue;
            }
            items.extend(answer.tuples.iter().map(item));
            if out.format == Format::Table && items.len() >= ROWS {
                out.list("tuples", HEADER, std::mem::take(&mut items), json!({}))?;
                out.flush()?;
            }
        }
        if out.format != Format::Jsonl {
            out.list("tuples", HEADER, items, json!({ "cursor": cursor, "zookie": zookie }))?;
        }
        if out.format == Format::Table {
            let plural = if count == 1 { "" } else { "s" };
            remark(format_args!("{count} tuple{plural} at {zookie}"));
            if !cursor.is_empty() {
                remark(format_args!("more follow: repeat with --cursor {cursor}"));
            }
        }
        Ok(Exit::Success)
    }
}

fn item(tuple: &proto::Tuple) -> Item {
    Item {
        cells: vec![
            tuple.object.clone(),
            tuple.relation.clone(),
            tuple.subject.clone(),
            wire::condition_text(tuple),
            tuple.expires_at.as_ref().map(wire::moment).unwrap_or_default(),
        ],
        json: wire::tuple_json(tuple),
    }
}
