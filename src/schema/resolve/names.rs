//! Whether the names a relation uses exist and may be used so.

use std::collections::{HashMap, HashSet};

use super::index::Index;
use super::similar;
use super::targets::{Targets, not_direct};
use crate::schema::ast::{Expression, Name, Relation, Restriction, Span, Subject, Type};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;

/// Notes every name that does not exist or may not stand where it does.
pub(super) fn check(index: &Index<'_>, targets: &Targets<'_>, mistakes: &mut Mistakes) {
    let mut names = Names { index, targets, mistakes };
    for &(declared, relation) in index.relations() {
        names.mistakes.enter(Some(format!("relation {}#{}", declared.name.text, relation.name.text)));
        names.restrictions(relation);
        names.expression(declared, relation, &relation.expression);
    }
    mistakes.enter(None);
}

struct Names<'i, 'a, 'm> {
    index: &'i Index<'a>,
    targets: &'i Targets<'a>,
    mistakes: &'m mut Mistakes,
}

impl<'a> Names<'_, 'a, '_> {
    fn restrictions(&mut self, relation: &'a Relation) {
        self.assignable(relation);
        let mut seen: HashMap<String, &Span> = HashMap::new();
        for item in &relation.restrictions {
            self.restriction(item);
            if let Some(first) = seen.insert(item.to_string(), &item.span) {
                self.mistakes
                    .note(
                        Kind::Duplicated,
                        &item.span,
                        format!("`{}` is twice in the restrictions of `{}`", item, relation.name.text),
                    )
                    .hint("remove one of them")
                    .related("first here", first);
            }
        }
    }

    /// Direct members and type restrictions go together. A text cannot part them, JSON can.
    fn assignable(&mut self, relation: &Relation) {
        if relation.expression.is_unread() {
            return;
        }
        let direct = relation.expression.holds_this();
        let name = &relation.name.text;
        let message = match (direct, relation.restrictions.is_empty()) {
            (true, true) if self.index.dialect() != Dialect::V1_0 => {
                format!("relation `{name}` has direct members but no type restrictions")
            }
            (false, false) => format!("relation `{name}` has type restrictions but no direct members"),
            _ => return,
        };
        self.mistakes.note(Kind::AssignableRelationMustHaveType, &relation.name.span, message);
    }

    fn restriction(&mut self, item: &'a Restriction) {
        let type_name = item.subject_type.text.as_str();
        match (self.index.type_named(type_name), &item.subject) {
            (None, _) => {
                let hint = self.nearest(type_name, |index| index.type_names().collect());
                self.mistakes
                    .note(
                        Kind::InvalidType,
                        &item.subject_type.span,
                        format!("type `{type_name}` does not exist"),
                    )
                    .hint_if_some(hint);
            }
            (Some(declared), Subject::Userset(relation)) => {
                if self.index.place(type_name, &relation.text).is_none() {
                    let hint = self.nearest(&relation.text, |_| relation_names(declared));
                    self.mistakes
                        .note(
                            Kind::InvalidRelationType,
                            &item.span,
                            format!("relation `{}` does not exist on type `{type_name}`", relation.text),
                        )
                        .hint_if_some(hint);
                }
            }
            (Some(_), Subject::Object | Subject::Wildcard) => {}
        }
        if let Some(condition) = &item.condition
            && self.index.condition_named(&condition.text).is_none()
        {
            let hint = self.nearest(&condition.text, |index| index.condition_names().collect());
            self.mistakes
                .note(
                    Kind::ConditionNotDefined,
                    &condition.span,
                    format!("condition `{}` does not exist", condition.text),
                )
                .hint_if_some(hint);
        }
    }

    /// Recursion is bounded by the nesting of definitions.
    fn expression(&mut self, declared: &'a Type, relation: &'a Relation, expression: &'a Expression) {
        match expression {
            Expression::This(_) | Expression::Invalid => {}
            Expression::Computed(name) => self.computed(declared, name),
            Expression::From { computed, tupleset } => self.from(declared, computed, tupleset),
            Expression::Union(operands) | Expression::Intersection(operands) => {
                self.duplicates(relation, operands.iter());
                for operand in operands {
                    self.expression(declared, relation, operand);
                }
            }
            Expression::Exclusion { base, subtract } => {
                self.duplicates(relation, [&**base, &**subtract].into_iter());
                self.expression(declared, relation, base);
                self.expression(declared, relation, subtract);
            }
        }
    }

    /// The same operand twice in one chain says nothing more, or nothing at all.
    fn duplicates(&mut self, relation: &Relation, operands: impl Iterator<Item = &'a Expression>) {
        let mut seen: HashMap<(&str, Option<&str>), Span> = HashMap::new();
        for operand in operands {
            let (key, span) = match operand {
                Expression::This(span) => (("self", None), span.clone()),
                Expression::Computed(name) => ((name.text.as_str(), None), name.span.clone()),
                Expression::From { computed, tupleset } => (
                    (computed.text.as_str(), Some(tupleset.text.as_str())),
                    computed.span.start..tupleset.span.end,
                ),
                Expression::Union(_)
                | Expression::Intersection(_)
                | Expression::Exclusion { .. }
                | Expression::Invalid => continue,
            };
            let text = match key {
                (computed, None) => computed.to_owned(),
                (computed, Some(tupleset)) => format!("{computed} from {tupleset}"),
            };
            if let Some(first) = seen.insert(key, span.clone()) {
                self.mistakes
                    .note(
                        Kind::Duplicated,
                        &span,
                        format!("`{text}` is twice in the definition of `{}`", relation.name.text),
                    )
                    .hint("remove one of them")
                    .related("first here", &first);
            }
        }
    }

    fn computed(&mut self, declared: &'a Type, name: &'a Name) {
        let object_type = declared.name.text.as_str();
        if self.index.place(object_type, &name.text).is_some() {
            return;
        }
        let hint = if matches!(name.text.as_str(), "self" | "this") {
            Some("write the types that may be written directly instead, for example `[user]`".to_owned())
        } else if self.index.type_named(&name.text).is_some() {
            Some(format!(
                "`{}` is a type: to let its objects be members, write `[{}]` first",
                name.text, name.text
            ))
        } else {
            self.nearest(&name.text, |_| relation_names(declared))
        };
        self.mistakes
            .note(
                Kind::MissingDefinition,
                &name.span,
                format!("relation `{}` does not exist on type `{object_type}`", name.text),
            )
            .hint_if_some(hint);
    }

    fn from(&mut self, declared: &'a Type, computed: &'a Name, tupleset: &'a Name) {
        let object_type = declared.name.text.as_str();
        let whole = computed.span.start..tupleset.span.end;
        let Some(parent) = self.index.relation(object_type, &tupleset.text) else {
            let hint = self.nearest(&tupleset.text, |_| relation_names(declared));
            self.mistakes
                .note(
                    Kind::InvalidRelationType,
                    &whole,
                    format!("relation `{}` does not exist on type `{object_type}`", tupleset.text),
                )
                .hint_if_some(hint);
            return;
        };
        if let Some(why) = not_direct(parent) {
            self.mistakes
                .note(
                    Kind::TuplesetNotDirect,
                    &tupleset.span,
                    format!("`{}` cannot follow `from`: {why}", tupleset.text),
                )
                .hint("it must name objects directly, as in `define parent: [folder]`")
                .related("its definition", &parent.name.span);
            return;
        }
        let led = self.index.place(object_type, &tupleset.text);
        let found = led.and_then(|tupleset| self.targets.of(tupleset, &computed.text));
        if found.is_none_or(|found| found.uncertain || !found.relations.is_empty()) {
            return;
        }
        let (parents, candidates) = self.parents(parent);
        let hint = self.nearest(&computed.text, |_| candidates);
        let message = match parents.as_slice() {
            [] => format!("no type has a relation `{}`", computed.text),
            [one] => format!(
                "`{}` names objects of type `{one}`, which has no relation `{}`",
                tupleset.text, computed.text
            ),
            several => format!(
                "`{}` names objects of the types {}, none of which has a relation `{}`",
                tupleset.text,
                several.iter().take(10).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
                computed.text
            ),
        };
        self.mistakes.note(Kind::InvalidRelationOnTupleset, &whole, message).hint_if_some(hint);
    }

    /// The types a tupleset may name, and the relations they have.
    fn parents(&self, parent: &'a Relation) -> (Vec<&'a str>, Vec<&'a str>) {
        let mut parents: Vec<&str> = Vec::new();
        let mut listed = HashSet::new();
        let mut candidates = Vec::new();
        for item in &parent.restrictions {
            if let Some(declared) = self.index.type_named(&item.subject_type.text)
                && listed.insert(declared.name.text.as_str())
            {
                parents.push(&declared.name.text);
                candidates.extend(relation_names(declared));
            }
        }
        (parents, candidates)
    }

    fn nearest(&self, word: &str, candidates: impl FnOnce(&Index<'a>) -> Vec<&'a str>) -> Option<String> {
        if self.mistakes.is_full() {
            return None;
        }
        similar(word, candidates(self.index)).map(|name| format!("did you mean `{name}`?"))
    }
}

fn relation_names(declared: &Type) -> Vec<&str> {
    declared.relations.iter().map(|relation| relation.name.text.as_str()).collect()
}
