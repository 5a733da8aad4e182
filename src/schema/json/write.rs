//! Document → JSON. The form is the one the language tools publish: fields that are unset are
//! left out, save `metadata` of a type without relations, which is null.

use serde_json::{Map, Value, json};

use crate::condition::ParameterType;
use crate::schema::ast::{Condition, Document, Expression, Relation, Restriction, Subject, Type};
use crate::schema::model::Dialect;

/// A document as OpenFGA's JSON.
#[must_use]
pub fn document_to_json(document: &Document) -> Value {
    let mut model = Map::new();
    model.insert("schema_version".into(), document.dialect.as_str().into());
    if !document.types.is_empty() {
        let types = document.types.iter().map(|declared| type_definition(document.dialect, declared));
        model.insert("type_definitions".into(), types.collect());
    }
    if !document.conditions.is_empty() {
        model.insert(
            "conditions".into(),
            object(document.conditions.iter().map(|declared| (&*declared.name.text, condition(declared)))),
        );
    }
    Value::Object(model)
}

fn object<'a>(fields: impl Iterator<Item = (&'a str, Value)>) -> Value {
    Value::Object(fields.map(|(name, value)| (name.to_owned(), value)).collect())
}

fn type_definition(dialect: Dialect, declared: &Type) -> Value {
    let relations = declared.relations.iter();
    // Type restrictions are all that metadata hold, and dialect 1.0 has none.
    let metadata = if declared.relations.is_empty() || dialect == Dialect::V1_0 {
        Value::Null
    } else {
        let restrictions = |relation: &Relation| {
            let items: Value = relation.restrictions.iter().map(restriction).collect();
            json!({ "directly_related_user_types": items })
        };
        json!({ "relations": object(relations.clone().map(|relation| (&*relation.name.text, restrictions(relation)))) })
    };
    json!({
        "type": declared.name.text,
        "relations": object(relations.map(|relation| (&*relation.name.text, userset(&relation.expression)))),
        "metadata": metadata,
    })
}

fn restriction(restriction: &Restriction) -> Value {
    let mut fields = Map::new();
    fields.insert("type".into(), restriction.subject_type.text.clone().into());
    match &restriction.subject {
        Subject::Object => {}
        Subject::Wildcard => {
            fields.insert("wildcard".into(), json!({}));
        }
        Subject::Userset(relation) => {
            fields.insert("relation".into(), relation.text.clone().into());
        }
    }
    if let Some(condition) = &restriction.condition {
        fields.insert("condition".into(), condition.text.clone().into());
    }
    Value::Object(fields)
}

/// Recursion is bounded by the nesting of definitions.
fn userset(expression: &Expression) -> Value {
    let children = |operands: &[Expression]| -> Value { operands.iter().map(userset).collect() };
    match expression {
        // What could not be read is in no document that is handed out.
        Expression::This(_) | Expression::Invalid => json!({ "this": {} }),
        Expression::Computed(relation) => json!({ "computedUserset": { "relation": relation.text } }),
        Expression::From { computed, tupleset } => json!({
            "tupleToUserset": {
                "tupleset": { "relation": tupleset.text },
                "computedUserset": { "relation": computed.text },
            }
        }),
        Expression::Union(operands) => json!({ "union": { "child": children(operands) } }),
        Expression::Intersection(operands) => json!({ "intersection": { "child": children(operands) } }),
        Expression::Exclusion { base, subtract } => {
            json!({ "difference": { "base": userset(base), "subtract": userset(subtract) } })
        }
    }
}

fn condition(condition: &Condition) -> Value {
    let parameters = condition
        .parameters
        .iter()
        .map(|parameter| (&*parameter.name.text, parameter_type(&parameter.parameter_type)));
    json!({
        "name": condition.name.text,
        "expression": condition.code.as_ref().map_or("", |code| &code.text),
        "parameters": object(parameters),
    })
}

/// Recursion is bounded by the depth of a parameter's type.
fn parameter_type(declared: &ParameterType) -> Value {
    match declared.items() {
        None => json!({ "type_name": declared.type_name() }),
        Some(items) => json!({ "type_name": declared.type_name(), "generic_types": [parameter_type(items)] }),
    }
}
