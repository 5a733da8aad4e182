//! `relata list-relations`: everything a subject may do with an object.

use clap::Args;
use serde_json::json;

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::list_objects::{remark_on_end, verdict_cell};
use super::output::{Format, Item, Output, verdict_word};
use super::question::{ContextArg, Question};
use super::settings::Settings;
use crate::proto;

/// List every relation a subject has to an object.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  relata list-relations doc:plan user:ann
  relata list-relations doc:plan user:ann --output json")]
pub struct ListRelations {
    /// Object, `type:id`.
    object: String,
    /// Who is asked about: `type:id`, `type:*` or `type:id#relation`.
    subject: String,
    #[command(flatten)]
    context: ContextArg,
    #[command(flatten)]
    question: Question,
}

impl ListRelations {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let request = proto::ListRelationsRequest {
            store: settings.store.clone(),
            consistency: self.question.consistency(),
            context: self.context.values()?,
            contextual_tuples: self.question.contextual_tuples()?,
            schema_id: self.question.schema_id,
            object: self.object,
            subject: self.subject,
        };
        let connection = Connection::open(settings).await?;
        let answer = connection.permissions().list_relations(connection.request(request)).await?.into_inner();
        let items = answer
            .relations
            .iter()
            .map(|listed| Item {
                cells: vec![listed.relation.clone(), verdict_cell(listed.verdict(), &listed.missing)],
                json: json!({
                    "relation": listed.relation,
                    "verdict": verdict_word(listed.verdict()),
                    "missing": listed.missing,
                }),
            })
            .collect();
        out.list("relations", &["RELATION", "VERDICT"], items, json!({ "zookie": answer.zookie }))?;
        if out.format == Format::Table {
            remark_on_end(answer.relations.len(), "relation", "");
        }
        Ok(Exit::Success)
    }
}
