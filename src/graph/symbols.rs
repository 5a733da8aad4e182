//! Numbers for the few names all tuples share: types, relations of a type, kinds of subjects.
//!
//! They belong to the stored tuples, not to a schema: a tuple keeps its symbols whatever schema
//! comes into force. [`Binding`](super::Binding) leads from a schema's ids to them. There are as
//! many as the schemas of a store's life ever had relations in use, so none is ever given back.

use std::collections::HashMap;

use super::index::IndexFull;
use crate::tuple::{RelationName, Subject, TypeName};

/// A type that some tuple names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct TypeSymbol(u32);

/// A relation of a type that some tuple names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct RelationSymbol(u32);

/// What sort of subject a tuple names, packed into four bytes: a symbol and two bits of tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct KindSymbol(u32);

/// A [`KindSymbol`] unpacked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Object,
    Wildcard(TypeSymbol),
    Userset(RelationSymbol),
}

const TAG_BITS: u32 = 2;
const OBJECT: u32 = 0;
const WILDCARD: u32 = 1;
const USERSET: u32 = 2;
const MAX_SYMBOLS: usize = 1 << (32 - TAG_BITS);

impl RelationSymbol {
    /// Sorts before or with every other.
    pub(super) const LEAST: Self = Self(0);
}

impl KindSymbol {
    /// Sorts before or with every other.
    pub(super) const LEAST: Self = Self(0);

    pub(super) fn object(TypeSymbol(symbol): TypeSymbol) -> Self {
        Self(symbol << TAG_BITS | OBJECT)
    }

    pub(super) fn wildcard(TypeSymbol(symbol): TypeSymbol) -> Self {
        Self(symbol << TAG_BITS | WILDCARD)
    }

    pub(super) fn userset(RelationSymbol(symbol): RelationSymbol) -> Self {
        Self(symbol << TAG_BITS | USERSET)
    }

    pub(super) fn unpack(self) -> Kind {
        let symbol = self.0 >> TAG_BITS;
        match self.0 & ((1 << TAG_BITS) - 1) {
            WILDCARD => Kind::Wildcard(TypeSymbol(symbol)),
            USERSET => Kind::Userset(RelationSymbol(symbol)),
            _ => Kind::Object,
        }
    }
}

/// The symbols of a store. Shared by all snapshots until a new one appears, which is rare.
#[derive(Debug, Clone, Default)]
pub(super) struct Symbols {
    types: Vec<TypeName>,
    relations: Vec<(TypeSymbol, RelationName)>,
    by_type: HashMap<TypeName, TypeSymbol>,
    by_name: HashMap<(TypeSymbol, RelationName), RelationSymbol>,
}

impl Symbols {
    pub(super) fn type_symbol(&self, name: &TypeName) -> Option<TypeSymbol> {
        self.by_type.get(name).copied()
    }

    pub(super) fn relation_symbol(
        &self,
        object_type: TypeSymbol,
        name: &RelationName,
    ) -> Option<RelationSymbol> {
        self.by_name.get(&(object_type, name.clone())).copied()
    }

    /// The relation's symbol from names alone.
    pub(super) fn relation(&self, object_type: &TypeName, name: &RelationName) -> Option<RelationSymbol> {
        self.relation_symbol(self.type_symbol(object_type)?, name)
    }

    /// The kind of a subject, if tuples name its type and relation.
    pub(super) fn kind(&self, subject: &Subject) -> Option<KindSymbol> {
        let subject_type = self.type_symbol(subject.subject_type())?;
        Some(match subject {
            Subject::Object(_) => KindSymbol::object(subject_type),
            Subject::Wildcard(_) => KindSymbol::wildcard(subject_type),
            Subject::Userset(_, relation) => {
                KindSymbol::userset(self.relation_symbol(subject_type, relation)?)
            }
        })
    }

    /// The name behind a type's symbol, shared by every object of the type.
    pub(super) fn type_name(&self, TypeSymbol(symbol): TypeSymbol) -> Option<&TypeName> {
        self.types.get(symbol as usize)
    }

    /// The name behind a relation's symbol.
    pub(super) fn relation_name(&self, RelationSymbol(symbol): RelationSymbol) -> Option<&RelationName> {
        self.relations.get(symbol as usize).map(|(_, name)| name)
    }

    /// What they take on the heap: few enough for the round number that tables and texts come to.
    pub(super) fn bytes(&self) -> usize {
        const SYMBOL: usize = 160;
        (self.types.len() + self.relations.len()) * SYMBOL
    }

    pub(super) fn intern_type(&mut self, name: &TypeName) -> Result<TypeSymbol, IndexFull> {
        if let Some(symbol) = self.type_symbol(name) {
            return Ok(symbol);
        }
        let symbol = TypeSymbol(next(self.types.len())?);
        self.types.push(name.clone());
        self.by_type.insert(name.clone(), symbol);
        Ok(symbol)
    }

    pub(super) fn intern_relation(
        &mut self,
        object_type: &TypeName,
        name: &RelationName,
    ) -> Result<RelationSymbol, IndexFull> {
        let object_type = self.intern_type(object_type)?;
        if let Some(symbol) = self.relation_symbol(object_type, name) {
            return Ok(symbol);
        }
        let symbol = RelationSymbol(next(self.relations.len())?);
        self.relations.push((object_type, name.clone()));
        self.by_name.insert((object_type, name.clone()), symbol);
        Ok(symbol)
    }

    pub(super) fn intern_kind(&mut self, subject: &Subject) -> Result<KindSymbol, IndexFull> {
        Ok(match subject {
            Subject::Object(object) => KindSymbol::object(self.intern_type(object.object_type())?),
            Subject::Wildcard(subject_type) => KindSymbol::wildcard(self.intern_type(subject_type)?),
            Subject::Userset(object, relation) => {
                KindSymbol::userset(self.intern_relation(object.object_type(), relation)?)
            }
        })
    }
}

fn next(count: usize) -> Result<u32, IndexFull> {
    match u32::try_from(count) {
        Ok(symbol) if count < MAX_SYMBOLS => Ok(symbol),
        _ => Err(IndexFull { what: "relations" }),
    }
}
