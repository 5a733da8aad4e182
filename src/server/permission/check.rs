//! `Check`: whether a subject has a relation to an object.

use super::question::{Asked, Question, wire_verdict};
use crate::engine::{Check, Memo};
use crate::proto;
use crate::server::call::Call;
use crate::server::node::Node;
use crate::server::status::Error;
use crate::server::{convert, search};

pub(super) async fn check(
    node: &Node,
    call: &Call,
    request: proto::CheckRequest,
) -> Result<proto::CheckResponse, Error> {
    let object = convert::object(&request.object)?;
    let relation = convert::relation(&request.relation)?;
    let subject = convert::subject(&request.subject)?;
    let replica = node.replica(&request.store).await?;
    let asked = Asked {
        consistency: request.consistency,
        schema_id: request.schema_id,
        context: request.context,
        contextual_tuples: request.contextual_tuples,
    };
    let mut question = Question::new(node, call, &replica, asked).await?;
    let (object, relation) = question.goal(&object, &relation)?;
    let subject = question.subject(&subject)?;
    let zookie = std::mem::take(&mut question.zookie);

    let (mut check, mut memo) = (Check::new(object, relation, subject), Memo::new());
    let answer = search::run(node, move |fuel| check.run(&question.scope(), &mut memo, fuel)).await?;
    let (verdict, missing) = wire_verdict(answer.verdict);
    Ok(proto::CheckResponse {
        verdict: verdict.into(),
        zookie,
        missing,
        explanation: None,
        work: Some(proto::Work { goals: answer.work.goals, edges: answer.work.edges }),
    })
}
