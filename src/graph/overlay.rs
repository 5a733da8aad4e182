//! What one question sees differently from the snapshot: changes undone, contextual tuples added.
//!
//! An entry shadows the stored tuple of its key everywhere. The overlay is written in the schema's
//! ids, not in symbols: a relation may have its first tuple here, and what the schema does not
//! know is skipped anyway.

use super::attributes::{Carried, LOCAL};
use super::view::{AttributesId, Edge, Ordinal};
use crate::schema::{KindId, RelationId};
use crate::tuple::Attributes;

/// Where an entry stands when it is looked up from its object.
type Forward = (Ordinal, RelationId, KindId, Ordinal);
/// Where an entry stands when it is looked up from its subject.
type Reverse = (Ordinal, KindId, RelationId, Ordinal);

/// One tuple of the overlay, by its four numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) object: Ordinal,
    pub(super) relation: RelationId,
    pub(super) kind: KindId,
    pub(super) node: Ordinal,
}

/// What became of a tuple.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Entry {
    /// It is there, and carries this.
    Added(Carried),
    /// It is not there.
    Removed,
}

/// Sorted small vectors for both directions.
#[derive(Debug, Clone, Default)]
pub(super) struct Overlay {
    forward: Vec<(Forward, Entry)>,
    reverse: Vec<(Reverse, Entry)>,
    attributes: Vec<Attributes>,
}

impl Overlay {
    /// Lays entries over those already there. Of entries with the same place the last one counts.
    pub(super) fn cover(&mut self, entries: Vec<(Place, Option<Attributes>)>) {
        let mut all = std::mem::take(&mut self.forward);
        all.extend(self.numbered(entries));
        self.rebuild(all);
    }

    /// Lays entries under those already there. Of entries with the same place the last one counts.
    pub(super) fn underlie(&mut self, entries: Vec<(Place, Option<Attributes>)>) {
        let above = std::mem::take(&mut self.forward);
        let mut all = self.numbered(entries);
        all.extend(above);
        self.rebuild(all);
    }

    fn numbered(&mut self, entries: Vec<(Place, Option<Attributes>)>) -> Vec<(Forward, Entry)> {
        let number = |(Place { object, relation, kind, node }, after): (Place, Option<Attributes>)| {
            let entry = after.map_or(Entry::Removed, |attributes| Entry::Added(self.keep(attributes)));
            ((object, relation, kind, node), entry)
        };
        entries.into_iter().map(number).collect()
    }

    fn rebuild(&mut self, mut all: Vec<(Forward, Entry)>) {
        all.sort_by_key(|(at, _)| *at);
        // The sort is stable, and `dedup_by` keeps the earlier of two equals: it takes over what
        // the later one says.
        all.dedup_by(|later, earlier| {
            let same = later.0 == earlier.0;
            if same {
                earlier.1 = later.1;
            }
            same
        });
        self.reverse = all
            .iter()
            .map(|((object, relation, kind, node), entry)| ((*node, *kind, *relation, *object), *entry))
            .collect();
        self.reverse.sort_unstable_by_key(|(at, _)| *at);
        self.forward = all;
    }

    fn keep(&mut self, attributes: Attributes) -> Carried {
        if attributes.is_plain() {
            return Carried::PLAIN;
        }
        // INVARIANT: an overlay holds as many entries as a request may carry and a ring reach,
        // far below two thousand million.
        let id = AttributesId(LOCAL | u32::try_from(self.attributes.len()).unwrap_or(LOCAL - 1));
        self.attributes.push(attributes);
        id.into()
    }

    /// What an edge of the overlay carries; `None` if the id is not the overlay's.
    pub(super) fn attributes(&self, AttributesId(id): AttributesId) -> Option<&Attributes> {
        self.attributes.get(id.checked_sub(LOCAL)? as usize)
    }

    pub(super) fn probe(&self, place: Place) -> Option<Entry> {
        let at = (place.object, place.relation, place.kind, place.node);
        let found = self.forward.binary_search_by_key(&at, |(at, _)| *at).ok()?;
        self.forward.get(found).map(|(_, entry)| *entry)
    }

    /// Entries of `object#relation` with subjects of a kind, ascending from `from` on.
    pub(super) fn members(
        &self,
        object: Ordinal,
        relation: RelationId,
        kind: KindId,
        from: Ordinal,
    ) -> impl Iterator<Item = (Ordinal, Entry)> {
        from_on(&self.forward, (object, relation, kind, from))
            .take_while(move |((o, r, k, _), _)| (*o, *r, *k) == (object, relation, kind))
            .map(|((_, _, _, node), entry)| (*node, *entry))
    }

    /// Entries of the relation whose subject this is, ascending by object from `from` on.
    pub(super) fn holders(
        &self,
        node: Ordinal,
        kind: KindId,
        relation: RelationId,
        from: Ordinal,
    ) -> impl Iterator<Item = (Ordinal, Entry)> {
        from_on(&self.reverse, (node, kind, relation, from))
            .take_while(move |((n, k, r, _), _)| (*n, *k, *r) == (node, kind, relation))
            .map(|((_, _, _, object), entry)| (*object, *entry))
    }
}

fn from_on<K: Ord + Copy>(sorted: &[(K, Entry)], start: K) -> std::slice::Iter<'_, (K, Entry)> {
    let (_, rest) = sorted.split_at(sorted.partition_point(|(at, _)| *at < start));
    rest.iter()
}

/// Stored far ends and the overlay's, both ascending, as one: the overlay's win.
pub(super) struct Merged<S: Iterator, O: Iterator> {
    stored: std::iter::Peekable<S>,
    overlay: std::iter::Peekable<O>,
}

impl<S, O> Merged<S, O>
where
    S: Iterator<Item = (Ordinal, Carried)>,
    O: Iterator<Item = (Ordinal, Entry)>,
{
    pub(super) fn new(stored: S, overlay: O) -> Self {
        Self { stored: stored.peekable(), overlay: overlay.peekable() }
    }
}

impl<S, O> Iterator for Merged<S, O>
where
    S: Iterator<Item = (Ordinal, Carried)>,
    O: Iterator<Item = (Ordinal, Entry)>,
{
    type Item = (Ordinal, Carried);

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let Some((shadow, _)) = self.overlay.peek() else { return self.stored.next() };
            let shadow = *shadow;
            if let Some(stored) = self.stored.next_if(|(node, _)| *node < shadow) {
                return Some(stored);
            }
            self.stored.next_if(|(node, _)| *node == shadow);
            if let Some((node, Entry::Added(carried))) = self.overlay.next() {
                return Some((node, carried));
            }
        }
    }
}

/// A far end as the engine sees it.
pub(super) fn edge((node, carried): (Ordinal, Carried)) -> Edge {
    Edge { node, attributes: carried.id() }
}
