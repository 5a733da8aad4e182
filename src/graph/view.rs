//! How the engine sees tuples: a narrow trait over dense ids.
//!
//! Expired tuples and tuples the schema does not allow are told from others by the implementations,
//! in one place, so that the engine never sees what one says. Everything is sorted by ordinal, and every
//! scan can start anywhere, so that a search can be suspended in the middle of a large set.

use crate::schema::{KindId, RelationId};
use crate::tuple::{Attributes, Object};

/// The dense id of an object within one store. Ordinals of a request's own unknown objects are
/// counted down from the top and mean nothing outside the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ordinal(pub u32);

/// Attributes of one or more tuples: equal ids mean equal condition, context and expiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributesId(pub u32);

/// The far end of a tuple, and what the tuple carries. `None` is the usual, plain tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Edge {
    /// The object at the other end. For a wildcard subject it has no meaning and is zero.
    pub node: Ordinal,
    /// The condition with its context and expiry, if it carries any.
    pub attributes: Option<AttributesId>,
}

/// What a scan comes upon.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Met {
    /// A tuple that counts.
    Edge(Edge),
    /// One that has expired or is not allowed. It is passed over, and that is work like any other:
    /// there may be millions in a row.
    Passed(Ordinal),
}

impl Met {
    /// The tuple, if it counts.
    #[must_use]
    pub fn edge(self) -> Option<Edge> {
        match self {
            Self::Edge(edge) => Some(edge),
            Self::Passed(_) => None,
        }
    }

    /// Where it stands: a scan goes on behind it.
    #[must_use]
    pub fn node(self) -> Ordinal {
        match self {
            Self::Edge(edge) => edge.node,
            Self::Passed(node) => node,
        }
    }
}

/// A subject in dense ids: its kind, and the ordinal of its object (zero for a wildcard).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SubjectNode {
    /// Object, wildcard or userset, of which type or relation.
    pub kind: KindId,
    /// The object, or the object of the userset.
    pub node: Ordinal,
}

/// The live, allowed tuples of one store at one revision, as one question sees them.
pub trait View {
    /// The tuple `object#relation@subject`, if there is one.
    fn probe(&self, object: Ordinal, relation: RelationId, subject: SubjectNode) -> Option<Edge>;

    /// Subjects of one kind on `object#relation`, ascending, from ordinal `from` on.
    fn members(
        &self,
        object: Ordinal,
        relation: RelationId,
        kind: KindId,
        from: Ordinal,
    ) -> impl Iterator<Item = Met>;

    /// Objects on which the subject has a tuple of the relation, ascending, from `from` on.
    fn holders(&self, subject: SubjectNode, relation: RelationId, from: Ordinal)
    -> impl Iterator<Item = Met>;

    /// What an edge carries.
    fn attributes(&self, id: AttributesId) -> &Attributes;

    /// The object of an ordinal, for explanations and answers.
    fn object(&self, ordinal: Ordinal) -> Object;
}
