//! JSON → document. Reads what OpenFGA's servers read: unknown fields are ignored, `null` and
//! the empty string mean unset, and both spellings of a field's name are accepted.

use serde_json::{Map, Value};

use crate::condition::{MAX_TYPE_DEPTH, ParameterType};
use crate::schema::MAX_NESTING;
use crate::schema::ast::{
    Condition, Document, Expression, Name, Parameter, Relation, Restriction, Subject, Type,
};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;
use crate::schema::parse::{End, Strings, scan};

/// How many operands and restrictions a model may have together: more than the longest text
/// can hold.
const MAX_PARTS: usize = 131_072;

/// Reads a model; `None` if it has no usable version.
pub(super) fn read(json: &Value, mistakes: &mut Mistakes) -> Option<Document> {
    let mut reader = Reader { mistakes, parts: 0 };
    let model = reader.object(json, "the model")?;
    let dialect = reader.dialect(model)?;
    let types = reader
        .list(model, &["type_definitions"])
        .iter()
        .filter_map(|definition| reader.type_definition(definition))
        .collect();
    let conditions = reader
        .map(model, &["conditions"])
        .into_iter()
        .flatten()
        .filter_map(|(key, condition)| reader.condition(key, condition))
        .collect();
    reader.mistakes.enter(None);
    if reader.parts > MAX_PARTS {
        let message =
            format!("the model is too large: at most {MAX_PARTS} operands and restrictions are allowed");
        reader.mistakes.note(Kind::TooLarge, &(0..0), message);
        return None;
    }
    Some(Document { dialect, types, conditions })
}

struct Reader<'m> {
    mistakes: &'m mut Mistakes,
    /// Operands and restrictions seen.
    parts: usize,
}

/// A field under one of its names, unless it is unset.
fn field<'j>(object: &'j Map<String, Value>, names: &[&str]) -> Option<&'j Value> {
    names.iter().find_map(|name| object.get(*name)).filter(|value| !value.is_null())
}

impl Reader<'_> {
    fn wrong(&mut self, message: String) {
        self.mistakes.note(Kind::InvalidJson, &(0..0), message);
    }

    fn object<'j>(&mut self, json: &'j Value, what: &str) -> Option<&'j Map<String, Value>> {
        let object = json.as_object();
        if object.is_none() {
            self.wrong(format!("{what} is not an object"));
        }
        object
    }

    fn list<'j>(&mut self, object: &'j Map<String, Value>, names: &[&str]) -> &'j [Value] {
        match field(object, names) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(_) => {
                self.wrong(format!("`{}` is not a list", names.first().unwrap_or(&"")));
                &[]
            }
        }
    }

    fn map<'j>(&mut self, object: &'j Map<String, Value>, names: &[&str]) -> Option<&'j Map<String, Value>> {
        let value = field(object, names)?;
        self.object(value, &format!("`{}`", names.first().unwrap_or(&"")))
    }

    /// A text field; empty if unset.
    fn text<'j>(&mut self, object: &'j Map<String, Value>, names: &[&str]) -> &'j str {
        match field(object, names) {
            None => "",
            Some(Value::String(text)) => text,
            Some(_) => {
                self.wrong(format!("`{}` is not a string", names.first().unwrap_or(&"")));
                ""
            }
        }
    }

    fn dialect(&mut self, model: &Map<String, Value>) -> Option<Dialect> {
        match self.text(model, &["schema_version", "schemaVersion"]) {
            "1.0" => Some(Dialect::V1_0),
            "1.1" => Some(Dialect::V1_1),
            "1.2" => Some(Dialect::V1_2),
            "" => {
                self.mistakes
                    .note(Kind::SchemaVersionRequired, &(0..0), "the schema version is missing")
                    .hint("set `schema_version` to \"1.1\"");
                None
            }
            other => {
                let shown: String = other.chars().take(40).collect();
                self.mistakes
                    .note(
                        Kind::InvalidSchema,
                        &(0..0),
                        format!("`{}` is not a known schema version", shown.escape_debug()),
                    )
                    .hint("known are `1.0`, `1.1` and `1.2`");
                None
            }
        }
    }

    fn type_definition(&mut self, json: &Value) -> Option<Type> {
        self.mistakes.enter(None);
        let definition = self.object(json, "a type definition")?;
        let type_name = self.text(definition, &["type"]);
        if type_name.is_empty() {
            self.wrong("a type definition has no `type`".to_owned());
            return None;
        }
        self.mistakes.enter(Some(format!("type {type_name}")));
        let metadata = self.map(definition, &["metadata"]);
        self.refuse_module(metadata);
        let restrictions = metadata.and_then(|metadata| self.map(metadata, &["relations"]));
        let relations = self.map(definition, &["relations"]);
        let mut read = Vec::new();
        for (name, rewrite) in relations.into_iter().flatten() {
            self.mistakes.enter(Some(format!("relation {type_name}#{name}")));
            let metadata = restrictions
                .and_then(|restrictions| restrictions.get(name))
                .filter(|metadata| !metadata.is_null())
                .and_then(|metadata| self.object(metadata, "the metadata of a relation"));
            self.refuse_module(metadata);
            let items = metadata.map_or(&[][..], |metadata| {
                self.list(metadata, &["directly_related_user_types", "directlyRelatedUserTypes"])
            });
            read.push(Relation {
                name: Name::unplaced(name),
                expression: self.expression(rewrite, 0),
                restrictions: items.iter().filter_map(|item| self.restriction(item)).collect(),
            });
        }
        Some(Type { name: Name::unplaced(type_name), relations: read })
    }

    fn refuse_module(&mut self, metadata: Option<&Map<String, Value>>) {
        if let Some(metadata) = metadata
            && !self.text(metadata, &["module"]).is_empty()
        {
            self.mistakes.note(Kind::ModulesUnsupported, &(0..0), "modules are not accepted yet");
        }
    }

    fn restriction(&mut self, json: &Value) -> Option<Restriction> {
        self.parts += 1;
        let item = self.object(json, "a type restriction")?;
        let subject_type = self.text(item, &["type"]);
        let relation = self.text(item, &["relation"]);
        let condition = self.text(item, &["condition"]);
        let wildcard = field(item, &["wildcard"]).is_some();
        if wildcard && !relation.is_empty() {
            self.mistakes.note(
                Kind::WildcardRelation,
                &(0..0),
                format!("the restriction to `{subject_type}` has a wildcard and the relation `{relation}`"),
            );
            return None;
        }
        Some(Restriction {
            subject_type: Name::unplaced(subject_type),
            subject: match (wildcard, relation) {
                (true, _) => Subject::Wildcard,
                (false, "") => Subject::Object,
                (false, relation) => Subject::Userset(Name::unplaced(relation)),
            },
            condition: (!condition.is_empty()).then(|| Name::unplaced(condition)),
            span: 0..0,
        })
    }

    fn expression(&mut self, json: &Value, depth: usize) -> Expression {
        self.parts += 1;
        if depth > MAX_NESTING {
            let message =
                format!("a definition is nested too deeply: at most {MAX_NESTING} levels are allowed");
            self.mistakes.note(Kind::TooLarge, &(0..0), message);
            return Expression::Invalid;
        }
        let Some(userset) = self.object(json, "a rewrite") else { return Expression::Invalid };
        if field(userset, &["this"]).is_some() {
            return Expression::This(0..0);
        }
        if let Some(computed) = self.map(userset, &["computedUserset", "computed_userset"]) {
            return Expression::Computed(Name::unplaced(self.text(computed, &["relation"])));
        }
        if let Some(led) = self.map(userset, &["tupleToUserset", "tuple_to_userset"]) {
            let tupleset = self.map(led, &["tupleset"]);
            let computed = self.map(led, &["computedUserset", "computed_userset"]);
            let mut relation = |of: Option<&Map<String, Value>>| {
                Name::unplaced(of.map_or("", |of| self.text(of, &["relation"])))
            };
            return Expression::From { tupleset: relation(tupleset), computed: relation(computed) };
        }
        if let Some(union) = self.map(userset, &["union"]) {
            return self.chain(union, depth, Expression::Union);
        }
        if let Some(intersection) = self.map(userset, &["intersection"]) {
            return self.chain(intersection, depth, Expression::Intersection);
        }
        if let Some(difference) = self.map(userset, &["difference"]) {
            let mut side = |name: &str| {
                if let Some(side) = field(difference, &[name]) {
                    return self.expression(side, depth + 1);
                }
                self.wrong(format!("a `difference` has no `{name}`"));
                Expression::Invalid
            };
            let (base, subtract) = (side("base"), side("subtract"));
            return Expression::Exclusion { base: Box::new(base), subtract: Box::new(subtract) };
        }
        self.wrong("a relation has no rewrite".to_owned());
        Expression::Invalid
    }

    /// The operand that holds direct members is moved to the front, where alone the language
    /// can write it; the order of a union or intersection has no meaning. One of a single
    /// operand is that operand.
    fn chain(
        &mut self,
        chain: &Map<String, Value>,
        depth: usize,
        make: fn(Vec<Expression>) -> Expression,
    ) -> Expression {
        let mut operands: Vec<Expression> =
            self.list(chain, &["child"]).iter().map(|child| self.expression(child, depth + 1)).collect();
        if let Some(direct) = operands.iter().position(Expression::holds_this) {
            operands.get_mut(..=direct).into_iter().for_each(|front| front.rotate_right(1));
        }
        match operands.len() {
            0 => {
                self.wrong("a `union` or `intersection` has no operands".to_owned());
                Expression::Invalid
            }
            1 => operands.pop().unwrap_or(Expression::Invalid),
            _ => make(operands),
        }
    }

    fn condition(&mut self, key: &str, json: &Value) -> Option<Condition> {
        self.mistakes.enter(Some(format!("condition {key}")));
        let condition = self.object(json, "a condition")?;
        let name = self.text(condition, &["name"]);
        if name != key {
            self.mistakes.note(
                Kind::ConditionNameMismatch,
                &(0..0),
                format!("the condition under the key `{key}` is named `{name}`"),
            );
        }
        let metadata = self.map(condition, &["metadata"]);
        self.refuse_module(metadata);
        let expression = self.text(condition, &["expression"]);
        let parameters = self
            .map(condition, &["parameters"])
            .into_iter()
            .flatten()
            .filter_map(|(name, json)| {
                let parameter_type = self.parameter_type(json, 1)?;
                Some(Parameter { name: Name::unplaced(name), parameter_type })
            })
            .collect();
        // As if it had been read from a text: the same expression, however it came.
        let code = scan(expression, 0, End::Text, Strings::AnyLines).code;
        Some(Condition { name: Name::unplaced(key), parameters, code: Some(code) })
    }

    /// Recursion is bounded by [`MAX_TYPE_DEPTH`].
    fn parameter_type(&mut self, json: &Value, depth: usize) -> Option<ParameterType> {
        let declared = self.object(json, "the type of a parameter")?;
        let name = self.text(declared, &["type_name", "typeName"]);
        let items = self.list(declared, &["generic_types", "genericTypes"]);
        // One level more than allowed is read, so that the refusal says why.
        if depth > MAX_TYPE_DEPTH + 1 {
            return None;
        }
        let items = items.iter().map(|item| self.parameter_type(item, depth + 1)).collect::<Option<_>>()?;
        match ParameterType::from_type_name(name, items) {
            Ok(parameter_type) => Some(parameter_type),
            Err(error) => {
                self.wrong(error.to_string());
                None
            }
        }
    }
}
