//! `relata list-subjects`: who has a relation to an object.

use clap::Args;
use serde_json::json;

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::list_objects::{Page, remark_on_end, verdict_cell};
use super::output::{Format, Item, Output, verdict_word};
use super::question::{ContextArg, Question};
use super::settings::Settings;
use crate::proto::{self, ListedSubject, Verdict};

/// List the subjects of a type that have a relation to an object.
#[derive(Debug, Args)]
#[command(after_help = "\
`user:*` in the list stands for every user; a subject marked `excepted` is one it does not cover.

Examples:
  relata list-subjects doc:plan viewer user
  relata list-subjects doc:plan viewer group#member
  relata list-subjects doc:plan viewer user --page-size 100 --output json")]
pub struct ListSubjects {
    /// Object, `type:id`.
    object: String,
    /// Relation asked for.
    relation: String,
    /// Kind of subject: `type`, or `type#relation` for usersets.
    #[arg(value_name = "TYPE[#RELATION]")]
    subject_kind: String,
    #[command(flatten)]
    page: Page,
    #[command(flatten)]
    context: ContextArg,
    #[command(flatten)]
    question: Question,
}

impl ListSubjects {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let (subject_type, subject_relation) = match self.subject_kind.split_once('#') {
            None => (self.subject_kind.as_str(), ""),
            Some((_, "")) => {
                return Err(Failure::bad_input(format!(
                    "`{}` names no relation after `#`",
                    self.subject_kind
                )));
            }
            Some(parts) => parts,
        };
        let request = proto::ListSubjectsRequest {
            store: settings.store.clone(),
            subject_type: subject_type.to_owned(),
            subject_relation: subject_relation.to_owned(),
            consistency: self.question.consistency(),
            context: self.context.values()?,
            contextual_tuples: self.question.contextual_tuples()?,
            schema_id: self.question.schema_id,
            object: self.object,
            relation: self.relation,
            page_size: self.page.page_size,
            cursor: self.page.cursor,
        };
        let connection = Connection::open(settings).await?;
        let mut answers =
            connection.permissions().list_subjects(connection.request(request)).await?.into_inner();
        let mut subjects = Vec::new();
        let (mut cursor, mut zookie) = (String::new(), String::new());
        while let Some(answer) = answers.message().await? {
            cursor = answer.cursor;
            zookie = answer.zookie;
            for subject in answer.subjects {
                if out.format == Format::Jsonl {
                    out.line(item(&subject).json)?;
                } else {
                    subjects.push(subject);
                }
            }
            if out.format == Format::Jsonl {
                out.flush()?;
            }
        }
        subjects.sort_by(|a, b| a.subject.as_bytes().cmp(b.subject.as_bytes()));
        if out.format != Format::Jsonl {
            let items = subjects.iter().map(item).collect();
            out.list(
                "subjects",
                &["SUBJECT", "VERDICT"],
                items,
                json!({ "cursor": cursor, "zookie": zookie }),
            )?;
        }
        if out.format == Format::Table {
            remark_on_end(subjects.len(), "subject", &cursor);
        }
        Ok(Exit::Success)
    }
}

fn item(subject: &ListedSubject) -> Item {
    let verdict = subject.verdict();
    let cell = match verdict {
        Verdict::Denied => "excepted".to_owned(),
        Verdict::Allowed | Verdict::Conditional | Verdict::Unspecified => {
            verdict_cell(verdict, &subject.missing)
        }
    };
    Item {
        cells: vec![subject.subject.clone(), cell],
        json: json!({ "subject": subject.subject, "verdict": verdict_word(verdict), "missing": subject.missing }),
    }
}
