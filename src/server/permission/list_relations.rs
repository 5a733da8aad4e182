//! `ListRelations`: every relation a subject has to an object.

use super::question::{Asked, Question, wire_verdict};
use crate::engine::{FoundRelation, ListRelations, Memo};
use crate::metrics::Search;
use crate::proto;
use crate::server::call::Call;
use crate::server::node::Node;
use crate::server::search::Meter;
use crate::server::status::Error;
use crate::server::{convert, search};

pub(super) async fn list_relations(
    node: &Node,
    call: &Call,
    request: proto::ListRelationsRequest,
) -> Result<proto::ListRelationsResponse, Error> {
    let object = convert::object(&request.object)?;
    let subject = convert::subject(&request.subject)?;
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
    let zookie = std::mem::take(&mut question.zookie);

    let mut list = ListRelations::new(question.rules(), object, object_type, subject);
    let mut memo = Memo::new();
    let rules = question.shared_rules();
    let found = search::run(Meter::new(node, call, replica.store(), Search::ListRelations), move |fuel| {
        list.run(&question.scope(), &mut memo, fuel)
    })
    .await?;
    let wire = |found: FoundRelation| {
        let (verdict, missing) = wire_verdict(found.verdict);
        let relation = rules.relation(found.relation).name.to_string();
        proto::ListedRelation { relation, verdict: verdict.into(), missing }
    };
    Ok(proto::ListRelationsResponse { relations: found.into_iter().map(wire).collect(), zookie })
}
