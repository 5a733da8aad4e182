//! Supplied values → values of a declared type.
//!
//! The rules are OpenFGA's, so that a context means the same here: int, uint and double take a
//! number or a numeric text, durations, timestamps and addresses are texts, and nothing else is
//! converted. A double that cannot tell which integer was meant is refused.

use std::net::IpAddr;

use super::fuel::{Exhausted, Fuel};
use super::moment::{Duration, Moment};
use super::types::ParameterType;
use super::value::{Text, Value, compare_keys};
use crate::context;

/// Doubles tell integers apart up to here.
const MAX_EXACT: f64 = 9_007_199_254_740_992.0;
/// Levels of lists and objects in an `any` value; decoders stop at about as many.
const MAX_GIVEN_DEPTH: usize = 128;

/// Why a supplied value is not used.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Refusal {
    Mismatch(Mismatch),
    Exhausted,
}

/// A supplied value that does not fit.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mismatch {
    /// Where in the value, innermost step first.
    path: Vec<String>,
    expected: String,
    found: String,
}

impl Mismatch {
    /// What is wrong, for the parameter that the value was supplied for.
    pub(super) fn describe(&self, parameter: &str) -> String {
        let path: String = self.path.iter().rev().map(String::as_str).collect();
        format!("parameter `{parameter}{path}` expects {}, and was given {}", self.expected, self.found)
    }
}

impl From<Exhausted> for Refusal {
    fn from(_: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// The value as one of the declared type. Costs a unit of fuel for each value in it.
pub(super) fn convert<'a>(
    given: &'a context::Value,
    declared: &ParameterType,
    fuel: &mut Fuel<'_>,
) -> Result<Value<'a>, Refusal> {
    fuel.spend(1)?;
    let refuse = |expected: &str| {
        Err(Refusal::Mismatch(Mismatch {
            path: Vec::new(),
            expected: expected.to_owned(),
            found: describe(given),
        }))
    };
    let converted = match (declared, given) {
        (ParameterType::Any, _) => return any(given, MAX_GIVEN_DEPTH, fuel),
        (ParameterType::Bool, context::Value::Bool(value)) => Some(Value::Bool(*value)),
        (ParameterType::String, context::Value::String(text)) => Some(Value::String(Text::Borrowed(text))),
        (ParameterType::Int, _) => number(given).and_then(Number::to_int).map(Value::Int),
        (ParameterType::Uint, _) => number(given).and_then(Number::to_uint).map(Value::Uint),
        (ParameterType::Double, _) => number(given).and_then(Number::to_double).map(Value::Double),
        (ParameterType::Duration, context::Value::String(text)) => Duration::parse(text).map(Value::Duration),
        (ParameterType::Timestamp, context::Value::String(text)) => Moment::parse(text).map(Value::Timestamp),
        (ParameterType::IpAddress, context::Value::String(text)) => address(text).map(Value::IpAddress),
        (ParameterType::List(declared), context::Value::List(items)) => {
            let convert = |(at, item)| convert(item, declared, fuel).map_err(|refusal| at_index(refusal, at));
            let items: Vec<_> = items.iter().enumerate().map(convert).collect::<Result<_, _>>()?;
            Some(Value::List(items.into()))
        }
        (ParameterType::Map(declared), context::Value::Map(entries)) => {
            // The keys of a BTreeMap come in the byte order that `compare_keys` has for texts.
            let convert = |(key, item): (&'a String, &'a context::Value)| {
                let value = convert(item, declared, fuel).map_err(|refusal| at_key(refusal, key))?;
                Ok((Value::String(Text::Borrowed(key)), value))
            };
            let entries: Vec<_> = entries.iter().map(convert).collect::<Result<_, Refusal>>()?;
            debug_assert!(entries.is_sorted_by(|(left, _), (right, _)| compare_keys(left, right).is_lt()));
            Some(Value::Map(entries.into()))
        }
        (
            ParameterType::Bool
            | ParameterType::String
            | ParameterType::Duration
            | ParameterType::Timestamp
            | ParameterType::IpAddress
            | ParameterType::List(_)
            | ParameterType::Map(_),
            _,
        ) => None,
    };
    converted.map_or_else(|| refuse(expected(declared, given)), Ok)
}

/// What a declared type takes; for an integer that a double cannot tell exactly, what to do.
fn expected(declared: &ParameterType, given: &context::Value) -> &'static str {
    let inexact = matches!(given, context::Value::Double(double)
        if double.is_finite() && double.fract() == 0.0 && double.abs() > MAX_EXACT);
    match declared {
        ParameterType::Bool => "a bool",
        ParameterType::String => "a text",
        ParameterType::Int | ParameterType::Uint if inexact => {
            "an integer, beyond 2^53 as a text because a double cannot tell it exactly"
        }
        ParameterType::Int => "an int (integral, 64 bits with a sign)",
        ParameterType::Uint => "a uint (integral, 64 bits, not negative)",
        ParameterType::Double => "a double (a finite number)",
        ParameterType::Duration => "a duration such as `1h30m`",
        ParameterType::Timestamp => "a timestamp such as `2027-01-31T12:00:00Z`",
        ParameterType::IpAddress => "an ip address such as `192.0.2.1` or `2001:db8::1`",
        ParameterType::List(_) => "a list",
        ParameterType::Map(_) => "an object",
        ParameterType::Any => "a value",
    }
}

fn at_index(refusal: Refusal, at: usize) -> Refusal {
    inside(refusal, || format!("[{at}]"))
}

fn at_key(refusal: Refusal, key: &str) -> Refusal {
    inside(refusal, || format!("[{:?}]", excerpt(key)))
}

fn inside(refusal: Refusal, step: impl FnOnce() -> String) -> Refusal {
    match refusal {
        Refusal::Mismatch(mut mismatch) => {
            mismatch.path.push(step());
            Refusal::Mismatch(mismatch)
        }
        Refusal::Exhausted => Refusal::Exhausted,
    }
}

/// A value as it comes. Numbers are doubles, as OpenFGA has them, unless that would lose bits.
fn any<'a>(given: &'a context::Value, depth: usize, fuel: &mut Fuel<'_>) -> Result<Value<'a>, Refusal> {
    fuel.spend(1)?;
    let depth = depth.checked_sub(1).ok_or_else(|| {
        Refusal::Mismatch(Mismatch {
            path: Vec::new(),
            expected: format!("at most {MAX_GIVEN_DEPTH} levels"),
            found: "more".to_owned(),
        })
    })?;
    Ok(match given {
        context::Value::Null => Value::Null,
        context::Value::Bool(value) => Value::Bool(*value),
        #[expect(clippy::cast_precision_loss, reason = "integers up to 2^53 are exact doubles")]
        context::Value::Int(value) if value.unsigned_abs() <= 1 << 53 => Value::Double(*value as f64),
        context::Value::Int(value) => Value::Int(*value),
        context::Value::Uint(value) => Value::Uint(*value),
        context::Value::Double(value) if value.is_finite() => Value::Double(*value),
        context::Value::Double(_) => {
            return Err(Refusal::Mismatch(Mismatch {
                path: Vec::new(),
                expected: "a finite number".to_owned(),
                found: describe(given),
            }));
        }
        context::Value::String(text) => Value::String(Text::Borrowed(text)),
        context::Value::List(items) => {
            let convert = |(at, item)| any(item, depth, fuel).map_err(|refusal| at_index(refusal, at));
            Value::List(items.iter().enumerate().map(convert).collect::<Result<Vec<_>, _>>()?.into())
        }
        context::Value::Map(entries) => {
            let convert = |(key, item): (&'a String, &'a context::Value)| {
                let value = any(item, depth, fuel).map_err(|refusal| at_key(refusal, key))?;
                Ok((Value::String(Text::Borrowed(key)), value))
            };
            Value::Map(entries.iter().map(convert).collect::<Result<Vec<_>, Refusal>>()?.into())
        }
    })
}

/// A supplied number, whatever it travelled as.
#[derive(Clone, Copy)]
enum Number {
    Integer(i128),
    Double(f64),
}

impl Number {
    fn to_integer(self) -> Option<i128> {
        match self {
            Self::Integer(value) => Some(value),
            #[expect(clippy::cast_possible_truncation, reason = "integral and at most 2^53")]
            Self::Double(value) if value.fract() == 0.0 && value.abs() <= MAX_EXACT => Some(value as i128),
            Self::Double(_) => None,
        }
    }

    fn to_int(self) -> Option<i64> {
        self.to_integer().and_then(|value| i64::try_from(value).ok())
    }

    fn to_uint(self) -> Option<u64> {
        self.to_integer().and_then(|value| u64::try_from(value).ok())
    }

    fn to_double(self) -> Option<f64> {
        match self {
            #[expect(clippy::cast_precision_loss, reason = "a double is what the schema asks for")]
            Self::Integer(value) => Some(value as f64),
            Self::Double(value) => Some(value).filter(|value| value.is_finite()),
        }
    }
}

fn number(given: &context::Value) -> Option<Number> {
    match given {
        context::Value::Int(value) => Some(Number::Integer(i128::from(*value))),
        context::Value::Uint(value) => Some(Number::Integer(i128::from(*value))),
        context::Value::Double(value) => Some(Number::Double(*value)),
        context::Value::String(text) => numeric_text(text),
        context::Value::Null | context::Value::Bool(_) | context::Value::List(_) | context::Value::Map(_) => {
            None
        }
    }
}

/// Decimal digits with sign, fraction and exponent. Rust would read `inf` and `nan` too.
fn numeric_text(text: &str) -> Option<Number> {
    let decimal = |c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.' | 'e' | 'E');
    if text.len() > 400 || !text.chars().all(decimal) {
        return None;
    }
    match text.parse::<i128>() {
        Ok(value) => Some(Number::Integer(value)),
        Err(_) => text.parse::<f64>().ok().map(Number::Double),
    }
}

/// Reads an address; an IPv4 address written as IPv6 is the IPv4 address.
pub(super) fn address(text: &str) -> Option<IpAddr> {
    text.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

/// A supplied value in a few words.
fn describe(given: &context::Value) -> String {
    match given {
        context::Value::Null => "null".to_owned(),
        context::Value::Bool(value) => format!("{value}"),
        context::Value::Int(value) => format!("the number {value}"),
        context::Value::Uint(value) => format!("the number {value}"),
        context::Value::Double(value) => format!("the number {value:?}"),
        context::Value::String(text) => format!("the text {:?}", excerpt(text)),
        context::Value::List(_) => "a list".to_owned(),
        context::Value::Map(_) => "an object".to_owned(),
    }
}

/// As much of a text as an error message should repeat.
pub(super) fn excerpt(text: &str) -> String {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(json: &str) -> context::Value {
        context::Value::from(serde_json::from_str::<serde_json::Value>(json).expect("JSON"))
    }

    fn converted(value: &context::Value, declared: &ParameterType) -> Result<String, String> {
        let mut units = 1_000_000;
        match convert(value, declared, &mut Fuel(&mut units)) {
            Ok(value) => Ok(show(&value)),
            Err(Refusal::Mismatch(mismatch)) => Err(mismatch.describe("p")),
            Err(Refusal::Exhausted) => Err("exhausted".to_owned()),
        }
    }

    fn show(value: &Value<'_>) -> String {
        match value {
            Value::Null => "null".to_owned(),
            Value::Bool(value) => format!("{value}"),
            Value::Int(value) => format!("{value}"),
            Value::Uint(value) => format!("{value}u"),
            Value::Double(value) => format!("{value:?}"),
            Value::String(text) => format!("'{}'", &**text),
            Value::Duration(value) => value.to_string(),
            Value::Timestamp(value) => value.to_string(),
            Value::IpAddress(value) => value.to_string(),
            Value::List(items) => format!("{:?}", items.iter().map(show).collect::<Vec<_>>()),
            Value::Map(entries) => {
                format!(
                    "{:?}",
                    entries.iter().map(|(key, value)| (show(key), show(value))).collect::<Vec<_>>()
                )
            }
        }
    }

    #[test]
    fn values_take_their_declared_type() {
        let check = |json: &str, declared: &str, expected: &str| {
            let declared: ParameterType = declared.parse().expect("a type");
            assert_eq!(converted(&given(json), &declared).as_deref(), Ok(expected), "{json} as {declared}");
        };
        check("true", "bool", "true");
        check(r#""a""#, "string", "'a'");
        check("10", "int", "10");
        check("10.0", "int", "10");
        check(r#""-10""#, "int", "-10");
        check(r#""1e3""#, "int", "1000");
        check(r#""9223372036854775807""#, "int", "9223372036854775807");
        check("9223372036854775807", "int", "9223372036854775807");
        check("-9007199254740992.0", "int", "-9007199254740992");
        check("18446744073709551615", "uint", "18446744073709551615u");
        check(r#""7""#, "uint", "7u");
        check("7", "double", "7.0");
        check(r#""-1.5e2""#, "double", "-150.0");
        check("1.7976931348623157e308", "double", "1.7976931348623157e308");
        check(r#""1h30m""#, "duration", "5400s");
        check(r#""2023-10-11T12:00:00+02:00""#, "timestamp", "2023-10-11T10:00:00Z");
        check(r#""::ffff:192.0.2.1""#, "ipaddress", "192.0.2.1");
        check(r#""2001:DB8::0""#, "ipaddress", "2001:db8::");
        check(r#"[1, "2"]"#, "list<int>", r#"["1", "2"]"#);
        check("[]", "list<int>", "[]");
        check(r#"{"b": 1, "a": 2}"#, "map<double>", r#"[("'a'", "2.0"), ("'b'", "1.0")]"#);
    }

    #[test]
    fn any_takes_everything_exactly() {
        let check = |json: &str, expected: &str| {
            assert_eq!(converted(&given(json), &ParameterType::Any).as_deref(), Ok(expected), "{json}");
        };
        check("null", "null");
        check("7", "7.0");
        check("9007199254740993", "9007199254740993");
        check("18446744073709551615", "18446744073709551615u");
        check(r#"[true, {"a": [null]}]"#, r#"["true", "[(\"'a'\", \"[\\\"null\\\"]\")]"]"#);
    }

    #[test]
    fn what_does_not_fit_says_where_and_why() {
        let check = |json: &str, declared: &str, reason: &str| {
            let declared: ParameterType = declared.parse().expect("a type");
            let refused = converted(&given(json), &declared).expect_err(json);
            assert_eq!(refused, reason, "{json} as {declared}");
        };
        check("1", "bool", "parameter `p` expects a bool, and was given the number 1");
        check(r#""true""#, "bool", "parameter `p` expects a bool, and was given the text \"true\"");
        check("1", "string", "parameter `p` expects a text, and was given the number 1");
        check(
            "1.5",
            "int",
            "parameter `p` expects an int (integral, 64 bits with a sign), and was given the number 1.5",
        );
        check(
            "1e18",
            "int",
            "parameter `p` expects an integer, beyond 2^53 as a text because a double cannot tell it exactly, \
             and was given the number 1e18",
        );
        check(
            "-1",
            "uint",
            "parameter `p` expects a uint (integral, 64 bits, not negative), and was given the number -1",
        );
        check(
            r#""inf""#,
            "double",
            "parameter `p` expects a double (a finite number), and was given the text \"inf\"",
        );
        check(
            r#""1 day""#,
            "duration",
            "parameter `p` expects a duration such as `1h30m`, and was given the text \"1 day\"",
        );
        check(
            "0",
            "timestamp",
            "parameter `p` expects a timestamp such as `2027-01-31T12:00:00Z`, and was given the number 0",
        );
        check(
            r#""10.0.0.256""#,
            "ipaddress",
            "parameter `p` expects an ip address such as `192.0.2.1` or `2001:db8::1`, and was given the text \
             \"10.0.0.256\"",
        );
        check("{}", "list<int>", "parameter `p` expects a list, and was given an object");
        check("[]", "map<int>", "parameter `p` expects an object, and was given a list");
        check(
            r#"{"a": true, "b\n": null}"#,
            "map<bool>",
            "parameter `p[\"b\\n\"]` expects a bool, and was given null",
        );
        check("[true, 1]", "list<bool>", "parameter `p[1]` expects a bool, and was given the number 1");
        check("null", "string", "parameter `p` expects a text, and was given null");
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let refused = |value: context::Value, declared: ParameterType| converted(&value, &declared).is_err();
        for text in ["9223372036854775808", "-9223372036854775809", "1e19", "1.5", "", "1 ", "0x1", "nan"] {
            assert!(refused(context::Value::String(text.to_owned()), ParameterType::Int), "{text}");
        }
        let huge = "1.79769313486231570814527423731704356798070e+309";
        for double in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN] {
            for declared in [ParameterType::Int, ParameterType::Double, ParameterType::Any] {
                assert!(refused(context::Value::Double(double), declared), "{double}");
            }
        }
        assert!(refused(context::Value::String(huge.to_owned()), ParameterType::Double));
        assert!(refused(context::Value::String(format!("-{huge}")), ParameterType::Double));
        assert!(refused(context::Value::Uint(u64::MAX), ParameterType::Int));
        assert!(refused(context::Value::Double(9_007_199_254_740_994.0), ParameterType::Uint));
    }

    #[test]
    fn conversion_is_bounded() {
        let deep = (0..200).fold(context::Value::Null, |inner, _| context::Value::List(vec![inner]));
        let refused = converted(&deep, &ParameterType::Any).expect_err("too deep");
        assert!(refused.ends_with("expects at most 128 levels, and was given more"), "{refused}");
        let long = context::Value::List(vec![context::Value::Bool(true); 100]);
        let mut units = 50;
        let declared = ParameterType::List(Box::new(ParameterType::Bool));
        let outcome = convert(&long, &declared, &mut Fuel(&mut units));
        assert!(matches!(outcome, Err(Refusal::Exhausted)));
        assert_eq!(units, 0);
    }
}
