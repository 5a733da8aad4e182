//! The values that conditions read: JSON with exact 64-bit integers.
//!
//! `serde_json` cannot hold an infinite double and protobuf's `Struct` cannot hold a large
//! integer; this type holds both, so that a value is judged by the condition's declared
//! parameter type and not by the format it travelled in.

use std::collections::BTreeMap;

/// A value of a context.
///
/// Doubles are equal when their bits are: a stored NaN equals itself, or the tuple that holds it
/// would look changed for ever.
#[derive(Debug, Clone)]
pub enum Value {
    /// JSON `null`.
    Null,
    /// JSON `true` or `false`.
    Bool(bool),
    /// An integral number that fits 64 bits signed.
    Int(i64),
    /// An integral number beyond `i64::MAX`.
    Uint(u64),
    /// Any other number, infinities and NaN included.
    Double(f64),
    /// A text.
    String(String),
    /// A JSON array.
    List(Vec<Value>),
    /// A JSON object.
    Map(BTreeMap<String, Value>),
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Null, Self::Null) => true,
            (Self::Bool(a), Self::Bool(b)) => a == b,
            (Self::Int(a), Self::Int(b)) => a == b,
            (Self::Uint(a), Self::Uint(b)) => a == b,
            (Self::Double(a), Self::Double(b)) => a.to_bits() == b.to_bits(),
            (Self::String(a), Self::String(b)) => a == b,
            (Self::List(a), Self::List(b)) => a == b,
            (Self::Map(a), Self::Map(b)) => a == b,
            _ => false,
        }
    }
}

impl Eq for Value {}

/// Named values: what a request or a tuple supplies to a condition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Context(pub BTreeMap<String, Value>);

impl Context {
    /// Whether nothing is supplied.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of a name.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The first control character in a text or name of it, which no context may hold.
    #[must_use]
    pub fn control_character(&self) -> Option<char> {
        control_in(&self.0)
    }

    /// Bytes it takes as a protobuf `Struct`, the measure of every limit on contexts.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.iter().map(|(key, value)| entry_len(key, value)).sum()
    }
}

impl Value {
    /// Bytes it takes as a protobuf `Value`.
    fn encoded_len(&self) -> usize {
        match self {
            Self::Null | Self::Bool(_) => 2,
            Self::Int(_) | Self::Uint(_) | Self::Double(_) => 9,
            Self::String(text) => field_len(text.len()),
            Self::List(items) => field_len(items.iter().map(|item| field_len(item.encoded_len())).sum()),
            Self::Map(entries) => field_len(entries.iter().map(|(key, value)| entry_len(key, value)).sum()),
        }
    }

    /// The first control character in a text or key of it, which no context may hold.
    #[must_use]
    pub fn control_character(&self) -> Option<char> {
        match self {
            Self::Null | Self::Bool(_) | Self::Int(_) | Self::Uint(_) | Self::Double(_) => None,
            Self::String(text) => first_control(text),
            Self::List(items) => items.iter().find_map(Self::control_character),
            Self::Map(entries) => control_in(entries),
        }
    }
}

fn control_in(entries: &BTreeMap<String, Value>) -> Option<char> {
    entries.iter().find_map(|(key, value)| first_control(key).or_else(|| value.control_character()))
}

fn first_control(text: &str) -> Option<char> {
    text.chars().find(|character| character.is_control())
}

/// Bytes of an entry of a protobuf `Struct`: a field holding a key and a value.
fn entry_len(key: &str, value: &Value) -> usize {
    field_len(field_len(key.len()) + field_len(value.encoded_len()))
}

/// Bytes of a length-delimited protobuf field: tag, length (seven bits a byte), content.
fn field_len(content: usize) -> usize {
    let bits = (usize::BITS - content.leading_zeros()).max(1) as usize;
    1 + bits.div_ceil(7) + content
}

/// Why a JSON text is not a context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The text is not JSON.
    #[error("the context is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The JSON is not an object.
    #[error("the context must be a JSON object such as {{\"ip\": \"10.0.0.1\"}}")]
    NotAnObject,
}

impl std::str::FromStr for Context {
    type Err = ContextError;

    fn from_str(text: &str) -> Result<Self, ContextError> {
        Self::try_from(serde_json::from_str::<serde_json::Value>(text)?)
    }
}

impl TryFrom<serde_json::Value> for Context {
    type Error = ContextError;

    fn try_from(json: serde_json::Value) -> Result<Self, ContextError> {
        match Value::from(json) {
            Value::Map(values) => Ok(Self(values)),
            Value::Null
            | Value::Bool(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Double(_)
            | Value::String(_)
            | Value::List(_) => Err(ContextError::NotAnObject),
        }
    }
}

impl From<serde_json::Value> for Value {
    fn from(json: serde_json::Value) -> Self {
        match json {
            serde_json::Value::Null => Self::Null,
            serde_json::Value::Bool(value) => Self::Bool(value),
            serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64()) {
                (Some(int), _) => Self::Int(int),
                (None, Some(uint)) => Self::Uint(uint),
                (None, None) => Self::Double(number.as_f64().unwrap_or(f64::NAN)),
            },
            serde_json::Value::String(text) => Self::String(text),
            serde_json::Value::Array(items) => Self::List(items.into_iter().map(Self::from).collect()),
            serde_json::Value::Object(entries) => {
                Self::Map(entries.into_iter().map(|(key, value)| (key, Self::from(value))).collect())
            }
        }
    }
}

impl From<&Value> for serde_json::Value {
    /// A double that JSON cannot hold becomes its name as a text.
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Int(value) => Self::from(*value),
            Value::Uint(value) => Self::from(*value),
            Value::Double(value) => serde_json::Number::from_f64(*value)
                .map_or_else(|| Self::String(value.to_string()), Self::Number),
            Value::String(text) => Self::String(text.clone()),
            Value::List(items) => Self::Array(items.iter().map(Self::from).collect()),
            Value::Map(entries) => {
                Self::Object(entries.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
            }
        }
    }
}

impl From<&Context> for serde_json::Value {
    fn from(context: &Context) -> Self {
        Self::Object(context.0.iter().map(|(key, value)| (key.clone(), Self::from(value))).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_that_of_a_protobuf_struct() {
        fn encoded(value: &Value) -> prost_types::Value {
            use prost_types::value::Kind;
            #[expect(clippy::cast_precision_loss, reason = "every number takes eight bytes")]
            let kind = match value {
                Value::Null => Kind::NullValue(0),
                Value::Bool(value) => Kind::BoolValue(*value),
                Value::Int(value) => Kind::NumberValue(*value as f64),
                Value::Uint(value) => Kind::NumberValue(*value as f64),
                Value::Double(value) => Kind::NumberValue(*value),
                Value::String(text) => Kind::StringValue(text.clone()),
                Value::List(items) => {
                    Kind::ListValue(prost_types::ListValue { values: items.iter().map(encoded).collect() })
                }
                Value::Map(entries) => Kind::StructValue(structure(entries)),
            };
            prost_types::Value { kind: Some(kind) }
        }
        fn structure(entries: &BTreeMap<String, Value>) -> prost_types::Struct {
            let fields = entries.iter().map(|(key, item)| (key.clone(), encoded(item))).collect();
            prost_types::Struct { fields }
        }
        let long = format!(r#"{{"k": "{}", "l": ["{}"]}}"#, "x".repeat(127), "y".repeat(16_384));
        for json in [
            "{}",
            r#"{"a": null, "b": true, "c": 1, "d": -1.5, "e": 18446744073709551615}"#,
            r#"{"list": [1, [], {"x": {}}], "map": {"deep": {"deeper": ["text"]}}}"#,
            &long,
        ] {
            let context: Context = json.parse().expect(json);
            let encoded = prost::Message::encoded_len(&structure(&context.0));
            assert_eq!(context.encoded_len(), encoded, "{json}");
        }
    }

    #[test]
    fn control_characters_are_found_anywhere() {
        let found = |json: &str| {
            let context: Context = json.parse().expect(json);
            context.value("v").and_then(Value::control_character)
        };
        assert_eq!(found(r#"{"v": "a\u0000b"}"#), Some('\0'));
        assert_eq!(found(r#"{"v": [1, {"k\n": null}]}"#), Some('\n'));
        assert_eq!(found(r#"{"v": {"k": ["\u0085"]}}"#), Some('\u{85}'));
        assert_eq!(found(r#"{"v": ["ä ö", true]}"#), None);
    }
}
