//! Schemas written in Rust, for tests.

use super::Rules;
use crate::schema::{
    Dialect, RelationDefinition, Restriction, RestrictionSubject, Rewrite, Schema, TypeDefinition,
};

pub(crate) fn this() -> Rewrite {
    Rewrite::This
}

pub(crate) fn computed(name: &str) -> Rewrite {
    Rewrite::Computed(name.parse().expect("a relation"))
}

/// `computed from tupleset`
pub(crate) fn through(computed: &str, tupleset: &str) -> Rewrite {
    Rewrite::TupleToUserset {
        tupleset: tupleset.parse().expect("a relation"),
        computed: computed.parse().expect("a relation"),
    }
}

pub(crate) fn union(operands: Vec<Rewrite>) -> Rewrite {
    Rewrite::Union(operands)
}

pub(crate) fn intersection(operands: Vec<Rewrite>) -> Rewrite {
    Rewrite::Intersection(operands)
}

pub(crate) fn but_not(base: Rewrite, subtract: Rewrite) -> Rewrite {
    Rewrite::Exclusion { base: Box::new(base), subtract: Box::new(subtract) }
}

/// A relation; restrictions are written as in the schema language.
pub(crate) fn relation(name: &str, rewrite: Rewrite, restrictions: &[&str]) -> RelationDefinition {
    RelationDefinition {
        name: name.parse().expect("a relation"),
        rewrite,
        restrictions: restrictions.iter().map(|text| restriction(text)).collect(),
    }
}

fn restriction(text: &str) -> Restriction {
    let (text, condition) = match text.split_once(" with ") {
        Some((text, condition)) => (text, Some(condition.parse().expect("a condition"))),
        None => (text, None),
    };
    let (subject_type, subject) = match (text.split_once('#'), text.strip_suffix(":*")) {
        (Some((name, relation)), _) => {
            (name, RestrictionSubject::Userset(relation.parse().expect("a relation")))
        }
        (None, Some(name)) => (name, RestrictionSubject::Wildcard),
        (None, None) => (text, RestrictionSubject::Object),
    };
    Restriction { subject_type: subject_type.parse().expect("a type"), subject, condition }
}

pub(crate) fn schema(types: Vec<(&str, Vec<RelationDefinition>)>) -> Schema {
    of_dialect(Dialect::V1_1, types)
}

pub(crate) fn schema_1_0(types: Vec<(&str, Vec<RelationDefinition>)>) -> Schema {
    of_dialect(Dialect::V1_0, types)
}

fn of_dialect(dialect: Dialect, types: Vec<(&str, Vec<RelationDefinition>)>) -> Schema {
    Schema {
        dialect,
        types: types
            .into_iter()
            .map(|(name, relations)| TypeDefinition { name: name.parse().expect("a type"), relations })
            .collect(),
        conditions: Vec::new(),
    }
}

/// Rules that do not know what can reach what, so that nothing is left out by type.
pub(crate) fn unpruned(schema: &Schema) -> Rules {
    let mut rules = Rules::compile(schema);
    rules.analysis.forget_reach();
    rules
}
