//! Conditions are compiled; what is wrong inside one is carried to its place in the file.

use std::collections::HashSet;
use std::sync::Arc;

use super::index::Index;
use crate::condition::Condition;
use crate::schema::ast::Document;
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::tuple::ConditionName;

/// The compiled conditions, those that compile.
pub(super) fn compile(index: &Index<'_>, mistakes: &mut Mistakes) -> Vec<Arc<Condition>> {
    let mut compiled = Vec::new();
    for declared in &index.document.conditions {
        // What could not be read has been reported.
        let (Some(code), Ok(name)) = (&declared.code, ConditionName::new(&declared.name.text)) else {
            continue;
        };
        let parameters = declared
            .parameters
            .iter()
            .map(|parameter| (parameter.name.text.clone(), parameter.parameter_type.clone()))
            .collect();
        match Condition::compile(name, parameters, &code.text) {
            Ok(condition) => compiled.push(Arc::new(condition)),
            Err(errors) => {
                mistakes.enter(Some(format!("condition {}", declared.name.text)));
                for error in errors {
                    let of_declaration = error.span.is_empty() && error.span.start == 0;
                    let span =
                        if of_declaration { declared.name.span.clone() } else { code.place(error.span) };
                    mistakes.note(Kind::InvalidCondition, &span, error.message).hint_if_some(error.hint);
                }
            }
        }
    }
    mistakes.enter(None);
    compiled
}

/// Notes conditions that no restriction names.
pub(super) fn report_unused(document: &Document, mistakes: &mut Mistakes) {
    let used: HashSet<&str> = document
        .types
        .iter()
        .flat_map(|declared| &declared.relations)
        .flat_map(|relation| &relation.restrictions)
        .filter_map(|item| item.condition.as_ref())
        .map(|name| name.text.as_str())
        .collect();
    for declared in &document.conditions {
        let name = &declared.name;
        if !used.contains(name.text.as_str()) {
            mistakes
                .note(Kind::ConditionNotUsed, &name.span, format!("condition `{}` is not used", name.text))
                .hint(format!("require it somewhere, for example `[user with {}]`, or remove it", name.text));
        }
    }
}
