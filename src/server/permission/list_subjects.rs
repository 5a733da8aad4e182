//! `ListSubjects`: which subjects of a kind have a relation to an object?

use std::sync::Arc;

use futures::{Stream, StreamExt as _};

use super::listing::{self, Extent, Listed, Order};
use super::question::{Asked, wire_verdict};
use super::replay::Replay;
use super::witness::{Trail, Witness};
use crate::engine::{FoundSubject, ListSubjects, Progress};
use crate::metrics::Search;
use crate::proto;
use crate::schema::SubjectKind;
use crate::server::call::Call;
use crate::server::convert;
use crate::server::cursor::RequestDigest;
use crate::server::journal::Matter;
use crate::server::node::Node;
use crate::server::search::{Lister, Slice};
use crate::server::status::{At as _, Error};
use crate::tuple::{Object, RelationName, TypeName};

pub(super) async fn list_subjects(
    node: Arc<Node>,
    call: Call,
    request: proto::ListSubjectsRequest,
) -> Result<impl Stream<Item = Result<proto::ListSubjectsResponse, Error>> + Send + 'static, Error> {
    let object = convert::object(&request.object)?;
    let relation = convert::relation(&request.relation)?;
    let subject_type = TypeName::new(&request.subject_type).at("subject_type")?;
    let subject_relation = match request.subject_relation.as_str() {
        "" => None,
        text => Some(RelationName::new(text).at("subject_relation")?),
    };
    let matter = Matter::Subjects {
        object: request.object.clone(),
        relation: request.relation.clone(),
        subject_type: request.subject_type.clone(),
        subject_relation: request.subject_relation.clone(),
    };
    let mut witness = Witness::begin(&node, &call, matter);
    let sought = (&subject_type, subject_relation.as_ref());
    let begun = begin(&node, &call, request, (&object, &relation), sought, &mut witness).await;
    let (witness, (lister, extent, zookie)) = witness.pass(begun)?;
    let messages =
        listing::messages(node, call, extent, zookie, lister, |item| id(&item.subject), witness).await?;
    Ok(messages.map(|message| {
        message.map(|Listed { items, cursor, zookie }| proto::ListSubjectsResponse {
            subjects: items,
            cursor,
            zookie,
        })
    }))
}

/// Sets the list up: what it is asked of, how much of it is wanted, and the zookie of the answer.
async fn begin(
    node: &Node,
    call: &Call,
    mut request: proto::ListSubjectsRequest,
    (object, relation): (&Object, &RelationName),
    (subject_type, subject_relation): (&TypeName, Option<&RelationName>),
    witness: &mut Witness,
) -> Result<(Subjects, Extent, String), Error> {
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
    let (object, relation) = question.goal(object, relation)?;
    let type_id = question.type_named("subject_type", subject_type)?;
    let kind = match subject_relation {
        None => SubjectKind::Object(type_id),
        Some(relation) => {
            SubjectKind::Userset(question.relation_of("subject_relation", type_id, subject_type, relation)?)
        }
    };
    let kind = question.rules().kind_id(kind);
    let zookie = std::mem::take(&mut question.zookie);
    let trail = witness.follows(prepared.question, Replay::Subjects { object, relation, kind });
    let lister = Subjects { list: ListSubjects::new(object, relation, kind), trail };
    Ok((lister, prepared.extent, zookie))
}

/// The id within the type: all subjects of a list share type and relation.
fn id(subject: &str) -> &str {
    let id = subject.split_once(':').map_or(subject, |(_, id)| id);
    id.split_once('#').map_or(id, |(id, _)| id)
}

struct Subjects {
    list: ListSubjects,
    trail: Arc<Trail>,
}

impl Lister for Subjects {
    type Item = proto::ListedSubject;

    const SEARCH: Search = Search::ListSubjects;

    fn run(&mut self, fuel: &mut u64) -> Slice<()> {
        let list = &mut self.list;
        match self.trail.follow(fuel, |question, fuel| list.run(&question.scope(), fuel)) {
            Progress::Done(outcome) => Progress::Done(outcome.map(|_| ())),
            Progress::Suspended => Progress::Suspended,
        }
    }

    fn take(&mut self) -> Vec<proto::ListedSubject> {
        let found = self.list.take_found();
        let scope = self.trail.question.scope();
        let wire = |found: FoundSubject| {
            let (verdict, missing) = wire_verdict(found.verdict);
            proto::ListedSubject {
                subject: scope.subject(found.subject).to_string(),
                verdict: verdict.into(),
                missing,
            }
        };
        found.into_iter().map(wire).collect()
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_page_is_sorted_by_the_id_alone() {
        assert_eq!(super::id("user:ann"), "ann");
        assert_eq!(super::id("user:*"), "*");
        assert_eq!(super::id("group:a!#member"), "a!");
    }
}
