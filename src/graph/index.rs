//! The writer: takes changes in order, gives out snapshots.

use std::sync::Arc;

use super::attributes::Interner;
use super::dictionary::WILDCARD;
use super::snapshot::{Forward, Reverse, Snapshot, State};
use super::symbols::{KindSymbol, RelationSymbol};
use super::view::Ordinal;
use crate::tuple::{Attributes, Object, Subject, TupleKey};

/// A store has more of something than its ids can number. Nothing was published; whoever applied
/// the change must stop serving the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has more {what} than fit in memory's ids; split it into several stores")]
pub struct IndexFull {
    /// What there is too much of.
    pub what: &'static str,
}

/// The index of one store and the only thing that changes it.
///
/// Changes carry absolute states, so that applying one twice does what applying it once does:
/// a load may read tuples while they change and replay the changelog over them.
#[derive(Default)]
pub struct Index {
    state: State,
    interner: Interner,
    /// Ordinals of vanished objects. Older snapshots have dictionaries of their own, so these can
    /// be given out at once.
    free: Vec<Ordinal>,
}

impl Index {
    /// The index of a store without tuples.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts one tuple into the state after a change: `None` is absent.
    ///
    /// # Errors
    /// [`IndexFull`]; the index is then of no further use.
    pub fn apply(&mut self, key: &TupleKey, after: Option<&Attributes>) -> Result<(), IndexFull> {
        if let Some(attributes) = after {
            return self.put(key, attributes);
        }
        self.remove(key);
        Ok(())
    }

    /// What a tuple carries; `None`: there is no such tuple.
    #[must_use]
    pub fn tuple(&self, key: &TupleKey) -> Option<Attributes> {
        self.state.tuple(key)
    }

    /// The tuples as they are now, for any number of readers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(Arc::new(self.state.clone()))
    }

    fn put(&mut self, key: &TupleKey, attributes: &Attributes) -> Result<(), IndexFull> {
        let (relation, kind) = self.symbols(key)?;
        let at = Forward { object: self.ordinal(&key.object)?, relation, kind, node: self.node(key)? };
        let carried = self.interner.acquire(&mut self.state.attributes, attributes)?;
        let before = self.state.forward.insert(at, carried);
        self.state.reverse.insert(at.reversed(), carried);
        if let Some(before) = before {
            self.interner.release(&mut self.state.attributes, before);
        }
        Ok(())
    }

    fn remove(&mut self, key: &TupleKey) {
        let Some(at) = self.state.locate(key) else { return };
        let Some(before) = self.state.forward.remove(&at) else { return };
        self.state.reverse.remove(&at.reversed());
        self.interner.release(&mut self.state.attributes, before);
        self.reclaim(at.object);
        self.reclaim(at.node);
    }

    /// Symbols are shared by all snapshots, so they are copied only when one is missing.
    fn symbols(&mut self, key: &TupleKey) -> Result<(RelationSymbol, KindSymbol), IndexFull> {
        let known = &self.state.symbols;
        if let (Some(relation), Some(kind)) =
            (known.relation(key.object.object_type(), &key.relation), known.kind(&key.subject))
        {
            return Ok((relation, kind));
        }
        let symbols = Arc::make_mut(&mut self.state.symbols);
        Ok((
            symbols.intern_relation(key.object.object_type(), &key.relation)?,
            symbols.intern_kind(&key.subject)?,
        ))
    }

    fn node(&mut self, key: &TupleKey) -> Result<Ordinal, IndexFull> {
        match &key.subject {
            Subject::Wildcard(_) => Ok(WILDCARD),
            Subject::Object(object) | Subject::Userset(object, _) => self.ordinal(object),
        }
    }

    fn ordinal(&mut self, object: &Object) -> Result<Ordinal, IndexFull> {
        if let Some(ordinal) = self.state.dictionary.ordinal(object) {
            return Ok(ordinal);
        }
        // Every tuple arrives with a type name of its own; the dictionary keeps one per type.
        let symbols = &self.state.symbols;
        let shared = symbols
            .type_symbol(object.object_type())
            .and_then(|symbol| symbols.type_name(symbol))
            .and_then(|name| Object::new(name.clone(), object.id().clone()).ok())
            .unwrap_or_else(|| object.clone());
        self.state.dictionary.insert(shared, &mut self.free)
    }

    /// Forgets an object once no tuple names it on either side.
    fn reclaim(&mut self, ordinal: Ordinal) {
        if ordinal == WILDCARD || self.state.dictionary.name(ordinal).is_none() {
            return;
        }
        let least = Forward {
            object: ordinal,
            relation: RelationSymbol::LEAST,
            kind: KindSymbol::LEAST,
            node: WILDCARD,
        };
        let held = self.state.forward.range(least..).next().is_some_and(|(at, _)| at.object == ordinal);
        let least = Reverse {
            node: ordinal,
            kind: KindSymbol::LEAST,
            relation: RelationSymbol::LEAST,
            object: WILDCARD,
        };
        let holds = self.state.reverse.range(least..).next().is_some_and(|(at, _)| at.node == ordinal);
        if !held && !holds {
            self.state.dictionary.remove(ordinal);
            self.free.push(ordinal);
        }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("tuples", &self.state.forward.len()).finish_non_exhaustive()
    }
}
