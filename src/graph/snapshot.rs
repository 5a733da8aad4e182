//! A store's live tuples at one revision, frozen.

use std::ops::Deref;
use std::sync::Arc;

use super::attributes::{Carried, Kept};
use super::dictionary::{Dictionary, WILDCARD};
use super::symbols::{Kind, KindSymbol, RelationSymbol, Symbols};
use super::view::Ordinal;
use crate::tuple::{Attributes, Subject, Tuple, TupleKey};

/// Where a tuple stands when it is looked up from its object.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Forward {
    pub(super) object: Ordinal,
    pub(super) relation: RelationSymbol,
    pub(super) kind: KindSymbol,
    pub(super) node: Ordinal,
}

/// Where a tuple stands when it is looked up from its subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reverse {
    pub(super) node: Ordinal,
    pub(super) kind: KindSymbol,
    pub(super) relation: RelationSymbol,
    pub(super) object: Ordinal,
}

impl Forward {
    pub(super) fn reversed(self) -> Reverse {
        let Self { object, relation, kind, node } = self;
        Reverse { node, kind, relation, object }
    }
}

/// Everything a reader can reach. Every part is persistent: cloning shares, changing copies the
/// path to the change.
#[derive(Clone, Default)]
pub(super) struct State {
    pub(super) forward: imbl::OrdMap<Forward, Carried>,
    pub(super) reverse: imbl::OrdMap<Reverse, Carried>,
    pub(super) symbols: Arc<Symbols>,
    pub(super) dictionary: Dictionary,
    pub(super) attributes: Kept,
}

impl State {
    /// Where the tuple stands, if all its names are known.
    pub(super) fn locate(&self, key: &TupleKey) -> Option<Forward> {
        Some(Forward {
            relation: self.symbols.relation(key.object.object_type(), &key.relation)?,
            kind: self.symbols.kind(&key.subject)?,
            object: self.dictionary.ordinal(&key.object)?,
            node: match &key.subject {
                Subject::Wildcard(_) => WILDCARD,
                Subject::Object(object) | Subject::Userset(object, _) => self.dictionary.ordinal(object)?,
            },
        })
    }

    /// What a tuple carries.
    pub(super) fn tuple(&self, key: &TupleKey) -> Option<Attributes> {
        let at = self.locate(key)?;
        Some(self.carried(*self.forward.get(&at)?))
    }

    /// The attributes behind what an edge carries.
    pub(super) fn carried(&self, carried: Carried) -> Attributes {
        carried
            .id()
            .and_then(|id| self.attributes.get(id.0 as usize)?.as_deref().cloned())
            .unwrap_or_default()
    }

    fn key(&self, at: Forward) -> Option<TupleKey> {
        let node = || self.dictionary.name(at.node).cloned();
        Some(TupleKey {
            object: self.dictionary.name(at.object)?.clone(),
            relation: self.symbols.relation_name(at.relation)?.clone(),
            subject: match at.kind.unpack() {
                Kind::Object => Subject::Object(node()?),
                Kind::Wildcard(symbol) => Subject::Wildcard(self.symbols.type_name(symbol)?.clone()),
                Kind::Userset(symbol) => {
                    Subject::Userset(node()?, self.symbols.relation_name(symbol)?.clone())
                }
            },
        })
    }
}

/// Takes care of graphs that nobody needs any more.
///
/// Freeing a graph of millions of tuples takes seconds, and whoever drops the last snapshot of one
/// may be a thread that thousands of calls wait for. What is left is therefore handed over.
pub trait Keeper: Send + Sync + 'static {
    /// Takes what was left. It is freed when the value is dropped.
    fn take(&self, remains: Remains);
}

/// What is left of a graph after its last reader, or of a writer. Parts of it may still be shared.
pub struct Remains {
    state: State,
    /// Held until the memory is free again, which is what dropping the fields in order does.
    _keeper: Arc<dyn Keeper>,
}

impl Remains {
    /// How many tuples there were.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.forward.len()
    }

    /// Whether there was none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.state.forward.is_empty()
    }
}

impl std::fmt::Debug for Remains {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remains").field("tuples", &self.len()).finish_non_exhaustive()
    }
}

/// A state that goes to its keeper, if it has one, instead of being freed where it is dropped.
#[derive(Default)]
pub(super) struct Root {
    pub(super) state: State,
    pub(super) keeper: Option<Arc<dyn Keeper>>,
}

impl Deref for Root {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl Drop for Root {
    fn drop(&mut self) {
        if let Some(keeper) = self.keeper.take() {
            let state = std::mem::take(&mut self.state);
            keeper.take(Remains { state, _keeper: Arc::clone(&keeper) });
        }
    }
}

/// The live tuples of a store at one revision. Never changes; a clone is one counter.
#[derive(Clone)]
pub struct Snapshot(pub(super) Arc<Root>);

impl Snapshot {
    /// How many tuples there are, expired ones that have not been removed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.forward.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.forward.is_empty()
    }

    /// How many distinct objects the tuples name, on either side.
    #[must_use]
    pub fn objects(&self) -> usize {
        self.0.dictionary.len()
    }

    /// What a tuple carries; `None`: there is no such tuple.
    #[must_use]
    pub fn tuple(&self, key: &TupleKey) -> Option<Attributes> {
        self.0.tuple(key)
    }

    /// Every tuple, as stored, in no order that means anything.
    pub fn tuples(&self) -> impl Iterator<Item = Tuple> + '_ {
        self.0.forward.iter().filter_map(|(at, carried)| {
            Some(Tuple { key: self.0.key(*at)?, attributes: self.0.carried(*carried) })
        })
    }
}

impl std::fmt::Debug for Snapshot {
    /// Its sizes: a store does not fit a log line.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("tuples", &self.len())
            .field("objects", &self.objects())
            .finish_non_exhaustive()
    }
}
