//! Objects and their dense ordinals, as one snapshot has them.

use foldhash::quality::RandomState;
use imbl::shared_ptr::DefaultSharedPtr;

use super::index::IndexFull;
use super::view::Ordinal;
use crate::tuple::Object;

/// What stands in a tuple's subject place for a wildcard, which has no object. No object has it.
pub(super) const WILDCARD: Ordinal = Ordinal(0);

/// Ordinals from here up belong to questions, counted down from the top; a quarter of a billion
/// unknown objects in one question is far beyond every limit on requests.
pub(super) const LOCAL: Ordinal = Ordinal(0xF000_0000);

/// Objects ↔ ordinals. Persistent: a clone is a frozen copy at the price of two counters.
///
/// The hash is seeded per process, so that nobody can choose ids that collide.
#[derive(Clone)]
pub(super) struct Dictionary {
    ordinals: imbl::GenericHashMap<Object, Ordinal, RandomState, DefaultSharedPtr>,
    /// By ordinal; `None` for the wildcard and for ordinals waiting to be used again.
    names: imbl::Vector<Option<Object>>,
}

impl Default for Dictionary {
    fn default() -> Self {
        Self {
            ordinals: imbl::GenericHashMap::with_hasher(RandomState::default()),
            names: imbl::Vector::unit(None),
        }
    }
}

impl Dictionary {
    pub(super) fn ordinal(&self, object: &Object) -> Option<Ordinal> {
        self.ordinals.get(object).copied()
    }

    pub(super) fn name(&self, Ordinal(ordinal): Ordinal) -> Option<&Object> {
        self.names.get(ordinal as usize)?.as_ref()
    }

    /// Gives an object that has none an ordinal: a freed one if there is any.
    pub(super) fn insert(&mut self, object: Object, free: &mut Vec<Ordinal>) -> Result<Ordinal, IndexFull> {
        let ordinal = if let Some(ordinal) = free.pop() {
            self.names.set(ordinal.0 as usize, Some(object.clone()));
            ordinal
        } else {
            let ordinal = u32::try_from(self.names.len()).map_or(LOCAL, Ordinal);
            if ordinal >= LOCAL {
                return Err(IndexFull { what: "objects" });
            }
            self.names.push_back(Some(object.clone()));
            ordinal
        };
        self.ordinals.insert(object, ordinal);
        Ok(ordinal)
    }

    /// Forgets an object that no tuple names any more.
    pub(super) fn remove(&mut self, ordinal: Ordinal) {
        let Some(slot) = self.names.get_mut(ordinal.0 as usize) else { return };
        if let Some(object) = slot.take() {
            self.ordinals.remove(&object);
        }
    }

    /// How many objects have an ordinal.
    pub(super) fn len(&self) -> usize {
        self.ordinals.len()
    }
}
