//! `relata test`: runs the tests of store files, without a server.

use std::path::PathBuf;

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::{Value as Json, json};

use super::exit::{Exit, Failure};
use super::explanation;
use super::output::{Format, Output, remark};
use super::schema::file::report as report_diagnostics;
use crate::store_file::{self, Mismatch, Report, RunError, StoreFile, TestReport};
use crate::time::Timestamp;

/// Run the tests of store files; no server is needed.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 all tests hold, 1 some do not, 65 a file cannot be used.

A store file holds a schema, tuples and tests:
  model_file: schema.fga
  tuples:
    - { object: \"doc:plan\", relation: viewer, user: \"user:ann\" }
  tests:
    - name: viewers view
      check:
        - user: user:ann
          object: doc:plan
          assertions: { viewer: true, owner: false }

Examples:
  relata test store.fga.yaml
  relata test schema-examples/*/store.fga.yaml
  relata test store.fga.yaml --output json")]
pub struct Test {
    /// Store files.
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Ask at this moment instead of now, where a test does not name one.
    #[arg(long, value_name = "TIME")]
    now: Option<String>,
    /// Print failures only.
    #[arg(long, short)]
    quiet: bool,
}

impl Test {
    pub(super) fn run(self, out: &mut Output) -> Result<Exit, Failure> {
        let now = match &self.now {
            Some(moment) => moment.parse().map_err(|error| Failure::bad_input(error).about("--now"))?,
            None => Timestamp::from_micros(jiff::Timestamp::now().as_microsecond()),
        };
        let (mut passed, mut failed, mut unusable) = (0, 0, 0);
        let mut documents = Vec::new();
        for path in &self.files {
            let outcome = store_file::load(path)
                .map_err(Failure::bad_input)
                .and_then(|file| tested(&file, now, out).map(|report| (file, report)));
            match outcome {
                Ok((file, report)) => {
                    let (holds, fails) = report.totals();
                    passed += holds;
                    failed += fails;
                    match out.format {
                        Format::Table => self.print(&file, &report, out)?,
                        Format::Json => documents.push(report_json(&file, &report)),
                        Format::Jsonl => out.line(report_json(&file, &report))?,
                    }
                }
                // The other files are worth knowing about.
                Err(failure) => {
                    unusable += 1;
                    remark(failure);
                }
            }
        }
        match out.format {
            Format::Table => {
                let sum = format!("{passed} assertions hold, {failed} do not");
                let colour = if failed == 0 { AnsiColor::Green } else { AnsiColor::Red };
                out.line(out.paint(Style::new().fg_color(Some(colour.into())), &sum))?;
            }
            Format::Json => out.json(&json!({ "passed": passed, "failed": failed, "files": documents }))?,
            Format::Jsonl => {}
        }
        Ok(match (unusable, failed) {
            (0, 0) => Exit::Success,
            (0, _) => Exit::Denied,
            (_, _) => Exit::BadInput,
        })
    }

    fn print(&self, file: &StoreFile, report: &Report, out: &mut Output) -> Result<(), Failure> {
        if self.quiet && report.totals().1 == 0 {
            return Ok(());
        }
        out.line(out.paint(Style::new().bold(), &file.path.display().to_string()))?;
        for test in &report.tests {
            if test.failures.is_empty() {
                if !self.quiet {
                    let mark = out.paint(Style::new().fg_color(Some(AnsiColor::Green.into())), "✓");
                    let count = out.faint(&format!("({})", test.passed));
                    out.line(format_args!("  {mark} {} {count}", test.name))?;
                }
                continue;
            }
            let mark = out.paint(Style::new().fg_color(Some(AnsiColor::Red.into())), "✗");
            out.line(format_args!("  {mark} {}", test.name))?;
            for mismatch in &test.failures {
                out.line(format_args!("      line {}: {}", mismatch.line, mismatch.question))?;
                out.line(format_args!("        expected {}", mismatch.expected))?;
                out.line(format_args!("        but got  {}", mismatch.actual))?;
                let why = mismatch.explanation.as_ref().map(|why| explanation::found(why, out));
                for line in why.unwrap_or_default() {
                    out.line(format_args!("          {line}"))?;
                }
            }
        }
        Ok(())
    }
}

fn tested(file: &StoreFile, now: Timestamp, out: &mut Output) -> Result<Report, Failure> {
    match store_file::run(file, now) {
        Ok(report) => Ok(report),
        Err(RunError::Schema { path, diagnostics }) => {
            let name = path.display().to_string();
            report_diagnostics(&diagnostics, &name, out)?;
            Err(Failure::bad_input(format!("{name}: the schema is not valid")))
        }
        Err(error @ (RunError::Tuple { .. } | RunError::Full { .. })) => Err(Failure::bad_input(error)),
    }
}

fn report_json(file: &StoreFile, report: &Report) -> Json {
    let tests: Vec<Json> = report.tests.iter().map(test_json).collect();
    json!({ "file": file.path.display().to_string(), "name": file.name, "tests": tests })
}

fn test_json(test: &TestReport) -> Json {
    let failures: Vec<Json> = test.failures.iter().map(mismatch_json).collect();
    json!({ "name": test.name, "passed": test.passed, "failures": failures })
}

fn mismatch_json(mismatch: &Mismatch) -> Json {
    json!({
        "line": mismatch.line,
        "question": mismatch.question,
        "expected": mismatch.expected,
        "actual": mismatch.actual,
    })
}
