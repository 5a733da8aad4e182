//! What a command prints: tables, trees and words for people, JSON for programs.
//!
//! Results go to standard output, remarks to standard error. Colour appears on a terminal only,
//! and not when `NO_COLOR` is set. `docs/command-line.md` lists the fields of the JSON.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write as _};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{ContentArrangement, Table};
use serde_json::Value;

use super::exit::Failure;
use crate::proto::Verdict;

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Format {
    /// Words, tables and trees.
    #[default]
    Table,
    /// One JSON document.
    Json,
    /// One JSON object per line, as results arrive.
    Jsonl,
}

/// Where results go.
pub struct Output {
    /// How they are printed.
    pub format: Format,
    coloured: bool,
    out: BufWriter<Stdout>,
}

impl Output {
    /// Prints to standard output.
    #[must_use]
    pub fn new(format: Format) -> Self {
        let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
            || std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        let coloured = format == Format::Table && !plain && io::stdout().is_terminal();
        Self { format, coloured, out: BufWriter::new(io::stdout()) }
    }

    /// Prints one line.
    pub fn line(&mut self, text: impl std::fmt::Display) -> Result<(), Failure> {
        Ok(writeln!(self.out, "{text}")?)
    }

    /// Prints a whole answer: laid out for [`Format::Json`], on one line otherwise.
    pub fn json(&mut self, value: &Value) -> Result<(), Failure> {
        match self.format {
            Format::Json => self.line(format_args!("{value:#}")),
            Format::Jsonl | Format::Table => self.line(value),
        }
    }

    /// Prints a list of items, each under `key` with its own fields: a table, one document that
    /// also holds `rest`, or a line per item.
    pub fn list(&mut self, key: &str, header: &[&str], items: Vec<Item>, rest: Value) -> Result<(), Failure> {
        match self.format {
            Format::Table => {
                let rows = items.into_iter().map(|item| item.cells).collect();
                self.table(header, rows)
            }
            Format::Json => {
                let mut document = serde_json::Map::new();
                document.insert(key.to_owned(), items.into_iter().map(|item| item.json).collect());
                if let Value::Object(rest) = rest {
                    document.extend(rest);
                }
                self.json(&Value::Object(document))
            }
            Format::Jsonl => items.iter().try_for_each(|item| self.line(&item.json)),
        }
    }

    /// Prints aligned columns; nothing at all if there are no rows.
    pub fn table(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        if rows.is_empty() {
            return Ok(());
        }
        let mut table = Table::new();
        table.load_style(comfy_table::presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
        table.force_no_tty();
        table.set_header(header.iter().copied());
        table.add_rows(rows);
        for column in table.column_iter_mut() {
            column.set_padding((0, 2));
        }
        for (number, line) in table.lines().enumerate() {
            let line = line.trim_end();
            if number == 0 {
                let line = self.paint(Style::new().bold(), line);
                self.line(line)?;
            } else {
                self.line(line)?;
            }
        }
        Ok(())
    }

    /// Sends what has been printed on its way: before waiting for more, and at the end.
    pub fn flush(&mut self) -> Result<(), Failure> {
        Ok(self.out.flush()?)
    }

    /// A verdict as a word in its colour.
    #[must_use]
    pub fn verdict(&self, verdict: Verdict) -> String {
        self.paint(verdict_style(verdict), verdict_word(verdict))
    }

    /// A verdict as a mark in its colour.
    #[must_use]
    pub fn mark(&self, verdict: Verdict) -> String {
        let mark = match verdict {
            Verdict::Allowed => "✓",
            Verdict::Denied => "✗",
            Verdict::Conditional | Verdict::Unspecified => "?",
        };
        self.paint(verdict_style(verdict), mark)
    }

    /// Text that may be overlooked.
    #[must_use]
    pub fn faint(&self, text: &str) -> String {
        self.paint(Style::new().dimmed(), text)
    }

    /// How diagnostics of a schema are to be rendered; they go to standard error.
    #[must_use]
    pub fn style(&self) -> crate::schema::Style {
        if self.coloured && io::stderr().is_terminal() {
            crate::schema::Style::Colour
        } else {
            crate::schema::Style::Plain
        }
    }

    /// Text in a style, if there is colour.
    #[must_use]
    pub fn paint(&self, style: Style, text: &str) -> String {
        if self.coloured { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

/// One item of a list, for people and for programs.
pub struct Item {
    /// A cell per column of the header.
    pub cells: Vec<String>,
    /// An object with stable fields.
    pub json: Value,
}

/// A remark on standard error, so that it never mixes with results.
pub fn remark(text: impl std::fmt::Display) {
    // A closed standard error leaves nobody to tell.
    let _ = writeln!(io::stderr(), "{text}");
}

fn verdict_style(verdict: Verdict) -> Style {
    let colour = match verdict {
        Verdict::Allowed => AnsiColor::Green,
        Verdict::Denied => AnsiColor::Red,
        Verdict::Conditional | Verdict::Unspecified => AnsiColor::Yellow,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// A verdict as programs read it.
#[must_use]
pub fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Allowed => "allowed",
        Verdict::Denied => "denied",
        Verdict::Conditional => "conditional",
        Verdict::Unspecified => "unknown",
    }
}
