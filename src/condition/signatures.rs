//! The functions an expression may call: names, operands, results.

use super::tree::{Binary, Part, Unary};
use super::types::Type;

/// How a function is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// `size(x)`
    Global,
    /// `x.contains(y)`
    Method,
    /// Both ways.
    Either,
}

/// The type of an operand or result, as far as a signature tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    Bool,
    Int,
    Uint,
    Double,
    String,
    Duration,
    Timestamp,
    IpAddress,
    List,
    Map,
}

impl Shape {
    pub(super) fn accepts(self, found: &Type) -> bool {
        match found {
            Type::Dynamic => true,
            Type::Null => false,
            Type::Bool => self == Self::Bool,
            Type::Int => self == Self::Int,
            Type::Uint => self == Self::Uint,
            Type::Double => self == Self::Double,
            Type::String => self == Self::String,
            Type::Duration => self == Self::Duration,
            Type::Timestamp => self == Self::Timestamp,
            Type::IpAddress => self == Self::IpAddress,
            Type::List(_) => self == Self::List,
            Type::Map(..) => self == Self::Map,
        }
    }

    /// The result's type; no function gives a list or map.
    pub(super) const fn to_type(self) -> Type {
        match self {
            Self::Bool => Type::Bool,
            Self::Int => Type::Int,
            Self::Uint => Type::Uint,
            Self::Double => Type::Double,
            Self::String => Type::String,
            Self::Duration => Type::Duration,
            Self::Timestamp => Type::Timestamp,
            Self::IpAddress => Type::IpAddress,
            Self::List | Self::Map => Type::Dynamic,
        }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "bool",
            Self::Int => "int",
            Self::Uint => "uint",
            Self::Double => "double",
            Self::String => "string",
            Self::Duration => "duration",
            Self::Timestamp => "timestamp",
            Self::IpAddress => "ipaddress",
            Self::List => "list",
            Self::Map => "map",
        }
    }
}

/// What evaluates a call.
#[derive(Debug, Clone, Copy)]
pub(super) enum Function {
    Unary(Unary),
    Binary(Binary),
}

/// One way to call a function; the receiver of a method is its first operand.
#[derive(Debug)]
pub(super) struct Signature {
    pub(super) name: &'static str,
    pub(super) form: Form,
    /// For each operand, the types it may have.
    pub(super) takes: &'static [&'static [Shape]],
    pub(super) gives: Shape,
    pub(super) function: Function,
}

const fn unary(
    form: Form,
    name: &'static str,
    takes: &'static [&'static [Shape]],
    gives: Shape,
    function: Unary,
) -> Signature {
    Signature { name, form, takes, gives, function: Function::Unary(function) }
}

const fn binary(
    form: Form,
    name: &'static str,
    takes: &'static [&'static [Shape]],
    gives: Shape,
    function: Binary,
) -> Signature {
    Signature { name, form, takes, gives, function: Function::Binary(function) }
}

const fn part(name: &'static str, of: &'static [&'static [Shape]], part: Part) -> Signature {
    unary(Form::Method, name, of, Shape::Int, Unary::Part(part))
}

const fn part_in(name: &'static str, part: Part) -> Signature {
    binary(Form::Method, name, &[MOMENT, TEXT], Shape::Int, Binary::PartIn(part))
}

const TEXT: &[Shape] = &[Shape::String];
const MOMENT: &[Shape] = &[Shape::Timestamp];
const MOMENT_OR_DURATION: &[Shape] = &[Shape::Timestamp, Shape::Duration];

/// Every function (CEL language definition, standard definitions, and OpenFGA's addresses).
pub(super) const SIGNATURES: &[Signature] = &[
    unary(Form::Either, "size", &[&[Shape::String, Shape::List, Shape::Map]], Shape::Int, Unary::Size),
    binary(Form::Method, "contains", &[TEXT, TEXT], Shape::Bool, Binary::Contains),
    binary(Form::Method, "startsWith", &[TEXT, TEXT], Shape::Bool, Binary::StartsWith),
    binary(Form::Method, "endsWith", &[TEXT, TEXT], Shape::Bool, Binary::EndsWith),
    binary(Form::Either, "matches", &[TEXT, TEXT], Shape::Bool, Binary::Matches),
    binary(Form::Method, "in_cidr", &[&[Shape::IpAddress], TEXT], Shape::Bool, Binary::InCidr),
    unary(Form::Global, "bool", &[&[Shape::Bool, Shape::String]], Shape::Bool, Unary::ToBool),
    unary(
        Form::Global,
        "int",
        &[&[Shape::Int, Shape::Uint, Shape::Double, Shape::String, Shape::Timestamp]],
        Shape::Int,
        Unary::ToInt,
    ),
    unary(
        Form::Global,
        "uint",
        &[&[Shape::Uint, Shape::Int, Shape::Double, Shape::String]],
        Shape::Uint,
        Unary::ToUint,
    ),
    unary(
        Form::Global,
        "double",
        &[&[Shape::Double, Shape::Int, Shape::Uint, Shape::String]],
        Shape::Double,
        Unary::ToDouble,
    ),
    unary(
        Form::Global,
        "string",
        &[&[
            Shape::String,
            Shape::Bool,
            Shape::Int,
            Shape::Uint,
            Shape::Double,
            Shape::Duration,
            Shape::Timestamp,
            Shape::IpAddress,
        ]],
        Shape::String,
        Unary::ToString,
    ),
    unary(Form::Global, "duration", &[&[Shape::String, Shape::Duration]], Shape::Duration, Unary::ToDuration),
    unary(
        Form::Global,
        "timestamp",
        &[&[Shape::String, Shape::Int, Shape::Timestamp]],
        Shape::Timestamp,
        Unary::ToTimestamp,
    ),
    unary(
        Form::Global,
        "ipaddress",
        &[&[Shape::String, Shape::IpAddress]],
        Shape::IpAddress,
        Unary::ToIpAddress,
    ),
    part("getFullYear", &[MOMENT], Part::FullYear),
    part("getMonth", &[MOMENT], Part::Month),
    part("getDate", &[MOMENT], Part::Date),
    part("getDayOfMonth", &[MOMENT], Part::DayOfMonth),
    part("getDayOfWeek", &[MOMENT], Part::DayOfWeek),
    part("getDayOfYear", &[MOMENT], Part::DayOfYear),
    part("getHours", &[MOMENT_OR_DURATION], Part::Hours),
    part("getMinutes", &[MOMENT_OR_DURATION], Part::Minutes),
    part("getSeconds", &[MOMENT_OR_DURATION], Part::Seconds),
    part("getMilliseconds", &[MOMENT_OR_DURATION], Part::Milliseconds),
    part_in("getFullYear", Part::FullYear),
    part_in("getMonth", Part::Month),
    part_in("getDate", Part::Date),
    part_in("getDayOfMonth", Part::DayOfMonth),
    part_in("getDayOfWeek", Part::DayOfWeek),
    part_in("getDayOfYear", Part::DayOfYear),
    part_in("getHours", Part::Hours),
    part_in("getMinutes", Part::Minutes),
    part_in("getSeconds", Part::Seconds),
    part_in("getMilliseconds", Part::Milliseconds),
];

impl Signature {
    /// How it is called, as in `string.contains(string)`.
    pub(super) fn usage(&self) -> String {
        let mut operands: Vec<String> = self
            .takes
            .iter()
            .map(|shapes| shapes.iter().map(|shape| shape.as_str()).collect::<Vec<_>>().join(" or "))
            .collect();
        match self.form {
            Form::Method => {
                let receiver = operands.remove(0);
                let receiver = if receiver.contains(' ') { format!("({receiver})") } else { receiver };
                format!("{receiver}.{}({})", self.name, operands.join(", "))
            }
            Form::Global | Form::Either => format!("{}({})", self.name, operands.join(", ")),
        }
    }
}

/// The name among `known` that `name` probably meant: the nearest within two changed letters.
pub(super) fn nearest<'k>(name: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let name: Vec<char> = name.chars().take(64).flat_map(char::to_lowercase).collect();
    known
        // Names come from uploads: only such as can be near are looked at letter by letter.
        .filter(|candidate| candidate.len().abs_diff(name.len()) <= 2)
        .map(|candidate| (distance(&name, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 2 && distance * 2 < candidate.len().min(name.len()))
        .min()
        .map(|(_, candidate)| candidate)
}

/// Letters to insert, delete or replace (Levenshtein), regardless of case.
fn distance(from: &[char], to: &str) -> usize {
    let mut row: Vec<usize> = (0..=from.len()).collect();
    for (index, wanted) in to.chars().flat_map(char::to_lowercase).enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        let mut next = vec![left];
        for (letter, above) in from.iter().zip(row.iter().skip(1)) {
            left = (diagonal + usize::from(*letter != wanted)).min(above + 1).min(left + 1);
            diagonal = *above;
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_has_two_meanings() {
        for (index, one) in SIGNATURES.iter().enumerate() {
            for other in &SIGNATURES[index + 1..] {
                if one.name == other.name && one.takes.len() == other.takes.len() {
                    let overlap = one
                        .takes
                        .iter()
                        .zip(other.takes)
                        .all(|(left, right)| left.iter().any(|shape| right.contains(shape)));
                    assert!(!overlap, "{} and {}", one.usage(), other.usage());
                }
            }
        }
    }

    #[test]
    fn near_names_are_found() {
        let known = ["startsWith", "in_cidr", "size", "x"];
        let near = |name| nearest(name, known.into_iter());
        assert_eq!(near("startswith"), Some("startsWith"));
        assert_eq!(near("inCidr"), Some("in_cidr"));
        assert_eq!(near("sizes"), Some("size"));
        assert_eq!(near("y"), None, "every one-letter name is one letter from every other");
        assert_eq!(near("frobnicate"), None);
    }
}
