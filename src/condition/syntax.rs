//! An expression as it was written: names unresolved, types unknown, each part with its span.

use std::ops::Range;

/// The bytes of the expression a part was written in. Expressions are at most 4 KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    start: u16,
    end: u16,
}

impl Span {
    /// The span of nothing, for what no text stands for.
    pub(super) const NONE: Self = Self { start: 0, end: 0 };

    pub(super) fn new(start: usize, end: usize) -> Self {
        let clamp = |at| u16::try_from(at).unwrap_or(u16::MAX);
        Self { start: clamp(start), end: clamp(end) }
    }

    /// From the beginning of one to the end of the other.
    pub(super) fn to(self, last: Self) -> Self {
        Self { start: self.start, end: last.end }
    }

    pub(super) fn range(self) -> Range<usize> {
        usize::from(self.start)..usize::from(self.end)
    }
}

/// A part of an expression.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Expression {
    pub(super) kind: Kind,
    pub(super) span: Span,
    /// Levels below and including this one, bounded while the tree is built.
    pub(super) depth: u16,
}

/// What a part is. Chains of `&&`, of `||` and of `? :` are flat, whatever their length.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    Literal(Literal),
    Name(String),
    Not(Box<Expression>),
    Negate(Box<Expression>),
    Binary(Operator, Box<[Expression; 2]>),
    /// Holds if all of two or more do.
    And(Vec<Expression>),
    /// Holds if any of two or more does.
    Or(Vec<Expression>),
    /// `a ? b : c ? d : e`.
    Choose {
        branches: Vec<(Expression, Expression)>,
        otherwise: Box<Expression>,
    },
    List(Vec<Expression>),
    Map(Vec<(Expression, Expression)>),
    /// `operand.name`.
    Field {
        operand: Box<Expression>,
        name: String,
    },
    /// `operand[index]`.
    Index(Box<[Expression; 2]>),
    /// `name(arguments)` or `receiver.name(arguments)`.
    Call {
        name: String,
        name_span: Span,
        receiver: Option<Box<Expression>>,
        arguments: Vec<Expression>,
    },
}

/// A value written out.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
}

/// An operator between two operands, except `&&` and `||`, which are chains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operator {
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
}

impl Operator {
    /// As it is written.
    pub(super) const fn as_str(self) -> &'static str {
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
        }
    }
}
