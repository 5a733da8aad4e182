//! Tuples by their parts, and what may be demanded of them.

use std::sync::Arc;

use crate::tuple::{Object, ObjectId, RelationName, Subject, TupleKey, TypeName};

/// Tuples by their parts; an absent part matches anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct TupleFilter {
    /// Type of the object.
    pub object_type: Option<TypeName>,
    /// Id of the object.
    pub object_id: Option<Arc<str>>,
    /// The relation.
    pub relation: Option<RelationName>,
    /// Type of the subject.
    pub subject_type: Option<TypeName>,
    /// Id of the subject; `*` for the wildcard.
    pub subject_id: Option<Arc<str>>,
    /// Relation of a userset subject; `Some(None)`: no relation.
    pub subject_relation: Option<Option<RelationName>>,
}

impl TupleFilter {
    /// Whether a tuple matches.
    #[must_use]
    pub fn matches(&self, key: &TupleKey) -> bool {
        fn part<T: AsRef<str>>(wanted: Option<&T>, actual: &str) -> bool {
            wanted.is_none_or(|wanted| wanted.as_ref() == actual)
        }
        part(self.object_type.as_ref(), key.object.object_type().as_str())
            && part(self.object_id.as_ref(), key.object.id().as_str())
            && part(self.relation.as_ref(), key.relation.as_str())
            && part(self.subject_type.as_ref(), key.subject.subject_type().as_str())
            && part(self.subject_id.as_ref(), key.subject.id())
            && self.subject_relation.as_ref().is_none_or(|wanted| wanted.as_ref() == key.subject.relation())
    }

    /// Whether an index leads to what matches: the object is given, or the subject.
    #[must_use]
    pub fn is_indexed(&self) -> bool {
        (self.object_type.is_some() && self.object_id.is_some())
            || (self.subject_type.is_some() && self.subject_id.is_some())
    }

    /// The one key that can match, if every part is given and they make a key.
    #[must_use]
    pub fn exact(&self) -> Option<TupleKey> {
        let object = Object::new(self.object_type.clone()?, ObjectId::new(self.object_id.as_deref()?).ok()?);
        let (subject_type, subject_id) = (self.subject_type.clone()?, self.subject_id.as_deref()?);
        let subject = match (subject_id, self.subject_relation.clone()?) {
            ("*", None) => Subject::Wildcard(subject_type),
            (id, relation) => {
                let object = Object::new(subject_type, ObjectId::new(id).ok()?).ok()?;
                match relation {
                    Some(relation) => Subject::Userset(object, relation),
                    None => Subject::Object(object),
                }
            }
        };
        Some(TupleKey { object: object.ok()?, relation: self.relation.clone()?, subject })
    }
}

/// A fact about the state before a write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Precondition {
    /// What must or must not be there.
    pub filter: TupleFilter,
    /// Which of the two.
    pub expectation: Expectation,
}

/// Whether a precondition wants a tuple or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// At least one live tuple matches.
    Match,
    /// No live tuple matches.
    NoMatch,
}
