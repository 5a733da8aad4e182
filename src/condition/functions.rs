//! Functions and operators whose operands are all needed. `&&`, `||`, `? :` and comprehensions,
//! which can do without some, are in [`super::evaluate`].
//!
//! Operands are told apart by their values, since with `any` their types are known no earlier.

use std::cmp::Ordering;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use jiff::tz::Offset;

use super::convert::{address, excerpt};
use super::fuel::{Exhausted, Fuel};
use super::moment::{Duration, Moment, parse_offset};
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

type Given<'a> = Result<Value<'a>, Failure>;

fn fail<T>(reason: impl Into<String>) -> Result<T, Failure> {
    Err(Failure::Reason(reason.into()))
}

fn overflow(of: &str) -> Failure {
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
            length.part(part).map(Value::Int).ok_or_else(|| no_function(name(function), &[operand]))
        }
        (Unary::Part(part), Value::Timestamp(moment)) => part_at(*moment, part, Offset::UTC),
        (Unary::ToString, _) => to_string(operand),
        (Unary::ToBool, _) => to_bool(operand),
        (Unary::ToInt, _) => to_int(operand),
        (Unary::ToUint, _) => to_uint(operand),
        (Unary::ToDouble, _) => to_double(operand),
        (Unary::ToDuration, Value::Duration(_))
        | (Unary::ToTimestamp, Value::Timestamp(_))
        | (Unary::ToIpAddress, Value::IpAddress(_)) => Ok(operand.clone()),
        (Unary::ToDuration, Value::String(text)) => Duration::parse(text)
            .map(Value::Duration)
            .ok_or_else(|| unreadable(text, "a duration such as `1h30m`")),
        (Unary::ToTimestamp, Value::String(text)) => Moment::parse(text)
            .map(Value::Timestamp)
            .ok_or_else(|| unreadable(text, "a timestamp such as `2027-01-31T12:00:00Z`")),
        (Unary::ToTimestamp, Value::Int(seconds)) => {
            Moment::from_seconds(*seconds).map(Value::Timestamp).ok_or_else(|| overflow("a timestamp"))
        }
        (Unary::ToIpAddress, Value::String(text)) => address(text)
            .map(Value::IpAddress)
            .ok_or_else(|| unreadable(text, "an ip address such as `192.0.2.1`")),
        (
            Unary::Not
            | Unary::Negate
            | Unary::Size
            | Unary::ToDuration
            | Unary::ToTimestamp
            | Unary::ToIpAddress
            | Unary::Part(_),
            _,
        ) => Err(no_function(name(function), &[operand])),
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
        Binary::Contains | Binary::StartsWith | Binary::EndsWith | Binary::Matches => {
            let (Value::String(text), Value::String(part)) = (left, right) else {
                return Err(no_function(symbol(function), &[left, right]));
            };
            texts(function, text, part, fuel).map(Value::Bool)
        }
        Binary::InCidr => match (left, right) {
            (Value::IpAddress(address), Value::String(text)) => {
                let network = network(text).ok_or_else(|| unreadable(text, NETWORK))?;
                Ok(Value::Bool(in_network(*address, &network)))
            }
            _ => Err(no_function(symbol(function), &[left, right])),
        },
        Binary::PartIn(part) => match (left, right) {
            (Value::Timestamp(moment), Value::String(zone)) => {
                let offset = parse_offset(zone).ok_or_else(|| unreadable(zone, ZONE))?;
                part_at(*moment, part, offset)
            }
            _ => Err(no_function(symbol(function), &[left, right])),
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

fn unreadable(text: &str, expected: &str) -> Failure {
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
        _ => return Err(no_function(symbol(function), &[left, right])),
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
        _ => Err(no_function(symbol(function), &[left, right])),
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
        Value::Double(at) if at.trunc() == *at => Some(*at as i128),
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
    match (key, to_string(key)) {
        (Value::String(text), _) => format!("{:?}", excerpt(text)),
        (_, Ok(Value::String(text))) => text.to_string(),
        _ => format!("of type {}", key.type_name()),
    }
}

fn texts(function: Binary, text: &str, part: &str, fuel: &mut Fuel<'_>) -> Result<bool, Failure> {
    fuel.spend_on_bytes(text.len() + part.len())?;
    match function {
        Binary::Contains => Ok(text.contains(part)),
        Binary::StartsWith => Ok(text.starts_with(part)),
        Binary::EndsWith => Ok(text.ends_with(part)),
        // A literal pattern was compiled with the condition; this one came as a value.
        _ => {
            let bytes = u64::try_from(part.len()).unwrap_or(u64::MAX);
            fuel.spend(bytes.saturating_mul(PATTERN_UNITS_PER_BYTE).saturating_add(PATTERN_UNITS))?;
            match pattern::compile(part) {
                Ok(pattern) => found(&pattern, text, fuel),
                Err(reason) => fail(format!("{:?} is not a pattern: {reason}", excerpt(part))),
            }
        }
    }
}

fn to_bool<'a>(operand: &Value<'a>) -> Given<'a> {
    match operand {
        Value::Bool(_) => Ok(operand.clone()),
        Value::String(text) => match &**text {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(Value::Bool(false)),
            _ => Err(unreadable(text, "a bool")),
        },
        _ => Err(no_function("bool", &[operand])),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked; the fraction is to be cut")]
fn to_int<'a>(operand: &Value<'a>) -> Given<'a> {
    let too_large = || overflow("an int");
    match operand {
        Value::Int(_) => Ok(operand.clone()),
        Value::Uint(value) => i64::try_from(*value).map(Value::Int).map_err(|_| too_large()),
        // Both bounds are exact doubles; the upper is one above the largest int.
        Value::Double(value)
            if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(value) =>
        {
            Ok(Value::Int(*value as i64))
        }
        Value::Double(_) => Err(too_large()),
        Value::String(text) => text.parse().map(Value::Int).map_err(|_| unreadable(text, "an int")),
        Value::Timestamp(moment) => Ok(Value::Int(moment.as_seconds())),
        _ => Err(no_function("int", &[operand])),
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked; the fraction is to be cut"
)]
fn to_uint<'a>(operand: &Value<'a>) -> Given<'a> {
    let out_of_range = || overflow("a uint");
    match operand {
        Value::Uint(_) => Ok(operand.clone()),
        Value::Int(value) => u64::try_from(*value).map(Value::Uint).map_err(|_| out_of_range()),
        Value::Double(value) if (0.0..18_446_744_073_709_551_616.0).contains(value) => {
            Ok(Value::Uint(*value as u64))
        }
        Value::Double(_) => Err(out_of_range()),
        Value::String(text) => text.parse().map(Value::Uint).map_err(|_| unreadable(text, "a uint")),
        _ => Err(no_function("uint", &[operand])),
    }
}

#[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
fn to_double<'a>(operand: &Value<'a>) -> Given<'a> {
    match operand {
        Value::Double(_) => Ok(operand.clone()),
        Value::Int(value) => Ok(Value::Double(*value as f64)),
        Value::Uint(value) => Ok(Value::Double(*value as f64)),
        Value::String(text) => text.parse().map(Value::Double).map_err(|_| unreadable(text, "a double")),
        _ => Err(no_function("double", &[operand])),
    }
}

fn to_string<'a>(operand: &Value<'a>) -> Given<'a> {
    Ok(match operand {
        Value::String(_) => operand.clone(),
        Value::Bool(value) => Value::made(if *value { "true" } else { "false" }),
        Value::Int(value) => Value::made(&value.to_string()),
        Value::Uint(value) => Value::made(&value.to_string()),
        Value::Double(value) => Value::made(&double_text(*value)),
        Value::Duration(value) => Value::made(&value.to_string()),
        Value::Timestamp(value) => Value::made(&value.to_string()),
        Value::IpAddress(value) => Value::made(&value.to_string()),
        Value::Null | Value::List(_) | Value::Map(_) => return Err(no_function("string", &[operand])),
    })
}

/// The shortest text that reads back, in the form Go prints and so other servers give: with an
/// exponent of at least two digits below 0.0001 and from a million on.
fn double_text(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    let scientific = format!("{value:e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..6).contains(&exponent) {
        return format!("{value}");
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.unsigned_abs())
}

const fn name(function: Unary) -> &'static str {
    match function {
        Unary::Not => "!",
        Unary::Negate => "-",
        Unary::Size => "size",
        Unary::ToBool => "bool",
        Unary::ToInt => "int",
        Unary::ToUint => "uint",
        Unary::ToDouble => "double",
        Unary::ToString => "string",
        Unary::ToDuration => "duration",
        Unary::ToTimestamp => "timestamp",
        Unary::ToIpAddress => "ipaddress",
        Unary::Part(part) => part.function(),
    }
}

const fn symbol(function: Binary) -> &'static str {
    match function {
        Binary::Equal => "==",
        Binary::NotEqual => "!=",
        Binary::Less => "<",
        Binary::LessOrEqual => "<=",
        Binary::Greater => ">",
        Binary::GreaterOrEqual => ">=",
        Binary::In => "in",
        Binary::Add => "+",
        Binary::Subtract => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        Binary::Remainder => "%",
        Binary::Index => "[]",
        Binary::Contains => "contains",
        Binary::StartsWith => "startsWith",
        Binary::EndsWith => "endsWith",
        Binary::Matches => "matches",
        Binary::InCidr => "in_cidr",
        Binary::PartIn(part) => part.function(),
    }
}
