//! `ListRelations`: every relation a subject has to an object.

use std::mem::take;

use super::question::{Asked, Question, wire_verdict};
use super::replay::Replay;
use super::witness::{Answer, Witness};
use crate::engine::{FoundRelation, ListRelations, Memo};
use crate::metrics::Search;
use crate::proto;
use crate::server::call::Call;
use crate::server::journal::Matter;
use crate::server::node::Node;
use crate::server::search::Meter;
use crate::server::status::Error;
use crate::server::{convert, search};
use crate::tuple::{Object, Subject};

pub(super) async fn list_relations(
    node: &Node,
    call: &Call,
    mut request: proto::ListRelationsRequest,
) -> Result<proto::ListRelationsResponse, Error> {
    let object = convert::object(&request.object)?;
    let subject = convert::subject(&request.subject)?;
    let matter = Matter::Relations { object: take(&mut request.object), subject: take(&mut request.subject) };
    let mut witness = Witness::begin(node, call, matter);
    let outcome = answer(node, call, request, (object, subject), &mut witness).await;
    witness.end(outcome.as_ref().map(|answer| Answer::complete(answer.relations.len())));
    outcome
}

async fn answer(
    node: &Node,
    call: &Call,
    request: proto::ListRelationsRequest,
    (object, subject): (Object, Subject),
    witness: &mut Witness,
) -> Result<proto::ListRelationsResponse, Error> {
    let replica = node.replica(call).await?;
    let asked = Asked {
        consistency: request.consistency,
        schema_id: request.schema_id,
        context: request.context,
        contextual_tuples: request.contextual_tuples,
    };
    let mut question = Question::new(node, call, &replica, asked).await?;
    let (object, object_type) = question.object(&object)?;
    let subject = question.subject(&subject)?;
    let zookie = take(&mut question.zookie);

    let mut list = ListRelations::new(question.rules(), object, object_type, subject);
    let mut memo = Memo::new();
    let rules = question.shared_rules();
    let trail = witness.follows(question, Replay::Relations { object, object_type, subject });
    let found = search::run(Meter::new(node, call, replica.store(), Search::ListRelations), move |fuel| {
        trail.follow(fuel, |question, fuel| list.run(&question.scope(), &mut memo, fuel))
    })
    .await?;
    let wire = |found: FoundRelation| {
        let (verdict, missing) = wire_verdict(found.verdict);
        let relation = rules.relation(found.relation).name.to_string();
        proto::ListedRelation { relation, verdict: verdict.into(), missing }
    };
    Ok(proto::ListRelationsResponse { relations: found.into_iter().map(wire).collect(), zookie })
}
