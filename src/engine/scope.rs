//! What a question is asked of.

use crate::condition::Required;
use crate::context::Context;
use crate::graph::View;
use crate::schema::{Rules, SubjectKind};
use crate::tuple::{Attributes, Subject, Tuple, TupleKey};

use crate::graph::{AttributesId, Ordinal, SubjectNode};
use crate::schema::RelationId;

use super::limits::Limits;

/// What a question is asked of: a schema, the tuples as the question sees them, what it supplies,
/// and how much it may cost. The same for every slice of a search.
pub struct Scope<'a, V> {
    /// The compiled schema.
    pub rules: &'a Rules,
    /// The tuples, bound to the same schema.
    pub view: &'a V,
    /// Values for condition parameters.
    pub context: &'a Context,
    /// Which parameters must be there.
    pub required: Required,
    /// Bounds.
    pub limits: &'a Limits,
}

// Derived impls would ask the same of `V`.
impl<V> Clone for Scope<'_, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<V> Copy for Scope<'_, V> {}

impl<V: View> Scope<'_, V> {
    /// The subject of dense ids, as text has it.
    #[must_use]
    pub fn subject(&self, subject: SubjectNode) -> Subject {
        match self.rules.subject_kind(subject.kind) {
            SubjectKind::Object(_) => Subject::Object(self.view.object(subject.node)),
            SubjectKind::Wildcard(id) => {
                // INVARIANT: kinds are made by the same rules, which hold the type's name.
                #[expect(clippy::indexing_slicing, reason = "type ids are made by the table they index")]
                let name = self.rules.types()[usize::from(id.0)].clone();
                Subject::Wildcard(name)
            }
            SubjectKind::Userset(relation) => {
                Subject::Userset(self.view.object(subject.node), self.rules.relation(relation).name.clone())
            }
        }
    }

    /// The tuple of dense ids.
    #[must_use]
    pub fn tuple(
        &self,
        object: Ordinal,
        relation: RelationId,
        subject: SubjectNode,
        attributes: Option<AttributesId>,
    ) -> Tuple {
        Tuple {
            key: TupleKey {
                object: self.view.object(object),
                relation: self.rules.relation(relation).name.clone(),
                subject: self.subject(subject),
            },
            attributes: attributes.map_or_else(Attributes::default, |id| self.view.attributes(id).clone()),
        }
    }
}
