//! `Expand`: one rewrite level, with the stored tuples as leaves (Zanzibar paper §2.4.5).

use std::mem::take;

use super::question::{Asked, Question};
use super::replay::Replay;
use super::witness::{Answer, Witness};
use crate::engine::{Expand, UsersetNode, UsersetTree};
use crate::metrics::Search;
use crate::proto;
use crate::proto::userset_tree::{Difference, Leaf, Node as Wire, Operands, TupleToUserset};
use crate::server::call::Call;
use crate::server::journal::Matter;
use crate::server::node::Node;
use crate::server::search::Meter;
use crate::server::status::Error;
use crate::server::{convert, search};
use crate::tuple::{Object, RelationName};

pub(super) async fn expand(
    node: &Node,
    call: &Call,
    mut request: proto::ExpandRequest,
) -> Result<proto::ExpandResponse, Error> {
    let object = convert::object(&request.object)?;
    let relation = convert::relation(&request.relation)?;
    let matter = Matter::Expand { object: take(&mut request.object), relation: take(&mut request.relation) };
    let mut witness = Witness::begin(node, call, matter);
    let outcome = answer(node, call, request, (object, relation), &mut witness).await;
    witness.end(outcome.as_ref().map(|_| Answer::complete(1)));
    outcome
}

async fn answer(
    node: &Node,
    call: &Call,
    request: proto::ExpandRequest,
    (object, relation): (Object, RelationName),
    witness: &mut Witness,
) -> Result<proto::ExpandResponse, Error> {
    let replica = node.replica(call).await?;
    let asked = Asked {
        consistency: request.consistency,
        schema_id: request.schema_id,
        context: None,
        contextual_tuples: request.contextual_tuples,
    };
    let mut question = Question::new(node, call, &replica, asked).await?;
    let (object, relation) = question.goal(&object, &relation)?;
    let zookie = take(&mut question.zookie);
    let trail = witness.follows(question, Replay::Nothing);
    let mut expand = Expand::new(object, relation);
    let tree = search::run(Meter::new(node, call, replica.store(), Search::Expand), move |fuel| {
        trail.follow(fuel, |question, fuel| expand.run(&question.scope(), fuel))
    })
    .await?;
    Ok(proto::ExpandResponse { tree: Some(wire(tree)), zookie })
}

/// INVARIANT: a rewrite nests as deep as the schema's text may, which is bounded, so this
/// recursion is too.
fn wire(tree: UsersetTree) -> proto::UsersetTree {
    let operands = |trees: Vec<UsersetTree>| Operands { operands: trees.into_iter().map(wire).collect() };
    let node = match tree.node {
        UsersetNode::Leaf(tuples) => {
            Wire::Leaf(Leaf { tuples: tuples.iter().map(convert::wire_tuple).collect() })
        }
        UsersetNode::Computed(userset) => Wire::Computed(userset.to_string()),
        UsersetNode::TupleToUserset { tupleset, computed } => Wire::TupleToUserset(TupleToUserset {
            tupleset: tupleset.to_string(),
            computed: computed.iter().map(ToString::to_string).collect(),
        }),
        UsersetNode::Union(trees) => Wire::Union(operands(trees)),
        UsersetNode::Intersection(trees) => Wire::Intersection(operands(trees)),
        UsersetNode::Difference { base, subtract } => Wire::Difference(Box::new(Difference {
            base: Some(Box::new(wire(*base))),
            subtract: Some(Box::new(wire(*subtract))),
        })),
    };
    proto::UsersetTree { userset: tree.userset.to_string(), node: Some(node) }
}
