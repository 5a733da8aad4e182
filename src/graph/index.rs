//! The writer: takes changes in order, gives out snapshots.

use std::sync::Arc;

use super::attributes::{Carried, Interner};
use super::dictionary::WILDCARD;
use super::snapshot::{Forward, Keeper, Reverse, Root, Snapshot, State};
use super::symbols::{KindSymbol, RelationSymbol};
use super::view::Ordinal;
use crate::footprint;
use crate::tuple::{Attributes, Object, Subject, TupleKey};

/// A store has more of something than its ids can number. Nothing was published; whoever applied
/// the change must stop serving the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the store has more {what} than fit in memory's ids; split it into several stores")]
pub struct IndexFull {
    /// What there is too much of.
    pub what: &'static str,
}

/// How many ids an index has given to objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ids {
    /// Of objects that some tuple names.
    pub live: usize,
    /// Of objects that none names any more, waiting for the next newcomers.
    pub dead: usize,
}

/// The index of one store and the only thing that changes it.
///
/// Changes carry absolute states, so that applying one twice does what applying it once does:
/// a load may read tuples while they change and replay the changelog over them.
#[derive(Default)]
pub struct Index {
    root: Root,
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

    /// As above; what is no longer needed of it and of its snapshots goes to `keeper`.
    #[must_use]
    pub fn kept_by(keeper: Arc<dyn Keeper>) -> Self {
        let root = Root { state: State::default(), keeper: Some(keeper) };
        Self { root, ..Self::default() }
    }

    /// What the index takes on the heap, in bytes, at the price of a few multiplications. Within a
    /// quarter of what the operating system says, for stores that take more than a few megabytes
    /// (`tests/suite/memory`). Older snapshots share most of it; what they alone hold is not counted.
    #[must_use]
    pub fn bytes(&self) -> usize {
        const FORWARD: usize = footprint::ordered_entry(size_of::<Forward>(), size_of::<Carried>());
        const REVERSE: usize = footprint::ordered_entry(size_of::<Reverse>(), size_of::<Carried>());
        let state = &self.root.state;
        state.forward.len() * FORWARD
            + state.reverse.len() * REVERSE
            + state.dictionary.bytes()
            + state.symbols.bytes()
            + self.interner.bytes()
            + self.free.capacity() * size_of::<Ordinal>()
    }

    /// How many ids it has given out.
    #[must_use]
    pub fn ids(&self) -> Ids {
        Ids { live: self.root.state.dictionary.len(), dead: self.free.len() }
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
        self.root.state.tuple(key)
    }

    /// The tuples as they are now, for any number of readers.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(Arc::new(Root { state: self.root.state.clone(), keeper: self.root.keeper.clone() }))
    }

    fn put(&mut self, key: &TupleKey, attributes: &Attributes) -> Result<(), IndexFull> {
        let (relation, kind) = self.symbols(key)?;
        let at = Forward { object: self.ordinal(&key.object)?, relation, kind, node: self.node(key)? };
        let carried = self.interner.acquire(&mut self.root.state.attributes, attributes)?;
        let before = self.root.state.forward.insert(at, carried);
        self.root.state.reverse.insert(at.reversed(), carried);
        if let Some(before) = before {
            self.interner.release(&mut self.root.state.attributes, before);
        }
        Ok(())
    }

    fn remove(&mut self, key: &TupleKey) {
        let Some(at) = self.root.state.locate(key) else { return };
        let Some(before) = self.root.state.forward.remove(&at) else { return };
        self.root.state.reverse.remove(&at.reversed());
        self.interner.release(&mut self.root.state.attributes, before);
        self.reclaim(at.object);
        self.reclaim(at.node);
    }

    /// Symbols are shared by all snapshots, so they are copied only when one is missing.
    fn symbols(&mut self, key: &TupleKey) -> Result<(RelationSymbol, KindSymbol), IndexFull> {
        let known = &self.root.state.symbols;
        if let (Some(relation), Some(kind)) =
            (known.relation(key.object.object_type(), &key.relation), known.kind(&key.subject))
        {
            return Ok((relation, kind));
        }
        let symbols = Arc::make_mut(&mut self.root.state.symbols);
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
        if let Some(ordinal) = self.root.state.dictionary.ordinal(object) {
            return Ok(ordinal);
        }
        // Every tuple arrives with a type name of its own; the dictionary keeps one per type.
        let symbols = &self.root.state.symbols;
        let shared = symbols
            .type_symbol(object.object_type())
            .and_then(|symbol| symbols.type_name(symbol))
            .and_then(|name| Object::new(name.clone(), object.id().clone()).ok())
            .unwrap_or_else(|| object.clone());
        self.root.state.dictionary.insert(shared, &mut self.free)
    }

    /// Forgets an object once no tuple names it on either side.
    fn reclaim(&mut self, ordinal: Ordinal) {
        if ordinal == WILDCARD || self.root.state.dictionary.name(ordinal).is_none() {
            return;
        }
        let least = Forward {
            object: ordinal,
            relation: RelationSymbol::LEAST,
            kind: KindSymbol::LEAST,
            node: WILDCARD,
        };
        let held = self.root.state.forward.range(least..).next().is_some_and(|(at, _)| at.object == ordinal);
        let least = Reverse {
            node: ordinal,
            kind: KindSymbol::LEAST,
            relation: RelationSymbol::LEAST,
            object: WILDCARD,
        };
        let holds = self.root.state.reverse.range(least..).next().is_some_and(|(at, _)| at.node == ordinal);
        if !held && !holds {
            self.root.state.dictionary.remove(ordinal);
            self.free.push(ordinal);
        }
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index").field("tuples", &self.root.state.forward.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::super::snapshot::Remains;
    use super::*;
    use crate::context::{Context, Value};
    use crate::time::Timestamp;
    use crate::tuple::TupleCondition;
    use std::sync::{Mutex, PoisonError};

    fn member(number: usize) -> TupleKey {
        format!("group:g{}#member@user:user-number-{number:09}", number % 50).parse().expect("a tuple")
    }

    fn attributes(number: usize) -> Attributes {
        let context = Context([("limit".to_owned(), Value::Int(number.try_into().expect("small")))].into());
        Attributes {
            condition: (number.is_multiple_of(3)).then(|| TupleCondition {
                name: "small".parse().expect("a name"),
                context: Arc::new(context),
            }),
            expires_at: (number.is_multiple_of(2))
                .then(|| Timestamp::from_micros(number.try_into().expect("small"))),
        }
    }

    /// New members come and old ones go until ten times as many have gone as there ever were at
    /// once: their ordinals, names and attributes must be used again.
    #[test]
    fn what_comes_and_goes_takes_no_more_than_what_is_there() {
        const LIVE: usize = 2_000;
        let mut index = Index::new();
        for number in 0..LIVE {
            index.apply(&member(number), Some(&attributes(number))).expect("room");
        }
        let (bytes, objects) = (index.bytes(), index.snapshot().objects());
        let mut held = Vec::new();
        for number in LIVE..11 * LIVE {
            index.apply(&member(number - LIVE), None).expect("room");
            index.apply(&member(number), Some(&attributes(number))).expect("room");
            if number % LIVE == 0 {
                held.push((number, index.snapshot()));
            }
        }
        assert_eq!(index.snapshot().objects(), objects);
        assert_eq!(
            index.ids(),
            Ids { live: objects, dead: 0 },
            "each newcomer took the id of one who had gone"
        );
        let names = index.root.state.dictionary.places();
        assert!(names <= objects + 2, "{names} places for {objects} objects");
        let grown = index.bytes();
        assert!(grown <= bytes + bytes / 20, "{bytes} bytes have become {grown}");
        // A reader of long ago still finds its own names behind the ordinals used again.
        for (number, snapshot) in held {
            assert!(snapshot.tuple(&member(number)).is_some());
            assert!(snapshot.tuple(&member(number + 1)).is_none());
            assert!(snapshot.tuples().any(|tuple| tuple.key == member(number + 1 - LIVE)));
        }
    }

    #[derive(Default)]
    struct Grave(Mutex<Vec<Remains>>);

    impl Keeper for Grave {
        fn take(&self, remains: Remains) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(remains);
        }
    }

    #[test]
    fn what_nobody_needs_any_more_goes_to_the_keeper_and_holds_it_until_it_is_freed() {
        let grave = Arc::new(Grave::default());
        let sizes = || grave.0.lock().expect("a lock").iter().map(Remains::len).collect::<Vec<_>>();
        let mut index = Index::kept_by(Arc::clone(&grave) as Arc<dyn Keeper>);
        index.apply(&member(1), Some(&Attributes::default())).expect("room");
        let first = index.snapshot();
        index.apply(&member(2), Some(&Attributes::default())).expect("room");
        let (second, reader) = (index.snapshot(), first.clone());
        drop(first);
        assert!(sizes().is_empty(), "it is still read");
        drop(reader);
        assert_eq!(sizes(), [1]);
        drop(index);
        assert_eq!(sizes(), [1, 2], "the writer's own");
        assert_eq!(second.len(), 2);
        drop(second);
        assert_eq!(sizes(), [1, 2, 2]);
        assert_eq!(Arc::strong_count(&grave), 4, "each of them holds it");
        let buried = std::mem::take(&mut *grave.0.lock().expect("a lock"));
        drop(buried);
        assert_eq!(Arc::strong_count(&grave), 1);
    }
}
