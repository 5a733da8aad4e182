//! `ListObjects`: on which objects of a type has a subject a relation?

use std::sync::Arc;

use futures::{Stream, StreamExt as _};

use super::listing::{self, Listed, Order};
use super::question::{Asked, Question, wire_verdict};
use crate::engine::{ListObjects, Memo, Progress};
use crate::graph::View as _;
use crate::metrics::Search;
use crate::proto;
use crate::server::call::Call;
use crate::server::convert;
use crate::server::cursor::RequestDigest;
use crate::server::node::Node;
use crate::server::search::{Lister, Slice};
use crate::server::status::{At as _, Error};
use crate::tuple::TypeName;

pub(super) async fn list_objects(
    node: Arc<Node>,
    call: Call,
    mut request: proto::ListObjectsRequest,
) -> Result<impl Stream<Item = Result<proto::ListObjectsResponse, Error>> + Send + 'static, Error> {
    let subject = convert::subject(&request.subject)?;
    let relation = convert::relation(&request.relation)?;
    let object_type = TypeName::new(&request.object_type).at("object_type")?;
    let replica = node.replica(&call).await?;
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
    let mut prepared = listing::prepare(&node, &call, &replica, asked, order).await?;

    let question = &mut prepared.question;
    let type_id = question.type_named("object_type", &object_type)?;
    let relation = question.relation_of("relation", type_id, &object_type, &relation)?;
    let subject = question.subject(&subject)?;
    let zookie = std::mem::take(&mut question.zookie);
    let lister =
        Objects { list: ListObjects::new(subject, relation), memo: Memo::new(), question: prepared.question };
    let messages =
        listing::messages(node, call, prepared.extent, zookie, lister, |item| &item.object).await?;
    Ok(messages.map(|message| {
        message.map(|Listed { items, cursor, zookie }| proto::ListObjectsResponse {
            objects: items,
            cursor,
            zookie,
        })
    }))
}

struct Objects {
    list: ListObjects,
    memo: Memo,
    question: Question,
}

impl Lister for Objects {
    type Item = proto::ListedObject;

    const SEARCH: Search = Search::ListObjects;

    fn run(&mut self, fuel: &mut u64) -> Slice<()> {
        match self.list.run(&self.question.scope(), &mut self.memo, fuel) {
            Progress::Done(outcome) => Progress::Done(outcome.map(|_| ())),
            Progress::Suspended => Progress::Suspended,
        }
    }

    fn take(&mut self) -> Vec<proto::ListedObject> {
        let found = self.list.take_found();
        let view = self.question.scope().view;
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
