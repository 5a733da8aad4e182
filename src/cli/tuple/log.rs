//! `relata tuple log`: who changed what, when, and the note given.

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::{Value as Json, json};

use super::filter;
use crate::cli::connect::Connection;
use crate::cli::duration;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::cli::settings::Settings;
use crate::cli::wire;
use crate::proto;
use crate::proto::read_log_request::Order;
use crate::time::Timestamp;

/// Print past changes, the newest first: who, when, what, and the note.
#[derive(Debug, Args)]
#[command(after_help = "\
A filter is [TYPE[:ID]][#RELATION][@TYPE[:ID][#RELATION]]; what is left out matches anything. The log
is read backwards until enough is found: a filter that matches little reads far.

Examples:
  relata tuple log
  relata tuple log doc:plan --limit 5
  relata tuple log @user:ann --since 7d
  relata tuple log --principal key:ci --since 2026-11-01T00:00:00Z --until 2026-12-01T00:00:00Z
  relata tuple log --after \"$ZOOKIE\" --oldest-first --limit 0 --output jsonl > changes.jsonl")]
pub struct Log {
    /// Only changes of such tuples; all, if left out.
    #[arg(default_value = "", hide_default_value = true)]
    filter: String,
    /// At most so many revisions; 0 for all.
    #[arg(long, value_name = "N", default_value_t = 20)]
    limit: u64,
    /// Only since this moment, or this long ago: 2026-11-01T00:00:00Z, 2h, 7d.
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before this moment, or this long ago.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Only what this principal wrote; empty for writes without authentication.
    #[arg(long, value_name = "NAME")]
    principal: Option<String>,
    /// Only after this zookie.
    #[arg(long, value_name = "ZOOKIE", default_value = "", hide_default_value = true)]
    after: String,
    /// The oldest first.
    #[arg(long)]
    oldest_first: bool,
}

/// Revisions of one page at most, as the API has it.
const MAX_PAGE: u64 = 1_000;

impl Log {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let mut request = proto::ReadLogRequest {
            store: settings.store.clone(),
            filter: Some(filter::parse(&self.filter)?),
            principal: self.principal.clone(),
            since: moment("--since", self.since.as_deref())?,
            until: moment("--until", self.until.as_deref())?,
            after: self.after.clone(),
            order: if self.oldest_first { Order::OldestFirst } else { Order::NewestFirst }.into(),
            page_size: 0,
            cursor: String::new(),
        };
        let connection = Connection::open(settings).await?;
        let mut printed = Printed::default();
        loop {
            if self.limit > 0 {
                let left = (self.limit - printed.count).min(MAX_PAGE);
                request.page_size = u32::try_from(left).unwrap_or(u32::MAX);
            }
            let answers = connection.tuples().read_log(connection.request(request.clone())).await?;
            let last = printed.page(answers.into_inner(), out).await?;
            let enough = self.limit > 0 && printed.count >= self.limit;
            if last.cursor.is_empty() || enough {
                return printed.end(&last, out);
            }
            request.cursor = last.cursor;
        }
    }
}

/// What has been printed.
#[derive(Default)]
struct Printed {
    count: u64,
    /// For one document.
    entries: Vec<Json>,
}

impl Printed {
    /// Prints a page; returns its last message.
    async fn page(
        &mut self,
        mut answers: tonic::Streaming<proto::ReadLogResponse>,
        out: &mut Output,
    ) -> Result<proto::ReadLogResponse, Failure> {
        // A large revision comes in several parts.
        let mut parts: Option<proto::LogEntry> = None;
        while let Some(message) = answers.message().await? {
            let Some(part) = message.entry else { return Ok(message) };
            let continued = part.continued;
            let entry = match parts.take() {
                Some(mut whole) => {
                    whole.changes.extend(part.changes);
                    whole
                }
                None => part,
            };
            if continued {
                parts = Some(entry);
            } else {
                self.print(&entry, out)?;
            }
        }
        Err(wire::lacking("the end of the log"))
    }

    fn print(&mut self, entry: &proto::LogEntry, out: &mut Output) -> Result<(), Failure> {
        self.count += 1;
        match out.format {
            Format::Table => print_lines(entry, out)?,
            Format::Json => self.entries.push(entry_json(entry)),
            Format::Jsonl => out.line(entry_json(entry))?,
        }
        out.flush()
    }

    fn end(self, last: &proto::ReadLogResponse, out: &mut Output) -> Result<Exit, Failure> {
        match out.format {
            Format::Table => {
                if !last.cursor.is_empty() {
                    remark("more match: say --limit 0 for all");
                } else if last.trimmed {
                    remark("earlier revisions are no longer retained");
                }
            }
            Format::Json => {
                let complete = last.cursor.is_empty();
                out.json(&json!({ "entries": self.entries, "complete": complete, "trimmed": last.trimmed }))?;
            }
            Format::Jsonl => {}
        }
        Ok(Exit::Success)
    }
}

fn print_lines(entry: &proto::LogEntry, out: &mut Output) -> Result<(), Failure> {
    let mut head = entry.committed_at.as_ref().map(wire::moment).unwrap_or_default();
    for part in [&entry.principal, &entry.note] {
        if !part.is_empty() {
            head = format!("{head}  {part}");
        }
    }
    out.line(out.faint(&format!("{head}  {}", entry.zookie)))?;
    if !entry.schema_id.is_empty() {
        out.line(format_args!("  schema {}", entry.schema_id))?;
    }
    for change in &entry.changes {
        for (sign, colour, tuple) in
            [("-", AnsiColor::Red, &change.before), ("+", AnsiColor::Green, &change.after)]
        {
            if let Some(tuple) = tuple {
                let sign = out.paint(Style::new().fg_color(Some(colour.into())), sign);
                out.line(format_args!("  {sign} {}", wire::tuple_text(tuple)))?;
            }
        }
    }
    let hidden = usize::try_from(entry.total_changes).unwrap_or(0).saturating_sub(entry.changes.len());
    if hidden > 0 {
        out.line(out.faint(&format!("  and {hidden} more that do not match")))?;
    }
    Ok(())
}

fn entry_json(entry: &proto::LogEntry) -> Json {
    let state = |tuple: &Option<proto::Tuple>| tuple.as_ref().map(wire::tuple_json);
    let change =
        |change: &proto::LogChange| json!({ "before": state(&change.before), "after": state(&change.after) });
    json!({
        "revision": entry.revision,
        "zookie": entry.zookie,
        "committed_at": entry.committed_at.as_ref().map(wire::moment),
        "principal": entry.principal,
        "note": entry.note,
        "schema_id": entry.schema_id,
        "changes": entry.changes.iter().map(change).collect::<Vec<_>>(),
        "total_changes": entry.total_changes,
    })
}

/// A moment, or how long ago it was.
fn moment(flag: &str, text: Option<&str>) -> Result<Option<prost_types::Timestamp>, Failure> {
    let Some(text) = text else { return Ok(None) };
    let moment = match duration::parse(text) {
        Some(ago) => {
            let ago = i64::try_from(ago.as_micros()).unwrap_or(i64::MAX);
            let now = jiff::Timestamp::now().as_microsecond();
            Timestamp::from_micros(now.saturating_sub(ago))
        }
        None => text.parse().map_err(|_| {
            Failure::bad_input(format!("{flag} `{text}` is not a time"))
                .advise("write it like 2026-11-01T00:00:00Z, 2h or 7d")
        })?,
    };
    Ok(Some(wire::timestamp(moment)))
}
