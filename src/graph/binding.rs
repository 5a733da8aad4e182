//! From a schema's ids to the symbols of the stored tuples.

use std::sync::Arc;

use super::attributes::Carried;
use super::snapshot::Snapshot;
use super::symbols::{KindSymbol, RelationSymbol, Symbols, TypeSymbol};
use crate::schema::rules::{Allowed, ConditionId};
use crate::schema::{KindId, RelationId, Rules, SubjectKind};
use crate::time::Timestamp;
use crate::tuple::Attributes;

/// A compiled schema tied to a graph. Small and cheap to make; whoever publishes snapshots keeps
/// one and renews it when the schema or the symbols change.
#[derive(Debug)]
pub struct Binding {
    rules: Arc<Rules>,
    symbols: Arc<Symbols>,
    /// By [`RelationId`]; `None`: no tuple has the relation.
    relations: Vec<Option<RelationSymbol>>,
    /// By [`KindId`]; `None`: no tuple has such a subject.
    kinds: Vec<Option<KindSymbol>>,
}

impl Binding {
    /// Ties a schema to the graph of a snapshot.
    #[must_use]
    pub fn new(rules: Arc<Rules>, snapshot: &Snapshot) -> Self {
        let symbols = Arc::clone(&snapshot.0.symbols);
        let types: Vec<Option<TypeSymbol>> =
            rules.types().iter().map(|name| symbols.type_symbol(name)).collect();
        let type_symbol = |id: u16| types.get(usize::from(id)).copied().flatten();
        let relations: Vec<Option<RelationSymbol>> = rules
            .relations()
            .iter()
            .map(|relation| symbols.relation_symbol(type_symbol(relation.object_type.0)?, &relation.name))
            .collect();
        let kinds = (0..rules.kind_count())
            .map(|kind| {
                Some(match rules.subject_kind(KindId(u16::try_from(kind).ok()?)) {
                    SubjectKind::Object(id) => KindSymbol::object(type_symbol(id.0)?),
                    SubjectKind::Wildcard(id) => KindSymbol::wildcard(type_symbol(id.0)?),
                    SubjectKind::Userset(id) => {
                        KindSymbol::userset(relations.get(usize::from(id.0)).copied().flatten()?)
                    }
                })
            })
            .collect();
        Self { rules, symbols, relations, kinds }
    }

    /// Whether it fits a snapshot. Symbols of another graph, or of before a relation got its first
    /// tuple, do not.
    #[must_use]
    pub fn fits(&self, snapshot: &Snapshot) -> bool {
        Arc::ptr_eq(&self.symbols, &snapshot.0.symbols)
    }

    /// The schema it was made for.
    #[must_use]
    pub fn rules(&self) -> &Arc<Rules> {
        &self.rules
    }

    pub(super) fn relation(&self, RelationId(id): RelationId) -> Option<RelationSymbol> {
        self.relations.get(usize::from(id)).copied().flatten()
    }

    pub(super) fn kind(&self, KindId(id): KindId) -> Option<KindSymbol> {
        self.kinds.get(usize::from(id)).copied().flatten()
    }

    /// What decides whether tuples of a relation with subjects of a kind count.
    pub(super) fn gate(&self, RelationId(relation): RelationId, kind: KindId, now: Timestamp) -> Gate<'_> {
        let allowed = self
            .rules
            .relations()
            .get(usize::from(relation))
            .map_or(&[][..], |relation| relation.allowed.as_slice());
        let from = allowed.partition_point(|way| way.kind < kind);
        let (_, rest) = allowed.split_at(from);
        let (ways, _) = rest.split_at(rest.partition_point(|way| way.kind == kind));
        Gate { rules: &self.rules, ways, now }
    }
}

/// The one place where expired tuples, and tuples the schema does not allow, are skipped.
#[derive(Clone, Copy)]
pub(super) struct Gate<'a> {
    rules: &'a Rules,
    /// The ways such a tuple may look, one per condition.
    ways: &'a [Allowed],
    now: Timestamp,
}

impl Gate<'_> {
    /// Whether no tuple can pass.
    pub(super) fn is_shut(&self) -> bool {
        self.ways.is_empty()
    }

    /// Whether a tuple that carries something may pass. `attributes` finds what it is.
    pub(super) fn admits<'b>(
        &self,
        carried: Carried,
        attributes: impl FnOnce() -> Option<&'b Attributes>,
    ) -> bool {
        if carried == Carried::PLAIN {
            return self.accepts(None);
        }
        // INVARIANT: what an edge carries is kept by the view it came from; were it not, the tuple
        // must not count.
        let Some(attributes) = attributes() else { return false };
        if attributes.expires_at.is_some_and(|end| self.now >= end) {
            return false;
        }
        match &attributes.condition {
            None => self.accepts(None),
            Some(condition) => match self.rules.condition_id(condition.name.as_str()) {
                Some(id) => self.accepts(Some(id)),
                None => false,
            },
        }
    }

    fn accepts(&self, condition: Option<ConditionId>) -> bool {
        self.ways.iter().any(|way| way.condition == condition)
    }
}
