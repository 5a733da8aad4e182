//! The way back: a schema as the document it could have been written as.

use super::ast::{
    Code, Condition, Document, Expression, Name, Parameter, Relation, Restriction, Subject, Type,
};
use super::model::{self, RestrictionSubject, Rewrite, Schema};

impl From<&Schema> for Document {
    /// Every name, restriction and expression of the schema; without places.
    fn from(schema: &Schema) -> Self {
        Self {
            dialect: schema.dialect,
            types: schema.types.iter().map(type_definition).collect(),
            conditions: schema.conditions.iter().map(|compiled| condition(compiled)).collect(),
        }
    }
}

fn type_definition(definition: &model::TypeDefinition) -> Type {
    Type {
        name: Name::unplaced(definition.name.as_str()),
        relations: definition.relations.iter().map(relation).collect(),
    }
}

fn relation(definition: &model::RelationDefinition) -> Relation {
    Relation {
        name: Name::unplaced(definition.name.as_str()),
        expression: expression(&definition.rewrite),
        restrictions: definition.restrictions.iter().map(restriction).collect(),
    }
}

fn restriction(restriction: &model::Restriction) -> Restriction {
    Restriction {
        subject_type: Name::unplaced(restriction.subject_type.as_str()),
        subject: match &restriction.subject {
            RestrictionSubject::Object => Subject::Object,
            RestrictionSubject::Wildcard => Subject::Wildcard,
            RestrictionSubject::Userset(relation) => Subject::Userset(Name::unplaced(relation.as_str())),
        },
        condition: restriction.condition.as_ref().map(|name| Name::unplaced(name.as_str())),
        span: 0..0,
    }
}

/// Recursion is bounded by [`MAX_NESTING`](super::MAX_NESTING).
fn expression(rewrite: &Rewrite) -> Expression {
    match rewrite {
        Rewrite::This => Expression::This(0..0),
        Rewrite::Computed(relation) => Expression::Computed(Name::unplaced(relation.as_str())),
        Rewrite::TupleToUserset { tupleset, computed } => Expression::From {
            computed: Name::unplaced(computed.as_str()),
            tupleset: Name::unplaced(tupleset.as_str()),
        },
        Rewrite::Union(operands) => Expression::Union(operands.iter().map(expression).collect()),
        Rewrite::Intersection(operands) => {
            Expression::Intersection(operands.iter().map(expression).collect())
        }
        Rewrite::Exclusion { base, subtract } => Expression::Exclusion {
            base: Box::new(expression(base)),
            subtract: Box::new(expression(subtract)),
        },
    }
}

fn condition(compiled: &crate::condition::Condition) -> Condition {
    Condition {
        name: Name::unplaced(compiled.name().as_str()),
        parameters: compiled
            .parameters()
            .iter()
            .map(|(name, parameter_type)| Parameter {
                name: Name::unplaced(name),
                parameter_type: parameter_type.clone(),
            })
            .collect(),
        code: Some(Code { text: compiled.expression().to_owned(), origin: Vec::new() }),
    }
}
