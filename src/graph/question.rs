//! The tuples as one question sees them.

use std::collections::HashMap;
use std::sync::Arc;

use super::attributes::Carried;
use super::binding::{Binding, Gate};
use super::dictionary::{LOCAL, WILDCARD};
use super::overlay::{Entry, Merged, Overlay, Place, edge};
use super::snapshot::{Forward, Reverse, Snapshot};
use super::view::{AttributesId, Edge, Met, Ordinal, SubjectNode, View};
use crate::schema::{KindId, RelationId, Rules};
use crate::time::Timestamp;
use crate::tuple::{Attributes, Object, Subject, Tuple, TupleKey};

/// A snapshot, bound to a schema and a moment, under the question's own overlay.
///
/// Owns all it needs: a search may be suspended and go on in another thread. Translate a
/// question's names with [`object`](Self::object) and [`subject`](Self::subject) before the
/// search; answers are translated back by [`View::object`].
#[derive(Clone)]
pub struct QuestionView {
    snapshot: Snapshot,
    binding: Arc<Binding>,
    now: Timestamp,
    /// `None` for the usual question, which then pays nothing for the possibility.
    overlay: Option<Overlay>,
    locals: Locals,
}

/// Ordinals of objects that no stored tuple names.
#[derive(Clone, Default)]
struct Locals {
    ordinals: HashMap<Object, Ordinal>,
    /// The first one has the greatest ordinal.
    names: Vec<Object>,
}

impl QuestionView {
    /// The tuples of a snapshot as a schema allows them at a moment. A binding made for another
    /// snapshot is renewed.
    #[must_use]
    pub fn new(snapshot: Snapshot, binding: Arc<Binding>, now: Timestamp) -> Self {
        let binding = if binding.fits(&snapshot) {
            binding
        } else {
            Arc::new(Binding::new(Arc::clone(binding.rules()), &snapshot))
        };
        Self { snapshot, binding, now, overlay: None, locals: Locals::default() }
    }

    /// Takes changes back: for each, its tuple and the state **before** it, newest change first,
    /// so that the state before the oldest one remains. Contextual tuples stay above it.
    #[must_use]
    pub fn with_undo<'a>(
        mut self,
        changes: impl IntoIterator<Item = (&'a TupleKey, Option<&'a Attributes>)>,
    ) -> Self {
        let entries = self.entries(changes);
        if !entries.is_empty() {
            self.overlay.get_or_insert_default().underlie(entries);
        }
        self
    }

    /// Adds the question's own tuples, which replace stored ones of the same key. Of several with
    /// one key the last counts.
    #[must_use]
    pub fn with_contextual(mut self, tuples: &[Tuple]) -> Self {
        let entries = self.entries(tuples.iter().map(|tuple| (&tuple.key, Some(&tuple.attributes))));
        if !entries.is_empty() {
            self.overlay.get_or_insert_default().cover(entries);
        }
        self
    }

    fn entries<'a>(
        &mut self,
        tuples: impl IntoIterator<Item = (&'a TupleKey, Option<&'a Attributes>)>,
    ) -> Vec<(Place, Option<Attributes>)> {
        tuples.into_iter().filter_map(|(key, state)| Some((self.place(key)?, state.cloned()))).collect()
    }

    /// Where a tuple of the overlay stands; `None` if the schema has no such relation or kind of
    /// subject, so that it could never be seen.
    fn place(&mut self, key: &TupleKey) -> Option<Place> {
        let object_type = self.rules().type_id(key.object.object_type().as_str())?;
        let relation = self.rules().relation_id(object_type, &key.relation)?;
        let SubjectNode { kind, node } = self.subject(&key.subject)?;
        Some(Place { object: self.object(&key.object), relation, kind, node })
    }

    /// The ordinal of an object of the question, known or not.
    pub fn object(&mut self, object: &Object) -> Ordinal {
        if let Some(ordinal) = self.snapshot.0.dictionary.ordinal(object) {
            return ordinal;
        }
        if let Some(ordinal) = self.locals.ordinals.get(object) {
            return *ordinal;
        }
        // INVARIANT: limits on requests keep the objects of a question far below the quarter of
        // a billion ordinals set aside for them.
        let ordinal = Ordinal(u32::MAX - u32::try_from(self.locals.names.len()).unwrap_or(u32::MAX));
        self.locals.names.push(object.clone());
        self.locals.ordinals.insert(object.clone(), ordinal);
        ordinal
    }

    /// The node of a subject of the question; `None` if the schema has no such kind of subject.
    pub fn subject(&mut self, subject: &Subject) -> Option<SubjectNode> {
        let kind = self.rules().kind_of(subject)?;
        let node = match subject {
            Subject::Wildcard(_) => WILDCARD,
            Subject::Object(object) | Subject::Userset(object, _) => self.object(object),
        };
        Some(SubjectNode { kind, node })
    }

    /// The schema it is bound to.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        self.binding.rules()
    }

    /// The moment tuples are judged at.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }

    fn gate(&self, relation: RelationId, kind: KindId) -> Gate<'_> {
        self.binding.gate(relation, kind, self.now)
    }

    /// Whether a stored or overlaid tuple passes.
    fn admits(&self, gate: Gate<'_>, carried: Carried) -> bool {
        gate.admits(carried, || self.lookup(carried.id()?))
    }

    fn meet(&self, gate: Gate<'_>, (node, carried): (Ordinal, Carried)) -> Met {
        if self.admits(gate, carried) { Met::Edge(edge((node, carried))) } else { Met::Passed(node) }
    }

    fn lookup(&self, id: AttributesId) -> Option<&Attributes> {
        match self.overlay.as_ref().and_then(|overlay| overlay.attributes(id)) {
            Some(attributes) => Some(attributes),
            None => self.snapshot.0.attributes.get(id.0 as usize)?.as_deref(),
        }
    }

    fn stored_members(
        &self,
        object: Ordinal,
        relation: RelationId,
        kind: KindId,
        from: Ordinal,
    ) -> impl Iterator<Item = (Ordinal, Carried)> {
        let start = self.binding.relation(relation).zip(self.binding.kind(kind));
        start.into_iter().flat_map(move |(relation, kind)| {
            self.snapshot
                .0
                .forward
                .range(Forward { object, relation, kind, node: from }..)
                .take_while(move |(at, _)| (at.object, at.relation, at.kind) == (object, relation, kind))
                .map(|(at, carried)| (at.node, *carried))
        })
    }

    fn stored_holders(
        &self,
        SubjectNode { kind, node }: SubjectNode,
        relation: RelationId,
        from: Ordinal,
    ) -> impl Iterator<Item = (Ordinal, Carried)> {
        let start = self.binding.relation(relation).zip(self.binding.kind(kind));
        start.into_iter().flat_map(move |(relation, kind)| {
            self.snapshot
                .0
                .reverse
                .range(Reverse { node, kind, relation, object: from }..)
                .take_while(move |(at, _)| (at.node, at.kind, at.relation) == (node, kind, relation))
                .map(|(at, carried)| (at.object, *carried))
        })
    }
}

/// Stored edges, under an overlay or not.
enum Seen<P, M> {
    Plain(P),
    Merged(M),
}

impl<P, M> Iterator for Seen<P, M>
where
    P: Iterator<Item = (Ordinal, Carried)>,
    M: Iterator<Item = (Ordinal, Carried)>,
{
    type Item = (Ordinal, Carried);

    fn next(&mut self) -> Option<Self::Item> {
        match self {
            Self::Plain(plain) => plain.next(),
            Self::Merged(merged) => merged.next(),
        }
    }
}

impl View for QuestionView {
    fn probe(&self, object: Ordinal, relation: RelationId, subject: SubjectNode) -> Option<Edge> {
        let gate = self.gate(relation, subject.kind);
        if gate.is_shut() {
            return None;
        }
        let place = Place { object, relation, kind: subject.kind, node: subject.node };
        let carried = match self.overlay.as_ref().and_then(|overlay| overlay.probe(place)) {
            Some(Entry::Removed) => return None,
            Some(Entry::Added(carried)) => carried,
            None => {
                let at = Forward {
                    object,
                    relation: self.binding.relation(relation)?,
                    kind: self.binding.kind(subject.kind)?,
                    node: subject.node,
                };
                *self.snapshot.0.forward.get(&at)?
            }
        };
        self.admits(gate, carried).then(|| edge((subject.node, carried)))
    }

    fn members(
        &self,
        object: Ordinal,
        relation: RelationId,
        kind: KindId,
        from: Ordinal,
    ) -> impl Iterator<Item = Met> {
        let gate = self.gate(relation, kind);
        let open = (!gate.is_shut()).then(|| {
            let stored = self.stored_members(object, relation, kind, from);
            match &self.overlay {
                None => Seen::Plain(stored),
                Some(overlay) => {
                    Seen::Merged(Merged::new(stored, overlay.members(object, relation, kind, from)))
                }
            }
        });
        open.into_iter().flatten().map(move |at| self.meet(gate, at))
    }

    fn holders(
        &self,
        subject: SubjectNode,
        relation: RelationId,
        from: Ordinal,
    ) -> impl Iterator<Item = Met> {
        let gate = self.gate(relation, subject.kind);
        let open = (!gate.is_shut()).then(|| {
            let stored = self.stored_holders(subject, relation, from);
            match &self.overlay {
                None => Seen::Plain(stored),
                Some(overlay) => Seen::Merged(Merged::new(
                    stored,
                    overlay.holders(subject.node, subject.kind, relation, from),
                )),
            }
        });
        open.into_iter().flatten().map(move |at| self.meet(gate, at))
    }

    fn attributes(&self, id: AttributesId) -> &Attributes {
        // INVARIANT: the id comes from an edge of this view, whose attributes it keeps.
        self.lookup(id).unwrap_or_else(|| unreachable!("attributes of another view"))
    }

    fn object(&self, ordinal: Ordinal) -> Object {
        let name = if ordinal < LOCAL {
            self.snapshot.0.dictionary.name(ordinal)
        } else {
            self.locals.names.get((u32::MAX - ordinal.0) as usize)
        };
        // INVARIANT: the ordinal comes from an edge or a question of this view.
        name.unwrap_or_else(|| unreachable!("ordinal of another view")).clone()
    }
}
