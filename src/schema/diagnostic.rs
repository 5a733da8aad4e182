//! Mistakes in a schema: what, where, and what to do about it; all of a file at once.

use std::fmt::{self, Write as _};
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

/// Whether a rendering may use terminal colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Style {
    /// Text only.
    #[default]
    Plain,
    /// ANSI escape sequences.
    Colour,
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

    /// All mistakes with their lines underlined. `file` is named beside each place.
    #[must_use]
    pub fn render(&self, file: Option<&str>, style: Style) -> String {
        let mut out = String::new();
        for item in &self.items {
            if !out.is_empty() {
                out.push('\n');
            }
            out.push_str(&self.render_one(item, file, style));
        }
        if self.omitted > 0 {
            let _ = write!(out, "\nand {} more\n", self.omitted);
        }
        out
    }

    /// One mistake of these, its lines underlined.
    #[must_use]
    pub fn render_one(&self, item: &Diagnostic, file: Option<&str>, style: Style) -> String {
        let paint = Paint(style);
        let mut out = String::new();
        let (label, colour) = match item.severity() {
            Severity::Error => ("error", Paint::RED),
            Severity::Warning => ("warning", Paint::YELLOW),
        };
        let _ = write!(out, "{}", paint.with(colour, &format!("{label}[{}]", item.kind)));
        let _ = writeln!(out, "{}", paint.with(Paint::BOLD, &format!(": {}", item.message)));
        let last = item.place.iter().chain(item.related.iter().map(|(_, place)| place)).map(|p| p.line).max();
        // The gutter is as wide as the largest line number shown.
        let width = last.unwrap_or(0).to_string().len();
        if let (Some(place), Some(source)) = (&item.place, &self.source) {
            let excerpt = Excerpt { source, file, width, paint };
            match &item.related {
                Some((label, related)) if related.line == place.line => {
                    excerpt.write(place, colour, Some((label, related)), &mut out);
                }
                Some((label, related)) => {
                    excerpt.write(place, colour, None, &mut out);
                    let _ =
                        writeln!(out, "{:width$} {}", "", paint.with(Paint::BLUE, &format!("= {label}:")));
                    excerpt.write(related, Paint::BLUE, None, &mut out);
                }
                None => excerpt.write(place, colour, None, &mut out),
            }
        } else if let Some(within) = &item.within {
            let _ = writeln!(out, "{} in {within}", paint.with(Paint::BLUE, "-->"));
        }
        if let Some(hint) = &item.hint {
            let _ = writeln!(out, "{:width$} {} {hint}", "", paint.with(Paint::BLUE, "= hint:"));
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.render(None, Style::Plain))
    }
}

impl std::error::Error for Diagnostics {}

/// Shows lines of a source with places underlined.
struct Excerpt<'a> {
    source: &'a str,
    file: Option<&'a str>,
    /// Of the gutter.
    width: usize,
    paint: Paint,
}

impl Excerpt<'_> {
    /// Longest part of a line that is shown, in characters, and how much of it may stand before
    /// the place.
    const SHOWN: usize = 110;
    const BEFORE: usize = 60;

    /// Shows the line of a place, and marks a second place in the same line.
    fn write(&self, place: &Place, colour: &str, second: Option<(&str, &Place)>, out: &mut String) {
        let Self { file, width, paint, .. } = *self;
        let at = match file {
            Some(file) => format!("{file}:{}:{}", place.line, place.column),
            None => format!("line {}, column {}", place.line, place.column),
        };
        let bar = paint.with(Paint::BLUE, "|");
        let line = self.source.lines().nth(place.line - 1).unwrap_or("");
        let (shown, skipped) = Self::crop(line, place);
        let _ = writeln!(out, "{:width$}{} {at}", "", paint.with(Paint::BLUE, "-->"));
        let _ = writeln!(out, "{:width$} {bar}", "");
        let _ = writeln!(out, "{} {shown}", paint.with(Paint::BLUE, &format!("{:width$} |", place.line)));
        let (start, length) = Self::columns(line, place, skipped);
        let mark = paint.with(colour, &"^".repeat(length));
        // The second place is marked only where it is in view.
        let second =
            second.map(|(label, place)| (label, Self::columns(line, place, skipped), place.column > skipped));
        let Some((label, (other, other_length), true)) = second else {
            let _ = writeln!(out, "{:width$} {bar} {:start$}{mark}", "", "");
            return;
        };
        let other_mark = paint.with(Paint::BLUE, &"-".repeat(other_length));
        let marks = if other < start {
            let gap = start.saturating_sub(other + other_length);
            format!("{:other$}{other_mark}{:gap$}{mark}", "", "")
        } else {
            let gap = other.saturating_sub(start + length);
            format!("{:start$}{mark}{:gap$}{other_mark}", "", "")
        };
        let _ = writeln!(out, "{:width$} {bar} {marks}", "");
        let _ = writeln!(out, "{:width$} {bar} {:other$}{}", "", "", paint.with(Paint::BLUE, label));
    }

    /// The part of a line worth showing, and how many characters of it are left out before.
    fn crop(line: &str, place: &Place) -> (String, usize) {
        let length = line.chars().count();
        let skipped = if length <= Self::SHOWN { 0 } else { (place.column - 1).saturating_sub(Self::BEFORE) };
        // A tab is as wide as the terminal likes; a space is as wide as the mark under it.
        let visible = |c: char| if c.is_control() { ' ' } else { c };
        let mut shown: String = line.chars().skip(skipped).take(Self::SHOWN).map(visible).collect();
        if skipped > 0 {
            shown.insert(0, '…');
        }
        if skipped + Self::SHOWN < length {
            shown.push('…');
        }
        (shown, skipped)
    }

    /// Where the marks of a place begin in what is shown, and how many there are: at least one.
    fn columns(line: &str, place: &Place, skipped: usize) -> (usize, usize) {
        let end = if place.end_line == place.line { place.end_column } else { line.chars().count() + 1 };
        let start = (place.column - 1).saturating_sub(skipped);
        let room = Self::SHOWN.saturating_sub(start).max(1);
        (start + usize::from(skipped > 0), end.saturating_sub(place.column).clamp(1, room))
    }
}

#[derive(Clone, Copy)]
struct Paint(Style);

impl Paint {
    const RED: &str = "\u{1b}[1;31m";
    const YELLOW: &str = "\u{1b}[1;33m";
    const BLUE: &str = "\u{1b}[34m";
    const BOLD: &str = "\u{1b}[1m";

    fn with(self, colour: &str, text: &str) -> String {
        match self.0 {
            Style::Plain => text.to_owned(),
            Style::Colour => format!("{colour}{text}\u{1b}[0m"),
        }
    }
}

/// Messages quote what was written, but never at any length.
fn clip(mut text: String) -> String {
    const LONGEST: usize = 400;
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// A mistake as the stages note it: places in bytes only.
#[derive(Debug)]
pub(super) struct Mistake {
    kind: Kind,
    span: Span,
    message: String,
    hint: Option<String>,
    related: Option<(&'static str, Span)>,
    within: Option<String>,
}

impl Mistake {
    pub(super) fn hint(&mut self, hint: impl Into<String>) -> &mut Self {
        self.hint = Some(clip(hint.into()));
        self
    }

    pub(super) fn hint_if_some(&mut self, hint: Option<String>) -> &mut Self {
        if let Some(hint) = hint {
            self.hint(hint);
        }
        self
    }

    pub(super) fn related(&mut self, what: &'static str, span: &Span) -> &mut Self {
        self.related = Some((what, span.clone()));
        self
    }
}

/// Collects the mistakes of one schema through all stages.
#[derive(Debug, Default)]
pub(super) struct Mistakes {
    noted: Vec<Mistake>,
    omitted: usize,
    errors: usize,
    within: Option<String>,
}

impl Mistakes {
    /// Notes a mistake; the caller may add a hint or a second place to it.
    pub(super) fn note(&mut self, kind: Kind, span: &Span, message: impl Into<String>) -> &mut Mistake {
        if kind.severity() == Severity::Error {
            self.errors += 1;
        }
        if self.is_full() {
            self.omitted += 1;
            self.noted.truncate(MAX_REPORTED);
        }
        self.noted.push(Mistake {
            kind,
            span: span.clone(),
            message: clip(message.into()),
            hint: None,
            related: None,
            within: self.within.clone(),
        });
        // INVARIANT: one was pushed on the line above, so the last one is it.
        let last = self.noted.len() - 1;
        #[expect(clippy::indexing_slicing, reason = "just pushed")]
        &mut self.noted[last]
    }

    /// Whether further mistakes are only counted, so that their hints need not be found.
    pub(super) fn is_full(&self) -> bool {
        self.noted.len() >= MAX_REPORTED
    }

    /// How many of the mistakes make the schema unusable.
    pub(super) const fn errors(&self) -> usize {
        self.errors
    }

    /// Names the definition that the mistakes noted from now on are in.
    pub(super) fn enter(&mut self, within: Option<String>) {
        self.within = within.map(clip);
    }

    /// Gives every mistake its line and column.
    pub(super) fn finish(mut self, source: Option<&str>) -> Diagnostics {
        self.noted.truncate(MAX_REPORTED);
        self.noted.sort_by_key(|mistake| mistake.span.start);
        let lines = source.map(LineStarts::new);
        let place = |span: &Span| lines.as_ref().map(|lines| lines.place(span));
        let items = self
            .noted
            .into_iter()
            .map(|mistake| Diagnostic {
                kind: mistake.kind,
                message: mistake.message,
                hint: mistake.hint,
                place: place(&mistake.span),
                related: mistake.related.and_then(|(what, span)| Some((what, place(&span)?))),
                within: mistake.within,
            })
            .collect();
        Diagnostics { source: source.map(Arc::from), items, omitted: self.omitted }
    }
}

struct LineStarts<'a> {
    source: &'a str,
    starts: Vec<usize>,
}

impl<'a> LineStarts<'a> {
    fn new(source: &'a str) -> Self {
        let starts = std::iter::once(0).chain(source.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Self { source, starts }
    }

    fn place(&self, span: &Span) -> Place {
        let (line, column) = self.position(span.start);
        let (end_line, end_column) = self.position(span.end);
        Place { span: span.clone(), line, column, end_line, end_column }
    }

    /// Line and column from one.
    fn position(&self, at: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= at);
        let start = self.starts.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.source.get(start..at).unwrap_or("");
        (line, before.chars().count() + 1)
    }
}
