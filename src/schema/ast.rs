//! A schema as it was written: names unresolved, every one with its place in the text.
//!
//! This is the form between text, JSON and [`Schema`](super::Schema): the parser and the JSON
//! reader make it, `resolve` checks it, the printer and the JSON writer write it. One that did
//! not come from a text has empty spans.

use std::ops::Range;

use super::model::Dialect;
use crate::condition::ParameterType;

/// A place in the text, in bytes.
pub type Span = Range<usize>;

/// A name and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name {
    /// As written; not yet known to be well formed.
    pub text: String,
    /// Where.
    pub span: Span,
}

/// A whole file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Declared by its header, or evident from how it defines relations.
    pub dialect: Dialect,
    /// In the order of the file.
    pub types: Vec<Type>,
    /// In the order of the file.
    pub conditions: Vec<Condition>,
}

/// `type NAME` and its relations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Type {
    /// Its name.
    pub name: Name,
    /// In the order of the file.
    pub relations: Vec<Relation>,
}

/// `define NAME: EXPRESSION`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Relation {
    /// Its name.
    pub name: Name,
    /// Its definition.
    pub expression: Expression,
    /// What stood between the brackets, wherever in the definition they were.
    pub restrictions: Vec<Restriction>,
}

/// The definition of a relation. Never deeper than [`MAX_NESTING`](super::MAX_NESTING).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Expression {
    /// `[...]`, or `self` in dialect 1.0.
    This(Span),
    /// `relation`
    Computed(Name),
    /// `computed from tupleset`
    From {
        /// The relation asked of the objects named.
        computed: Name,
        /// The relation that names them.
        tupleset: Name,
    },
    /// `a or b or …`
    Union(Vec<Expression>),
    /// `a and b and …`
    Intersection(Vec<Expression>),
    /// `base but not subtract`
    Exclusion {
        /// Left of `but not`.
        base: Box<Expression>,
        /// Right of it.
        subtract: Box<Expression>,
    },
    /// It could not be read and has been reported. Nothing more is said about it.
    Invalid,
}

/// One item of a restriction list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restriction {
    /// The type of subject.
    pub subject_type: Name,
    /// Which subjects of it.
    pub subject: Subject,
    /// The condition after `with`.
    pub condition: Option<Name>,
    /// The whole item.
    pub span: Span,
}

/// Which subjects of a type a restriction names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// `type`
    Object,
    /// `type:*`
    Wildcard,
    /// `type#relation`
    Userset(Name),
}

/// `condition NAME(PARAMETERS) { CODE }`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its name.
    pub name: Name,
    /// In the order of the file.
    pub parameters: Vec<Parameter>,
    /// What stands between the braces; `None`: it could not be read and has been reported.
    pub code: Option<Code>,
}

/// `name: type` in a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// Its name.
    pub name: Name,
    /// Its type.
    pub parameter_type: ParameterType,
}

/// The text of an expression without comments and outer space, and where it came from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Code {
    /// What the condition language reads.
    pub text: String,
    /// Runs of `text` that stand together in the file: (start in `text`, start in the file),
    /// ascending.
    pub origin: Vec<(usize, usize)>,
}

impl Expression {
    /// Whether direct members stand anywhere in it.
    #[must_use]
    pub fn holds_this(&self) -> bool {
        self.any(&|part| matches!(part, Self::This(_)))
    }

    /// Whether a part of it could not be read.
    #[must_use]
    pub fn is_unread(&self) -> bool {
        self.any(&|part| matches!(part, Self::Invalid))
    }

    /// Recursion is bounded by the nesting of definitions.
    fn any(&self, wanted: &impl Fn(&Self) -> bool) -> bool {
        wanted(self)
            || match self {
                Self::This(_) | Self::Computed(_) | Self::From { .. } | Self::Invalid => false,
                Self::Union(operands) | Self::Intersection(operands) => {
                    operands.iter().any(|operand| operand.any(wanted))
                }
                Self::Exclusion { base, subtract } => base.any(wanted) || subtract.any(wanted),
            }
    }
}

impl Name {
    /// A name that was not written anywhere.
    #[must_use]
    pub fn unplaced(text: &str) -> Self {
        Self { text: text.to_owned(), span: 0..0 }
    }
}

impl Code {
    /// Where in the file a part of [`Code::text`] stands.
    #[must_use]
    pub fn place(&self, part: Span) -> Span {
        let locate = |at: usize| {
            let run = self.origin.partition_point(|(start, _)| *start <= at).saturating_sub(1);
            self.origin.get(run).map_or(0, |(start, file)| file + at.saturating_sub(*start))
        };
        // The end is found from the last byte, since the byte after it may belong to another run.
        let start = locate(part.start);
        let end = if part.end > part.start { locate(part.end - 1) + 1 } else { start };
        start..end.max(start)
    }
}
