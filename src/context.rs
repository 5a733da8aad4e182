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
            _ => Err(ContextError::NotAnObject),
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
