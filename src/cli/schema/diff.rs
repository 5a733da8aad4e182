//! `relata schema diff`: a schema file against the schema in force, declaration by declaration.

use anstyle::{AnsiColor, Style};
use clap::Args;
use serde_json::json;

use super::file;
use super::outline::{Declared, Outline};
use crate::cli::connect::Connection;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::{Format, Output, remark};
use crate::cli::settings::Settings;
use crate::cli::wire;
use crate::proto;
use crate::schema;

/// Show how a schema file differs from the schema in force; spelling and comments do not count.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 no difference, 1 they differ, 65 not a valid schema.

Examples:
  relata schema diff schema.fga
  relata schema diff schema.fga --against 01JD3K6W7Q8Z9X0V1B2N3M4P5R --output json")]
pub struct Diff {
    /// Schema file, or `-`.
    #[arg(value_name = "FILE")]
    path: String,
    /// Version to compare with [default: the one in force].
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    against: String,
}

impl Diff {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let (text, name) = file::read(&self.path)?;
        let new = match canonical(&text) {
            Ok(new) => new,
            Err(diagnostics) => return file::report(&diagnostics, &name, out),
        };
        let connection = Connection::open(settings).await?;
        let request = proto::ReadSchemaRequest { store: settings.store.clone(), schema_id: self.against };
        let answer = connection.schemas().read_schema(connection.request(request)).await?.into_inner();
        let schema = wire::required(answer.schema, "schema")?;
        let old = canonical(&schema.text).map_err(|_| {
            Failure::new(Exit::Internal, "this program cannot read the schema in force")
                .advise("compare `relata version` with the server's")
        })?;
        let differences = compare(&old, &new);
        match out.format {
            Format::Table => print(&differences, out)?,
            Format::Json | Format::Jsonl => {
                let items: Vec<_> = differences
                    .iter()
                    .map(|difference| json!({ "what": difference.what, "old": difference.old, "new": difference.new }))
                    .collect();
                out.json(&json!({ "against": schema.id, "differences": items }))?;
            }
        }
        if differences.is_empty() {
            remark(format_args!("{name} is the same as schema {}", schema.id));
            return Ok(Exit::Success);
        }
        Ok(Exit::Denied)
    }
}

/// A declaration that is not the same in both.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    what: String,
    old: Option<String>,
    new: Option<String>,
}

fn canonical(text: &str) -> Result<Outline, schema::Diagnostics> {
    let document = schema::parse_document(text)?;
    // A text that was read can be printed; were it not, its own spelling is compared.
    let printed = schema::print_document(&document).unwrap_or_else(|_| text.to_owned());
    Ok(Outline::of(&printed))
}

/// What differs, in the order of the new text, then what is gone in the order of the old.
fn compare(old: &Outline, new: &Outline) -> Vec<Difference> {
    let text_of = |outline: &Outline, declared: &Declared| {
        let found = outline.declarations.iter().find(|declaration| declaration.declared == *declared)?;
        Some(found.lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n"))
    };
    let counts = |declared: &Declared| !matches!(declared, Declared::Relations(_));
    let mut differences = Vec::new();
    for declared in new.declarations.iter().map(|d| &d.declared).filter(|declared| counts(declared)) {
        let (before, after) = (text_of(old, declared), text_of(new, declared));
        if before != after {
            differences.push(Difference { what: describe(declared), old: before, new: after });
        }
    }
    for declared in old.declarations.iter().map(|d| &d.declared).filter(|declared| counts(declared)) {
        if text_of(new, declared).is_none() {
            differences.push(Difference { what: describe(declared), old: text_of(old, declared), new: None });
        }
    }
    differences
}

fn describe(declared: &Declared) -> String {
    match declared {
        Declared::Header(word) => word.clone(),
        Declared::Type(name) => format!("type {name}"),
        Declared::Relations(name) => format!("relations of {name}"),
        Declared::Relation(object_type, relation) => format!("{object_type}#{relation}"),
        Declared::Condition(name) => format!("condition {name}"),
    }
}

fn print(differences: &[Difference], out: &mut Output) -> Result<(), Failure> {
    for difference in differences {
        out.line(out.paint(Style::new().bold(), &difference.what))?;
        for (sign, colour, text) in
            [("-", AnsiColor::Red, &difference.old), ("+", AnsiColor::Green, &difference.new)]
        {
            for line in text.iter().flat_map(|text| text.lines()) {
                out.line(out.paint(Style::new().fg_color(Some(colour.into())), &format!("{sign} {line}")))?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations_are_compared_and_spelling_is_not() {
        let old = canonical("model\n  schema 1.1\ntype user\ntype old\ntype doc\n  relations\n    define viewer: [user]\n    define owner: [user]\n").expect("a schema");
        let new = canonical("model\n  schema 1.1\ntype user # people\ntype doc\n  relations\n    define owner:[user]\n    define viewer: [user] or owner\n").expect("a schema");
        let differences = compare(&old, &new);
        let what: Vec<_> = differences.iter().map(|difference| difference.what.as_str()).collect();
        assert_eq!(what, ["doc#viewer", "type old"]);
        assert_eq!(differences[0].old.as_deref(), Some("define viewer: [user]"));
        assert_eq!(differences[0].new.as_deref(), Some("define viewer: [user] or owner"));
        assert_eq!(differences[1].new, None);
        assert!(compare(&new, &new).is_empty());
    }
}
