//! The types of parameters, as the schema language declares them, and the types of
//! expressions, which are those and a few more.

use std::fmt;
use std::str::FromStr;

/// How deep `list<…>` and `map<…>` may nest in the JSON form; the schema language has one level.
pub const MAX_TYPE_DEPTH: usize = 5;

/// The declared type of a condition's parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ParameterType {
    /// `true` or `false`.
    Bool,
    /// A text.
    String,
    /// An integer of 64 bits, signed.
    Int,
    /// An integer of 64 bits, unsigned.
    Uint,
    /// A finite double.
    Double,
    /// A length of time, given as `1h30m`.
    Duration,
    /// A moment, given as RFC 3339.
    Timestamp,
    /// An IPv4 or IPv6 address.
    IpAddress,
    /// A JSON array whose items have one type.
    List(Box<ParameterType>),
    /// A JSON object whose values have one type.
    Map(Box<ParameterType>),
    /// Any JSON value. Only the JSON form of a schema can declare it.
    Any,
}

/// Why a text or a JSON form is not the type of a parameter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterTypeError {
    /// No type has this name.
    #[error(
        "`{0}` is not a type: use bool, string, int, uint, double, duration, timestamp, ipaddress, \
         list<type> or map<type>"
    )]
    Unknown(String),
    /// The schema language has `list<int>` but not `list<list<int>>` nor `any`.
    #[error("`{0}` can be declared only in the JSON form of a schema")]
    JsonOnly(String),
    /// `list` or `map` without the type of what is in it, or with several.
    #[error("`{0}` needs exactly one type for what is in it, as in `{0}<string>`")]
    Items(&'static str),
    /// A scalar with a type argument.
    #[error("`{0}` takes no type argument")]
    NotGeneric(&'static str),
    /// A nesting beyond [`MAX_TYPE_DEPTH`].
    #[error("the type nests deeper than {MAX_TYPE_DEPTH} levels")]
    TooDeep,
}

/// Scalars by their name in the schema language and in OpenFGA's JSON.
const SCALARS: [(&str, &str, ParameterType); 9] = [
    ("bool", "TYPE_NAME_BOOL", ParameterType::Bool),
    ("string", "TYPE_NAME_STRING", ParameterType::String),
    ("int", "TYPE_NAME_INT", ParameterType::Int),
    ("uint", "TYPE_NAME_UINT", ParameterType::Uint),
    ("double", "TYPE_NAME_DOUBLE", ParameterType::Double),
    ("duration", "TYPE_NAME_DURATION", ParameterType::Duration),
    ("timestamp", "TYPE_NAME_TIMESTAMP", ParameterType::Timestamp),
    ("ipaddress", "TYPE_NAME_IPADDRESS", ParameterType::IpAddress),
    ("any", "TYPE_NAME_ANY", ParameterType::Any),
];

impl ParameterType {
    /// The name in OpenFGA's JSON, such as `TYPE_NAME_LIST`; [`Self::items`] is its argument.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Bool => "TYPE_NAME_BOOL",
            Self::String => "TYPE_NAME_STRING",
            Self::Int => "TYPE_NAME_INT",
            Self::Uint => "TYPE_NAME_UINT",
            Self::Double => "TYPE_NAME_DOUBLE",
            Self::Duration => "TYPE_NAME_DURATION",
            Self::Timestamp => "TYPE_NAME_TIMESTAMP",
            Self::IpAddress => "TYPE_NAME_IPADDRESS",
            Self::List(_) => "TYPE_NAME_LIST",
            Self::Map(_) => "TYPE_NAME_MAP",
            Self::Any => "TYPE_NAME_ANY",
        }
    }

    /// The type from OpenFGA's JSON: its name and its type arguments (`generic_types`).
    pub fn from_type_name(name: &str, arguments: Vec<Self>) -> Result<Self, ParameterTypeError> {
        let depth = arguments.iter().map(Self::depth).max().unwrap_or(0);
        if depth >= MAX_TYPE_DEPTH {
            return Err(ParameterTypeError::TooDeep);
        }
        match name {
            "TYPE_NAME_LIST" => only("list", arguments).map(Self::List),
            "TYPE_NAME_MAP" => only("map", arguments).map(Self::Map),
            _ => {
                let scalar = SCALARS.iter().find(|(_, json, _)| *json == name);
                match scalar {
                    None => Err(ParameterTypeError::Unknown(name.to_owned())),
                    Some((plain, ..)) if depth > 0 => Err(ParameterTypeError::NotGeneric(plain)),
                    Some((.., found)) => Ok(found.clone()),
                }
            }
        }
    }

    /// The type of what is in a list or map.
    #[must_use]
    pub fn items(&self) -> Option<&Self> {
        match self {
            Self::List(items) | Self::Map(items) => Some(items),
            Self::Bool
            | Self::String
            | Self::Int
            | Self::Uint
            | Self::Double
            | Self::Duration
            | Self::Timestamp
            | Self::IpAddress
            | Self::Any => None,
        }
    }

    /// Levels of the type: 1 for a scalar, 2 for a list of scalars.
    fn depth(&self) -> usize {
        let mut depth = 1;
        let mut inner = self;
        while let Some(items) = inner.items() {
            depth += 1;
            inner = items;
        }
        depth
    }
}

/// The single type argument of a list or map.
fn only(name: &'static str, arguments: Vec<ParameterType>) -> Result<Box<ParameterType>, ParameterTypeError> {
    let mut arguments = arguments.into_iter();
    match (arguments.next(), arguments.next()) {
        (Some(items), None) => Ok(Box::new(items)),
        (None, _) | (_, Some(_)) => Err(ParameterTypeError::Items(name)),
    }
}

impl fmt::Display for ParameterType {
    /// The schema language's spelling; nested types and `any` print in the same manner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::List(items) => write!(f, "list<{items}>"),
            Self::Map(items) => write!(f, "map<{items}>"),
            Self::Bool => f.write_str("bool"),
            Self::String => f.write_str("string"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::IpAddress => f.write_str("ipaddress"),
            Self::Any => f.write_str("any"),
        }
    }
}

impl FromStr for ParameterType {
    type Err = ParameterTypeError;

    /// Reads what the schema language can declare: a scalar, or a list or map of scalars.
    fn from_str(text: &str) -> Result<Self, ParameterTypeError> {
        let text = text.trim();
        let Some((container, rest)) = text.split_once('<') else {
            return match text {
                "list" => Err(ParameterTypeError::Items("list")),
                "map" => Err(ParameterTypeError::Items("map")),
                _ => scalar(text),
            };
        };
        let unknown = || ParameterTypeError::Unknown(text.to_owned());
        let items = rest.strip_suffix('>').ok_or_else(unknown)?.trim();
        if items.contains('<') {
            return Err(ParameterTypeError::JsonOnly(text.to_owned()));
        }
        match container.trim_end() {
            "list" if items.is_empty() => Err(ParameterTypeError::Items("list")),
            "map" if items.is_empty() => Err(ParameterTypeError::Items("map")),
            "list" => Ok(Self::List(Box::new(scalar(items)?))),
            "map" => Ok(Self::Map(Box::new(scalar(items)?))),
            _ => Err(unknown()),
        }
    }
}

/// A scalar that the schema language can declare.
fn scalar(text: &str) -> Result<ParameterType, ParameterTypeError> {
    match SCALARS.iter().find(|(name, ..)| *name == text) {
        Some((.., ParameterType::Any)) => Err(ParameterTypeError::JsonOnly(text.to_owned())),
        Some((.., found)) => Ok(found.clone()),
        None => Err(ParameterTypeError::Unknown(text.to_owned())),
    }
}

/// The type of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Type {
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Duration,
    Timestamp,
    IpAddress,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
    /// Known only when evaluated: `any`, mixed lists, the items of `[]`, and what was in error.
    Dynamic,
}

impl Type {
    /// Whether a value of one may be compared with, or put beside, a value of the other.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Dynamic, _) | (_, Self::Dynamic) => true,
            (Self::List(left), Self::List(right)) => left.agrees(right),
            (Self::Map(key, value), Self::Map(other_key, other_value)) => {
                key.agrees(other_key) && value.agrees(other_value)
            }
            _ => self == other || self.is_number() && other.is_number(),
        }
    }

    /// Whether it is int, uint or double, which compare with each other by value.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Self::Int | Self::Uint | Self::Double)
    }

    /// Whether CEL lets it be compared with `null` although it never is.
    pub(super) fn is_nullable(&self) -> bool {
        matches!(self, Self::Null | Self::Dynamic | Self::Duration | Self::Timestamp | Self::IpAddress)
    }

    /// What both are: the type itself if they are the same, dynamic otherwise.
    pub(super) fn join(self, other: &Self) -> Self {
        if self == *other { self } else { Self::Dynamic }
    }
}

impl From<&ParameterType> for Type {
    fn from(declared: &ParameterType) -> Self {
        match declared {
            ParameterType::Bool => Self::Bool,
            ParameterType::String => Self::String,
            ParameterType::Int => Self::Int,
            ParameterType::Uint => Self::Uint,
            ParameterType::Double => Self::Double,
            ParameterType::Duration => Self::Duration,
            ParameterType::Timestamp => Self::Timestamp,
            ParameterType::IpAddress => Self::IpAddress,
            ParameterType::List(items) => Self::List(Box::new(Self::from(&**items))),
            ParameterType::Map(items) => Self::Map(Box::new(Self::String), Box::new(Self::from(&**items))),
            ParameterType::Any => Self::Dynamic,
        }
    }
}

impl fmt::Display for Type {
    /// The schema language's spelling where it has one.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool => f.write_str("bool"),
            Self::Int => f.write_str("int"),
            Self::Uint => f.write_str("uint"),
            Self::Double => f.write_str("double"),
            Self::String => f.write_str("string"),
            Self::Duration => f.write_str("duration"),
            Self::Timestamp => f.write_str("timestamp"),
            Self::IpAddress => f.write_str("ipaddress"),
            Self::List(items) => write!(f, "list<{items}>"),
            Self::Map(key, value) if **key == Self::String => write!(f, "map<{value}>"),
            Self::Map(key, value) => write!(f, "map<{key}, {value}>"),
            Self::Dynamic => f.write_str("any"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip() {
        for text in ["bool", "string", "int", "uint", "double", "duration", "timestamp", "ipaddress"] {
            let scalar: ParameterType = text.parse().expect("a type");
            assert_eq!(scalar.to_string(), text);
            assert_eq!(ParameterType::from_type_name(scalar.type_name(), vec![]), Ok(scalar.clone()));
            for container in ["list", "map"] {
                let text = format!("{container}<{text}>");
                let parsed: ParameterType = text.parse().expect("a type");
                assert_eq!(parsed.to_string(), text);
                assert_eq!(parsed.items(), Some(&scalar));
                assert_eq!(
                    ParameterType::from_type_name(parsed.type_name(), vec![scalar.clone()]),
                    Ok(parsed)
                );
            }
        }
        assert_eq!(" map < int > ".parse(), Ok(ParameterType::Map(Box::new(ParameterType::Int))));
        assert_eq!(ParameterType::from_type_name("TYPE_NAME_ANY", vec![]), Ok(ParameterType::Any));
    }

    #[test]
    fn what_is_not_a_type_says_why() {
        let error = |text: &str| text.parse::<ParameterType>().expect_err(text).to_string();
        assert_eq!(error("any"), "`any` can be declared only in the JSON form of a schema");
        assert_eq!(
            error("list<list<int>>"),
            "`list<list<int>>` can be declared only in the JSON form of a schema"
        );
        assert_eq!(error("map"), "`map` needs exactly one type for what is in it, as in `map<string>`");
        assert_eq!(error("list<>"), "`list` needs exactly one type for what is in it, as in `list<string>`");
        for text in ["", "float", "list<float>", "set<int>", "list<int", "TYPE_NAME_INT", "Int"] {
            assert!(error(text).contains("is not a type: use bool"), "{text}: {}", error(text));
        }
    }

    #[test]
    fn json_types_are_bounded() {
        let mut nested = ParameterType::Int;
        for _ in 1..MAX_TYPE_DEPTH {
            nested = ParameterType::from_type_name("TYPE_NAME_LIST", vec![nested]).expect("within");
        }
        assert_eq!(
            ParameterType::from_type_name("TYPE_NAME_LIST", vec![nested]),
            Err(ParameterTypeError::TooDeep)
        );
        assert_eq!(
            ParameterType::from_type_name("TYPE_NAME_INT", vec![ParameterType::Int]),
            Err(ParameterTypeError::NotGeneric("int"))
        );
        assert_eq!(
            ParameterType::from_type_name("TYPE_NAME_MAP", vec![ParameterType::Int, ParameterType::Int]),
            Err(ParameterTypeError::Items("map"))
        );
    }
}
