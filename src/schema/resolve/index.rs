//! What a document declares, by name; duplicates are reported here.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::name::{Naming, check_name};
use crate::schema::ast::{Condition, Document, Name, Relation, Type};
use crate::schema::diagnostic::{Kind, Mistakes};
use crate::schema::model::Dialect;

/// A relation of a document: its position among all, in the order of the file.
pub(super) type At = usize;

/// A document and where its names are declared.
pub(super) struct Index<'a> {
    pub document: &'a Document,
    flat: Vec<(&'a Type, &'a Relation)>,
    types: HashMap<&'a str, &'a Type>,
    /// By type and name. A type declared twice is one type here, as its author meant it.
    relations: HashMap<(&'a str, &'a str), At>,
    /// The types that have a relation of that name.
    having: HashMap<&'a str, Vec<&'a str>>,
    conditions: HashMap<&'a str, &'a Condition>,
}

impl<'a> Index<'a> {
    /// Looks the declarations through, and notes names that are not names and duplicates.
    pub(super) fn new(document: &'a Document, mistakes: &mut Mistakes) -> Self {
        let mut index = Self {
            document,
            flat: Vec::new(),
            types: HashMap::new(),
            relations: HashMap::new(),
            having: HashMap::new(),
            conditions: HashMap::new(),
        };
        for declared in &document.types {
            index.add_type(declared, mistakes);
        }
        for declared in &document.conditions {
            mistakes.enter(Some(format!("condition {}", declared.name.text)));
            check_name(Naming::Condition, &declared.name, mistakes);
            for parameter in &declared.parameters {
                check_name(Naming::Parameter, &parameter.name, mistakes);
            }
            match index.conditions.entry(&declared.name.text) {
                Entry::Vacant(entry) => {
                    entry.insert(declared);
                }
                Entry::Occupied(first) => {
                    let message = format!("condition `{}` is defined twice", declared.name.text);
                    note_duplicate(&declared.name, &first.get().name, message, mistakes);
                }
            }
        }
        mistakes.enter(None);
        index
    }

    fn add_type(&mut self, declared: &'a Type, mistakes: &mut Mistakes) {
        let type_name = declared.name.text.as_str();
        mistakes.enter(Some(format!("type {type_name}")));
        check_name(Naming::Type, &declared.name, mistakes);
        match self.types.entry(type_name) {
            Entry::Vacant(entry) => {
                entry.insert(declared);
            }
            Entry::Occupied(first) => {
                let message = format!("type `{type_name}` is defined twice");
                note_duplicate(&declared.name, &first.get().name, message, mistakes);
            }
        }
        let mut own: HashMap<&str, &Relation> = HashMap::new();
        for relation in &declared.relations {
            self.flat.push((declared, relation));
            let name = relation.name.text.as_str();
            mistakes.enter(Some(format!("relation {type_name}#{name}")));
            check_name(Naming::Relation, &relation.name, mistakes);
            if let Some(first) = own.get(name) {
                let message = format!("relation `{name}` of type `{type_name}` is defined twice");
                note_duplicate(&relation.name, &first.name, message, mistakes);
                continue;
            }
            own.insert(name, relation);
            if let Entry::Vacant(entry) = self.relations.entry((type_name, name)) {
                entry.insert(self.flat.len() - 1);
                self.having.entry(name).or_default().push(type_name);
            }
        }
    }

    pub(super) const fn dialect(&self) -> Dialect {
        self.document.dialect
    }

    pub(super) fn type_named(&self, name: &str) -> Option<&'a Type> {
        self.types.get(name).copied()
    }

    pub(super) fn condition_named(&self, name: &str) -> Option<&'a Condition> {
        self.conditions.get(name).copied()
    }

    /// Where a relation of a type is declared.
    pub(super) fn place(&self, object_type: &str, relation: &str) -> Option<At> {
        self.relations.get(&(object_type, relation)).copied()
    }

    pub(super) fn relation(&self, object_type: &str, relation: &str) -> Option<&'a Relation> {
        self.flat.get(self.place(object_type, relation)?).map(|(_, relation)| *relation)
    }

    /// The types that have a relation of that name, each once.
    pub(super) fn types_having(&self, relation: &str) -> &[&'a str] {
        self.having.get(relation).map_or(&[], Vec::as_slice)
    }

    pub(super) fn type_names(&self) -> impl Iterator<Item = &'a str> {
        self.document.types.iter().map(|declared| declared.name.text.as_str())
    }

    pub(super) fn condition_names(&self) -> impl Iterator<Item = &'a str> {
        self.document.conditions.iter().map(|declared| declared.name.text.as_str())
    }

    /// Every relation with its type, in the order of the file: at its [`At`].
    pub(super) fn relations(&self) -> &[(&'a Type, &'a Relation)] {
        &self.flat
    }
}

fn note_duplicate(second: &Name, first: &Name, message: String, mistakes: &mut Mistakes) {
    mistakes
        .note(Kind::Duplicated, &second.span, message)
        .hint("remove or rename one of them")
        .related("first defined here", &first.span);
}
