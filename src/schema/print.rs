//! A document as canonical text: one spelling for every schema, which reads back as the same
//! schema and which other tools of the language can read.

use std::fmt::Write as _;

use super::ast::{Condition, Document, Expression, Relation, Restriction, Subject};
use super::model::{Dialect, Schema};
use super::parse::{End, Strings, scan};
use crate::condition::ParameterType;

/// Why a schema has no text. Only one that came from JSON can lack it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Inexpressible {
    /// Direct members stand where the language has no place for `[…]`.
    #[error(
        "relation `{relation}` of type `{object_type}` cannot be written in the schema language: its direct \
         members must stand first in its definition, once"
    )]
    Direct {
        /// The type.
        object_type: String,
        /// The relation.
        relation: String,
    },
    /// A condition uses something that only the JSON form has.
    #[error("condition `{condition}` cannot be written in the schema language: {reason}")]
    Condition {
        /// The condition.
        condition: String,
        /// What the language lacks.
        reason: String,
    },
    /// A definition holds something that was not read.
    #[error("relation `{relation}` of type `{object_type}` has no definition")]
    Invalid {
        /// The type.
        object_type: String,
        /// The relation.
        relation: String,
    },
}

/// A schema as canonical text.
///
/// # Errors
/// [`Inexpressible`] if the schema came from JSON and uses what the language lacks.
pub fn print(schema: &Schema) -> Result<String, Inexpressible> {
    print_document(&Document::from(schema))
}

/// A document as canonical text. Comments are not part of a document and are lost.
///
/// # Errors
/// As [`print()`].
pub fn print_document(document: &Document) -> Result<String, Inexpressible> {
    let mut out = format!("model\n  schema {}\n", document.dialect.as_str());
    for declared in &document.types {
        // Writing to a string does not fail.
        let _ = writeln!(out, "\ntype {}", declared.name.text);
        if !declared.relations.is_empty() {
            out.push_str("  relations\n");
        }
        for relation in &declared.relations {
            let printed = Definition { dialect: document.dialect, relation, listed: false }.print();
            match printed {
                Some(definition) => {
                    let is = if document.dialect == Dialect::V1_0 { " as" } else { ":" };
                    let _ = writeln!(out, "    define {}{is} {definition}", relation.name.text);
                }
                None => return Err(inexpressible(&declared.name.text, relation)),
            }
        }
    }
    for condition in &document.conditions {
        print_condition(condition, &mut out)?;
    }
    Ok(out)
}

fn inexpressible(object_type: &str, relation: &Relation) -> Inexpressible {
    let (object_type, name) = (object_type.to_owned(), relation.name.text.clone());
    if relation.expression.is_unread() {
        Inexpressible::Invalid { object_type, relation: name }
    } else {
        Inexpressible::Direct { object_type, relation: name }
    }
}

/// The definition of one relation being printed.
struct Definition<'a> {
    dialect: Dialect,
    relation: &'a Relation,
    /// Whether the restriction list is already out.
    listed: bool,
}

impl Definition<'_> {
    fn print(mut self) -> Option<String> {
        let mut out = String::new();
        self.expression(&self.relation.expression, true, true, &mut out)?;
        Some(out)
    }

    /// `first`: nothing of the definition stands before it. `top`: it needs no parentheses.
    /// Recursion is bounded by the nesting of definitions.
    fn expression(
        &mut self,
        expression: &Expression,
        first: bool,
        top: bool,
        out: &mut String,
    ) -> Option<()> {
        match expression {
            Expression::This(_) if self.dialect == Dialect::V1_0 => {
                out.push_str("self");
                Some(())
            }
            Expression::This(_) if first && !self.listed && !self.relation.restrictions.is_empty() => {
                self.listed = true;
                let items: Vec<String> =
                    self.relation.restrictions.iter().map(Restriction::to_string).collect();
                let _ = write!(out, "[{}]", items.join(", "));
                Some(())
            }
            // Where the language has no place for a list, or nothing was read.
            Expression::This(_) | Expression::Invalid => None,
            Expression::Computed(name) => {
                out.push_str(&name.text);
                Some(())
            }
            Expression::From { computed, tupleset } => {
                let _ = write!(out, "{} from {}", computed.text, tupleset.text);
                Some(())
            }
            Expression::Union(operands) => self.chain(operands.iter(), "or", first, top, out),
            Expression::Intersection(operands) => self.chain(operands.iter(), "and", first, top, out),
            Expression::Exclusion { base, subtract } => {
                self.chain([&**base, &**subtract].into_iter(), "but not", first, top, out)
            }
        }
    }

    fn chain<'e>(
        &mut self,
        operands: impl Iterator<Item = &'e Expression>,
        operator: &str,
        first: bool,
        top: bool,
        out: &mut String,
    ) -> Option<()> {
        if !top {
            out.push('(');
        }
        for (position, operand) in operands.enumerate() {
            if position > 0 {
                let _ = write!(out, " {operator} ");
            }
            self.expression(operand, first && position == 0, false, out)?;
        }
        if !top {
            out.push(')');
        }
        Some(())
    }
}

impl std::fmt::Display for Restriction {
    /// As it is written in a list.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.subject_type.text)?;
        match &self.subject {
            Subject::Object => {}
            Subject::Wildcard => f.write_str(":*")?,
            Subject::Userset(relation) => write!(f, "#{}", relation.text)?,
        }
        match &self.condition {
            Some(condition) => write!(f, " with {}", condition.text),
            None => Ok(()),
        }
    }
}

fn print_condition(condition: &Condition, out: &mut String) -> Result<(), Inexpressible> {
    let name = &condition.name.text;
    let refuse =
        |reason: &str| Err(Inexpressible::Condition { condition: name.clone(), reason: reason.to_owned() });
    if condition.parameters.is_empty() {
        return refuse("it has no parameters");
    }
    for parameter in &condition.parameters {
        if !expressible(&parameter.parameter_type) {
            return refuse(&format!("it has no type `{}`", parameter.parameter_type));
        }
    }
    let Some(code) = &condition.code else { return refuse("its expression was not read") };
    if scan(&code.text, 0, End::Text, Strings::AnyLines).inner_brace.is_some() {
        return refuse("its expression holds a brace outside a string");
    }
    let parameters: Vec<String> = condition
        .parameters
        .iter()
        .map(|parameter| format!("{}: {}", parameter.name.text, parameter.parameter_type))
        .collect();
    let _ = writeln!(out, "\ncondition {name}({}) {{\n  {}\n}}", parameters.join(", "), code.text);
    Ok(())
}

/// The language has lists and maps of simple types, and no `any`.
fn expressible(parameter_type: &ParameterType) -> bool {
    let simple = parameter_type.items().unwrap_or(parameter_type);
    simple.items().is_none() && *simple != ParameterType::Any
}
