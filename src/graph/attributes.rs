//! Conditions and expiries of the few tuples that carry any, each distinct one kept once.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use super::index::IndexFull;
use super::view::AttributesId;
use crate::context::Value;
use crate::footprint;
use crate::tuple::Attributes;

/// Ids from here up belong to one question's overlay.
pub(super) const LOCAL: u32 = 1 << 31;

/// The attributes of an edge in four bytes; zero is the usual, plain tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Carried(u32);

impl Carried {
    pub(super) const PLAIN: Self = Self(0);

    pub(super) fn id(self) -> Option<AttributesId> {
        self.0.checked_sub(1).map(AttributesId)
    }
}

impl From<AttributesId> for Carried {
    fn from(AttributesId(id): AttributesId) -> Self {
        Self(id + 1)
    }
}

/// By id; `None` for ids waiting to be used again. Persistent, part of every snapshot.
pub(super) type Kept = imbl::Vector<Option<Arc<Attributes>>>;

/// The writer's side: finds equal attributes, and counts the tuples that carry them.
#[derive(Default)]
pub(super) struct Interner {
    hasher: RandomState,
    by_value: HashTable<Slot>,
    references: Vec<u32>,
    free: Vec<u32>,
    /// What the values take.
    value_bytes: usize,
}

/// An id in the table of values, with its hash so that growing the table reads no attributes.
struct Slot {
    hash: u64,
    id: u32,
}

impl Interner {
    /// The id of `attributes` for one more tuple.
    pub(super) fn acquire(&mut self, kept: &mut Kept, attributes: &Attributes) -> Result<Carried, IndexFull> {
        if attributes.is_plain() {
            return Ok(Carried::PLAIN);
        }
        let hash = hash(&self.hasher, attributes);
        // The whole hash is compared first, as that is quick; what counts is that they are equal,
        // and doubles are by their bits: zero is not minus zero.
        let same = |slot: &Slot| {
            slot.hash == hash && matches!(kept.get(slot.id as usize), Some(Some(old)) if **old == *attributes)
        };
        if let Some(Slot { id, .. }) = self.by_value.find(hash, same) {
            if let Some(count) = self.references.get_mut(*id as usize) {
                *count += 1;
            }
            return Ok(AttributesId(*id).into());
        }
        self.value_bytes += bytes(attributes);
        let value = Some(Arc::new(attributes.clone()));
        let id = if let Some(id) = self.free.pop() {
            kept.set(id as usize, value);
            if let Some(count) = self.references.get_mut(id as usize) {
                *count = 1;
            }
            id
        } else {
            let id = u32::try_from(kept.len()).unwrap_or(LOCAL);
            if id >= LOCAL {
                return Err(IndexFull { what: "conditions and expiries" });
            }
            kept.push_back(value);
            self.references.push(1);
            id
        };
        self.by_value.insert_unique(hash, Slot { hash, id }, |slot| slot.hash);
        Ok(AttributesId(id).into())
    }

    /// One tuple less carries it; the last one frees the id. Older snapshots keep their own copy.
    pub(super) fn release(&mut self, kept: &mut Kept, carried: Carried) {
        let Some(AttributesId(id)) = carried.id() else { return };
        let Some(count) = self.references.get_mut(id as usize) else { return };
        *count = count.saturating_sub(1);
        if *count > 0 {
            return;
        }
        let Some(gone) = kept.get_mut(id as usize).and_then(Option::take) else { return };
        if let Ok(slot) = self.by_value.find_entry(hash(&self.hasher, &gone), |slot| slot.id == id) {
            slot.remove();
        }
        self.free.push(id);
        self.value_bytes -= bytes(&gone);
    }

    /// What it takes on the heap, the values it counts included.
    pub(super) fn bytes(&self) -> usize {
        const KEPT: usize = footprint::vector_element(size_of::<Option<Arc<Attributes>>>());
        // The table keeps a byte beside each slot.
        let table = self.by_value.capacity() * (size_of::<Slot>() + 1);
        let numbers = (self.references.capacity() + self.free.capacity()) * size_of::<u32>();
        self.references.len() * KEPT + table + numbers + self.value_bytes
    }
}

fn bytes(attributes: &Attributes) -> usize {
    footprint::allocation(size_of::<Attributes>() + footprint::COUNTERS) + footprint::attributes(attributes)
}

/// Attributes that are equal hash alike. Contexts nest as deep as their sender likes, so the walk
/// keeps its own stack.
fn hash(hasher: &RandomState, attributes: &Attributes) -> u64 {
    let mut state = hasher.build_hasher();
    attributes.expires_at.hash(&mut state);
    if let Some(condition) = &attributes.condition {
        condition.name.hash(&mut state);
        let mut open: Vec<&Value> = Vec::new();
        for (name, value) in &condition.context.0 {
            name.hash(&mut state);
            open.push(value);
        }
        while let Some(value) = open.pop() {
            std::mem::discriminant(value).hash(&mut state);
            match value {
                Value::Null => {}
                Value::Bool(value) => value.hash(&mut state),
                Value::Int(value) => value.hash(&mut state),
                Value::Uint(value) => value.hash(&mut state),
                Value::Double(value) => value.to_bits().hash(&mut state),
                Value::String(text) => text.hash(&mut state),
                Value::List(items) => {
                    items.len().hash(&mut state);
                    open.extend(items);
                }
                Value::Map(entries) => {
                    entries.len().hash(&mut state);
                    for (name, value) in entries {
                        name.hash(&mut state);
                        open.push(value);
                    }
                }
            }
        }
    }
    state.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tuple::TupleCondition;

    fn carrying(json: &str) -> Attributes {
        let context = Arc::new(json.parse().expect("a context"));
        let condition = TupleCondition { name: "small".parse().expect("a name"), context };
        Attributes { condition: Some(condition), expires_at: None }
    }

    /// Contexts of which one could be taken for another, were they written as a text or flattened.
    fn alike() -> Vec<Attributes> {
        [
            r#"{"names": ["a,b"]}"#,
            r#"{"names": ["a", "b"]}"#,
            r#"{"names": [["a"], "b"]}"#,
            r#"{"names": ["a", ["b"]]}"#,
            r#"{"names": [["a", "b"]]}"#,
            r#"{"names": [], "a": "b"}"#,
            r#"{"names": {"a": "b"}}"#,
            r#"{"names": "[\"a\",\"b\"]"}"#,
            r#"{"names": 1}"#,
            r#"{"names": 1.5}"#,
            r#"{"names": "1"}"#,
            r#"{"names": true}"#,
            r#"{"names": null}"#,
            "{}",
        ]
        .map(carrying)
        .into()
    }

    #[test]
    fn attributes_whose_hashes_are_equal_are_told_apart() {
        let (mut interner, mut kept) = (Interner::default(), Kept::new());
        let all = alike();
        let ids: Vec<Carried> =
            all.iter().map(|one| interner.acquire(&mut kept, one).expect("room")).collect();
        let absent = carrying(r#"{"names": ["b", "a"]}"#);
        // As if all of them shared the hash of each, and of one that is not there.
        for attributes in all.iter().chain([&absent]) {
            let hash = hash(&interner.hasher, attributes);
            for carried in &ids {
                let AttributesId(id) = carried.id().expect("an id");
                interner.by_value.insert_unique(hash, Slot { hash, id }, |slot| slot.hash);
            }
        }
        for (attributes, carried) in all.iter().zip(&ids) {
            let found = interner.acquire(&mut kept, attributes).expect("room");
            assert_eq!(found, *carried, "{attributes:?}");
            let AttributesId(id) = found.id().expect("an id");
            assert_eq!(kept[id as usize].as_deref(), Some(attributes));
        }
        let new = interner.acquire(&mut kept, &absent).expect("room");
        assert!(!ids.contains(&new), "another's context: {absent:?}");
    }

    #[test]
    fn the_last_tuple_frees_an_id_for_other_attributes() {
        let (mut interner, mut kept) = (Interner::default(), Kept::new());
        let (one, other) = (carrying(r#"{"names": ["a,b"]}"#), carrying(r#"{"names": ["a", "b"]}"#));
        let first = interner.acquire(&mut kept, &one).expect("room");
        assert_eq!(interner.acquire(&mut kept, &one).expect("room"), first);
        interner.release(&mut kept, first);
        assert_eq!(interner.acquire(&mut kept, &one).expect("room"), first, "another tuple carries it");
        interner.release(&mut kept, first);
        interner.release(&mut kept, first);
        assert_eq!(interner.acquire(&mut kept, &other).expect("room"), first, "free again");
        let anew = interner.acquire(&mut kept, &one).expect("room");
        assert_ne!(anew, first);
        assert_eq!(kept.len(), 2);
    }
}
