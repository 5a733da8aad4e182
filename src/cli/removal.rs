//! Long removals: told step by step, and called again as often as it takes.

use std::time::{Duration, Instant};

use clap::Args;
use futures::{Stream, StreamExt as _};
use serde_json::json;
use tonic::Status;

use super::exit::{Exit, Failure};
use super::output::{Format, Output, remark};

/// How often progress is told.
const NEWS: Duration = Duration::from_secs(2);

/// What the removing commands share.
#[derive(Debug, Args)]
pub struct Options {
    /// Only count; nothing is removed.
    #[arg(long)]
    pub dry_run: bool,
    /// Stop after so many tuples [default: when none is left].
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub limit: u64,
    /// Kept in the changelog, shown by `tuple log`.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    pub note: String,
}

/// What the server tells after a step.
pub struct Step {
    pub deleted: u64,
    pub zookie: String,
    pub cursor: String,
}

/// Calls again from where the last call ended, until nothing is left or the limit is reached.
/// `call` begins where a cursor says, for at most so many tuples (zero: all).
pub async fn run<S>(
    options: &Options,
    out: &mut Output,
    call: impl AsyncFn(String, u64) -> Result<S, Status>,
) -> Result<Exit, Failure>
where
    S: Stream<Item = Result<Step, Status>> + Unpin,
{
    let (mut done, mut zookie, mut cursor) = (0, String::new(), String::new());
    let mut told = Instant::now();
    let (verb, doing) = if options.dry_run { ("would delete", "counted") } else { ("deleted", "deleted") };
    let complete = loop {
        let limit = match options.limit {
            0 => 0,
            limit => limit.saturating_sub(done),
        };
        let mut here = 0;
        let ended: Result<(), Status> = async {
            let mut steps = call(cursor.clone(), limit).await?;
            while let Some(step) = steps.next().await {
                let step = step?;
                (here, zookie, cursor) = (step.deleted, step.zookie, step.cursor);
                if told.elapsed() >= NEWS {
                    told = Instant::now();
                    remark(format_args!("{doing} {} …", done + here));
                }
            }
            Ok(())
        }
        .await;
        done += here;
        if let Err(status) = ended {
            let failure = Failure::from(status);
            let advice = format!("{doing} at least {}; run it again to go on", tuples(done));
            return Err(if done > 0 { failure.advise(advice) } else { failure });
        }
        if cursor.is_empty() {
            break true;
        }
        if options.limit > 0 && done >= options.limit {
            break false;
        }
    };
    match out.format {
        Format::Table => {
            remark(format_args!("{verb} {}", tuples(done)));
            if !complete {
                remark("more match: run it again to go on");
            }
            out.line(zookie)?;
        }
        Format::Json | Format::Jsonl => {
            let dry_run = options.dry_run;
            out.json(
                &json!({ "deleted": done, "complete": complete, "dry_run": dry_run, "zookie": zookie }),
            )?;
        }
    }
    Ok(Exit::Success)
}

fn tuples(count: u64) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} tuple{plural}")
}
