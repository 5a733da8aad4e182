//! `condition NAME(parameter: TYPE, …) { EXPRESSION }`.

use std::collections::HashSet;

use pest::iterators::Pair;

use super::Rule;
use super::split::Declaration;
use super::syntax::Part;
use crate::condition::{ParameterType, ParameterTypeError};
use crate::schema::ast::{Condition, Name, Parameter};
use crate::schema::diagnostic::{Kind, Mistakes};

const GENERIC: [&str; 2] = ["map", "list"];
const SIMPLE: [&str; 8] = ["bool", "string", "int", "uint", "double", "duration", "timestamp", "ipaddress"];

/// Reads a condition. `None`: not even the name is known.
pub(super) fn condition(
    part: Part<'_>,
    declaration: &Declaration,
    mistakes: &mut Mistakes,
) -> Option<Condition> {
    let errors = mistakes.errors();
    let head = part.read(Rule::condition, mistakes);
    let (name, parameters) = match head {
        Some(pair) => read_head(part, pair, mistakes)?,
        None => (part.first_word()?, Vec::new()),
    };
    let readable = mistakes.errors() == errors;
    let Some(body) = &declaration.body else {
        if readable {
            let end = part.base + part.text.trim_end().len();
            mistakes
                .note(Kind::Syntax, &(end..end), format!("the condition `{}` has no expression", name.text))
                .hint("put it in braces on the same line: `{ parameter == \"value\" }`");
        }
        return Some(Condition { name, parameters, code: None });
    };
    let mut readable = readable;
    if !body.closed {
        mistakes.note(
            Kind::Syntax,
            &body.brace,
            format!("the expression of `{}` has no closing `}}`", name.text),
        );
        readable = false;
    } else if let Some(brace) = &body.inner_brace {
        mistakes
            .note(Kind::Syntax, brace, "braces cannot be used in an expression")
            .hint("other tools end the condition at the first `}`; compare the parts of the map one by one");
        readable = false;
    } else if body.code.text.is_empty() {
        mistakes.note(Kind::Syntax, &body.brace, format!("the expression of `{}` is empty", name.text));
        readable = false;
    }
    Some(Condition { name, parameters, code: readable.then(|| body.code.clone()) })
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of the grammar's rules few can stand here")]
fn read_head(
    part: Part<'_>,
    head: Pair<'_, Rule>,
    mistakes: &mut Mistakes,
) -> Option<(Name, Vec<Parameter>)> {
    let mut name: Option<Name> = None;
    let mut parameters = Vec::new();
    let mut seen = HashSet::new();
    for pair in head.into_inner() {
        match pair.as_rule() {
            Rule::word => name = Some(part.name(&pair)),
            Rule::parameter => {
                let Some(parameter) = read_parameter(part, pair, mistakes) else { continue };
                if !seen.insert(parameter.name.text.clone()) {
                    let of = name.as_ref().map_or("", |name| &name.text);
                    mistakes.note(
                        Kind::Duplicated,
                        &parameter.name.span,
                        format!("parameter `{}` of condition `{of}` is declared twice", parameter.name.text),
                    );
                    continue;
                }
                parameters.push(parameter);
            }
            _ => {}
        }
    }
    Some((name?, parameters))
}

#[expect(clippy::wildcard_enum_match_arm, reason = "of the grammar's rules few can stand here")]
fn read_parameter(part: Part<'_>, pair: Pair<'_, Rule>, mistakes: &mut Mistakes) -> Option<Parameter> {
    let mut name = None;
    let mut parameter_type = None;
    for inner in pair.into_inner() {
        match inner.as_rule() {
            Rule::word => name = Some(part.name(&inner)),
            Rule::parameter_type => parameter_type = read_type(part, inner, mistakes),
            _ => {}
        }
    }
    let (name, parameter_type) = (name?, parameter_type?);
    Some(Parameter { name, parameter_type })
}

/// A type; `None` if it is none, which has been noted.
fn read_type(part: Part<'_>, pair: Pair<'_, Rule>, mistakes: &mut Mistakes) -> Option<ParameterType> {
    let whole = pair.as_str();
    let words: Vec<Name> = pair
        .into_inner()
        .filter(|inner| inner.as_rule() == Rule::word)
        .map(|word| part.name(&word))
        .collect();
    let (outer, items) = (words.first()?, words.get(1));
    let generic = GENERIC.contains(&outer.text.as_str());
    let (wrong, message, hint) = match items {
        Some(_) if !generic => (
            outer,
            format!("the type `{}` has no items", outer.text),
            "only `list<…>` and `map<…>` have items".to_owned(),
        ),
        Some(items) if !SIMPLE.contains(&items.text.as_str()) => (
            items,
            format!("`{}` is not a type that items can have", items.text),
            format!("one of {}", listed()),
        ),
        None if generic => (
            outer,
            format!("`{}` needs the type of its items", outer.text),
            format!("for example `{}<string>`", outer.text),
        ),
        None if outer.text == "any" => (
            outer,
            "the type `any` exists only in the JSON form of a schema".to_owned(),
            "declare what the parameter is".to_owned(),
        ),
        None if !SIMPLE.contains(&outer.text.as_str()) => (
            outer,
            format!("`{}` is not a parameter type", outer.text.escape_debug()),
            format!("one of {}, `list<…>`, `map<…>`", listed()),
        ),
        Some(_) | None => match whole.parse() {
            Ok(parameter_type) => return Some(parameter_type),
            Err(error) => (outer, ParameterTypeError::to_string(&error), String::new()),
        },
    };
    mistakes
        .note(Kind::Syntax, &wrong.span, message)
        .hint_if_some(Some(hint).filter(|hint| !hint.is_empty()));
    None
}

fn listed() -> String {
    SIMPLE.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}
