//! `define viewer: [user] or editor from parent`: a relation and its definition.

use pest::iterators::Pair;

use super::Rule;
use super::syntax::Part;
use crate::schema::MAX_NESTING;
use crate::schema::ast::{Expression, Name, Relation, Restriction, Span, Subject};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;

/// Reads what follows `define`. `None`: not even the name is known.
#[expect(clippy::wildcard_enum_match_arm, reason = "of the grammar's rules few can stand here")]
pub(super) fn relation(part: Part<'_>, mistakes: &mut Mistakes) -> Option<Relation> {
    if let Some(at) = nested_too_deeply(part.text) {
        let at = part.base + at;
        mistakes
            .note(
                Kind::TooLarge,
                &(at..at + 1),
                format!("parentheses are nested too deeply: at most {MAX_NESTING} levels are allowed"),
            )
            .hint("give the inner part a relation of its own");
        return unreadable(part);
    }
    let Some(pair) = part.read(Rule::relation, mistakes) else {
        return unreadable(part);
    };
    let mut reader = Reader { part, mistakes, restrictions: None };
    let mut name = None;
    let mut expression = Expression::Invalid;
    for inner in pair.into_inner() {
        match inner.as_rule() {
            Rule::word => name = Some(part.name(&inner)),
            Rule::colon if part.dialect == Dialect::V1_0 => {
                let span = part.span(&inner);
                reader
                    .mistakes
                    .note(Kind::Syntax, &span, "`:` belongs to schema 1.1, but this file is written in 1.0")
                    .hint("write `as`, or declare `schema 1.1` and type restrictions");
            }
            Rule::as_ if part.dialect != Dialect::V1_0 => {
                let span = part.span(&inner);
                reader
                    .mistakes
                    .note(
                        Kind::Syntax,
                        &span,
                        format!(
                            "`as` belongs to schema 1.0, but this file is written in {}",
                            part.dialect.as_str()
                        ),
                    )
                    .hint("write `:`, and `[type, …]` instead of `self`");
                // What follows is in the other dialect too; one report is enough.
                break;
            }
            Rule::expression => expression = reader.expression(inner, Position::First),
            _ => {}
        }
    }
    let restrictions = reader.restrictions.unwrap_or_default();
    Some(Relation { name: name?, expression, restrictions })
}

/// What is known of a definition that cannot be read: its name, if it has one.
fn unreadable(part: Part<'_>) -> Option<Relation> {
    let name = part.first_word()?;
    Some(Relation { name, expression: Expression::Invalid, restrictions: Vec::new() })
}

/// Where parentheses nest deeper than the recursive grammar may follow.
fn nested_too_deeply(text: &str) -> Option<usize> {
    let mut depth = 0_usize;
    text.bytes().position(|byte| {
        match byte {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > MAX_NESTING
    })
}

/// Whether an operand is the left-most of its definition, where alone a list may stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Position {
    First,
    Later,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operator {
    Or,
    And,
    ButNot,
}

impl Operator {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Or => "or",
            Self::And => "and",
            Self::ButNot => "but not",
        }
    }
}

struct Reader<'a, 'm> {
    part: Part<'a>,
    mistakes: &'m mut Mistakes,
    /// The one list a relation may have.
    restrictions: Option<Vec<Restriction>>,
}

impl Reader<'_, '_> {
    /// Recursion is bounded: parentheses were counted before the grammar ran.
    fn expression(&mut self, pair: Pair<'_, Rule>, position: Position) -> Expression {
        let mut operands = Vec::new();
        let mut operators: Vec<(Option<Operator>, Span)> = Vec::new();
        for inner in pair.into_inner() {
            if inner.as_rule() == Rule::operator {
                let operator = self.operator(&inner);
                operators.push((operator, self.part.span(&inner)));
            } else {
                let position = if operands.is_empty() { position } else { Position::Later };
                operands.push(self.operand(inner, position));
            }
        }
        self.combine(operands, &operators)
    }

    fn operator(&mut self, pair: &Pair<'_, Rule>) -> Option<Operator> {
        let text = pair.as_str();
        let span = self.part.span(pair);
        let meant = match text {
            "or" => return Some(Operator::Or),
            "and" => return Some(Operator::And),
            "but not" => return Some(Operator::ButNot),
            _ if text.starts_with("but") && text.ends_with("not") => {
                self.mistakes
                    .note(Kind::Syntax, &span, format!("`{}` is not an operator", text.escape_debug()))
                    .hint("write `but not` with exactly one space");
                return None;
            }
            "OR" | "Or" | "|" | "||" | "+" => Some("or"),
            "AND" | "And" | "&" | "&&" => Some("and"),
            "-" | "minus" | "not" | "except" | "BUT" | "unless" | "but" => Some("but not"),
            _ => None,
        };
        let mistake = self.mistakes.note(
            Kind::Syntax,
            &span,
            format!("expected `or`, `and` or `but not`, found `{}`", text.escape_debug()),
        );
        match meant {
            Some(meant) => mistake.hint(format!("did you mean `{meant}`?")),
            None if text == "from" => mistake
                .hint("only one `from` may follow a relation: give the inner one a relation of its own"),
            None => mistake,
        };
        None
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "of the grammar's rules few can stand here")]
    fn operand(&mut self, pair: Pair<'_, Rule>, position: Position) -> Expression {
        let span = self.part.span(&pair);
        match pair.as_rule() {
            Rule::group => pair
                .into_inner()
                .find(|inner| inner.as_rule() == Rule::expression)
                .map_or(Expression::Invalid, |inner| self.expression(inner, position)),
            Rule::restrictions => self.restrictions(pair, &span, position),
            Rule::from => {
                let mut names = pair.into_inner().map(|name| self.part.name(&name));
                match (names.next(), names.next()) {
                    (Some(computed), Some(tupleset)) => Expression::From { computed, tupleset },
                    _ => Expression::Invalid,
                }
            }
            _ if pair.as_str() == "self" && self.part.dialect == Dialect::V1_0 => Expression::This(span),
            _ => Expression::Computed(Name { text: pair.as_str().to_owned(), span }),
        }
    }

    fn restrictions(&mut self, pair: Pair<'_, Rule>, span: &Span, position: Position) -> Expression {
        if self.part.dialect == Dialect::V1_0 {
            self.mistakes
                .note(
                    Kind::Syntax,
                    span,
                    "type restrictions belong to schema 1.1, but this file is written in 1.0",
                )
                .hint("write `self`, or declare `schema 1.1` and write `:` instead of `as`");
            return Expression::Invalid;
        }
        if self.restrictions.is_some() || position == Position::Later {
            let hint = if self.restrictions.is_some() {
                "put all types into the first list"
            } else {
                "begin the definition with it"
            };
            self.mistakes
                .note(
                    Kind::Syntax,
                    span,
                    "type restrictions may stand only at the beginning of a definition, once",
                )
                .hint(hint);
            return Expression::Invalid;
        }
        let items = pair
            .into_inner()
            .filter(|inner| inner.as_rule() == Rule::restriction)
            .filter_map(|inner| self.restriction(inner))
            .collect();
        self.restrictions = Some(items);
        Expression::This(span.clone())
    }

    fn restriction(&mut self, pair: Pair<'_, Rule>) -> Option<Restriction> {
        let part = self.part;
        let mut inner = pair.into_inner();
        let subject = inner.next()?;
        let condition = inner.next().map(|name| part.name(&name));
        let span = part.span(&subject);
        let mut parts = subject.into_inner();
        let subject_type = part.name(&parts.next()?);
        let subject = match parts.next() {
            None => Subject::Object,
            Some(pair) if pair.as_rule() == Rule::wildcard => Subject::Wildcard,
            Some(pair) => Subject::Userset(part.name(&pair)),
        };
        Some(Restriction { subject_type, subject, condition, span })
    }

    /// Builds a chain of one operator. Chains of several are ambiguous and refused.
    fn combine(
        &mut self,
        mut operands: Vec<Expression>,
        operators: &[(Option<Operator>, Span)],
    ) -> Expression {
        let Some((first, first_span)) = operators.first() else {
            return operands.pop().unwrap_or(Expression::Invalid);
        };
        if operators.iter().any(|(operator, _)| operator.is_none()) {
            return Expression::Invalid;
        }
        let Some(first) = *first else { return Expression::Invalid };
        if let Some((Some(other), span)) = operators.iter().find(|(operator, _)| *operator != Some(first)) {
            self.mistakes
                .note(
                    Kind::Syntax,
                    span,
                    format!(
                        "`{}` and `{}` cannot be mixed without parentheses",
                        first.as_str(),
                        other.as_str()
                    ),
                )
                .hint(format!(
                    "put parentheses around one of them, such as `(a {} b) {} c`",
                    first.as_str(),
                    other.as_str()
                ))
                .related("the other operator", first_span);
            return Expression::Invalid;
        }
        match first {
            Operator::Or => Expression::Union(operands),
            Operator::And => Expression::Intersection(operands),
            Operator::ButNot => {
                if let Some((_, second)) = operators.get(1) {
                    self.mistakes
                        .note(Kind::Syntax, second, "two `but not` need parentheses")
                        .hint("write `a but not (b or c)`, or `a but not (b but not c)`")
                        .related("the other one", first_span);
                    return Expression::Invalid;
                }
                match (operands.pop(), operands.pop()) {
                    (Some(subtract), Some(base)) => {
                        Expression::Exclusion { base: Box::new(base), subtract: Box::new(subtract) }
                    }
                    _ => Expression::Invalid,
                }
            }
        }
    }
}
