//! Mistakes in a schema: what, where, and what to do about it; all of a file at once.

mod collect;
mod render;

pub(super) use collect::Mistakes;
pub use render::Style;

use std::fmt;
use std::sync::Arc;

use super::ast::Span;

/// How many mistakes of a file are reported; the rest are counted. Bounds the work of finding
/// similar names, and nobody mends more at a time.
pub const MAX_REPORTED: usize = 100;

/// What is wrong, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "each is described by the text it stands for in `as_str`")]
pub enum Kind {
    Syntax,
    TooLarge,
    ModulesUnsupported,
    SchemaVersionRequired,
    InvalidSchema,
    ReservedTypeKeyword,
    ReservedRelationKeyword,
    InvalidName,
    MissingDefinition,
    InvalidRelationType,
    InvalidRelationOnTupleset,
    InvalidType,
    NoEntrypoint,
    TuplesetNotDirect,
    Duplicated,
    ConditionNotDefined,
    ConditionNotUsed,
    ConditionNameMismatch,
    AssignableRelationMustHaveType,
    WildcardRelation,
    InvalidCondition,
    InvalidJson,
}

impl Kind {
    /// The name programs compare with: the `errorType` that the OpenFGA language tools publish
    /// where they have one, else one of the same style.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Syntax => "invalid-syntax",
            Self::TooLarge => "schema-too-large",
            Self::ModulesUnsupported => "modules-unsupported",
            Self::SchemaVersionRequired => "schema-version-required",
            Self::InvalidSchema => "invalid-schema",
            Self::ReservedTypeKeyword => "reserved-type-keywords",
            Self::ReservedRelationKeyword => "reserved-relation-keywords",
            Self::InvalidName => "invalid-name",
            Self::MissingDefinition => "missing-definition",
            Self::InvalidRelationType => "invalid-relation-type",
            Self::InvalidRelationOnTupleset => "invalid-relation-on-tupleset",
            Self::InvalidType => "invalid-type",
            Self::NoEntrypoint => "relation-no-entry-point",
            Self::TuplesetNotDirect => "tupleuserset-not-direct",
            Self::Duplicated => "duplicated-error",
            Self::ConditionNotDefined => "condition-not-defined",
            Self::ConditionNotUsed => "condition-not-used",
            Self::ConditionNameMismatch => "different-nested-condition-name",
            Self::AssignableRelationMustHaveType => "assignable-relation-must-have-type",
            Self::WildcardRelation => "type-wildcard-relation",
            Self::InvalidCondition => "invalid-condition",
            Self::InvalidJson => "invalid-json",
        }
    }

    /// Whether it makes the schema unusable. What other servers accept is a warning, so that a
    /// model they hold can be loaded.
    #[must_use]
    pub const fn severity(self) -> Severity {
        match self {
            Self::ConditionNotUsed => Severity::Warning,
            Self::Syntax
            | Self::TooLarge
            | Self::ModulesUnsupported
            | Self::SchemaVersionRequired
            | Self::InvalidSchema
            | Self::ReservedTypeKeyword
            | Self::ReservedRelationKeyword
            | Self::InvalidName
            | Self::MissingDefinition
            | Self::InvalidRelationType
            | Self::InvalidRelationOnTupleset
            | Self::InvalidType
            | Self::NoEntrypoint
            | Self::TuplesetNotDirect
            | Self::Duplicated
            | Self::ConditionNotDefined
            | Self::ConditionNameMismatch
            | Self::AssignableRelationMustHaveType
            | Self::WildcardRelation
            | Self::InvalidCondition
            | Self::InvalidJson => Severity::Error,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether a schema with the mistake can be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can.
    Warning,
}

/// A place in the text for people. Lines and columns count from one, columns in characters;
/// the end is exclusive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The same place in bytes.
    pub span: Span,
    /// Line of the first character.
    pub line: usize,
    /// Column of the first character.
    pub column: usize,
    /// Line of the end.
    pub end_line: usize,
    /// Column of the end.
    pub end_column: usize,
}

/// One mistake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// What is wrong, for programs.
    pub kind: Kind,
    /// What is wrong, for people: lower case, one sentence.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// Where; `None` if the schema did not come from a text.
    pub place: Option<Place>,
    /// A second place that explains the first, and what it is.
    pub related: Option<(&'static str, Place)>,
    /// The definition it is in, such as `relation document#viewer`, if it is in one.
    pub within: Option<String>,
}

impl Diagnostic {
    /// Whether the schema can be used nevertheless.
    #[must_use]
    pub const fn severity(&self) -> Severity {
        self.kind.severity()
    }
}

/// Every mistake of a schema, in the order of the text. Displayed as people read it, without
/// colour.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Diagnostics {
    source: Option<Arc<str>>,
    items: Vec<Diagnostic>,
    omitted: usize,
}

impl Diagnostics {
    /// The mistakes, in the order of the text.
    #[must_use]
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// How many more there were than [`MAX_REPORTED`].
    #[must_use]
    pub const fn omitted(&self) -> usize {
        self.omitted
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether one of them makes the schema unusable.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.items.iter().any(|item| item.severity() == Severity::Error)
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(None, Style::Plain))
    }
}

impl std::error::Error for Diagnostics {}
