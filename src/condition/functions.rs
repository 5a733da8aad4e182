//! Functions and operators whose operands are all needed. `&&`, `||`, `? :` and comprehensions,
//! which can do without some, are in [`super::evaluate`].
//!
//! Operands are told apart by their values, since with `any` their types are known no earlier.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::tz::Offset;

use super::conversions;
use super::convert::excerpt;
use super::fuel::{Exhausted, Fuel};
use super::moment::{Moment, parse_offset};
use super::pattern;
use super::tree::{Binary, Part, Unary};
use super::value::{Text, Value, compare_numbers, equal, look_up};

/// Longest text an expression may make, in bytes.
const MAX_TEXT_BYTES: usize = 64 * 1024;
/// Most items of a list an expression may make by `+`.
const MAX_ITEMS: usize = 64 * 1024;
/// What compiling a pattern costs, in units of fuel; and for each byte of it.
const PATTERN_UNITS: u64 = 500;
const PATTERN_UNITS_PER_BYTE: u64 = 10;
/// Bytes of a pattern for which searching a text costs as much again as reading it.
const PATTERN_BYTES_PER_READING: usize = 8;

/// Why a function gives no value.
#[derive(Debug, PartialEq)]
pub(super) enum Failure {
    /// In words, lower case.
    Reason(String),
    Exhausted,
}

impl From<Exhausted> for Failure {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

pub(super) type Given<'a> = Result<Value<'a>, Failure>;

fn fail<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Reason(reason.into()))
}

pub(super) fn overflow(of: &str) -> Failure {
    Failure::Reason(format!("the result does not fit {of}"))
}

/// Applies a function of one operand.
pub(super) fn unary<'a>(function: Unary, operand: &Value<'a>, fuel: &mut Fuel<'_>) -> Given<'a> {
    match (function, operand) {
        (Unary::Not, Value::Bool(value)) => Ok(Value::Bool(!value)),
        (Unary::Negate, Value::Int(value)) => {
            value.checked_neg().map(Value::Int).ok_or_else(|| overflow("an int"))
        }
        (Unary::Negate, Value::Double(value)) => Ok(Value::Double(-value)),
        (Unary::Size, Value::String(text)) => {
            fuel.spend_on_bytes(text.len())?;
            Ok(size(text.chars().count()))
        }
        (Unary::Size, Value::List(items)) => Ok(size(items.len())),
        (Unary::Size, Value::Map(entries)) => Ok(size(entries.len())),
        (Unary::Part(part), Value::Duration(length)) => {
            length.part(part).map(Value::Int).ok_or_else(|| no_function(function.name(), &[operand]))
        }
        (Unary::Part(part), Value::Timestamp(moment)) => part_at(*moment, part, Offset::UTC),
        (
            Unary::ToBool
            | Unary::ToInt
            | Unary::ToUint
            | Unary::ToDouble
            | Unary::ToString
            | Unary::ToDuration
            | Unary::ToTimestamp
            | Unary::ToIpAddress,
            _,
        ) => conversions::convert(function, operand),
        (Unary::Not | Unary::Negate | Unary::Size | Unary::Part(_), _) => {
            Err(no_function(function.name(), &[operand]))
        }
    }
}

/// Applies a function or operator of two operands.
pub(super) fn binary<'a>(
    function: Binary,
    left: &Value<'a>,
    right: &Value<'a>,
    fuel: &mut Fuel<'_>,
) -> Given<'a> {
    match function {
        Binary::Equal => Ok(Value::Bool(equal(left, right, fuel)?)),
        Binary::NotEqual => Ok(Value::Bool(!equal(left, right, fuel)?)),
        Binary::Less => ordered(function, left, right, fuel, Ordering::is_lt),
        Binary::LessOrEqual => ordered(function, left, right, fuel, Ordering::is_le),
        Binary::Greater => ordered(function, left, right, fuel, Ordering::is_gt),
        Binary::GreaterOrEqual => ordered(function, left, right, fuel, Ordering::is_ge),
        Binary::In => within(left, right, fuel),
        Binary::Add => add(left, right, fuel),
        Binary::Subtract => subtract(left, right),
        Binary::Multiply => multiply(left, right),
        Binary::Divide | Binary::Remainder => divide(function, left, right),
        Binary::Index => index(left, right),
        Binary::Contains => texts(function, left, right, fuel, |text, part| text.contains(part)),
        Binary::StartsWith => texts(function, left, right, fuel, |text, part| text.starts_with(part)),
        Binary::EndsWith => texts(function, left, right, fuel, |text, part| text.ends_with(part)),
        Binary::Matches => matches(left, right, fuel),
        Binary::InCidr => match (left, right) {
            (Value::IpAddress(address), Value::String(text)) => {
                let network = network(text).ok_or_else(|| unreadable(text, NETWORK))?;
                Ok(Value::Bool(in_network(*address, &network)))
            }
            _ => Err(no_function(function.name(), &[left, right])),
        },
        Binary::PartIn(part) => match (left, right) {
            (Value::Timestamp(moment), Value::String(zone)) => {
                let offset = parse_offset(zone).ok_or_else(|| unreadable(zone, ZONE))?;
                part_at(*moment, part, offset)
            }
            _ => Err(no_function(function.name(), &[left, right])),
        },
    }
}

/// What a network and a zone look like, for messages here and when literals are compiled.
pub(super) const NETWORK: &str = "a network such as `192.0.2.0/24` or `2001:db8::/32`";
pub(super) const ZONE: &str = "a zone: use `UTC` or an offset such as `+02:00`";

/// Reads a network; an IPv4 network written as IPv6 is the IPv4 network, as addresses are.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let network: IpNet = text.parse().ok()?;
    match network {
        IpNet::V6(wide) if wide.prefix_len() >= 96 => match wide.addr().to_ipv4_mapped() {
            Some(address) => IpNet::new(IpAddr::V4(address), wide.prefix_len() - 96).ok(),
            None => Some(network),
        },
        IpNet::V6(_) | IpNet::V4(_) => Some(network),
    }
}

/// Whether a network has an address; one of the other version never.
pub(super) fn in_network(address: IpAddr, network: &IpNet) -> bool {
    network.contains(&address)
}

/// Part of a moment, seen at an offset from UTC.
pub(super) fn part_at<'a>(moment: Moment, part: Part, offset: Offset) -> Given<'a> {
    moment.part(part, offset).map(Value::Int).ok_or_else(|| overflow("the calendar"))
}

/// Whether a compiled pattern is found in a text.
pub(super) fn found(pattern: &regex::Regex, text: &str, fuel: &mut Fuel<'_>) -> Result<bool, Failure> {
    let readings = 1 + pattern.as_str().len() / PATTERN_BYTES_PER_READING;
    fuel.spend_on_bytes(text.len().saturating_mul(readings))?;
    Ok(pattern.is_match(text))
}

/// No function of this name takes such values.
pub(super) fn no_function(name: &str, operands: &[&Value<'_>]) -> Failure {
    let types: Vec<_> = operands.iter().map(|operand| operand.type_name()).collect();
    Failure::Reason(format!("`{name}` does not take ({})", types.join(", ")))
}

pub(super) fn unreadable(text: &str, expected: &str) -> Failure {
    Failure::Reason(format!("{:?} is not {expected}", excerpt(text)))
}

fn size<'a>(count: usize) -> Value<'a> {
    Value::Int(i64::try_from(count).unwrap_or(i64::MAX))
}

fn ordered<'a>(
    function: Binary,
    left: &Value<'a>,
    right: &Value<'a>,
    fuel: &mut Fuel<'_>,
    holds: fn(Ordering) -> bool,
) -> Given<'a> {
    let ordering = match (left, right) {
        (Value::Bool(left), Value::Bool(right)) => Some(left.cmp(right)),
        (Value::String(left), Value::String(right)) => {
            fuel.spend_on_bytes(left.len().min(right.len()))?;
            Some(left.as_bytes().cmp(right.as_bytes()))
        }
        (Value::Duration(left), Value::Duration(right)) => Some(left.cmp(right)),
        (Value::Timestamp(left), Value::Timestamp(right)) => Some(left.cmp(right)),
        (
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
            Value::Int(_) | Value::Uint(_) | Value::Double(_),
        ) => compare_numbers(left, right),
        _ => return Err(no_function(function.name(), &[left, right])),
    };
    // NaN is in no order with anything.
    Ok(Value::Bool(ordering.is_some_and(holds)))
}

fn within<'a>(item: &Value<'a>, container: &Value<'a>, fuel: &mut Fuel<'_>) -> Given<'a> {
    match container {
        Value::List(items) => {
            for candidate in items.iter() {
                if equal(item, candidate, fuel)? {
                    return Ok(Value::Bool(true));
                }
            }
            Ok(Value::Bool(false))
        }
        Value::Map(entries) => Ok(Value::Bool(look_up(entries, item).is_some())),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Duration(_)
        | Value::Timestamp(_)
        | Value::IpAddress(_) => Err(no_function("in", &[item, container])),
    }
}

fn add<'a>(left: &Value<'a>, right: &Value<'a>, fuel: &mut Fuel<'_>) -> Given<'a> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            left.checked_add(*right).map(Value::Int).ok_or_else(|| overflow("an int"))
        }
        (Value::Uint(left), Value::Uint(right)) => {
            left.checked_add(*right).map(Value::Uint).ok_or_else(|| overflow("a uint"))
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left + right)),
        (Value::String(left), Value::String(right)) => {
            let len = left.len() + right.len();
            if len > MAX_TEXT_BYTES {
                return fail(format!("the text would be longer than {MAX_TEXT_BYTES} bytes"));
            }
            fuel.spend_on_bytes(len)?;
            let mut joined = String::with_capacity(len);
            joined.push_str(left);
            joined.push_str(right);
            Ok(Value::String(Text::Shared(Arc::from(joined))))
        }
        (Value::List(left), Value::List(right)) => {
            let len = left.len() + right.len();
            if len > MAX_ITEMS {
                return fail(format!("the list would have more than {MAX_ITEMS} items"));
            }
            fuel.spend_on_items(len)?;
            Ok(Value::List(left.iter().chain(right.iter()).cloned().collect()))
        }
        (Value::Duration(left), Value::Duration(right)) => {
            left.checked_add(*right).map(Value::Duration).ok_or_else(|| overflow("a duration"))
        }
        (Value::Timestamp(moment), Value::Duration(length))
        | (Value::Duration(length), Value::Timestamp(moment)) => {
            moment.checked_add(*length).map(Value::Timestamp).ok_or_else(|| overflow("a timestamp"))
        }
        _ => Err(no_function("+", &[left, right])),
    }
}

fn subtract<'a>(left: &Value<'a>, right: &Value<'a>) -> Given<'a> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            left.checked_sub(*right).map(Value::Int).ok_or_else(|| overflow("an int"))
        }
        (Value::Uint(left), Value::Uint(right)) => {
            left.checked_sub(*right).map(Value::Uint).ok_or_else(|| overflow("a uint"))
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left - right)),
        (Value::Duration(left), Value::Duration(right)) => {
            left.checked_sub(*right).map(Value::Duration).ok_or_else(|| overflow("a duration"))
        }
        (Value::Timestamp(left), Value::Timestamp(right)) => {
            left.since(*right).map(Value::Duration).ok_or_else(|| overflow("a duration"))
        }
        (Value::Timestamp(moment), Value::Duration(length)) => {
            moment.checked_sub(*length).map(Value::Timestamp).ok_or_else(|| overflow("a timestamp"))
        }
        _ => Err(no_function("-", &[left, right])),
    }
}

fn multiply<'a>(left: &Value<'a>, right: &Value<'a>) -> Given<'a> {
    match (left, right) {
        (Value::Int(left), Value::Int(right)) => {
            left.checked_mul(*right).map(Value::Int).ok_or_else(|| overflow("an int"))
        }
        (Value::Uint(left), Value::Uint(right)) => {
            left.checked_mul(*right).map(Value::Uint).ok_or_else(|| overflow("a uint"))
        }
        (Value::Double(left), Value::Double(right)) => Ok(Value::Double(left * right)),
        _ => Err(no_function("*", &[left, right])),
    }
}

/// `/` and `%`; doubles divide by zero to an infinity, as IEEE 754 has it.
fn divide<'a>(function: Binary, left: &Value<'a>, right: &Value<'a>) -> Given<'a> {
    let remainder = function == Binary::Remainder;
    match (left, right) {
        (Value::Int(_), Value::Int(0)) | (Value::Uint(_), Value::Uint(0)) => fail("division by zero"),
        (Value::Int(left), Value::Int(right)) => {
            let result = if remainder { left.checked_rem(*right) } else { left.checked_div(*right) };
            result.map(Value::Int).ok_or_else(|| overflow("an int"))
        }
        (Value::Uint(left), Value::Uint(right)) => {
            let result = if remainder { left.checked_rem(*right) } else { left.checked_div(*right) };
            result.map(Value::Uint).ok_or_else(|| overflow("a uint"))
        }
        (Value::Double(left), Value::Double(right)) if !remainder => Ok(Value::Double(left / right)),
        _ => Err(no_function(function.name(), &[left, right])),
    }
}

fn index<'a>(container: &Value<'a>, key: &Value<'a>) -> Given<'a> {
    match container {
        Value::List(items) => {
            let Some(at) = list_index(key) else { return Err(no_function("[]", &[container, key])) };
            usize::try_from(at).ok().and_then(|at| items.get(at)).cloned().ok_or_else(|| {
                Failure::Reason(format!("the list has {} items, none at index {at}", items.len()))
            })
        }
        Value::Map(entries) => look_up(entries, key)
            .cloned()
            .ok_or_else(|| Failure::Reason(format!("the map has no key {}", key_text(key)))),
        Value::Null
        | Value::Bool(_)
        | Value::Int(_)
        | Value::Uint(_)
        | Value::Double(_)
        | Value::String(_)
        | Value::Duration(_)
        | Value::Timestamp(_)
        | Value::IpAddress(_) => Err(no_function("[]", &[container, key])),
    }
}

/// The position a value names; an integral double does too, since `any` numbers are doubles.
fn list_index(key: &Value<'_>) -> Option<i128> {
    match key {
        Value::Int(at) => Some(i128::from(*at)),
        Value::Uint(at) => Some(i128::from(*at)),
        #[expect(clippy::cast_possible_truncation, reason = "the cast saturates, out of any list")]
        Value::Double(at) if at.fract() == 0.0 => Some(*at as i128),
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

/// A key as a message shows it.
pub(super) fn key_text(key: &Value<'_>) -> String {
    match (key, conversions::convert(Unary::ToString, key)) {
        (Value::String(text), _) => format!("{:?}", excerpt(text)),
        (_, Ok(Value::String(text))) => text.to_string(),
        _ => format!("of type {}", key.type_name()),
    }
}

fn texts<'a>(
    function: Binary,
    left: &Value<'a>,
    right: &Value<'a>,
    fuel: &mut Fuel<'_>,
    holds: fn(&str, &str) -> bool,
) -> Given<'a> {
    let (Value::String(text), Value::String(part)) = (left, right) else {
        return Err(no_function(function.name(), &[left, right]));
    };
    fuel.spend_on_bytes(text.len() + part.len())?;
    Ok(Value::Bool(holds(text, part)))
}

/// `matches` with a pattern that came as a value; a literal one was compiled with the condition.
fn matches<'a>(left: &Value<'a>, right: &Value<'a>, fuel: &mut Fuel<'_>) -> Given<'a> {
    let (Value::String(text), Value::String(source)) = (left, right) else {
        return Err(no_function(Binary::Matches.name(), &[left, right]));
    };
    let bytes = u64::try_from(source.len()).unwrap_or(u64::MAX);
    fuel.spend(bytes.saturating_mul(PATTERN_UNITS_PER_BYTE).saturating_add(PATTERN_UNITS))?;
    match pattern::compile(source) {
        Ok(pattern) => found(&pattern, text, fuel).map(Value::Bool),
        Err(reason) => fail(format!("{:?} is not a pattern: {reason}", excerpt(source))),
    }
}
