//! The values an evaluation works on. Scalars are copied; texts are borrowed from where they
//! were given; lists and maps are shared.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::ops::Deref;
use std::sync::Arc;

use super::fuel::{Exhausted, Fuel};
use super::moment::{Duration, Moment};

/// A value.
#[derive(Debug, Clone)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Text<'a>),
    Duration(Duration),
    Timestamp(Moment),
    IpAddress(IpAddr),
    List(Arc<[Value<'a>]>),
    Map(Entries<'a>),
}

/// Entries of a map, sorted by [`compare_keys`], each key once.
pub(super) type Entries<'a> = Arc<[(Value<'a>, Value<'a>)]>;

/// A text, borrowed from a context or from the condition, or made by it.
#[derive(Debug, Clone)]
pub(super) enum Text<'a> {
    Borrowed(&'a str),
    Shared(Arc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl<'a> Value<'a> {
    /// A text made during evaluation.
    pub(super) fn made(text: &str) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    /// The name of its type.
    pub(super) const fn type_name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Int(_) => "int",
            Self::Uint(_) => "uint",
            Self::Double(_) => "double",
            Self::String(_) => "string",
            Self::Duration(_) => "duration",
            Self::Timestamp(_) => "timestamp",
            Self::IpAddress(_) => "ipaddress",
            Self::List(_) => "list",
            Self::Map(_) => "map",
        }
    }

    /// A copy that borrows the texts of this one rather than counting references.
    pub(super) fn borrowed(&'a self) -> Self {
        match self {
            Self::String(text) => Self::String(Text::Borrowed(text)),
            Self::Null
            | Self::Bool(_)
            | Self::Int(_)
            | Self::Uint(_)
            | Self::Double(_)
            | Self::Duration(_)
            | Self::Timestamp(_)
            | Self::IpAddress(_)
            | Self::List(_)
            | Self::Map(_) => self.clone(),
        }
    }

    /// A copy that borrows nothing, to be kept in a compiled condition.
    pub(super) fn into_owned(self) -> Value<'static> {
        match self {
            Self::Null => Value::Null,
            Self::Bool(value) => Value::Bool(value),
            Self::Int(value) => Value::Int(value),
            Self::Uint(value) => Value::Uint(value),
            Self::Double(value) => Value::Double(value),
            Self::String(text) => Value::made(&text),
            Self::Duration(value) => Value::Duration(value),
            Self::Timestamp(value) => Value::Timestamp(value),
            Self::IpAddress(value) => Value::IpAddress(value),
            Self::List(items) => Value::List(items.iter().cloned().map(Value::into_owned).collect()),
            Self::Map(entries) => Value::Map(
                entries.iter().cloned().map(|(key, value)| (key.into_owned(), value.into_owned())).collect(),
            ),
        }
    }
}

/// Whether two values are equal: numbers by value whatever their type, lists and maps item by
/// item, and values of different kinds never.
pub(super) fn equal(left: &Value<'_>, right: &Value<'_>, fuel: &mut Fuel<'_>) -> Result<bool, Exhausted> {
    fuel.spend(1)?;
    Ok(match (left, right) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(left), Value::Bool(right)) => left == right,
        (Value::String(left), Value::String(right)) => {
            fuel.spend_on_bytes(left.len().min(right.len()))?;
            **left == **right
        }
        (Value::Duration(left), Value::Duration(right)) => left == right,
        (Value::Timestamp(left), Value::Timestamp(right)) => left == right,
        (Value::IpAddress(left), Value::IpAddress(right)) => left == right,
        (Value::List(left), Value::List(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for (left, right) in left.iter().zip(right.iter()) {
                if !equal(left, right, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        (Value::Map(left), Value::Map(right)) => {
            if left.len() != right.len() {
                return Ok(false);
            }
            for ((left_key, left), (right_key, right)) in left.iter().zip(right.iter()) {
                if !equal(left_key, right_key, fuel)? || !equal(left, right, fuel)? {
                    return Ok(false);
                }
            }
            true
        }
        _ => compare_numbers(left, right) == Some(Ordering::Equal),
    })
}

/// The order of two numbers by their exact values; none with NaN or what is not a number.
pub(super) fn compare_numbers(left: &Value<'_>, right: &Value<'_>) -> Option<Ordering> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => Some(left.cmp(right)),
        (Value::Double(left), Value::Double(right)) => left.partial_cmp(right),
        (Value::Double(left), _) => compare_with_double(integer(right)?, *left).map(Ordering::reverse),
        (_, Value::Double(right)) => compare_with_double(integer(left)?, *right),
        _ => Some(integer(left)?.cmp(&integer(right)?)),
    }
}

fn integer(value: &Value<'_>) -> Option<i128> {
    match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        Value::Null
        | Value::Bool(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Duration(_)
        | Value::Timestamp(_)
        | Value::IpAddress(_)
        | Value::List(_)
        | Value::Map(_) => None,
    }
}

/// Compares without rounding the integer to a double: beyond 2^53 that would lose bits.
fn compare_with_double(integer: i128, double: f64) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, far beyond 64 bits")]
    let whole = double.trunc() as i128;
    Some(integer.cmp(&whole).then_with(|| {
        // Equal whole parts: the double is finite and its fraction decides.
        0.0_f64.partial_cmp(&double.fract()).unwrap_or(Ordering::Equal)
    }))
}

/// A total order of what may be a key: bools, then numbers by value, then texts; nothing else.
pub(super) fn compare_keys(left: &Value<'_>, right: &Value<'_>) -> Ordering {
    match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => left.cmp(right),
        (Value::String(left), Value::String(right)) => left.as_bytes().cmp(right.as_bytes()),
        _ => compare_numbers(left, right).unwrap_or_else(|| key_rank(left).cmp(&key_rank(right))),
    }
}

/// Whether a value may be a key of a map that an expression builds.
pub(super) fn is_key(value: &Value<'_>) -> bool {
    matches!(value, Value::Bool(_) | Value::Int(_) | Value::Uint(_) | Value::String(_))
}

const fn key_rank(value: &Value<'_>) -> u8 {
    match value {
        Value::Bool(_) => 0,
        Value::Int(_) | Value::Uint(_) | Value::Double(_) => 1,
        Value::String(_) => 2,
        Value::Null
        | Value::Duration(_)
        | Value::Timestamp(_)
        | Value::IpAddress(_)
        | Value::List(_)
        | Value::Map(_) => 3,
    }
}

/// The value of a key.
pub(super) fn look_up<'m, 'a>(
    entries: &'m [(Value<'a>, Value<'a>)],
    key: &Value<'_>,
) -> Option<&'m Value<'a>> {
    if key_rank(key) == 3 || matches!(key, Value::Double(number) if number.is_nan()) {
        return None;
    }
    let at = entries.binary_search_by(|(candidate, _)| compare_keys(candidate, key)).ok()?;
    entries.get(at).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_by_value_across_types() {
        let check = |left: Value<'_>, right: Value<'_>, expected| {
            assert_eq!(compare_numbers(&left, &right), expected, "{left:?} {right:?}");
            let reverse = expected.map(Ordering::reverse);
            assert_eq!(compare_numbers(&right, &left), reverse, "{right:?} {left:?}");
        };
        let (less, equal) = (Some(Ordering::Less), Some(Ordering::Equal));
        check(Value::Int(1), Value::Uint(1), equal);
        check(Value::Int(-1), Value::Uint(u64::MAX), less);
        check(Value::Int(1), Value::Double(1.0), equal);
        check(Value::Int(-1), Value::Double(-0.5), less);
        check(Value::Int(0), Value::Double(-0.0), equal);
        check(Value::Int(9_007_199_254_740_992), Value::Double(9_007_199_254_740_992.0), equal);
        check(Value::Double(9_007_199_254_740_992.0), Value::Int(9_007_199_254_740_993), less);
        check(Value::Uint(u64::MAX), Value::Double(18_446_744_073_709_551_616.0), less);
        check(Value::Int(i64::MAX), Value::Double(f64::INFINITY), less);
        check(Value::Double(f64::NEG_INFINITY), Value::Int(i64::MIN), less);
        check(Value::Int(0), Value::Double(f64::NAN), None);
        check(Value::Double(f64::NAN), Value::Double(f64::NAN), None);
        check(Value::Int(0), Value::Null, None);
    }

    #[test]
    fn keys_are_found_by_value() {
        let mut entries = vec![
            (Value::made("b"), Value::Int(0)),
            (Value::made("a"), Value::Int(1)),
            (Value::Uint(2), Value::Int(2)),
            (Value::Int(-2), Value::Int(3)),
            (Value::Bool(true), Value::Int(4)),
        ];
        entries.sort_by(|(left, _), (right, _)| compare_keys(left, right));
        let found = |key| match look_up(&entries, &key) {
            Some(Value::Int(value)) => Some(*value),
            _ => None,
        };
        assert_eq!(found(Value::made("a")), Some(1));
        assert_eq!(found(Value::Int(2)), Some(2));
        assert_eq!(found(Value::Double(-2.0)), Some(3));
        assert_eq!(found(Value::Bool(true)), Some(4));
        assert_eq!(found(Value::Bool(false)), None);
        assert_eq!(found(Value::Double(f64::NAN)), None);
        assert_eq!(found(Value::Null), None);
    }
}
