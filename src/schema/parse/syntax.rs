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

    /// The name a part begins with, whatever follows.
    pub(super) fn first_word(self) -> Option<Name> {
        let trimmed = self.text.trim_start_matches([' ', '\t']);
        let start = self.base + (self.text.len() - trimmed.len());
        let word = trimmed.split(is_boundary).next().filter(|word| !word.is_empty())?;
        Some(Name { text: word.to_owned(), span: start..start + word.len() })
    }

    fn note_unexpected(self, at: usize, expected: &[Rule], reading: Rule, mistakes: &mut Mistakes) {
        let found = Found::new(self.text.get(at..).unwrap_or(""));
        let span = self.base + at..self.base + at + found.text.len();
        let before = self.text.get(..at).unwrap_or("").trim_end();
        let wanted = self.wanted(reading, before, expected);
        let wanted = match wanted.as_slice() {
            [] => "something else".to_owned(),
            [one] => (*one).to_owned(),
            [several @ .., last] => format!("{} or {last}", several.join(", ")),
        };
        mistakes
            .note(Kind::Syntax, &span, format!("expected {wanted}, found {}", found.describe()))
            .hint_if_some(hint(reading, before, found.text, expected));
    }

    /// What the grammar would have accepted, in words.
    fn wanted(self, reading: Rule, before: &str, expected: &[Rule]) -> Vec<&'static str> {
        const IN_ORDER: [(Rule, &[&str]); 11] = [
            (Rule::operator, &["`or`", "`and`", "`but not`"]),
            (Rule::colon, &["`:`"]),
            (Rule::as_, &["`as`"]),
            (Rule::wildcard, &["`:*`"]),
            (Rule::comma, &["`,`"]),
            (Rule::open, &["`(`"]),
            (Rule::close, &["`)`"]),
            (Rule::close_bracket, &["`]`"]),
            (Rule::less, &["`<`"]),
            (Rule::greater, &["`>`"]),
            (Rule::EOI, &["the end of the line"]),
        ];
        const NAMES: [Rule; 6] =
            [Rule::word, Rule::name, Rule::restriction, Rule::subject, Rule::parameter, Rule::parameter_type];
        if expects_operand(expected) {
            return vec!["a relation", "type restrictions"];
        }
        let name = match (reading, before.chars().next_back()) {
            (Rule::relation, Some('[' | ',')) | (Rule::condition, Some(':' | '<')) => "a type",
            (Rule::condition, Some('(' | ',')) => "a parameter",
            (Rule::relation, Some('#')) => "a relation",
            (Rule::relation, _) if before.ends_with("with") => "a condition",
            (Rule::relation, _) if before.ends_with("from") => "a relation",
            _ => "a name",
        };
        let named = NAMES.iter().any(|rule| expected.contains(rule)).then_some(name);
        // Where `:` is missing in 1.1, `as` would only be refused next; in 1.0 the reverse.
        let other = if self.dialect == Dialect::V1_0 { Rule::colon } else { Rule::as_ };
        let both = expected.contains(&Rule::colon) && expected.contains(&Rule::as_);
        let others = IN_ORDER
            .iter()
            .filter(|(rule, _)| expected.contains(rule) && !(both && *rule == other))
            .flat_map(|(_, words)| words.iter().copied());
        named.into_iter().chain(others).collect()
    }
}

/// Whether a definition, or another operand of it, should begin here.
fn expects_operand(expected: &[Rule]) -> bool {
    expected.contains(&Rule::open_bracket) || expected.contains(&Rule::expression)
}

/// What to do about the commoner mistakes.
fn hint(reading: Rule, before: &str, found: &str, expected: &[Rule]) -> Option<String> {
    let operand = expects_operand(expected);
    let last = before.rsplit(char::is_whitespace).next().unwrap_or("");
    let hint = match (reading, found) {
        (Rule::relation, "\n" | "\r") => {
            "a definition stands on one line; only a list in `[]` may span lines"
        }
        (Rule::condition, "\n" | "\r") => "the parameters stand on one line",
        (_, "#") if expected.contains(&Rule::EOI) => "a comment needs a space before its `#`",
        (Rule::relation, "]") if last.ends_with('[') => {
            "a list names at least one type, for example `[user]`"
        }
        (Rule::relation, "]") if last.ends_with(',') => "no comma follows the last type",
        (Rule::relation, "or" | "and" | "but") if operand => "an operator stands between two relations",
        (Rule::relation, "") if operand && matches!(last, "or" | "and" | "not") => {
            return Some(format!(
                "`{}` needs a relation after it",
                if last == "not" { "but not" } else { last }
            ));
        }
        (Rule::relation, ")") if !expected.contains(&Rule::close) => "this parenthesis was never opened",
        (Rule::relation, "") if expected.contains(&Rule::close) => "a parenthesis is still open",
        (Rule::relation, "") if expected.contains(&Rule::close_bracket) => "a list is still open",
        (Rule::relation, "") if operand || expected.contains(&Rule::colon) => {
            "a relation needs a definition, for example `define viewer: [user]`"
        }
        (Rule::relation, ":") if before.ends_with(":*") => "a wildcard stands alone: `type:*`",
        (Rule::condition, ")") if last.ends_with('(') => "a condition has at least one parameter",
        (Rule::condition, ")") if last.ends_with(',') => "no comma follows the last parameter",
        (Rule::condition, "") => "write it as `condition NAME(parameter: TYPE) { EXPRESSION }`",
        (Rule::condition, "<") => "the items of a `list` or `map` are of a simple type",
        _ => return None,
    };
    Some(hint.to_owned())
}

/// Whether a character ends a word.
fn is_boundary(character: char) -> bool {
    matches!(
        character,
        ' ' | '\t' | '\r' | '\n' | '(' | ')' | '[' | ']' | '{' | '}' | '<' | '>' | ',' | ':' | '#' | '*'
    )
}

/// What stands where something else was expected.
#[derive(Clone, Copy)]
struct Found<'a> {
    text: &'a str,
}

impl<'a> Found<'a> {
    fn new(rest: &'a str) -> Self {
        let first = rest.chars().next().map_or(0, char::len_utf8);
        let end = match rest.find(is_boundary) {
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
