//! `Check`: whether a subject has a relation to an object.

use std::mem::take;

use super::question::{Asked, Question, wire_verdict};
use super::replay::Replay;
use super::witness::{Answer, Witness};
use crate::engine::{Check, Explain, Explanation, ExplanationNode, Finding, Memo};
use crate::metrics::Search;
use crate::proto;
use crate::server::call::Call;
use crate::server::journal::Matter;
use crate::server::node::Node;
use crate::server::search::Meter;
use crate::server::status::Error;
use crate::server::{convert, search};
use crate::tuple::{Object, RelationName, Subject};

pub(super) async fn check(
    node: &Node,
    call: &Call,
    mut request: proto::CheckRequest,
) -> Result<proto::CheckResponse, Error> {
    let object = convert::object(&request.object)?;
    let relation = convert::relation(&request.relation)?;
    let subject = convert::subject(&request.subject)?;
    let matter = Matter::Check {
        object: take(&mut request.object),
        relation: take(&mut request.relation),
        subject: take(&mut request.subject),
    };
    let mut witness = Witness::begin(node, call, matter);
    let outcome = answer(node, call, request, (object, relation, subject), &mut witness).await;
    witness.end(outcome.as_ref().map(|answer| Answer::verdict(answer.verdict, &answer.missing)));
    outcome
}

async fn answer(
    node: &Node,
    call: &Call,
    request: proto::CheckRequest,
    (object, relation, subject): (Object, RelationName, Subject),
    witness: &mut Witness,
) -> Result<proto::CheckResponse, Error> {
    let replica = node.replica(call).await?;
    let asked = Asked {
        consistency: request.consistency,
        schema_id: request.schema_id,
        context: request.context,
        contextual_tuples: request.contextual_tuples,
    };
    let mut question = Question::new(node, call, &replica, asked).await?;
    let (object, relation) = question.goal(&object, &relation)?;
    let subject = question.subject(&subject)?;
    let zookie = take(&mut question.zookie);
    let trail = witness.follows(question, Replay::Check { object, relation, subject });

    // An explanation is decided anew by the same code, so its verdict is the Check's.
    let (answer, explanation) = if request.explain {
        let mut explain = Explain::new(object, relation, subject);
        let explanation = search::run(Meter::new(node, call, replica.store(), Search::Check), move |fuel| {
            trail.follow(fuel, |question, fuel| explain.run(&question.scope(), fuel))
        })
        .await?;
        (explanation.answer.clone(), Some(wire_explanation(explanation)))
    } else {
        let (mut check, mut memo) = (Check::new(object, relation, subject), Memo::new());
        (
            search::run(Meter::new(node, call, replica.store(), Search::Check), move |fuel| {
                trail.follow(fuel, |question, fuel| check.run(&question.scope(), &mut memo, fuel))
            })
            .await?,
            None,
        )
    };
    let (verdict, missing) = wire_verdict(answer.verdict);
    Ok(proto::CheckResponse {
        verdict: verdict.into(),
        zookie,
        missing,
        explanation,
        work: Some(proto::Work { goals: answer.work.goals, edges: answer.work.edges }),
    })
}

fn wire_explanation(explanation: Explanation) -> proto::Explanation {
    let wire = |node: ExplanationNode| proto::ExplanationNode {
        parent: node.parent,
        verdict: match node.finding {
            Finding::Allowed => proto::Verdict::Allowed,
            Finding::Denied => proto::Verdict::Denied,
            Finding::Conditional => proto::Verdict::Conditional,
        }
        .into(),
        goal: node.goal,
        reason: node.reason,
        tuple: node.tuple.as_ref().map(convert::wire_tuple),
        missing: node.missing,
        same_as: node.same_as,
    };
    proto::Explanation {
        nodes: explanation.nodes.into_iter().map(wire).collect(),
        truncated: explanation.truncated,
    }
}
