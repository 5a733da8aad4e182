//! `ListObjects`: on which objects of a type has a subject a relation?

use std::sync::Arc;

use futures::{Stream, StreamExt as _};

use super::listing::{self, Extent, Listed, Order};
use super::question::{Asked, wire_verdict};
use super::replay::Replay;
use super::witness::{Trail, Witness};
use crate::engine::{ListObjects, Memo, Progress};
use crate::graph::View as _;
use crate::metrics::Search;
use crate::proto;
use crate::server::call::Call;
use crate::server::convert;
use crate::server::cursor::RequestDigest;
use crate::server::journal::Matter;
use crate::server::node::Node;
use crate::server::search::{Lister, Slice};
use crate::server::status::{At as _, Error};
use crate::tuple::{RelationName, Subject, TypeName};

pub(super) async fn list_objects(
    node: Arc<Node>,
    call: Call,
    request: proto::ListObjectsRequest,
) -> Result<impl Stream<Item = Result<proto::ListObjectsResponse, Error>> + Send + 'static, Error> {
    let subject = convert::subject(&request.subject)?;
    let relation = convert::relation(&request.relation)?;
    let object_type = TypeName::new(&request.object_type).at("object_type")?;
    let matter = Matter::Objects {
        object_type: request.object_type.clone(),
        relation: request.relation.clone(),
        subject: request.subject.clone(),
    };
    let mut witness = Witness::begin(&node, &call, matter);
    let begun = begin(&node, &call, request, (&object_type, &relation, &subject), &mut witness).await;
    let (witness, (lister, extent, zookie)) = witness.pass(begun)?;
    let messages =
        listing::messages(node, call, extent, zookie, lister, |item| &item.object, witness).await?;
    Ok(messages.map(|message| {
        message.map(|Listed { items, cursor, zookie }| proto::ListObjectsResponse {
            objects: items,
            cursor,
            zookie,
        })
    }))
}

/// Sets the list up: what it is asked of, how much of it is wanted, and the zookie of the answer.
async fn begin(
    node: &Node,
    call: &Call,
    mut request: proto::ListObjectsRequest,
    (object_type, relation, subject): (&TypeName, &RelationName, &Subject),
    witness: &mut Witness,
) -> Result<(Objects, Extent, String), Error> {
    let replica = node.replica(call).await?;
    let consistency = request.consistency.take();
    request.store.clear();
    let (page_size, cursor) = (std::mem::take(&mut request.page_size), std::mem::take(&mut request.cursor));
    let digest = RequestDigest::of(call.method, Some(replica.store()), &request);
    let asked = Asked {
        consistency,
        schema_id: request.schema_id,
        context: request.context,
        contextual_tuples: request.contextual_tuples,
    };
    let order = Order { page_size, cursor, digest };
    let mut prepared = listing::prepare(node, call, &replica, asked, order).await?;

    let question = &mut prepared.question;
    let type_id = question.type_named("object_type", object_type)?;
    let relation = question.relation_of("relation", type_id, object_type, relation)?;
    let subject = question.subject(subject)?;
    let zookie = std::mem::take(&mut question.zookie);
    let trail = witness.follows(prepared.question, Replay::Objects { subject, relation });
    let lister = Objects { list: ListObjects::new(subject, relation), memo: Memo::new(), trail };
    Ok((lister, prepared.extent, zookie))
}

struct Objects {
    list: ListObjects,
    memo: Memo,
    trail: Arc<Trail>,
}

impl Lister for Objects {
    type Item = proto::ListedObject;

    const SEARCH: Search = Search::ListObjects;

    fn run(&mut self, fuel: &mut u64) -> Slice<()> {
        let (list, memo) = (&mut self.list, &mut self.memo);
        match self.trail.follow(fuel, |question, fuel| list.run(&question.scope(), memo, fuel)) {
            Progress::Done(outcome) => Progress::Done(outcome.map(|_| ())),
            Progress::Suspended => Progress::Suspended,
        }
    }

    fn take(&mut self) -> Vec<proto::ListedObject> {
        let found = self.list.take_found();
        let view = self.trail.question.scope().view;
        let wire = |found: crate::engine::FoundObject| {
            let (verdict, missing) = wire_verdict(found.verdict);
            proto::ListedObject {
                object: view.object(found.object).to_string(),
                verdict: verdict.into(),
                missing,
            }
        };
        found.into_iter().map(wire).collect()
    }
}
