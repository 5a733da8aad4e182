//! Files of tuples: lines of `object#relation@subject`, JSON lines, JSON, CSV or YAML. Each tuple
//! comes with the line it stands on, and a bad one does not hide those that follow.

use std::io::{self, BufRead, Read};
use std::path::Path;
use std::sync::Arc;

use serde_saphyr::Spanned;

use super::format::RawTuple;
use super::tuple_text::{self, TupleTextError};
use crate::context::Context;
use crate::tuple::{Attributes, Tuple, TupleCondition, TupleKey};

/// Longest line of a file read line by line, in bytes: a tuple with a large context fits well.
const MAX_LINE_BYTES: u64 = 1 << 20;
/// Largest file of a format that is read as a whole, in bytes.
const MAX_WHOLE_BYTES: u64 = 64 << 20;

/// How a file writes its tuples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TupleFormat {
    /// `object#relation@subject` per line, with attributes as [`tuple_text`] has them; empty
    /// lines and lines that start with `#` or `//` are skipped.
    Lines,
    /// One JSON object per line.
    JsonLines,
    /// A JSON array of objects.
    Json,
    /// A header, then a row per tuple: `object,relation,subject[,condition,context,expires_at]`,
    /// or OpenFGA's `user_type,user_id,user_relation,relation,object_type,object_id,
    /// condition_name,condition_context`.
    Csv,
    /// A YAML list of mappings.
    Yaml,
}

impl TupleFormat {
    /// The format a file's name promises; lines if it promises none.
    #[must_use]
    pub fn of_path(path: &Path) -> Self {
        let extension = path.extension().map(|extension| extension.to_string_lossy().to_ascii_lowercase());
        match extension.as_deref() {
            Some("jsonl" | "ndjson") => Self::JsonLines,
            Some("json") => Self::Json,
            Some("csv") => Self::Csv,
            Some("yaml" | "yml") => Self::Yaml,
            _ => Self::Lines,
        }
    }

    /// The format the first bytes of an input suggest, for input without a name.
    #[must_use]
    pub fn of_start(start: &[u8]) -> Self {
        let text = String::from_utf8_lossy(start);
        let first = text.lines().map(str::trim).find(|line| !line.is_empty() && !line.starts_with('#'));
        match first {
            Some(line) if line.starts_with('{') => Self::JsonLines,
            Some(line) if line.starts_with('[') => Self::Json,
            Some(line) if line.starts_with("- ") || line == "---" || line == "-" => Self::Yaml,
            Some(line) if !line.contains('@') && line.contains(',') => Self::Csv,
            _ => Self::Lines,
        }
    }
}

/// A tuple of a file, or why there is none, with the line it stands on (the first is 1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Line, counted from one.
    pub line: u64,
    /// What stands there.
    pub tuple: Result<Tuple, TupleTextError>,
}

/// Why a file of tuples could not be read any further.
#[derive(Debug, thiserror::Error)]
pub enum TupleFileError {
    /// Reading failed.
    #[error("cannot read: {0}")]
    Io(#[from] io::Error),
    /// The file as a whole does not have its format.
    #[error("{0}")]
    Format(String),
}

/// The entries of a file, in its order. Lines, JSON lines and CSV are read as they are asked
/// for; JSON and YAML as a whole, up to 64 MiB.
pub fn entries<'a>(
    format: TupleFormat,
    input: Box<dyn BufRead + Send + 'a>,
) -> Result<Box<dyn Iterator<Item = Result<Entry, TupleFileError>> + Send + 'a>, TupleFileError> {
    Ok(match format {
        TupleFormat::Lines => Box::new(Lines { input, line: 0, parse: parse_line }),
        TupleFormat::JsonLines => Box::new(Lines { input, line: 0, parse: parse_json_line }),
        TupleFormat::Json => {
            let items: Vec<serde_json::Value> = serde_json::from_str(&whole(input)?)
                .map_err(|error| TupleFileError::Format(format!("not a JSON array of tuples: {error}")))?;
            Box::new((1..).zip(items).map(|(number, item)| {
                let tuple =
                    serde_json::from_value(item).map_err(TupleTextError::new).and_then(|raw| tuple(&raw));
                Ok(Entry { line: number, tuple })
            }))
        }
        TupleFormat::Csv => csv_entries(input)?,
        TupleFormat::Yaml => {
            let items: Vec<Spanned<RawTuple>> =
                serde_saphyr::from_str_with_options(&whole(input)?, yaml_options())
                    .map_err(|error| TupleFileError::Format(error.to_string()))?;
            Box::new(
                items
                    .into_iter()
                    .map(|item| Ok(Entry { line: item.referenced.line(), tuple: tuple(&item.value) })),
            )
        }
    })
}

/// What a YAML file may cost to read: its size bounds it, so only aliases need a limit.
pub(super) fn yaml_options() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 40_000_000,
            max_nodes: 20_000_000,
            max_total_scalar_bytes: 64 << 20,
            max_recorded_anchor_events: 100_000,
        },
        alias_limits: serde_saphyr::alias_limits! { max_total_replayed_events: 100_000 },
    }
}

/// The whole input, if it is not too large and is UTF-8.
fn whole(input: Box<dyn BufRead + Send + '_>) -> Result<String, TupleFileError> {
    let mut text = String::new();
    input.take(MAX_WHOLE_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_WHOLE_BYTES {
        return Err(TupleFileError::Format(format!(
            "larger than {} MiB: write large files as JSON lines or CSV, which are read line by line",
            MAX_WHOLE_BYTES >> 20
        )));
    }
    Ok(text)
}

/// A file read line by line.
struct Lines<'a> {
    input: Box<dyn BufRead + Send + 'a>,
    line: u64,
    /// `None`: nothing stands on the line.
    parse: fn(&str) -> Option<Result<Tuple, TupleTextError>>,
}

impl Iterator for Lines<'_> {
    type Item = Result<Entry, TupleFileError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let mut bytes = Vec::new();
            match self.input.by_ref().take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes) {
                Ok(0) => return None,
                Ok(_) => self.line += 1,
                Err(error) => return Some(Err(error.into())),
            }
            if bytes.len() as u64 > MAX_LINE_BYTES {
                return Some(Err(TupleFileError::Format(format!(
                    "line {} is longer than {MAX_LINE_BYTES} bytes",
                    self.line
                ))));
            }
            let Ok(text) = std::str::from_utf8(&bytes) else {
                let tuple = Err(TupleTextError::new("not UTF-8"));
                return Some(Ok(Entry { line: self.line, tuple }));
            };
            let text = if self.line == 1 { text.trim_start_matches('\u{feff}') } else { text };
            if let Some(tuple) = (self.parse)(text.trim()) {
                return Some(Ok(Entry { line: self.line, tuple }));
            }
        }
    }
}

fn parse_line(text: &str) -> Option<Result<Tuple, TupleTextError>> {
    if text.is_empty() || text.starts_with('#') || text.starts_with("//") {
        return None;
    }
    Some(tuple_text::parse(text))
}

fn parse_json_line(text: &str) -> Option<Result<Tuple, TupleTextError>> {
    if text.is_empty() {
        return None;
    }
    Some(serde_json::from_str(text).map_err(TupleTextError::new).and_then(|raw| tuple(&raw)))
}

/// Which column holds what.
enum Columns {
    Relata {
        object: usize,
        relation: usize,
        subject: usize,
        condition: Option<usize>,
        context: Option<usize>,
        expires_at: Option<usize>,
    },
    OpenFga {
        user_type: usize,
        user_id: usize,
        user_relation: Option<usize>,
        relation: usize,
        object_type: usize,
        object_id: usize,
        condition: Option<usize>,
        context: Option<usize>,
    },
}

impl Columns {
    fn of_header(header: &csv::StringRecord) -> Result<Self, TupleFileError> {
        let at = |name: &str| {
            header.iter().position(|column| column.trim_start_matches('\u{feff}').trim() == name)
        };
        let known = [
            "object",
            "relation",
            "subject",
            "user",
            "condition",
            "context",
            "expires_at",
            "user_type",
            "user_id",
            "user_relation",
            "object_type",
            "object_id",
            "condition_name",
            "condition_context",
        ];
        if let Some(column) =
            header.iter().map(|c| c.trim_start_matches('\u{feff}').trim()).find(|c| !known.contains(c))
        {
            return Err(TupleFileError::Format(format!(
                "unknown column `{}`: the header names object, relation, subject and, if needed, condition, context, expires_at",
                column.escape_debug()
            )));
        }
        let condition = at("condition_name").or_else(|| at("condition"));
        let context = at("condition_context").or_else(|| at("context"));
        if let (Some(object), Some(relation), Some(subject)) =
            (at("object"), at("relation"), at("subject").or_else(|| at("user")))
        {
            let expires_at = at("expires_at");
            return Ok(Self::Relata { object, relation, subject, condition, context, expires_at });
        }
        if let (Some(user_type), Some(user_id), Some(relation), Some(object_type), Some(object_id)) =
            (at("user_type"), at("user_id"), at("relation"), at("object_type"), at("object_id"))
        {
            let user_relation = at("user_relation");
            return Ok(Self::OpenFga {
                user_type,
                user_id,
                user_relation,
                relation,
                object_type,
                object_id,
                condition,
                context,
            });
        }
        Err(TupleFileError::Format(
            "the header must name object, relation and subject (or user_type, user_id, relation, object_type and object_id)"
                .to_owned(),
        ))
    }

    fn tuple(&self, record: &csv::StringRecord) -> Result<Tuple, TupleTextError> {
        let cell = |column: usize| record.get(column).unwrap_or_default().trim();
        let optional = |column: &Option<usize>| column.map(cell).filter(|text| !text.is_empty());
        let (object, relation, subject, condition, context, expires_at) = match self {
            Self::Relata { object, relation, subject, condition, context, expires_at } => (
                cell(*object).to_owned(),
                cell(*relation),
                cell(*subject).to_owned(),
                optional(condition),
                optional(context),
                optional(expires_at),
            ),
            Self::OpenFga {
                user_type,
                user_id,
                user_relation,
                relation,
                object_type,
                object_id,
                condition,
                context,
            } => {
                let mut subject = format!("{}:{}", cell(*user_type), cell(*user_id));
                if let Some(relation) = optional(user_relation) {
                    subject.push('#');
                    subject.push_str(relation);
                }
                let object = format!("{}:{}", cell(*object_type), cell(*object_id));
                (object, cell(*relation), subject, optional(condition), optional(context), None)
            }
        };
        let context = match (condition, context) {
            (None, Some(_)) => return Err(TupleTextError::new("a context without a condition")),
            (_, Some(text)) => text.parse().map_err(TupleTextError::new)?,
            (_, None) => Context::default(),
        };
        assemble(&object, relation, &subject, condition.map(|name| (name, context)), expires_at)
    }
}

type Entries<'a> = Box<dyn Iterator<Item = Result<Entry, TupleFileError>> + Send + 'a>;

fn csv_entries<'a>(input: Box<dyn BufRead + Send + 'a>) -> Result<Entries<'a>, TupleFileError> {
    let mut reader = csv::ReaderBuilder::new().flexible(false).comment(Some(b'#')).from_reader(input);
    let not_csv = |error: &csv::Error| TupleFileError::Format(format!("not CSV: {error}"));
    let columns = Columns::of_header(reader.headers().map_err(|error| not_csv(&error))?)?;
    Ok(Box::new(reader.into_records().map(move |record| match record {
        Ok(record) => {
            let line = record.position().map_or(0, csv::Position::line);
            Ok(Entry { line, tuple: columns.tuple(&record) })
        }
        Err(error) => match (error.position().map(csv::Position::line), error.is_io_error()) {
            (Some(line), false) => Ok(Entry { line, tuple: Err(TupleTextError::new(error)) }),
            _ => Err(not_csv(&error)),
        },
    })))
}

/// The tuple that named parts make.
pub(super) fn tuple(raw: &RawTuple) -> Result<Tuple, TupleTextError> {
    let condition = match &raw.condition {
        None => None,
        Some(condition) => {
            let context = condition.context.clone().unwrap_or_default();
            let context =
                Context::try_from(serde_json::Value::Object(context)).map_err(TupleTextError::new)?;
            Some((condition.name.as_str(), context))
        }
    };
    assemble(&raw.object, &raw.relation, &raw.subject, condition, raw.expires_at.as_deref())
}

fn assemble(
    object: &str,
    relation: &str,
    subject: &str,
    condition: Option<(&str, Context)>,
    expires_at: Option<&str>,
) -> Result<Tuple, TupleTextError> {
    let key = TupleKey {
        object: object.parse().map_err(TupleTextError::new)?,
        relation: relation.parse().map_err(TupleTextError::new)?,
        subject: subject.parse().map_err(TupleTextError::new)?,
    };
    let condition = match condition {
        None => None,
        Some((name, context)) => Some(TupleCondition {
            name: name.parse().map_err(TupleTextError::new)?,
            context: Arc::new(context),
        }),
    };
    let expires_at = expires_at.map(str::parse).transpose().map_err(TupleTextError::new)?;
    Ok(Tuple { key, attributes: Attributes { condition, expires_at } })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text holds, each entry as `line: tuple` or `line: error`.
    fn read(format: TupleFormat, text: &str) -> Vec<String> {
        let input: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(text.to_owned().into_bytes()));
        entries(format, input)
            .expect("a readable file")
            .map(|entry| {
                let entry = entry.expect("an entry");
                match entry.tuple {
                    Ok(tuple) => format!("{}: {}", entry.line, tuple_text::print(&tuple)),
                    Err(error) => format!("{}: {error}", entry.line),
                }
            })
            .collect()
    }

    #[test]
    fn lines_keep_their_numbers_over_comments_and_mistakes() {
        let entries = read(
            TupleFormat::Lines,
            "# people\n\ndoc:1#viewer@user:ann\nnonsense\n// more\ndoc:1#viewer@user:*",
        );
        assert_eq!(entries.len(), 3);
        assert_eq!(entries[0], "3: doc:1#viewer@user:ann");
        assert!(entries[1].starts_with("4: `nonsense` is not a tuple"), "{}", entries[1]);
        assert_eq!(entries[2], "6: doc:1#viewer@user:*");
    }

    #[test]
    fn every_format_holds_the_same_tuple() {
        let expected = [r#"doc:1#viewer@group:eng#member with c {"a":1} until 2027-01-31T12:00:00Z"#];
        let json = r#"{"user":"group:eng#member","relation":"viewer","object":"doc:1","condition":{"name":"c","context":{"a":1}},"expires_at":"2027-01-31T12:00:00Z"}"#;
        let without_line = |entries: Vec<String>| -> Vec<String> {
            entries.into_iter().map(|entry| entry.split_once(": ").expect("a line").1.to_owned()).collect()
        };
        assert_eq!(without_line(read(TupleFormat::JsonLines, json)), expected);
        assert_eq!(without_line(read(TupleFormat::Json, &format!("[{json}]"))), expected);
        assert_eq!(
            without_line(read(
                TupleFormat::Csv,
                "object,relation,subject,condition,context,expires_at\n\
                 doc:1,viewer,group:eng#member,c,\"{\"\"a\"\":1}\",2027-01-31T12:00:00Z\n"
            )),
            expected
        );
        assert_eq!(
            read(
                TupleFormat::Yaml,
                "- user: group:eng#member\n  relation: viewer\n  object: doc:1\n  condition: {name: c, context: {a: 1}}\n  expires_at: 2027-01-31T12:00:00Z\n"
            ),
            [format!("1: {}", expected[0])]
        );
    }

    #[test]
    fn the_csv_of_other_tools_is_read() {
        assert_eq!(
            read(
                TupleFormat::Csv,
                "user_type,user_id,user_relation,relation,object_type,object_id,condition_name,condition_context\n\
                 user,ann,,viewer,doc,1,,\n\
                 group,eng,member,viewer,doc,1,c,\"{\"\"a\"\":1}\"\n\
                 user,b d,,viewer,doc,1,,\n"
            ),
            [
                "2: doc:1#viewer@user:ann",
                "3: doc:1#viewer@group:eng#member with c {\"a\":1}",
                "4: object id `b d` holds a space, which is not allowed there",
            ]
        );
    }

    #[test]
    fn what_is_not_the_format_is_refused() {
        let error = |format, text: &'static str| {
            let input: Box<dyn BufRead + Send> = Box::new(io::Cursor::new(text.as_bytes()));
            match entries(format, input) {
                Err(error) => error.to_string(),
                Ok(_) => panic!("`{text}` was accepted"),
            }
        };
        assert!(error(TupleFormat::Csv, "object,relation\n").contains("the header must name"));
        assert!(
            error(TupleFormat::Csv, "object,relation,subject,colour\n").contains("unknown column `colour`")
        );
        assert!(error(TupleFormat::Json, "{}").contains("not a JSON array"));
        assert!(
            error(TupleFormat::Yaml, "- {object: doc:1, relation: r, user: u:1, extra: 1}").contains("extra")
        );
        assert_eq!(
            read(TupleFormat::JsonLines, "{\"object\":\"doc:1\"}"),
            ["1: missing field `subject` at line 1 column 18"]
        );
    }

    #[test]
    fn formats_are_recognised_by_name_and_by_their_first_line() {
        assert_eq!(TupleFormat::of_path(Path::new("a/b.JSONL")), TupleFormat::JsonLines);
        assert_eq!(TupleFormat::of_path(Path::new("tuples.txt")), TupleFormat::Lines);
        for (start, format) in [
            ("{\"object\":", TupleFormat::JsonLines),
            ("[\n", TupleFormat::Json),
            ("# c\n- user: a", TupleFormat::Yaml),
            ("object,relation,subject\n", TupleFormat::Csv),
            ("doc:a,b#viewer@user:ann\n", TupleFormat::Lines),
            ("", TupleFormat::Lines),
        ] {
            assert_eq!(TupleFormat::of_start(start.as_bytes()), format, "{start}");
        }
    }
}
