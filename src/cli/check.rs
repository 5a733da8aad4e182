//! `relata check`: whether a subject has a relation to an object.

use clap::Args;
use serde_json::json;

use super::connect::Connection;
use super::exit::{Exit, Failure};
use super::explanation;
use super::output::{Format, Output, remark, verdict_word};
use super::question::{ContextArg, Question};
use super::settings::Settings;
use super::wire;
use crate::proto::{self, Verdict};

/// Ask whether a subject has a relation to an object.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit code: 0 allowed, 1 denied, 2 conditional.

Examples:
  relata check doc:plan viewer user:ann
  relata check doc:plan viewer user:ann --explain
  relata check doc:plan viewer group:eng#member --at-least \"$ZOOKIE\"
  relata check account:7 can_pay user:ann --context '{\"amount\": 250}'
  relata check doc:plan viewer user:bob --contextual 'group:eng#member@user:bob'")]
pub struct Check {
    /// Object asked about, `type:id`.
    object: String,
    /// Relation asked for.
    relation: String,
    /// Who is asked about: `type:id`, `type:*` or `type:id#relation`.
    subject: String,
    /// Show the proof, or what was tried.
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    context: ContextArg,
    #[command(flatten)]
    question: Question,
}

impl Check {
    pub(super) async fn run(self, settings: &Settings, out: &mut Output) -> Result<Exit, Failure> {
        let request = proto::CheckRequest {
            store: settings.store.clone(),
            consistency: self.question.consistency(),
            context: self.context.values()?,
            contextual_tuples: self.question.contextual_tuples()?,
            explain: self.explain,
            schema_id: self.question.schema_id,
            object: self.object,
            relation: self.relation,
            subject: self.subject,
        };
        let connection = Connection::open(settings).await?;
        let answer = connection.permissions().check(connection.request(request)).await?.into_inner();
        let verdict = answer.verdict();
        match out.format {
            Format::Table => print(&answer, out)?,
            Format::Json | Format::Jsonl => out.json(&answer_json(&answer))?,
        }
        match verdict {
            Verdict::Allowed => Ok(Exit::Success),
            Verdict::Denied => Ok(Exit::Denied),
            Verdict::Conditional => Ok(Exit::Conditional),
            Verdict::Unspecified => Err(wire::required(None::<()>, "verdict")
                .err()
                .unwrap_or_else(|| Failure::new(Exit::Internal, "the server's answer lacks a verdict"))),
        }
    }
}

fn print(answer: &proto::CheckResponse, out: &mut Output) -> Result<(), Failure> {
    let verdict = answer.verdict();
    let mut line = out.verdict(verdict);
    if verdict == Verdict::Conditional {
        line = format!("{line}: needs {}", answer.missing.join(", "));
    }
    out.line(line)?;
    if let Some(explanation) = &answer.explanation {
        for line in explanation::answered(explanation, out) {
            out.line(line)?;
        }
        if let Some(work) = &answer.work {
            remark(format_args!("{} goals, {} tuples, at {}", work.goals, work.edges, answer.zookie));
        }
    }
    Ok(())
}

fn answer_json(answer: &proto::CheckResponse) -> serde_json::Value {
    let mut json = json!({
        "verdict": verdict_word(answer.verdict()),
        "missing": answer.missing,
        "zookie": answer.zookie,
    });
    if let serde_json::Value::Object(fields) = &mut json {
        if let Some(work) = &answer.work {
            fields.insert("work".to_owned(), json!({ "goals": work.goals, "edges": work.edges }));
        }
        if let Some(explanation) = &answer.explanation {
            let nodes: Vec<_> = explanation.nodes.iter().map(node_json).collect();
            fields.insert(
                "explanation".to_owned(),
                json!({ "nodes": nodes, "truncated": explanation.truncated }),
            );
        }
    }
    json
}

fn node_json(node: &proto::ExplanationNode) -> serde_json::Value {
    json!({
        "parent": node.parent,
        "verdict": verdict_word(node.verdict()),
        "goal": node.goal,
        "reason": node.reason,
        "tuple": node.tuple.as_ref().map(wire::tuple_json),
        "missing": node.missing,
        "same_as": node.same_as,
    })
}
