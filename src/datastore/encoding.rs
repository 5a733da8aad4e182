//! How values become columns, the same in both databases.
//!
//! A column is text that an operator can read, and what is read back is exactly what was
//! written. A row that cannot be a value is [`DatastoreError::Corrupt`] and names itself; it is
//! never taken for absent.
//!
//! | Column | Form |
//! |---|---|
//! | `subject_relation` | `''` if the subject is no userset |
//! | `condition_context` | JSON ([`context_to_text`]); NULL without a condition |
//! | `expires_at`, `committed_at`, … | microseconds since the Unix epoch, as an integer |
//! | `before`, `after` of `change` | NULL: absent; else [`state_to_text`] |
//!
//! Text columns that hold contexts must be plain text, not a database's JSON type, which would
//! round numbers and refuse U+0000.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::DatastoreError;
use crate::context::{Context, Value};
use crate::time::Timestamp;
use crate::tuple::{
    Attributes, ConditionName, Object, ObjectId, RelationName, Subject, TupleCondition, TupleKey, TypeName,
};

/// Deepest nesting of a context that is stored. The parser of the text form takes 128 levels;
/// what it could not read back must not be written.
pub const MAX_CONTEXT_DEPTH: usize = 100;

/// The columns of a tuple's key, in key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the columns")]
pub struct KeyColumns<'a> {
    pub object_type: &'a str,
    pub object_id: &'a str,
    pub relation: &'a str,
    pub subject_type: &'a str,
    pub subject_id: &'a str,
    pub subject_relation: &'a str,
}

impl<'a> KeyColumns<'a> {
    /// The names of the columns, in key order.
    pub const NAMES: [&'static str; 6] =
        ["object_type", "object_id", "relation", "subject_type", "subject_id", "subject_relation"];

    /// The columns of a key.
    #[must_use]
    pub fn of(key: &'a TupleKey) -> Self {
        Self {
            object_type: key.object.object_type().as_str(),
            object_id: key.object.id().as_str(),
            relation: key.relation.as_str(),
            subject_type: key.subject.subject_type().as_str(),
            subject_id: key.subject.id(),
            subject_relation: key.subject.relation().map_or("", RelationName::as_str),
        }
    }

    /// The values in the order of [`Self::NAMES`].
    #[must_use]
    pub fn values(&self) -> [&'a str; 6] {
        [
            self.object_type,
            self.object_id,
            self.relation,
            self.subject_type,
            self.subject_id,
            self.subject_relation,
        ]
    }

    /// The key these columns hold.
    pub fn decode(&self) -> Result<TupleKey, DatastoreError> {
        self.parse().map_err(|error| {
            let [object_type, object_id, relation, subject_type, subject_id, subject_relation] =
                self.values();
            DatastoreError::Corrupt(format!(
                "the tuple ({object_type:?}, {object_id:?}, {relation:?}, {subject_type:?}, {subject_id:?}, \
                 {subject_relation:?}): {error}"
            ))
        })
    }

    fn parse(&self) -> Result<TupleKey, crate::tuple::ParseError> {
        let object = Object::new(TypeName::new(self.object_type)?, ObjectId::new(self.object_id)?)?;
        let subject_type = TypeName::new(self.subject_type)?;
        let subject = match (self.subject_id, self.subject_relation) {
            ("*", "") => Subject::Wildcard(subject_type),
            (id, "") => Subject::Object(Object::new(subject_type, ObjectId::new(id)?)?),
            (id, relation) => {
                Subject::Userset(Object::new(subject_type, ObjectId::new(id)?)?, RelationName::new(relation)?)
            }
        };
        Ok(TupleKey { object, relation: RelationName::new(self.relation)?, subject })
    }
}

/// What a tuple carries, as columns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names of the columns")]
pub struct AttributeColumns {
    pub condition_name: Option<String>,
    pub condition_context: Option<String>,
    pub expires_at: Option<i64>,
}

impl AttributeColumns {
    /// The columns of a tuple's attributes. Fails only for a context nested deeper than
    /// [`MAX_CONTEXT_DEPTH`].
    pub fn of(attributes: &Attributes) -> Result<Self, DatastoreError> {
        let (condition_name, condition_context) = match &attributes.condition {
            None => (None, None),
            Some(condition) => {
                (Some(condition.name.as_str().to_owned()), Some(context_to_text(&condition.context)?))
            }
        };
        let expires_at = attributes.expires_at.map(Timestamp::as_micros);
        Ok(Self { condition_name, condition_context, expires_at })
    }

    /// The attributes these columns of the tuple `key` hold.
    pub fn decode(&self, key: &TupleKey) -> Result<Attributes, DatastoreError> {
        let corrupt = |what: &str| DatastoreError::Corrupt(format!("the tuple `{key}`: {what}"));
        let condition = match (&self.condition_name, &self.condition_context) {
            (None, None) => None,
            (Some(name), Some(context)) => Some(TupleCondition {
                name: ConditionName::new(name).map_err(|error| corrupt(&error.to_string()))?,
                context: Arc::new(context_from_text(context).map_err(|what| corrupt(&what))?),
            }),
            (None, Some(_)) => return Err(corrupt("a context without a condition")),
            (Some(_), None) => return Err(corrupt("a condition without a context")),
        };
        Ok(Attributes { condition, expires_at: self.expires_at.map(Timestamp::from_micros) })
    }
}

/// The attributes of a present tuple in one text, for the changelog: the version `1`, and after
/// it a JSON object unless the tuple is plain.
///
/// ```text
/// 1
/// 1{"condition":"on_weekday","context":{"day":3,"share":"$double 0.5"},"expires_at":1800000000000000}
/// ```
pub fn state_to_text(attributes: &Attributes) -> Result<String, DatastoreError> {
    let mut fields = serde_json::Map::new();
    if let Some(condition) = &attributes.condition {
        fields.insert("condition".to_owned(), condition.name.as_str().into());
        fields.insert("context".to_owned(), context_to_json(&condition.context)?);
    }
    if let Some(expires_at) = attributes.expires_at {
        fields.insert("expires_at".to_owned(), expires_at.as_micros().into());
    }
    if fields.is_empty() {
        return Ok("1".to_owned());
    }
    Ok(format!("1{}", serde_json::Value::Object(fields)))
}

/// The inverse of [`state_to_text`]; `key` is named if the text is corrupt.
pub fn state_from_text(text: &str, key: &TupleKey) -> Result<Attributes, DatastoreError> {
    parse_state(text)
        .map_err(|what| DatastoreError::Corrupt(format!("a change of the tuple `{key}`: {what}")))
}

fn parse_state(text: &str) -> Result<Attributes, String> {
    let fields = text.strip_prefix('1').ok_or_else(|| format!("a state of unknown version `{text}`"))?;
    if fields.is_empty() {
        return Ok(Attributes::default());
    }
    let mut fields: serde_json::Map<String, serde_json::Value> =
        serde_json::from_str(fields).map_err(|error| error.to_string())?;
    let condition = match (fields.remove("condition"), fields.remove("context")) {
        (None, None) => None,
        (Some(serde_json::Value::String(name)), Some(context)) => Some(TupleCondition {
            name: ConditionName::new(&name).map_err(|error| error.to_string())?,
            context: Arc::new(context_from_json(context)?),
        }),
        _ => return Err("its condition is incomplete".to_owned()),
    };
    let expires_at = match fields.remove("expires_at") {
        None => None,
        Some(micros) => Some(Timestamp::from_micros(micros.as_i64().ok_or("its expiry is no integer")?)),
    };
    match fields.keys().next() {
        Some(unknown) => Err(format!("an unknown field `{unknown}`")),
        None => Ok(Attributes { condition, expires_at }),
    }
}

/// A context as JSON text that keeps every value exactly.
///
/// JSON cannot hold an infinity and parsers round doubles, so numbers other than signed 64-bit
/// integers are texts with a tag: `"$double 0.1"`, `"$uint 18446744073709551615"`. A text that
/// begins with `$` gets a second one.
pub fn context_to_text(context: &Context) -> Result<String, DatastoreError> {
    context_to_json(context).map(|json| json.to_string())
}

/// The inverse of [`context_to_text`]; the error says what is wrong.
pub fn context_from_text(text: &str) -> Result<Context, String> {
    context_from_json(serde_json::from_str(text).map_err(|error| error.to_string())?)
}

const DOUBLE: &str = "$double ";
const UINT: &str = "$uint ";

fn context_to_json(context: &Context) -> Result<serde_json::Value, DatastoreError> {
    let entries = context.0.iter().map(|(name, value)| Ok((name.clone(), to_json(value, 1)?)));
    entries.collect::<Result<_, DatastoreError>>().map(serde_json::Value::Object)
}

/// Recursion is bounded by [`MAX_CONTEXT_DEPTH`].
fn to_json(value: &Value, depth: usize) -> Result<serde_json::Value, DatastoreError> {
    if depth > MAX_CONTEXT_DEPTH {
        let error = anyhow::anyhow!("a context is nested deeper than {MAX_CONTEXT_DEPTH} levels");
        return Err(DatastoreError::Other(error));
    }
    Ok(match value {
        Value::Null => serde_json::Value::Null,
        Value::Bool(value) => (*value).into(),
        Value::Int(value) => (*value).into(),
        Value::Uint(value) => format!("{UINT}{value}").into(),
        // Rust prints the shortest text that parses to the same bits.
        Value::Double(value) => format!("{DOUBLE}{value:?}").into(),
        Value::String(text) if text.starts_with('$') => format!("${text}").into(),
        Value::String(text) => text.as_str().into(),
        Value::List(items) => {
            items.iter().map(|item| to_json(item, depth + 1)).collect::<Result<Vec<_>, _>>()?.into()
        }
        Value::Map(entries) => {
            let entries = entries.iter().map(|(name, value)| Ok((name.clone(), to_json(value, depth + 1)?)));
            serde_json::Value::Object(entries.collect::<Result<_, DatastoreError>>()?)
        }
    })
}

fn context_from_json(json: serde_json::Value) -> Result<Context, String> {
    let Value::Map(entries) = from_json(json)? else { return Err("its context is no object".to_owned()) };
    Ok(Context(entries))
}

/// Recursion is bounded by the JSON parser's own limit of 128 levels.
fn from_json(json: serde_json::Value) -> Result<Value, String> {
    Ok(match json {
        serde_json::Value::Null => Value::Null,
        serde_json::Value::Bool(value) => Value::Bool(value),
        serde_json::Value::Number(number) => {
            Value::Int(number.as_i64().ok_or_else(|| format!("the number {number} is not tagged"))?)
        }
        serde_json::Value::String(text) => from_tagged(text)?,
        serde_json::Value::Array(items) => {
            Value::List(items.into_iter().map(from_json).collect::<Result<_, _>>()?)
        }
        serde_json::Value::Object(entries) => {
            let entries = entries.into_iter().map(|(name, value)| Ok((name, from_json(value)?)));
            Value::Map(entries.collect::<Result<BTreeMap<_, _>, String>>()?)
        }
    })
}

fn from_tagged(text: String) -> Result<Value, String> {
    let unreadable = || format!("the value `{text}` is not readable");
    if let Some(double) = text.strip_prefix(DOUBLE) {
        Ok(Value::Double(double.parse().map_err(|_| unreadable())?))
    } else if let Some(uint) = text.strip_prefix(UINT) {
        Ok(Value::Uint(uint.parse().map_err(|_| unreadable())?))
    } else if let Some(rest) = text.strip_prefix('$') {
        if rest.starts_with('$') { Ok(Value::String(rest.to_owned())) } else { Err(unreadable()) }
    } else {
        Ok(Value::String(text))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Everything, with texts that look like tags and doubles of every bit pattern but the
    /// many NaNs, of which one is kept.
    fn value() -> impl Strategy<Value = Value> {
        let double =
            any::<u64>().prop_map(f64::from_bits).prop_map(|d| if d.is_nan() { f64::NAN } else { d });
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i64>().prop_map(Value::Int),
            any::<u64>().prop_map(Value::Uint),
            double.prop_map(Value::Double),
            prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(-0.0)].prop_map(Value::Double),
            "(\\$|\\$double |\\$uint |\\PC)*".prop_map(Value::String),
            any::<String>().prop_map(Value::String),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::List),
                prop::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Value::Map),
            ]
        })
    }

    fn attributes() -> impl Strategy<Value = Attributes> {
        let context = prop::collection::btree_map(any::<String>(), value(), 0..4);
        let condition = context.prop_map(|context| TupleCondition {
            name: ConditionName::new("c").expect("a name"),
            context: Arc::new(Context(context)),
        });
        (prop::option::of(condition), prop::option::of(any::<i64>().prop_map(Timestamp::from_micros)))
            .prop_map(|(condition, expires_at)| Attributes { condition, expires_at })
    }

    fn key() -> TupleKey {
        "doc:1#viewer@user:ann".parse().expect("a tuple")
    }

    proptest! {
        #[test]
        fn attributes_survive_storage(attributes in attributes()) {
            let state = state_to_text(&attributes).expect("encodable");
            prop_assert_eq!(&state_from_text(&state, &key()).expect("decodable"), &attributes);
            let columns = AttributeColumns::of(&attributes).expect("encodable");
            prop_assert_eq!(&columns.decode(&key()).expect("decodable"), &attributes);
        }
    }

    #[test]
    fn keys_survive_storage() {
        for text in ["doc:1#viewer@user:ann", "doc:a@b#viewer@user:*", "größe:é#v@group:eng#member"] {
            let key: TupleKey = text.parse().expect("a tuple");
            assert_eq!(KeyColumns::of(&key).decode().expect("decodable"), key);
        }
    }

    #[test]
    fn corrupt_rows_name_themselves() {
        let key = key();
        let key_error =
            KeyColumns { object_id: "a b", ..KeyColumns::of(&key) }.decode().expect_err("corrupt");
        assert_eq!(
            key_error.to_string(),
            "the database holds a row that is corrupt: the tuple (\"doc\", \"a b\", \"viewer\", \"user\", \"ann\", \
             \"\"): object id `a b` holds a space, which is not allowed there"
        );
        let wildcard = KeyColumns { subject_id: "*", subject_relation: "member", ..KeyColumns::of(&key) };
        assert!(wildcard.decode().is_err(), "a wildcard has no relation");

        for text in ["", "2", "1{", "1[]", "1{\"x\":1}", "1{\"context\":{}}", "1{\"expires_at\":1.5}"] {
            let error = state_from_text(text, &key).expect_err(text).to_string();
            assert!(error.contains("`doc:1#viewer@user:ann`"), "{error}");
        }
        for context in ["[]", "{\"a\":1.5}", "{\"a\":\"$double x\"}", "{\"a\":\"$other\"}"] {
            assert!(context_from_text(context).is_err(), "{context}");
        }
    }

    #[test]
    fn what_could_not_be_read_back_is_not_written() {
        let nested = |depth| {
            let list = (1..depth).fold(Value::Double(0.5), |inner, _| Value::List(vec![inner]));
            Context(BTreeMap::from([("deep".to_owned(), list)]))
        };
        let deepest = nested(MAX_CONTEXT_DEPTH);
        assert_eq!(context_from_text(&context_to_text(&deepest).expect("encodable")), Ok(deepest));
        assert!(context_to_text(&nested(MAX_CONTEXT_DEPTH + 1)).is_err());
    }
}
