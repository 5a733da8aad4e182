//! [`Document`] → [`Schema`]: every name is looked up and every rule of the language checked,
//! in the order a reader would ask: what is declared (`index`), whether the names used exist
//! (`names`), whether conditions compile (`conditions`), whether a relation can ever have a
//! member (`entry`), whether it all fits (`limits`).
//!
//! A name that does not exist is reported where it is used and then taken to be harmless, so
//! that each mistake is reported once and none hides another.

mod conditions;
mod entry;
mod index;
mod limits;
mod name;
mod names;
mod similar;
mod targets;

pub use limits::{MAX_EXCLUSIONS, MAX_KINDS};
pub(super) use similar::similar;

use self::index::Index;
use self::targets::Targets;
use super::ast::{Document, Expression, Relation, Restriction, Subject, Type};
use super::diagnostic::{Kind, Mistakes};
use super::model::{self, RelationDefinition, RestrictionSubject, Rewrite, Schema, TypeDefinition};
use crate::tuple::{ConditionName, ParseError, RelationName, TypeName};

/// Checks a document and, if nothing is wrong with it, makes it a schema.
pub(super) fn resolve(document: &Document, mistakes: &mut Mistakes) -> Option<Schema> {
    let unread = mistakes.errors() > 0;
    let index = Index::new(document, mistakes);
    let targets = Targets::new(&index, mistakes)?;
    names::check(&index, &targets, mistakes);
    let conditions = conditions::compile(&index, mistakes);
    if !unread {
        // What could not be read may have used them.
        conditions::report_unused(document, mistakes);
    }
    entry::check(&index, &targets, mistakes);
    limits::check(&index, &targets, mistakes);
    if mistakes.errors() > 0 {
        return None;
    }
    let types = document.types.iter().map(build_type).collect::<Result<_, _>>();
    match types {
        Ok(types) => Some(Schema { dialect: document.dialect, types, conditions }),
        Err(error) => {
            // Names were checked by stricter rules than these.
            mistakes.note(Kind::InvalidName, &(0..0), error.to_string());
            None
        }
    }
}

fn build_type(declared: &Type) -> Result<TypeDefinition, ParseError> {
    Ok(TypeDefinition {
        name: TypeName::new(&declared.name.text)?,
        relations: declared.relations.iter().map(build_relation).collect::<Result<_, _>>()?,
    })
}

fn build_relation(declared: &Relation) -> Result<RelationDefinition, ParseError> {
    Ok(RelationDefinition {
        name: RelationName::new(&declared.name.text)?,
        rewrite: build_rewrite(&declared.expression)?,
        restrictions: declared.restrictions.iter().map(build_restriction).collect::<Result<_, _>>()?,
    })
}

fn build_restriction(declared: &Restriction) -> Result<model::Restriction, ParseError> {
    Ok(model::Restriction {
        subject_type: TypeName::new(&declared.subject_type.text)?,
        subject: match &declared.subject {
            Subject::Object => RestrictionSubject::Object,
            Subject::Wildcard => RestrictionSubject::Wildcard,
            Subject::Userset(relation) => RestrictionSubject::Userset(RelationName::new(&relation.text)?),
        },
        condition: declared
            .condition
            .as_ref()
            .map(|condition| ConditionName::new(&condition.text))
            .transpose()?,
    })
}

/// Recursion is bounded by [`MAX_NESTING`](super::MAX_NESTING).
fn build_rewrite(expression: &Expression) -> Result<Rewrite, ParseError> {
    let all = |operands: &[Expression]| operands.iter().map(build_rewrite).collect::<Result<_, _>>();
    Ok(match expression {
        // An invalid expression was reported, so that no schema is built from it.
        Expression::This(_) | Expression::Invalid => Rewrite::This,
        Expression::Computed(relation) => Rewrite::Computed(RelationName::new(&relation.text)?),
        Expression::From { computed, tupleset } => Rewrite::TupleToUserset {
            tupleset: RelationName::new(&tupleset.text)?,
            computed: RelationName::new(&computed.text)?,
        },
        Expression::Union(operands) => Rewrite::Union(all(operands)?),
        Expression::Intersection(operands) => Rewrite::Intersection(all(operands)?),
        Expression::Exclusion { base, subtract } => Rewrite::Exclusion {
            base: Box::new(build_rewrite(base)?),
            subtract: Box::new(build_rewrite(subtract)?),
        },
    })
}
