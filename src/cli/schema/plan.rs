//! `relata schema plan`: what a schema would do to the tuples that are stored.

use clap::Args;
use serde_json::json;

use super::file;
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::cli::settings::Settings;
use crate::proto::schema_effect::Direction;
use crate::proto::{self, PlanSchemaResponse};

/// Show what would happen if a schema were written: mistakes, tuples that would no longer count, and
/// who may gain or lose a relation.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 every stored tuple would still count, 1 some would not, 65 not a valid schema.

Examples:
  relata schema plan schema.fga
  relata schema plan schema.fga --sample 100 --output json")]
pub struct Plan {
    /// Schema file, or `-`.
    #[arg(value_name = "FILE")]
    path: String,
    /// How many of the tuples to show per relation, at most 100.
    #[arg(long, value_name = "N", default_value_t = 10)]
    sample: u32,
}

impl Plan {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let (text, name) = file::read(&self.path)?;
        let request =
            proto::PlanSchemaRequest { store: settings.store.clone(), text, sample_size: self.sample };
        let connection = Connection::open(settings).await?;
        let answer = connection.schemas().plan_schema(connection.request(request)).await?.into_inner();
        match out.format {
            Format::Table => print(&answer, &name, out)?,
            Format::Json | Format::Jsonl => out.json(&plan_json(&answer))?,
        }
        Ok(match (answer.diagnostics.is_empty(), answer.orphans.is_empty()) {
            (false, _) => Exit::BadInput,
            (true, false) => Exit::Denied,
            (true, true) => Exit::Success,
        })
    }
}

fn print(answer: &PlanSchemaResponse, name: &str, out: &mut Output) -> Result<(), Failure> {
    for mistake in &answer.diagnostics {
        out.line(format_args!("{name}:{}:{}", mistake.line, mistake.column))?;
        out.line(mistake.rendered.trim_end())?;
    }
    for orphans in &answer.orphans {
        let plural = if orphans.count == 1 { "" } else { "s" };
        out.line(format_args!(
            "{} tuple{plural} of {} with {} would no longer count",
            orphans.count, orphans.relation, orphans.subject
        ))?;
        for tuple in &orphans.sample {
            out.line(format_args!("  {tuple}"))?;
        }
        let shown = orphans.sample.len() as u64;
        if orphans.count > shown {
            out.line(out.faint(&format!("  … and {} more", orphans.count - shown)))?;
        }
    }
    for effect in &answer.effects {
        let others = effect.because.iter().filter(|cause| **cause != effect.relation);
        let others: Vec<&str> = others.map(String::as_str).collect();
        let because = match others.as_slice() {
            [] => String::new(),
            others => format!(", because of {}", others.join(", ")),
        };
        out.line(format_args!("{} {}{because}", effect.relation, sentence(effect.direction())))?;
    }
    if answer.diagnostics.is_empty() && answer.orphans.is_empty() {
        remark(format_args!("{name}: valid, and every stored tuple would still count"));
    }
    Ok(())
}

fn sentence(direction: Direction) -> &'static str {
    match direction {
        Direction::Narrower => "gets narrower: some may lose it",
        Direction::Wider => "gets wider: some may gain it",
        Direction::Either => "changes: some may gain it, others lose it",
        Direction::Unspecified => "changes",
    }
}

fn word(direction: Direction) -> &'static str {
    match direction {
        Direction::Narrower => "narrower",
        Direction::Wider => "wider",
        Direction::Either => "either",
        Direction::Unspecified => "unknown",
    }
}

fn plan_json(answer: &PlanSchemaResponse) -> serde_json::Value {
    let diagnostics: Vec<_> = answer
        .diagnostics
        .iter()
        .map(|mistake| {
            json!({
                "kind": mistake.kind,
                "message": mistake.message,
                "hint": mistake.hint,
                "line": mistake.line,
                "column": mistake.column,
                "end_line": mistake.end_line,
                "end_column": mistake.end_column,
            })
        })
        .collect();
    let orphans: Vec<_> = answer
        .orphans
        .iter()
        .map(|orphans| {
            json!({
                "relation": orphans.relation,
                "subject": orphans.subject,
                "count": orphans.count,
                "sample": orphans.sample,
            })
        })
        .collect();
    let effects: Vec<_> = answer
        .effects
        .iter()
        .map(|effect| {
            let direction = word(effect.direction());
            json!({ "relation": effect.relation, "direction": direction, "because": effect.because })
        })
        .collect();
    json!({ "diagnostics": diagnostics, "orphans": orphans, "effects": effects, "zookie": answer.zookie })
}
