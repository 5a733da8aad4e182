//! `relata tuple write`, `touch` and `delete`: one tuple, or a file of them.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use serde_json::json;

use super::batch::{self, Outcome};
use super::filter;
use crate::cli::connect::Connection;
use crate::cli::duration;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::cli::settings::Settings;
use crate::cli::wire;
use crate::context::Context;
use crate::proto::update::Operation;
use crate::proto::{self, precondition};
use crate::store_file::tuple_file::TupleFormat;
use crate::store_file::tuple_text;
use crate::time::Timestamp;
use crate::tuple::{Attributes, Tuple, TupleCondition, TupleKey};

/// How the three are called.
pub const USAGE: &str = "\
relata tuple <write|touch|delete> [OPTIONS] <OBJECT> <RELATION> <SUBJECT>
       relata tuple <write|touch|delete> [OPTIONS] <OBJECT#RELATION@SUBJECT>
       relata tuple <write|touch|delete> [OPTIONS] <FILE | ->";

/// Shown under their help.
pub const EXAMPLES: &str = "\
The zookie of the write goes to standard output, so that a later check can name it:
  ZOOKIE=$(relata tuple write doc:plan viewer user:ann)
  relata check doc:plan viewer user:ann --at-least \"$ZOOKIE\"

A single tuple is written in one step. A file is written in steps of at most 1,000 tuples; a line
that is refused does not keep the others from being written.

Examples:
  relata tuple write doc:plan viewer group:eng#member
  relata tuple write 'doc:plan#viewer@user:ann with in_office {\"office\":\"lyon\"}'
  relata tuple touch doc:plan viewer user:bob --expires-in 8h
  relata tuple write doc:plan owner user:ann --must-not-match 'doc:plan#owner'
  relata tuple delete doc:plan viewer user:ann --must-exist
  relata tuple touch tuples.yaml
  relata tuple read doc --output jsonl | relata --store copy tuple write -";

/// Which tuples, and how they are written.
#[derive(Debug, Args)]
pub struct Change {
    /// A tuple in its three parts or as one text, a file, or `-` for standard input.
    #[arg(required = true, num_args = 1..=3, value_name = "TUPLE or FILE")]
    what: Vec<String>,
    /// Format of the file [default: by its name or its first line].
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<FileFormat>,
    /// Condition the tuple carries.
    #[arg(long, value_name = "NAME")]
    condition: Option<String>,
    /// Values the tuple fixes for its condition, as a JSON object.
    #[arg(long, value_name = "JSON", requires = "condition")]
    condition_context: Option<String>,
    /// Moment from which the tuple no longer counts, such as 2027-01-31T12:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "expires_in")]
    expires_at: Option<String>,
    /// How long from now the tuple counts, such as 90m, 8h or 30d.
    #[arg(long, value_name = "DURATION")]
    expires_in: Option<String>,
    /// Write only if a stored tuple matches this filter; may be given several times.
    #[arg(long, value_name = "FILTER")]
    must_match: Vec<String>,
    /// Write only if no stored tuple matches this filter; may be given several times.
    #[arg(long, value_name = "FILTER")]
    must_not_match: Vec<String>,
    /// When deleting: fail if the tuple is absent.
    #[arg(long)]
    must_exist: bool,
    /// A retry with the same key and the same request writes nothing and returns the first zookie.
    #[arg(long, value_name = "KEY", default_value = "", hide_default_value = true)]
    idempotency_key: String,
    /// Kept in the changelog, shown by `tuple watch` and `tuple log`.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    note: String,
    /// Write only if this schema version is in force.
    #[arg(long = "schema", value_name = "ID", default_value = "", hide_default_value = true)]
    schema_id: String,
}

/// How a file writes its tuples.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum FileFormat {
    /// `object#relation@subject` per line.
    Lines,
    /// One JSON object per line.
    Jsonl,
    /// A JSON array.
    Json,
    /// A header and a row per tuple.
    Csv,
    /// A YAML list.
    Yaml,
}

impl From<FileFormat> for TupleFormat {
    fn from(format: FileFormat) -> Self {
        match format {
            FileFormat::Lines => Self::Lines,
            FileFormat::Jsonl => Self::JsonLines,
            FileFormat::Json => Self::Json,
            FileFormat::Csv => Self::Csv,
            FileFormat::Yaml => Self::Yaml,
        }
    }
}

/// What the words after the subcommand name.
enum Source {
    One(Box<Tuple>),
    File(PathBuf),
    StandardInput,
}

impl Change {
    pub(super) async fn run(
        self,
        operation: Operation,
        settings: &Settings,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let template = self.template(settings, operation)?;
        let source = self.source()?;
        let connection = Connection::open(settings).await?;
        match source {
            Source::One(tuple) => self.write_one(*tuple, &template, &connection, out).await,
            Source::File(path) => {
                let input = File::open(&path)
                    .map_err(|error| Failure::bad_input(error).about(path.display()))
                    .map(BufReader::new)?;
                let format = self.format.map_or_else(|| TupleFormat::of_path(&path), Into::into);
                let name = path.display().to_string();
                self.write_many(&name, format, Box::new(input), template, connection, out).await
            }
            Source::StandardInput => {
                let mut input = BufReader::new(std::io::stdin());
                let format = match self.format {
                    Some(format) => format.into(),
                    None => TupleFormat::of_start(
                        input
                            .fill_buf()
                            .map_err(|error| Failure::bad_input(error).about("standard input"))?,
                    ),
                };
                self.write_many("standard input", format, Box::new(input), template, connection, out).await
            }
        }
    }

    /// Everything of a write but its tuples.
    fn template(&self, settings: &Settings, operation: Operation) -> Result<batch::Template, Failure> {
        if self.must_exist && operation != Operation::Delete {
            return Err(Failure::usage("--must-exist is for `tuple delete`"));
        }
        if operation == Operation::Delete
            && (self.condition.is_some() || self.expires_at.is_some() || self.expires_in.is_some())
        {
            return Err(Failure::usage(
                "a tuple is deleted whatever it carries: leave out --condition and --expires-…",
            ));
        }
        let filters = |texts: &[String], operation: precondition::Operation| -> Result<Vec<_>, Failure> {
            texts
                .iter()
                .map(|text| {
                    Ok(proto::Precondition {
                        operation: operation.into(),
                        filter: Some(filter::parse(text)?),
                    })
                })
                .collect()
        };
        let mut preconditions = filters(&self.must_match, precondition::Operation::MustMatch)?;
        preconditions.extend(filters(&self.must_not_match, precondition::Operation::MustNotMatch)?);
        Ok(batch::Template {
            operation,
            must_exist: self.must_exist,
            request: proto::WriteRequest {
                store: settings.store.clone(),
                updates: Vec::new(),
                preconditions,
                idempotency_key: self.idempotency_key.clone(),
                note: self.note.clone(),
                schema_id: self.schema_id.clone(),
            },
        })
    }

    fn source(&self) -> Result<Source, Failure> {
        match self.what.as_slice() {
            [object, relation, subject] => {
                let key = TupleKey {
                    object: object.parse().map_err(Failure::bad_input)?,
                    relation: relation.parse().map_err(Failure::bad_input)?,
                    subject: subject.parse().map_err(Failure::bad_input)?,
                };
                let attributes = self.attributes()?;
                Ok(Source::One(Box::new(Tuple { key, attributes })))
            }
            [only] if only == "-" => self.bulk(Source::StandardInput),
            [only] if looks_like_tuple(only) => {
                let mut tuple = tuple_text::parse(only).map_err(Failure::bad_input)?;
                let attributes = self.attributes()?;
                if !attributes.is_plain() {
                    if !tuple.attributes.is_plain() {
                        return Err(Failure::usage(
                            "give condition and expiry in the text or as flags, not both",
                        ));
                    }
                    tuple.attributes = attributes;
                }
                Ok(Source::One(Box::new(tuple)))
            }
            [only] => self.bulk(Source::File(PathBuf::from(only))),
            _ => Err(Failure::usage("two words are neither a tuple nor a file")
                .advise("write `OBJECT RELATION SUBJECT`, `OBJECT#RELATION@SUBJECT`, or the name of a file")),
        }
    }

    /// A file says itself what its tuples carry.
    fn bulk(&self, source: Source) -> Result<Source, Failure> {
        if self.condition.is_some() || self.expires_at.is_some() || self.expires_in.is_some() {
            return Err(Failure::usage("--condition and --expires-… are for one tuple")
                .advise("write them in the file, beside each tuple"));
        }
        Ok(source)
    }

    fn attributes(&self) -> Result<Attributes, Failure> {
        let condition = match &self.condition {
            None => None,
            Some(name) => {
                let context: Context = match &self.condition_context {
                    None => Context::default(),
                    Some(text) => text
                        .parse()
                        .map_err(|error| Failure::bad_input(error).about("--condition-context"))?,
                };
                let name = name.parse().map_err(Failure::bad_input)?;
                Some(TupleCondition { name, context: Arc::new(context) })
            }
        };
        let expires_at = match (&self.expires_at, &self.expires_in) {
            (Some(moment), _) => Some(
                moment
                    .parse::<Timestamp>()
                    .map_err(|error| Failure::bad_input(error).about("--expires-at"))?,
            ),
            (None, Some(duration)) => Some(from_now(duration)?),
            (None, None) => None,
        };
        Ok(Attributes { condition, expires_at })
    }

    async fn write_one(
        &self,
        tuple: Tuple,
        template: &batch::Template,
        connection: &Connection,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let request = template.write(std::iter::once(&tuple), self.idempotency_key.clone());
        let answer = connection.tuples().write(connection.request(request)).await?.into_inner();
        match out.format {
            Format::Table => {
                let done = match (answer.replayed, template.operation) {
                    (true, _) => "had been done",
                    (false, Operation::Delete) => "deleted",
                    (false, Operation::Touch | Operation::Create | Operation::Unspecified) => "wrote",
                };
                remark(format_args!("{done}: {}", wire::tuple_text(&wire::tuple(&tuple))));
                out.line(answer.zookie)?;
            }
            Format::Json | Format::Jsonl => out.json(&json!({
                "zookie": answer.zookie,
                "replayed": answer.replayed,
                "done": 1,
                "refused": [],
            }))?,
        }
        Ok(Exit::Success)
    }

    async fn write_many(
        &self,
        name: &str,
        format: TupleFormat,
        input: Box<dyn BufRead + Send>,
        template: batch::Template,
        connection: Connection,
        out: &mut Output,
    ) -> Result<Exit, Failure> {
        let outcome = batch::write(format, input, &template, &connection).await;
        let verb = if template.operation == Operation::Delete { "deleted" } else { "wrote" };
        report(name, verb, &outcome, out)?;
        match outcome.stopped {
            Some(failure) => {
                Err(failure.about(format_args!("{name}: stopped after line {}", outcome.last_line)))
            }
            None if outcome.refused.is_empty() => Ok(Exit::Success),
            None => Ok(Exit::BadInput),
        }
    }
}

fn report(name: &str, verb: &str, outcome: &Outcome, out: &mut Output) -> Result<(), Failure> {
    match out.format {
        Format::Table => {
            for refused in &outcome.refused {
                let reason = match refused.reason.as_str() {
                    "" => String::new(),
                    reason => format!(" [{reason}]"),
                };
                remark(format_args!("{name}:{}: {}{reason}", refused.line, refused.why));
            }
            let plural = if outcome.done == 1 { "" } else { "s" };
            let refused = match outcome.refused.len() {
                0 => String::new(),
                1 => ", refused 1 line".to_owned(),
                many => format!(", refused {many} lines"),
            };
            remark(format_args!("{verb} {} tuple{plural}{refused}", outcome.done));
            if !outcome.zookie.is_empty() {
                out.line(&outcome.zookie)?;
            }
        }
        Format::Json | Format::Jsonl => {
            let refused: Vec<_> = outcome
                .refused
                .iter()
                .map(
                    |refused| json!({ "line": refused.line, "error": refused.why, "reason": refused.reason }),
                )
                .collect();
            out.json(&json!({
                "zookie": outcome.zookie,
                "replayed": outcome.replayed,
                "done": outcome.done,
                "refused": refused,
            }))?;
        }
    }
    Ok(())
}

/// A text is a tuple if it has the separators of one, unless a file is called so.
fn looks_like_tuple(text: &str) -> bool {
    text.split_once('#').is_some_and(|(_, rest)| rest.contains('@')) && !Path::new(text).exists()
}

fn from_now(text: &str) -> Result<Timestamp, Failure> {
    let refused = || {
        Failure::bad_input(format!("--expires-in `{text}` is not a duration"))
            .advise("write it like 90m, 8h or 30d")
    };
    let duration = duration::parse(text).ok_or_else(refused)?;
    let moment = jiff::Timestamp::now().checked_add(duration).map_err(|_| refused())?;
    Ok(Timestamp::from_micros(moment.as_microsecond()))
}
