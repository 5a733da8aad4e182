//! `relata list-objects`: the objects of a type on which a subject has a relation.

use clap::Args;
use serde_json::json;

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::output::{Format, Item, Output, remark, verdict_word};
use super::question::{ContextArg, Question};
use super::settings::Settings;
use crate::proto::{self, ListedObject, Verdict};

/// List the objects of a type on which a subject has a relation.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata list-objects user:ann viewer doc
  relata list-objects user:ann viewer doc --page-size 100
  relata list-objects group:eng#member viewer doc --output jsonl")]
pub struct ListObjects {
    /// Who is asked about: `type:id`, `type:*` or `type:id#relation`.
    subject: String,
    /// Relation asked for.
    relation: String,
    /// Type of the objects.
    #[arg(value_name = "TYPE")]
    object_type: String,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    context: ContextArg,
    #[command(flatten)]
    question: Question,
}

/// One page of a list instead of all of it.
#[derive(Debug, Args)]
pub(super) struct Page {
    /// Print one page of at most this many, sorted, and the cursor of the next.
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub(super) page_size: u32,
    /// Where the page before ended.
    #[arg(
        long,
        value_name = "CURSOR",
        default_value = "",
        hide_default_value = true,
        requires = "page_size"
    )]
    pub(super) cursor: String,
}

impl ListObjects {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let request = proto::ListObjectsRequest {
            store: settings.store.clone(),
            consistency: self.question.consistency(),
            context: self.context.values()?,
            contextual_tuples: self.question.contextual_tuples()?,
            schema_id: self.question.schema_id,
            subject: self.subject,
            relation: self.relation,
            object_type: self.object_type,
            page_size: self.page.page_size,
            cursor: self.page.cursor,
        };
        let connection = Connection::open(settings).await?;
        let mut answers =
            connection.permissions().list_objects(connection.request(request)).await?.into_inner();
        let mut objects = Vec::new();
        let (mut cursor, mut zookie) = (String::new(), String::new());
        while let Some(answer) = answers.message().await? {
            cursor = answer.cursor;
            zookie = answer.zookie;
            for object in answer.objects {
                if out.format == Format::Jsonl {
                    out.line(item(&object, out).json)?;
                } else {
                    objects.push(object);
                }
            }
            if out.format == Format::Jsonl {
                out.flush()?;
            }
        }
        objects.sort_by(|a, b| a.object.as_bytes().cmp(b.object.as_bytes()));
        if out.format != Format::Jsonl {
            let items = objects.iter().map(|object| item(object, out)).collect();
            out.list(
                "objects",
                &["OBJECT", "VERDICT"],
                items,
                json!({ "cursor": cursor, "zookie": zookie }),
            )?;
        }
        if out.format == Format::Table {
            remark_on_end(objects.len(), "object", &cursor);
        }
        Ok(Exit::Success)
    }
}

/// Says how many there were, and how to get at the rest.
pub(super) fn remark_on_end(count: usize, what: &str, cursor: &str) {
    let plural = if count == 1 { "" } else { "s" };
    remark(format_args!("{count} {what}{plural}"));
    if !cursor.is_empty() {
        remark(format_args!("more follow: repeat with --cursor {cursor}"));
    }
}

/// A verdict in a list, with what it needs.
pub(super) fn verdict_cell(verdict: Verdict, missing: &[String]) -> String {
    match verdict {
        Verdict::Conditional if !missing.is_empty() => format!("conditional: needs {}", missing.join(", ")),
        Verdict::Allowed | Verdict::Denied | Verdict::Conditional | Verdict::Unspecified => {
            verdict_word(verdict).to_owned()
        }
    }
}

fn item(object: &ListedObject, out: &Output) -> Item {
    let verdict = object.verdict();
    let cells = match out.format {
        Format::Table => vec![object.object.clone(), verdict_cell(verdict, &object.missing)],
        Format::Json | Format::Jsonl => Vec::new(),
    };
    let json =
        json!({ "object": object.object, "verdict": verdict_word(verdict), "missing": object.missing });
    Item { cells, json }
}
