//! `relata tuple watch`: every revision as it happens, over any number of reconnections.

use std::time::Duration;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::json;
use tokio::time::sleep;
use tonic::{Code, Status};

use crate::cli::connect::Connection;
use crate::cli::exit::{self, Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::cli::settings::Settings;
use crate::cli::wire;
use crate::proto::tuple_change::Operation;
use crate::proto::{self, WatchResponse};

/// Print changes as they happen, until Ctrl-C.
#[derive(Debug, Args)]
#[command(after_help = "\
Every revision is printed once and in order. When the connection is lost, watching goes on from the
last revision printed, as soon as the server is back.

Examples:
  relata tuple watch
  relata tuple watch --type doc --type folder
  relata tuple watch --after \"$ZOOKIE\" --output jsonl")]
pub struct Watch {
    /// Begin after this zookie [default: now].
    #[arg(long, value_name = "ZOOKIE", default_value = "", hide_default_value = true)]
    after: String,
    /// Only changes of this object type; may be given several times.
    #[arg(long = "type", value_name = "TYPE")]
    object_types: Vec<String>,
    /// Also print changes of the schema.
    #[arg(long)]
    schema_changes: bool,
    /// Also print checkpoints: that everything up to a zookie has been printed.
    #[arg(long)]
    checkpoints: bool,
}

/// Longest pause between two attempts to reconnect.
const MAX_PAUSE: Duration = Duration::from_secs(5);
const FIRST_PAUSE: Duration = Duration::from_millis(100);

impl Watch {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let connection = Connection::open(settings).await?;
        tokio::select! {
            // The stream only borrows what a stop may drop: nothing is half written.
            ended = self.follow(&connection, out) => ended,
            interrupted = tokio::signal::ctrl_c() => match interrupted {
                Ok(()) => Ok(Exit::Success),
                Err(error) => Err(Failure::new(Exit::Internal, format!("cannot wait for Ctrl-C: {error}"))),
            },
        }
    }

    async fn follow(&self, connection: &Connection, out: &mut Output) -> Result<Exit, Failure> {
        let mut after = self.start(connection).await?;
        let mut pause = FIRST_PAUSE;
        loop {
            let request = proto::WatchRequest {
                store: connection.store.clone(),
                after: after.clone(),
                object_types: self.object_types.clone(),
                include_schema_changes: self.schema_changes,
            };
            let ended = match connection.tuples().watch(request).await {
                Ok(stream) => {
                    let mut stream = stream.into_inner();
                    loop {
                        match stream.message().await {
                            Ok(Some(event)) => {
                                pause = FIRST_PAUSE;
                                self.print(&event, out)?;
                                after = event.zookie;
                            }
                            Ok(None) => break Status::unavailable("the server ended the stream"),
                            Err(status) => break status,
                        }
                    }
                }
                Err(status) => status,
            };
            if !is_passing(&ended) {
                return Err(Failure::from(ended).advise(format!("the last revision printed is {after}")));
            }
            if pause == FIRST_PAUSE {
                remark(format_args!("connection lost ({}); going on from {after}", ended.message()));
            }
            sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }

    /// Where to begin. "Now" is made a zookie first, so that a connection lost before the first
    /// revision loses none.
    async fn start(&self, connection: &Connection) -> Result<String, Failure> {
        if !self.after.is_empty() {
            return Ok(self.after.clone());
        }
        let request = connection.request(proto::GetStoreRequest { store: connection.store.clone() });
        let zookie = connection.stores().get_store(request).await?.into_inner().zookie;
        remark(format_args!("watching after {zookie}"));
        Ok(zookie)
    }

    fn print(&self, event: &WatchResponse, out: &mut Output) -> Result<(), Failure> {
        if event.checkpoint && event.changes.is_empty() && event.schema_id.is_empty() {
            if self.checkpoints {
                match out.format {
                    Format::Table => out.line(out.faint(&format!("-- {}", event.zookie)))?,
                    Format::Json | Format::Jsonl => {
                        out.line(json!({ "checkpoint": true, "zookie": event.zookie }))?;
                    }
                }
            }
            return out.flush();
        }
        match out.format {
            Format::Table => print_lines(event, out)?,
            // One object per line in both: a stream has no end to close a document at.
            Format::Json | Format::Jsonl => out.line(event_json(event))?,
        }
        out.flush()
    }
}

/// Whether a stream that ended so may be taken up again where it ended.
fn is_passing(status: &Status) -> bool {
    // A broken connection arrives as UNKNOWN or INTERNAL without our details.
    let ours = !exit::reason(status).is_empty();
    match status.code() {
        Code::Unavailable => true,
        Code::Unknown | Code::Internal | Code::Cancelled => !ours,
        Code::Ok
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

fn print_lines(event: &WatchResponse, out: &mut Output) -> Result<(), Failure> {
    let mut head = event.committed_at.as_ref().map(wire::moment).unwrap_or_default();
    for part in [&event.principal, &event.note] {
        if !part.is_empty() {
            head = format!("{head}  {part}");
        }
    }
    out.line(out.faint(&format!("{head}  {}", event.zookie)))?;
    if !event.schema_id.is_empty() {
        out.line(format_args!("  schema {}", event.schema_id))?;
    }
    for change in &event.changes {
        let Some(tuple) = &change.tuple else { continue };
        let (sign, colour) = match change.operation() {
            Operation::Deleted => ("-", AnsiColor::Red),
            Operation::Written | Operation::Unspecified => ("+", AnsiColor::Green),
        };
        let sign = out.paint(Style::new().fg_color(Some(colour.into())), sign);
        out.line(format_args!("  {sign} {}", wire::tuple_text(tuple)))?;
    }
    Ok(())
}

fn event_json(event: &WatchResponse) -> serde_json::Value {
    let changes: Vec<_> = event
        .changes
        .iter()
        .map(|change| {
            json!({
                "operation": match change.operation() {
                    Operation::Deleted => "deleted",
                    Operation::Written | Operation::Unspecified => "written",
                },
                "tuple": change.tuple.as_ref().map(wire::tuple_json),
            })
        })
        .collect();
    json!({
        "zookie": event.zookie,
        "changes": changes,
        "schema_id": event.schema_id,
        "committed_at": event.committed_at.as_ref().map(wire::moment),
        "principal": event.principal,
        "note": event.note,
        "checkpoint": event.checkpoint,
    })
}
