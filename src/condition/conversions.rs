//! `int(x)`, `string(x)` and the like.

use super::convert::address;
use super::functions::{Failure, Given, no_function, overflow, unreadable};
use super::moment::{Duration, Moment};
use super::tree::Unary;
use super::value::Value;

/// Converts a value explicitly; `function` is one of the conversions.
pub(super) fn convert<'a>(function: Unary, operand: &Value<'a>) -> Given<'a> {
    match (function, operand) {
        (Unary::ToBool, Value::Bool(_))
        | (Unary::ToInt, Value::Int(_))
        | (Unary::ToUint, Value::Uint(_))
        | (Unary::ToDouble, Value::Double(_))
        | (Unary::ToString, Value::String(_))
        | (Unary::ToDuration, Value::Duration(_))
        | (Unary::ToTimestamp, Value::Timestamp(_))
        | (Unary::ToIpAddress, Value::IpAddress(_)) => Ok(operand.clone()),

        (Unary::ToBool, Value::String(text)) => match &**text {
            "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(Value::Bool(true)),
            "false" | "False" | "FALSE" | "f" | "F" | "0" => Ok(Value::Bool(false)),
            _ => Err(unreadable(text, "a bool")),
        },

        (Unary::ToInt, Value::Uint(value)) => {
            i64::try_from(*value).map(Value::Int).map_err(|_| overflow("an int"))
        }
        (Unary::ToInt, Value::Double(value)) => double_to_int(*value),
        (Unary::ToInt, Value::Timestamp(moment)) => Ok(Value::Int(moment.as_seconds())),
        (Unary::ToInt, Value::String(text)) => {
            text.parse().map(Value::Int).map_err(|_| unreadable(text, "an int"))
        }

        (Unary::ToUint, Value::Int(value)) => {
            u64::try_from(*value).map(Value::Uint).map_err(|_| overflow("a uint"))
        }
        (Unary::ToUint, Value::Double(value)) => double_to_uint(*value),
        (Unary::ToUint, Value::String(text)) => {
            text.parse().map(Value::Uint).map_err(|_| unreadable(text, "a uint"))
        }

        #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
        (Unary::ToDouble, Value::Int(value)) => Ok(Value::Double(*value as f64)),
        #[expect(clippy::cast_precision_loss, reason = "the nearest double is what is asked for")]
        (Unary::ToDouble, Value::Uint(value)) => Ok(Value::Double(*value as f64)),
        (Unary::ToDouble, Value::String(text)) => {
            text.parse().map(Value::Double).map_err(|_| unreadable(text, "a double"))
        }

        (Unary::ToString, Value::Bool(value)) => Ok(Value::made(if *value { "true" } else { "false" })),
        (Unary::ToString, Value::Int(value)) => Ok(Value::made(&value.to_string())),
        (Unary::ToString, Value::Uint(value)) => Ok(Value::made(&value.to_string())),
        (Unary::ToString, Value::Double(value)) => Ok(Value::made(&double_text(*value))),
        (Unary::ToString, Value::Duration(value)) => Ok(Value::made(&value.to_string())),
        (Unary::ToString, Value::Timestamp(value)) => Ok(Value::made(&value.to_string())),
        (Unary::ToString, Value::IpAddress(value)) => Ok(Value::made(&value.to_string())),

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

        _ => Err(no_function(function.name(), &[operand])),
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked; the fraction is to be cut")]
fn double_to_int<'a>(value: f64) -> Result<Value<'a>, Failure> {
    // Both bounds are exact doubles; the upper is one above the largest int.
    if (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&value) {
        Ok(Value::Int(value as i64))
    } else {
        Err(overflow("an int"))
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the range is checked; the fraction is to be cut"
)]
fn double_to_uint<'a>(value: f64) -> Result<Value<'a>, Failure> {
    // The upper bound is an exact double, one above the largest uint.
    if (0.0..18_446_744_073_709_551_616.0).contains(&value) {
        Ok(Value::Uint(value as u64))
    } else {
        Err(overflow("a uint"))
    }
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
