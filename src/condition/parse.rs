//! Text → [`Expression`]. Nothing here recurses deeper than [`MAX_BRACKET_DEPTH`], and no tree
//! that leaves it is deeper than [`MAX_DEPTH`], so that all later passes may recurse plainly.

#![expect(clippy::wildcard_enum_match_arm, reason = "the grammar leaves few of its many rules possible")]

use pest::Parser;
use pest::error::{ErrorVariant, InputLocation};
use pest::iterators::Pair;

use super::literal::{self, LiteralError};
use super::outcome::ConditionError;
use super::syntax::{Expression, Kind, Literal, Operator, Span};

/// Longest expression, in bytes (OpenFGA allows 512). It bounds the number of parts as well.
pub const MAX_EXPRESSION_BYTES: usize = 4096;
/// How deep brackets may nest.
const MAX_BRACKET_DEPTH: usize = 32;
/// How deep an expression may nest, brackets or not. Chains of `&&`, `||` and `? :` are one level.
const MAX_DEPTH: u16 = 128;

/// The parser pest derives from the grammar, with its rules.
mod grammar {
    #[derive(pest_derive::Parser)]
    #[grammar = "condition/grammar.pest"]
    pub(super) struct Grammar;
}
use grammar::{Grammar, Rule};

/// Reads an expression. Bad literals are all reported; of bad syntax, the first.
pub(super) fn parse(text: &str) -> Result<Expression, Vec<ConditionError>> {
    let root = syntax(text).map_err(|error| vec![error])?;
    let mut builder = Builder { errors: Vec::new() };
    match builder.expression(root) {
        Ok(expression) if builder.errors.is_empty() => Ok(expression),
        Ok(_) => Err(builder.errors),
        Err(error) => {
            builder.errors.push(error);
            Err(builder.errors)
        }
    }
}

/// The pair of rule `expression` that the whole text is.
fn syntax(text: &str) -> Result<Pair<'_, Rule>, ConditionError> {
    if text.len() > MAX_EXPRESSION_BYTES {
        return Err(ConditionError {
            span: 0..text.len(),
            message: format!("the expression takes {} bytes, more than {MAX_EXPRESSION_BYTES}", text.len()),
            hint: Some("split the condition, or pass the values as a list parameter".to_owned()),
        });
    }
    match_brackets(text)?;
    Grammar::parse(Rule::condition, text)
        .ok()
        .and_then(|mut pairs| pairs.next())
        .and_then(|condition| condition.into_inner().next())
        .ok_or_else(|| unexpected(text))
}

/// Checks that brackets match and do not nest too deep, before anything recurses into them.
fn match_brackets(text: &str) -> Result<(), ConditionError> {
    let tokens = Grammar::parse(Rule::brackets, text)
        .ok()
        .and_then(|mut pairs| pairs.next())
        .ok_or_else(|| unexpected(text))?;
    let mut open: Vec<Pair<'_, Rule>> = Vec::new();
    for token in tokens.into_inner() {
        match token.as_rule() {
            Rule::open if open.len() == MAX_BRACKET_DEPTH => {
                return Err(ConditionError {
                    span: range(&token),
                    message: format!("brackets nest deeper than {MAX_BRACKET_DEPTH} levels"),
                    hint: None,
                });
            }
            Rule::open => open.push(token),
            Rule::close => match open.pop() {
                Some(opening) if closing(opening.as_str()) == token.as_str() => {}
                Some(opening) => return Err(unclosed(&opening)),
                None => {
                    return Err(ConditionError {
                        span: range(&token),
                        message: format!("`{}` closes nothing", token.as_str()),
                        hint: None,
                    });
                }
            },
            Rule::quote => {
                let line = text.get(token.as_span().start()..).and_then(|rest| rest.lines().next());
                let start = token.as_span().start();
                return Err(ConditionError {
                    span: start..start + line.map_or(1, str::len),
                    message: "the text is never closed".to_owned(),
                    hint: Some(format!("end it with {} on the same line", token.as_str())),
                });
            }
            _ => {}
        }
    }
    open.last().map_or(Ok(()), |opening| Err(unclosed(opening)))
}

fn unclosed(opening: &Pair<'_, Rule>) -> ConditionError {
    ConditionError {
        span: range(opening),
        message: format!("`{}` is never closed", opening.as_str()),
        hint: Some(format!("add `{}`", closing(opening.as_str()))),
    }
}

fn closing(opening: &str) -> &'static str {
    match opening {
        "(" => ")",
        "[" => "]",
        _ => "}",
    }
}

fn range(pair: &Pair<'_, Rule>) -> std::ops::Range<usize> {
    pair.as_span().start()..pair.as_span().end()
}

/// What is wrong with a text that the grammar does not accept.
fn unexpected(text: &str) -> ConditionError {
    let (at, expected) = match Grammar::parse(Rule::condition, text) {
        Ok(_) => (text.len(), ""),
        Err(error) => {
            let at = match error.location {
                InputLocation::Pos(at) | InputLocation::Span((at, _)) => at,
            };
            let positives = match &error.variant {
                ErrorVariant::ParsingError { positives, .. } => positives.as_slice(),
                ErrorVariant::CustomError { .. } => &[],
            };

            (at, wanted(positives))
        }
    };
    let rest = text.get(at..).unwrap_or_default();
    let word = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
    let len = if word > 0 { word } else { rest.chars().next().map_or(0, char::len_utf8) };
    let found = rest.get(..len).unwrap_or_default();
    let message = if text.trim().is_empty() {
        "the condition is empty".to_owned()
    } else if found.is_empty() {
        format!("the expression ends where {expected} is expected")
    } else {
        format!("`{found}` is not expected here, but {expected}")
    };
    let hint = match found {
        "=" => Some("compare with `==`"),
        "&" => Some("write `&&` for and"),
        "|" => Some("write `||` for or"),
        "and" | "AND" => Some("write `&&`"),
        "or" | "OR" => Some("write `||`"),
        "not" => Some("write `!`"),
        "#" => Some("a comment begins with `//`"),
        _ => None,
    };
    ConditionError { span: at..at + len, message, hint: hint.map(str::to_owned) }
}

/// The rules that could have gone on, in words.
fn wanted(rules: &[Rule]) -> &'static str {
    if rules.contains(&Rule::member) {
        "a name"
    } else if rules.contains(&Rule::EOI) {
        "an operator or the end"
    } else if rules.contains(&Rule::within) {
        "an operator or a closing bracket"
    } else {
        "a value"
    }
}

/// What stands between two operands.
#[derive(Clone, Copy, PartialEq)]
enum Joint {
    Or,
    And,
    Binary(Operator),
}

impl Joint {
    fn read(text: &str) -> Self {
        Self::Binary(match text {
            "||" => return Self::Or,
            "&&" => return Self::And,
            "==" => Operator::Equal,
            "!=" => Operator::NotEqual,
            "<" => Operator::Less,
            "<=" => Operator::LessOrEqual,
            ">" => Operator::Greater,
            ">=" => Operator::GreaterOrEqual,
            "+" => Operator::Add,
            "-" => Operator::Subtract,
            "*" => Operator::Multiply,
            "/" => Operator::Divide,
            "%" => Operator::Remainder,
            _ => Operator::In,
        })
    }

    /// How tightly it binds (CEL language definition, operators).
    const fn strength(self) -> u8 {
        match self {
            Self::Or => 0,
            Self::And => 1,
            Self::Binary(
                Operator::Equal
                | Operator::NotEqual
                | Operator::Less
                | Operator::LessOrEqual
                | Operator::Greater
                | Operator::GreaterOrEqual
                | Operator::In,
            ) => 2,
            Self::Binary(Operator::Add | Operator::Subtract) => 3,
            Self::Binary(Operator::Multiply | Operator::Divide | Operator::Remainder) => 4,
        }
    }
}

struct Builder {
    errors: Vec<ConditionError>,
}

type Built = Result<Expression, ConditionError>;

impl Builder {
    /// `operation (? operation : operation)*`
    fn expression(&mut self, pair: Pair<'_, Rule>) -> Built {
        let mut operations = pair.into_inner();
        let mut branches = Vec::new();
        let mut last = self.next(operations.next(), Self::operation)?;
        while let Some(then) = operations.next() {
            let then = self.operation(then)?;
            let otherwise = self.next(operations.next(), Self::operation)?;
            branches.push((last, then));
            last = otherwise;
        }
        let Some((first, _)) = branches.first() else { return Ok(last) };
        let span = first.span.to(last.span);
        let below = branches.iter().flat_map(|(when, then)| [when.depth, then.depth]);
        let depth = below.chain([last.depth]).max().unwrap_or(0);
        level(Kind::Choose { branches, otherwise: Box::new(last) }, span, depth)
    }

    /// `unary (operator unary)*`, joined by precedence, all operators to the left.
    fn operation(&mut self, pair: Pair<'_, Rule>) -> Built {
        let mut parts = pair.into_inner();
        let mut operands = vec![self.next(parts.next(), Self::unary)?];
        let mut joints: Vec<Joint> = Vec::new();
        while let Some(operator) = parts.next() {
            let joint = Joint::read(operator.as_str());
            while let Some(previous) = joints.pop_if(|last| last.strength() >= joint.strength()) {
                join(&mut operands, previous)?;
            }
            joints.push(joint);
            operands.push(self.next(parts.next(), Self::unary)?);
        }
        while let Some(previous) = joints.pop() {
            join(&mut operands, previous)?;
        }
        operands.pop().ok_or_else(incomplete)
    }

    /// `prefix* primary postfix*`
    fn unary(&mut self, pair: Pair<'_, Rule>) -> Built {
        let mut parts = pair.into_inner().peekable();
        let mut prefixes = Vec::new();
        while let Some(prefix) = parts.next_if(|part| part.as_rule() == Rule::prefix) {
            prefixes.push(prefix);
        }
        let primary = parts.next().ok_or_else(incomplete)?;
        // The minus before an integer belongs to it, or the least integer could not be written.
        let minus = if primary.as_rule() == Rule::integer {
            prefixes.pop_if(|prefix| prefix.as_str() == "-")
        } else {
            None
        };
        let mut operand = self.primary(primary, minus.is_some())?;
        if let Some(minus) = minus {
            operand.span = span(&minus).to(operand.span);
        }
        for postfix in parts {
            operand = self.postfix(operand, postfix)?;
        }
        while let Some(prefix) = prefixes.pop() {
            let span = span(&prefix).to(operand.span);
            let depth = operand.depth;
            let boxed = Box::new(operand);
            let kind = if prefix.as_str() == "!" { Kind::Not(boxed) } else { Kind::Negate(boxed) };
            operand = level(kind, span, depth)?;
        }
        Ok(operand)
    }

    fn primary(&mut self, pair: Pair<'_, Rule>, negative: bool) -> Built {
        let (span, text) = (span(&pair), pair.as_str());
        match pair.as_rule() {
            Rule::group => {
                let inner = self.next(pair.into_inner().next(), Self::expression)?;
                Ok(Expression { span, ..inner })
            }
            Rule::list => {
                let (items, depth) = self.expressions(pair)?;
                level(Kind::List(items), span, depth)
            }
            Rule::map => {
                let mut entries = Vec::new();
                let mut depth = 0;
                for entry in pair.into_inner() {
                    let mut parts = entry.into_inner();
                    let key = self.next(parts.next(), Self::expression)?;
                    let value = self.next(parts.next(), Self::expression)?;
                    depth = depth.max(key.depth).max(value.depth);
                    entries.push((key, value));
                }
                level(Kind::Map(entries), span, depth)
            }
            Rule::call => {
                let mut parts = pair.into_inner();
                let name = parts.next().ok_or_else(incomplete)?;
                let arguments = parts.next().ok_or_else(incomplete)?;
                self.call(None, &name, arguments, span)
            }
            Rule::name => {
                let kind = match text {
                    "null" => Kind::Literal(Literal::Null),
                    "true" => Kind::Literal(Literal::Bool(true)),
                    "false" => Kind::Literal(Literal::Bool(false)),
                    name => Kind::Name(name.to_owned()),
                };
                level(kind, span, 0)
            }
            Rule::integer => self.literal(literal::integer(text, negative), span),
            Rule::unsigned => self.literal(literal::unsigned(text), span),
            Rule::double => self.literal(literal::double(text), span),
            _ => self.literal(literal::text(text), span),
        }
    }

    fn postfix(&mut self, operand: Expression, pair: Pair<'_, Rule>) -> Built {
        let span = operand.span.to(span(&pair));
        let inner = pair.into_inner().next().ok_or_else(incomplete)?;
        let rule = inner.as_rule();
        let mut parts = inner.into_inner();
        let first = parts.next().ok_or_else(incomplete)?;
        match rule {
            Rule::method => {
                let arguments = parts.next().ok_or_else(incomplete)?;
                self.call(Some(operand), &first, arguments, span)
            }
            Rule::field => {
                let depth = operand.depth;
                let name = first.as_str().to_owned();
                level(Kind::Field { operand: Box::new(operand), name }, span, depth)
            }
            _ => {
                let index = self.expression(first)?;
                let depth = operand.depth.max(index.depth);
                level(Kind::Index(Box::new([operand, index])), span, depth)
            }
        }
    }

    fn call(
        &mut self,
        receiver: Option<Expression>,
        name: &Pair<'_, Rule>,
        arguments: Pair<'_, Rule>,
        span: Span,
    ) -> Built {
        let (arguments, depth) = self.expressions(arguments)?;
        let depth = depth.max(receiver.as_ref().map_or(0, |receiver| receiver.depth));
        let kind = Kind::Call {
            name: name.as_str().to_owned(),
            name_span: self::span(name),
            receiver: receiver.map(Box::new),
            arguments,
        };
        level(kind, span, depth)
    }

    /// The expressions directly in a pair, and the depth of the deepest.
    fn expressions(&mut self, pair: Pair<'_, Rule>) -> Result<(Vec<Expression>, u16), ConditionError> {
        let items: Vec<_> = pair.into_inner().map(|item| self.expression(item)).collect::<Result<_, _>>()?;
        let depth = items.iter().map(|item| item.depth).max().unwrap_or(0);
        Ok((items, depth))
    }

    /// A literal, or a placeholder beside the error that says what is wrong with it.
    fn literal(&mut self, read: Result<Literal, LiteralError>, span: Span) -> Built {
        let literal = read.unwrap_or_else(|error| {
            let start = span.range().start + error.at;
            self.errors.push(ConditionError {
                span: start..start + error.len,
                message: error.message,
                hint: error.hint.map(str::to_owned),
            });
            Literal::Null
        });
        level(Kind::Literal(literal), span, 0)
    }

    fn next<'t>(
        &mut self,
        pair: Option<Pair<'t, Rule>>,
        build: fn(&mut Self, Pair<'t, Rule>) -> Built,
    ) -> Built {
        build(self, pair.ok_or_else(incomplete)?)
    }
}

/// Replaces the last two operands by what joins them; chains of `&&` and of `||` grow in place.
fn join(operands: &mut Vec<Expression>, joint: Joint) -> Result<(), ConditionError> {
    let (Some(right), Some(left)) = (operands.pop(), operands.pop()) else { return Err(incomplete()) };
    let span = left.span.to(right.span);
    let depth = left.depth.max(right.depth);
    let chain_depth = left.depth.saturating_sub(1).max(right.depth);
    let joined = match (joint, left.kind) {
        (Joint::And, Kind::And(mut chain)) => {
            chain.push(right);
            level(Kind::And(chain), span, chain_depth)
        }
        (Joint::Or, Kind::Or(mut chain)) => {
            chain.push(right);
            level(Kind::Or(chain), span, chain_depth)
        }
        (joint, kind) => {
            let left = Expression { kind, ..left };
            let kind = match joint {
                Joint::And => Kind::And(vec![left, right]),
                Joint::Or => Kind::Or(vec![left, right]),
                Joint::Binary(operator) => Kind::Binary(operator, Box::new([left, right])),
            };
            level(kind, span, depth)
        }
    };
    operands.push(joined?);
    Ok(())
}

/// A part one level above its deepest child.
fn level(kind: Kind, span: Span, depth: u16) -> Built {
    if depth >= MAX_DEPTH {
        return Err(ConditionError {
            span: span.range(),
            message: format!("the expression nests deeper than {MAX_DEPTH} levels"),
            hint: Some("a chain of `+` or of `.name` counts a level for each".to_owned()),
        });
    }
    Ok(Expression { kind, span, depth: depth + 1 })
}

fn span(pair: &Pair<'_, Rule>) -> Span {
    Span::new(pair.as_span().start(), pair.as_span().end())
}

/// Cannot happen while the grammar and this file agree; an error is better than a panic.
fn incomplete() -> ConditionError {
    ConditionError { span: 0..0, message: "the expression is incomplete".to_owned(), hint: None }
}
