//! Objects and their dense ordinals, as one snapshot has them.

use std::hash::BuildHasher as _;

use foldhash::quality::RandomState;

use super::index::IndexFull;
use super::view::Ordinal;
use crate::footprint;
use crate::tuple::Object;

/// What stands in a tuple's subject place for a wildcard, which has no object. No object has it.
pub(super) const WILDCARD: Ordinal = Ordinal(0);

/// Ordinals from here up belong to questions, counted down from the top; a quarter of a billion
/// unknown objects in one question is far beyond every limit on requests.
pub(super) const LOCAL: Ordinal = Ordinal(0xF000_0000);

/// Objects ↔ ordinals. Persistent: a clone is a frozen copy at the price of two counters.
///
/// From an object to its ordinal the way leads through its hash: an ordered set of (hash, ordinal)
/// takes a tenth of what a persistent hash table of objects takes, whose nodes are as large as
/// thirty-two objects however few they hold. The hash is seeded, so that nobody can choose ids that
/// collide.
#[derive(Clone)]
pub(super) struct Dictionary {
    hasher: RandomState,
    by_hash: imbl::OrdSet<Place>,
    /// By ordinal; `None` for the wildcard and for ordinals waiting to be used again.
    names: imbl::Vector<Option<Object>>,
    /// What the ids of the objects take.
    text_bytes: usize,
}

/// Where an object stands among the hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    hash: u32,
    ordinal: Ordinal,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            hasher: RandomState::default(),
            by_hash: imbl::OrdSet::new(),
            names: imbl::Vector::unit(None),
            text_bytes: 0,
        }
    }
}

impl Dictionary {
    pub(super) fn ordinal(&self, object: &Object) -> Option<Ordinal> {
        let hash = self.hash(object);
        // One in a thousand objects of a store of millions shares its hash with another.
        let mut place = Place { hash, ordinal: WILDCARD };
        loop {
            let found = *self.by_hash.get_next(&place)?;
            if found.hash != hash {
                return None;
            }
            if self.name(found.ordinal) == Some(object) {
                return Some(found.ordinal);
            }
            place.ordinal = Ordinal(found.ordinal.0 + 1);
        }
    }

    pub(super) fn name(&self, Ordinal(ordinal): Ordinal) -> Option<&Object> {
        self.names.get(ordinal as usize)?.as_ref()
    }

    /// Gives an object that has none an ordinal: a freed one if there is any.
    pub(super) fn insert(&mut self, object: Object, free: &mut Vec<Ordinal>) -> Result<Ordinal, IndexFull> {
        let hash = self.hash(&object);
        self.text_bytes += footprint::shared_text(object.id().as_str());
        let ordinal = if let Some(ordinal) = free.pop() {
            self.names.set(ordinal.0 as usize, Some(object));
            ordinal
        } else {
            let ordinal = u32::try_from(self.names.len()).map_or(LOCAL, Ordinal);
            if ordinal >= LOCAL {
                return Err(IndexFull { what: "objects" });
            }
            self.names.push_back(Some(object));
            ordinal
        };
        self.by_hash.insert(Place { hash, ordinal });
        Ok(ordinal)
    }

    /// Forgets an object that no tuple names any more.
    pub(super) fn remove(&mut self, ordinal: Ordinal) {
        let Some(object) = self.names.get_mut(ordinal.0 as usize).and_then(Option::take) else { return };
        self.by_hash.remove(&Place { hash: self.hash(&object), ordinal });
        self.text_bytes -= footprint::shared_text(object.id().as_str());
    }

    /// How many objects have an ordinal.
    pub(super) fn len(&self) -> usize {
        self.by_hash.len()
    }

    /// What it takes on the heap. Freed ordinals keep their places, for the next newcomers.
    pub(super) fn bytes(&self) -> usize {
        const HASH: usize = footprint::ordered_entry(size_of::<Place>(), 0);
        const NAME: usize = footprint::vector_element(size_of::<Option<Object>>());
        self.by_hash.len() * HASH + self.names.len() * NAME + self.text_bytes
    }

    /// The upper half, which is as good as the lower.
    fn hash(&self, object: &Object) -> u32 {
        (self.hasher.hash_one(object) >> 32) as u32
    }
}

#[cfg(test)]
impl Dictionary {
    /// How many ordinals have been given out, the wildcard's and freed ones included.
    pub(super) fn places(&self) -> usize {
        self.names.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(number: u32) -> Object {
        format!("user:{number}").parse().expect("an object")
    }

    #[test]
    fn objects_whose_hashes_are_equal_are_told_apart() {
        let (mut dictionary, mut free) = (Dictionary::default(), Vec::new());
        let ordinals: Vec<Ordinal> =
            (0..10).map(|number| dictionary.insert(object(number), &mut free).expect("room")).collect();
        // As if all of them shared the hashes of two.
        for (number, absent) in [(4, 20), (9, 21)] {
            for ordinal in &ordinals {
                dictionary
                    .by_hash
                    .insert(Place { hash: dictionary.hash(&object(number)), ordinal: *ordinal });
                dictionary
                    .by_hash
                    .insert(Place { hash: dictionary.hash(&object(absent)), ordinal: *ordinal });
            }
            assert_eq!(dictionary.ordinal(&object(number)), Some(ordinals[number as usize]));
            assert_eq!(dictionary.ordinal(&object(absent)), None);
        }
        dictionary.remove(ordinals[4]);
        assert_eq!(dictionary.ordinal(&object(4)), None);
        assert_eq!(dictionary.ordinal(&object(9)), Some(ordinals[9]));
    }

    #[test]
    fn nobody_can_know_which_ids_share_a_hash() {
        let (one, other) = (Dictionary::default(), Dictionary::default());
        let differ = (0..4).any(|number| one.hash(&object(number)) != other.hash(&object(number)));
        assert!(differ, "the hash has a seed of its own");
    }
}
