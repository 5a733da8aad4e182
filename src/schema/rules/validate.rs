//! Whether a tuple may be written: the one answer for stored and for contextual tuples.

use std::fmt;

use super::table::{Allowed, ConditionId, KindId, RelationId, Rules, SubjectKind, TypeId};
use crate::condition::ContextMismatch;
use crate::tuple::{ConditionName, RelationName, Subject, Tuple, TupleKey, TypeName};

/// Why a tuple may not be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("tuple `{tuple}`: {fault}")]
pub struct TupleError {
    /// The tuple.
    pub tuple: Box<TupleKey>,
    /// What is wrong with it.
    pub fault: TupleFault,
}

/// What is wrong with a tuple.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each message names its fields")]
pub enum TupleFault {
    /// The schema lacks the type of the object or of the subject.
    #[error("the schema has no type `{name}`; it has {known}")]
    UnknownType { name: TypeName, known: String },
    /// The schema lacks the relation of the object or of the userset.
    #[error("type `{object_type}` has no relation `{name}`; it has {known}")]
    UnknownRelation { object_type: TypeName, name: RelationName, known: String },
    /// The relation is only derived from others.
    #[error(
        "`{object_type}#{relation}` is not written directly, it derives from other relations; \
         write one of those instead"
    )]
    NotAssignable { object_type: TypeName, relation: RelationName },
    /// The relation takes no such subject.
    #[error("`{object_type}#{relation}` does not take {subject}; it takes {allowed}")]
    SubjectNotAllowed { object_type: TypeName, relation: RelationName, subject: String, allowed: String },
    /// The relation takes such a subject only with a condition.
    #[error("`{object_type}#{relation}` takes {subject} only with a condition: {allowed}")]
    ConditionMissing { object_type: TypeName, relation: RelationName, subject: String, allowed: String },
    /// The schema lacks the condition.
    #[error("the schema has no condition `{name}`; it has {known}")]
    UnknownCondition { name: ConditionName, known: String },
    /// The relation takes such a subject, but not with this condition.
    #[error(
        "`{object_type}#{relation}` does not take {subject} with condition `{condition}`; it takes {allowed}"
    )]
    ConditionNotAllowed {
        object_type: TypeName,
        relation: RelationName,
        subject: String,
        condition: ConditionName,
        allowed: String,
    },
    /// The condition's own context does not fit its declaration.
    #[error("condition `{condition}`: {mismatch}")]
    Context { condition: ConditionName, mismatch: ContextMismatch },
    /// A userset contains itself without a tuple.
    #[error("it says that `{subject}` has what it is; that holds without a tuple, leave it out")]
    Implicit { subject: Subject },
}

impl Rules {
    /// Whether the schema allows a tuple to be written.
    ///
    /// # Errors
    /// [`TupleError`] names the fault and what is allowed instead.
    pub fn validate(&self, tuple: &Tuple) -> Result<(), TupleError> {
        self.fault(tuple).map_err(|fault| TupleError { tuple: Box::new(tuple.key.clone()), fault: *fault })
    }

    fn fault(&self, tuple: &Tuple) -> Result<(), Box<TupleFault>> {
        let TupleKey { object, relation: name, subject } = &tuple.key;
        let relation = self.relation_named(object.object_type(), name)?;
        let kind = match subject {
            Subject::Object(_) => SubjectKind::Object(self.type_named(subject.subject_type())?),
            Subject::Wildcard(_) => SubjectKind::Wildcard(self.type_named(subject.subject_type())?),
            Subject::Userset(_, userset) => {
                SubjectKind::Userset(self.relation_named(subject.subject_type(), userset)?)
            }
        };
        let object_type = object.object_type().clone();
        let relation_name = name.clone();
        let condition = match &tuple.attributes.condition {
            None => None,
            Some(condition) => Some((self.resolve_condition(&condition.name)?, condition)),
        };
        let allowed = self.relation(relation).allowed.as_slice();
        if allowed.is_empty() {
            return Err(Box::new(TupleFault::NotAssignable { object_type, relation: relation_name }));
        }
        let kind = self.kind_id(kind);
        let ways: Vec<Allowed> = allowed.iter().filter(|way| way.kind == kind).copied().collect();
        let subject_text = self.describe(kind, None);
        if ways.is_empty() {
            return Err(Box::new(TupleFault::SubjectNotAllowed {
                object_type,
                relation: relation_name,
                subject: subject_text,
                allowed: self.list(allowed),
            }));
        }
        if !ways.iter().any(|way| way.condition == condition.map(|(id, _)| id)) {
            return Err(Box::new(match condition {
                None => TupleFault::ConditionMissing {
                    object_type,
                    relation: relation_name,
                    subject: subject_text,
                    allowed: self.list(&ways),
                },
                Some((_, condition)) => TupleFault::ConditionNotAllowed {
                    object_type,
                    relation: relation_name,
                    subject: subject_text,
                    condition: condition.name.clone(),
                    allowed: self.list(&ways),
                },
            }));
        }
        if let Some((ConditionId(id), carried)) = condition
            && let Some(condition) = self.conditions.get(usize::from(id))
        {
            condition.validate_tuple_context(&carried.context).map_err(|mismatch| {
                Box::new(TupleFault::Context { condition: carried.name.clone(), mismatch })
            })?;
        }
        if matches!(subject, Subject::Userset(of, userset) if of == object && userset == name) {
            return Err(Box::new(TupleFault::Implicit { subject: subject.clone() }));
        }
        Ok(())
    }

    fn type_named(&self, name: &TypeName) -> Result<TypeId, Box<TupleFault>> {
        self.type_id(name.as_str()).ok_or_else(|| {
            let known = listed("none", self.types.iter().map(|name| format!("`{name}`")));
            Box::new(TupleFault::UnknownType { name: name.clone(), known })
        })
    }

    fn relation_named(
        &self,
        object_type: &TypeName,
        name: &RelationName,
    ) -> Result<RelationId, Box<TupleFault>> {
        let id = self.type_named(object_type)?;
        self.relation_id(id, name).ok_or_else(|| {
            let known =
                listed("none", self.relations_of(id).map(|of| format!("`{}`", self.relation(of).name)));
            Box::new(TupleFault::UnknownRelation {
                object_type: object_type.clone(),
                name: name.clone(),
                known,
            })
        })
    }

    fn resolve_condition(&self, name: &ConditionName) -> Result<ConditionId, Box<TupleFault>> {
        self.condition_id(name.as_str()).ok_or_else(|| {
            let known =
                listed("no conditions", self.conditions.iter().map(|one| format!("`{}`", one.name())));
            Box::new(TupleFault::UnknownCondition { name: name.clone(), known })
        })
    }

    /// A way a tuple may look, as the schema language writes it.
    pub(super) fn describe(&self, kind: KindId, condition: Option<ConditionId>) -> String {
        let type_name = |id: TypeId| self.types.get(usize::from(id.0)).map_or("?", TypeName::as_str);
        let mut text = match self.subject_kind(kind) {
            SubjectKind::Object(id) => format!("`{}", type_name(id)),
            SubjectKind::Wildcard(id) => format!("`{}:*", type_name(id)),
            SubjectKind::Userset(id) => {
                let relation = self.relation(id);
                format!("`{}#{}", type_name(relation.object_type), relation.name)
            }
        };
        if let Some(condition) = condition.and_then(|ConditionId(id)| self.conditions.get(usize::from(id))) {
            text.push_str(" with ");
            text.push_str(condition.name().as_str());
        }
        text.push('`');
        text
    }

    fn list(&self, ways: &[Allowed]) -> String {
        listed("nothing", ways.iter().map(|way| self.describe(way.kind, way.condition)))
    }
}

/// `a, b, …`, but never at any length.
fn listed(nothing: &str, items: impl Iterator<Item = impl fmt::Display>) -> String {
    const SHOWN: usize = 20;
    let mut text = String::new();
    for (at, item) in items.enumerate() {
        if at == SHOWN {
            text.push_str(", …");
            break;
        }
        if at > 0 {
            text.push_str(", ");
        }
        text.push_str(&item.to_string());
    }
    if text.is_empty() { nothing.to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use crate::schema::rules::Rules;
    use crate::schema::rules::testing::{computed, relation, schema, schema_1_0, this, through, union};
    use crate::tuple::{Tuple, TupleKey};

    fn rules() -> Rules {
        Rules::compile(&schema(vec![
            ("user", vec![]),
            ("group", vec![relation("member", this(), &["user", "group#member"])]),
            (
                "doc",
                vec![
                    relation("viewer", this(), &["user", "user:*", "group#member"]),
                    relation("reader", computed("viewer"), &[]),
                ],
            ),
        ]))
    }

    fn validate(rules: &Rules, text: &str) -> Result<(), String> {
        let key: TupleKey = text.parse().expect("a tuple");
        rules.validate(&Tuple::from(key)).map_err(|error| error.fault.to_string())
    }

    #[test]
    fn what_the_schema_lists_is_allowed() {
        let rules = rules();
        for tuple in ["doc:1#viewer@user:a", "doc:1#viewer@user:*", "doc:1#viewer@group:g#member"] {
            assert_eq!(validate(&rules, tuple), Ok(()), "{tuple}");
        }
    }

    #[test]
    fn each_fault_says_what_is_allowed() {
        let rules = rules();
        for (tuple, message) in [
            ("page:1#viewer@user:a", "the schema has no type `page`; it has `user`, `group`, `doc`"),
            ("doc:1#viewer@page:1", "the schema has no type `page`; it has `user`, `group`, `doc`"),
            ("doc:1#owner@user:a", "type `doc` has no relation `owner`; it has `viewer`, `reader`"),
            ("doc:1#viewer@group:g#owner", "type `group` has no relation `owner`; it has `member`"),
            (
                "doc:1#reader@user:a",
                "`doc#reader` is not written directly, it derives from other relations; \
                 write one of those instead",
            ),
            (
                "doc:1#viewer@group:g",
                "`doc#viewer` does not take `group`; it takes `user`, `user:*`, `group#member`",
            ),
            (
                "group:g#member@group:g#member",
                "it says that `group:g#member` has what it is; that holds without a tuple, leave it out",
            ),
        ] {
            assert_eq!(validate(&rules, tuple), Err(message.to_owned()), "{tuple}");
        }
    }

    #[test]
    fn the_old_dialect_takes_any_subject_except_on_tuplesets() {
        let rules = Rules::compile(&schema_1_0(vec![
            ("user", vec![]),
            (
                "doc",
                vec![
                    relation("parent", this(), &[]),
                    relation("viewer", union(vec![this(), through("viewer", "parent")]), &[]),
                    relation("reader", computed("viewer"), &[]),
                ],
            ),
        ]));
        for tuple in ["doc:1#viewer@user:*", "doc:1#viewer@doc:2#reader", "doc:1#parent@user:a"] {
            assert_eq!(validate(&rules, tuple), Ok(()), "{tuple}");
        }
        for tuple in ["doc:1#parent@doc:*", "doc:1#parent@doc:2#viewer", "doc:1#reader@user:a"] {
            assert!(validate(&rules, tuple).is_err(), "{tuple}");
        }
    }
}
