//! Runs the grammar on one declaration and says in words what it did not find.

use pest::Parser as _;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::Pair;

use super::Rule;
use super::grammar::Grammar;
use crate::schema::ast::{Name, Span};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;

/// A part of the file handed to the grammar.
#[derive(Clone, Copy)]
pub(super) struct Part<'a> {
    /// The text of the part.
    pub text: &'a str,
    /// Where in the file it begins.
    pub base: usize,
    /// What the file is written in, for the wording.
    pub dialect: Dialect,
}

impl<'a> Part<'a> {
    pub(super) fn new(file: &'a str, span: &Span, dialect: Dialect) -> Self {
        Self { text: file.get(span.clone()).unwrap_or(""), base: span.start, dialect }
    }

    /// Reads the part as `rule`, or notes why that cannot be.
    pub(super) fn read(self, rule: Rule, mistakes: &mut Mistakes) -> Option<Pair<'a, Rule>> {
        let error = match Grammar::parse(rule, self.text) {
            Ok(mut pairs) => return pairs.next(),
            Err(error) => error,
        };
        let at = match error.location {
            InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
        };
        let expected = match error.variant {
            ErrorVariant::ParsingError { positives, .. } => positives,
            ErrorVariant::CustomError { .. } => Vec::new(),
        };
        self.note_unexpected(at, &expected, rule, mistakes);
        None
    }

    /// A pair's place in the file.
    pub(super) fn span(self, pair: &Pair<'_, Rule>) -> Span {
        let span = pair.as_span();
        self.base + span.start()..self.base + span.end()
    }

    /// A pair as a name.
    pub(super) fn name(self, pair: &Pair<'_, Rule>) -> Name {
        Name { text: pair.as_str().to_owned(), span: self.span(pair) }
    }

    fn note_unexpected(self, at: usize, expected: &[Rule], reading: Rule, mistakes: &mut Mistakes) {
        let rest = self.text.get(at..).unwrap_or("");
        let found = Found::new(rest);
        let span = self.base + at..self.base + at + found.text.len();
        let mut wanted: Vec<&str> = Vec::new();
        for rule in expected {
            if let Some(description) = self.describe(*rule, reading)
                && !wanted.contains(&description)
            {
                wanted.push(description);
            }
        }
        let wanted = match wanted.as_slice() {
            [] => "something else".to_owned(),
            [one] => (*one).to_owned(),
            [several @ .., last] => format!("{} or {last}", several.join(", ")),
        };
        let hint = self.hint(at, found, expected, reading);
        mistakes
            .note(Kind::Syntax, &span, format!("expected {wanted}, found {}", found.describe()))
            .hint_if_some(hint);
    }

    fn describe(self, rule: Rule, reading: Rule) -> Option<&'static str> {
        Some(match rule {
            Rule::EOI => "the end of the line",
            Rule::word if reading == Rule::condition => "a name",
            Rule::word => "a name",
            Rule::name | Rule::subject | Rule::restriction => "a name",
            Rule::colon => "`:`",
            // In 1.1 `as` would be found and refused: it is no advice.
            Rule::as_ if self.dialect == Dialect::V1_0 => "`as`",
            Rule::comma => "`,`",
            Rule::open => "`(`",
            Rule::close => "`)`",
            Rule::open_bracket => "`[`",
            Rule::close_bracket => "`]`",
            Rule::less => "`<`",
            Rule::greater => "`>`",
            Rule::wildcard => "`:*`",
            Rule::operator => "`or`, `and`, `but not`",
            Rule::expression | Rule::group | Rule::restrictions | Rule::from | Rule::computed => {
                "a relation or type restrictions"
            }
            Rule::parameter | Rule::parameter_type => "a parameter",
            Rule::as_
            | Rule::blank
            | Rule::newline
            | Rule::gap
            | Rule::space
            | Rule::word_character
            | Rule::nothing
            | Rule::one_word
            | Rule::relation
            | Rule::operand
            | Rule::condition => return None,
        })
    }

    fn hint(self, at: usize, found: Found<'_>, expected: &[Rule], reading: Rule) -> Option<String> {
        let before = self.text.get(..at).unwrap_or("");
        let hint = match (reading, found.text) {
            (Rule::relation, "\n" | "\r") => {
                "a definition stands on one line; only a list in `[]` may span lines"
            }
            (Rule::condition, "\n" | "\r") => "the parameters stand on one line",
            (_, text) if text.starts_with('#') && expected.contains(&Rule::EOI) => {
                "a comment needs a space before its `#`"
            }
            (Rule::relation, "]") if before.trim_end().ends_with('[') => {
                "a list names at least one type, for example `[user]`"
            }
            (Rule::relation, "or" | "and" | "but") if expected.contains(&Rule::computed) => {
                "an operator stands between two relations"
            }
            (Rule::relation, ")") if !expected.contains(&Rule::close) => "this parenthesis was never opened",
            (Rule::relation, "") if expected.contains(&Rule::close) => "a parenthesis is still open",
            (Rule::relation, "") if expected.contains(&Rule::close_bracket) => "a list is still open",
            (Rule::relation, "") if expected.contains(&Rule::colon) => {
                "a relation needs a definition, for example `define viewer: [user]`"
            }
            (Rule::relation, ":") if before.contains(":*") => "a wildcard stands alone: `type:*`",
            (Rule::condition, ")") if before.trim_end().ends_with('(') => {
                "a condition has at least one parameter"
            }
            (Rule::condition, ")") if before.trim_end().ends_with(',') => {
                "no comma follows the last parameter"
            }
            (Rule::condition, "") => "write it as `condition NAME(parameter: TYPE) { EXPRESSION }`",
            (Rule::condition, "<") => "the items of a `list` or `map` are of a simple type",
            _ => return None,
        };
        Some(hint.to_owned())
    }
}

/// What stands where something else was expected.
#[derive(Clone, Copy)]
struct Found<'a> {
    text: &'a str,
}

impl<'a> Found<'a> {
    fn new(rest: &'a str) -> Self {
        let boundary = |c: char| c.is_whitespace() || "()[]{}<>,:#*".contains(c);
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = match rest.find(boundary) {
            Some(0) => first,
            Some(end) => end,
            None => rest.len(),
        };
        Self { text: rest.get(..end).unwrap_or("") }
    }

    fn describe(self) -> String {
        const SHOWN: usize = 60;
        match self.text {
            "" => "the end of the line".to_owned(),
            "\n" | "\r" => "a line break".to_owned(),
            " " | "\t" => "a space".to_owned(),
            text if text.chars().count() > SHOWN => {
                format!("`{}…`", text.chars().take(SHOWN).collect::<String>().escape_debug())
            }
            text => format!("`{}`", text.escape_debug()),
        }
    }
}
