//! A checked expression: parameters are slots, functions are resolved, types fit. This is what
//! is kept and evaluated. It is at most as deep as the parser allows, so passes recurse plainly.

use ipnet::IpNet;
use jiff::tz::Offset;
use regex::Regex;

use super::syntax::Span;
use super::value::Value;

/// A part of a checked expression. Parts that can fail know where they were written.
#[derive(Debug)]
pub(super) enum Node {
    /// Known when compiled.
    Constant(Value<'static>),
    /// The parameter in this slot.
    Parameter(usize),
    /// The item a surrounding comprehension is at, counted from the outermost.
    Local(usize),
    And(Box<[Node]>, Span),
    Or(Box<[Node]>, Span),
    Choose {
        branches: Box<[(Node, Node)]>,
        otherwise: Box<Node>,
        span: Span,
    },
    List(Box<[Node]>),
    Map(Box<[(Node, Node)]>, Span),
    /// Whether a map has a key, without the error an absent key would be.
    Has {
        operand: Box<Node>,
        key: Box<str>,
        span: Span,
    },
    Unary {
        function: Unary,
        operand: Box<Node>,
        span: Span,
    },
    Binary {
        function: Binary,
        operands: Box<[Node; 2]>,
        span: Span,
    },
    Comprehension(Box<Comprehension>),
    /// `matches` with a pattern known when compiled.
    Matches {
        text: Box<Node>,
        pattern: Box<Regex>,
        span: Span,
    },
    /// `in_cidr` with a network known when compiled.
    InNetwork {
        address: Box<Node>,
        network: IpNet,
        span: Span,
    },
    /// Part of a moment at an offset known when compiled.
    PartAt {
        moment: Box<Node>,
        part: Part,
        offset: Offset,
        span: Span,
    },
}

/// `range.kind(item, [filter,] body)`.
#[derive(Debug)]
pub(super) struct Comprehension {
    pub(super) kind: ComprehensionKind,
    pub(super) range: Node,
    /// Only of the three-argument `map`.
    pub(super) filter: Option<Node>,
    pub(super) body: Node,
    pub(super) span: Span,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ComprehensionKind {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
}

/// Functions and operators of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unary {
    Not,
    Negate,
    Size,
    ToBool,
    ToInt,
    ToUint,
    ToDouble,
    ToString,
    ToDuration,
    ToTimestamp,
    ToIpAddress,
    /// Of a duration, or of a moment in UTC.
    Part(Part),
}

/// Functions and operators of two operands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    /// `list[index]` or `map[key]`.
    Index,
    Contains,
    StartsWith,
    EndsWith,
    Matches,
    InCidr,
    /// Of a moment, in the zone that the second operand names.
    PartIn(Part),
}

/// What `getFullYear` and its like read from a moment or a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    FullYear,
    /// From 0.
    Month,
    /// From 1.
    Date,
    /// From 0.
    DayOfMonth,
    /// From 0, which is Sunday.
    DayOfWeek,
    /// From 0.
    DayOfYear,
    Hours,
    Minutes,
    Seconds,
    Milliseconds,
}

impl Part {
    /// The function that reads it.
    pub(super) const fn function(self) -> &'static str {
        match self {
            Self::FullYear => "getFullYear",
            Self::Month => "getMonth",
            Self::Date => "getDate",
            Self::DayOfMonth => "getDayOfMonth",
            Self::DayOfWeek => "getDayOfWeek",
            Self::DayOfYear => "getDayOfYear",
            Self::Hours => "getHours",
            Self::Minutes => "getMinutes",
            Self::Seconds => "getSeconds",
            Self::Milliseconds => "getMilliseconds",
        }
    }
}

impl ComprehensionKind {
    /// The macro's name.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Exists => "exists",
            Self::ExistsOne => "exists_one",
            Self::Filter => "filter",
            Self::Map => "map",
        }
    }
}

impl Unary {
    /// As it is written.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Not => "!",
            Self::Negate => "-",
            Self::Size => "size",
            Self::ToBool => "bool",
            Self::ToInt => "int",
            Self::ToUint => "uint",
            Self::ToDouble => "double",
            Self::ToString => "string",
            Self::ToDuration => "duration",
            Self::ToTimestamp => "timestamp",
            Self::ToIpAddress => "ipaddress",
            Self::Part(part) => part.function(),
        }
    }
}

impl Binary {
    /// As it is written.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Equal => "==",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "in",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Index => "[]",
            Self::Contains => "contains",
            Self::StartsWith => "startsWith",
            Self::EndsWith => "endsWith",
            Self::Matches => "matches",
            Self::InCidr => "in_cidr",
            Self::PartIn(part) => part.function(),
        }
    }
}
