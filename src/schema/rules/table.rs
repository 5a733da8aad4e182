//! The rewrite graph: every relation of a schema as rules in one table of dense ids.

use std::collections::HashMap;
use std::sync::Arc;

use super::analysis::Analysis;
use crate::condition::Condition;
use crate::schema::Rewrite;
use crate::tuple::{ConditionName, RelationName, Subject, TypeName};

/// A type of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TypeId(pub u16);

/// A relation of a type: (type, relation name), so `doc#viewer` and `folder#viewer` differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationId(pub u16);

/// A condition of the schema.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConditionId(pub u16);

/// A rule in [`Rules`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub u32);

/// A subject kind, dense: see [`SubjectKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KindId(pub u16);

/// What sort of subject a tuple names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SubjectKind {
    /// `type:id`
    Object(TypeId),
    /// `type:*`
    Wildcard(TypeId),
    /// `type:id#relation`
    Userset(RelationId),
}

/// One rule. Operands are rules of the same table and concern the same object, except where
/// a tuple leads to another one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Rule {
    /// The relation itself: holds for a reflexive question, else follows [`Rules::expression`].
    /// As an operand it is another relation of the same object (a computed userset).
    Relation(RelationId),
    /// The tuples stored for the relation.
    This(RelationId),
    /// That relation of every object the tupleset's tuples name.
    TupleToUserset {
        /// The relation whose tuples name the objects.
        tupleset: RelationId,
        /// Per type of object named: the relation asked of it. Types that lack it are absent.
        computed: Vec<(TypeId, RelationId)>,
    },
    /// Any operand; flattened, without repetitions. Without operands it never holds.
    Or(Vec<RuleId>),
    /// Every operand; flattened, without repetitions, the cheapest first. At least two.
    And(Vec<RuleId>),
    /// The base unless the subtract.
    Not {
        /// Who has it …
        base: RuleId,
        /// … unless they have this.
        subtract: RuleId,
    },
}

/// A relation as the engine sees it.
#[derive(Debug, Clone)]
pub struct CompiledRelation {
    /// The type it is on.
    pub object_type: TypeId,
    /// Its name.
    pub name: RelationName,
    /// The rule that defines it.
    pub expression: RuleId,
    /// Which tuples may be written to it, sorted by kind; a kind once per condition.
    /// Shared: in dialect 1.0 nearly all relations allow the same long list.
    pub allowed: Arc<Vec<Allowed>>,
    /// The relations whose usersets may be written to it, without repetitions.
    pub usersets: Arc<Vec<RelationId>>,
    /// The rule as it was written, for Expand.
    pub rewrite: Rewrite,
}

/// One way a tuple of a relation may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Allowed {
    /// The kind of its subject.
    pub kind: KindId,
    /// The condition it must carry; `None`: it must carry none.
    pub condition: Option<ConditionId>,
}

/// The compiled schema: what the engine runs and the graph is bound to.
#[derive(Debug)]
pub struct Rules {
    pub(super) types: Vec<TypeName>,
    pub(super) relations: Vec<CompiledRelation>,
    pub(super) conditions: Vec<Arc<Condition>>,
    #[expect(clippy::struct_field_names, reason = "the table of rules is what it holds")]
    pub(super) rules: Vec<Rule>,
    pub(super) type_ids: HashMap<TypeName, TypeId>,
    pub(super) relation_ids: HashMap<(TypeId, RelationName), RelationId>,
    pub(super) condition_ids: HashMap<ConditionName, ConditionId>,
    pub(super) analysis: Analysis,
}

impl Rules {
    /// Names of all types, by [`TypeId`].
    #[must_use]
    pub fn types(&self) -> &[TypeName] {
        &self.types
    }

    /// All relations, by [`RelationId`].
    #[must_use]
    pub fn relations(&self) -> &[CompiledRelation] {
        &self.relations
    }

    /// One relation.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "ids are made by `compile`, which fills the table")]
    pub fn relation(&self, RelationId(id): RelationId) -> &CompiledRelation {
        &self.relations[usize::from(id)]
    }

    /// How many rules there are.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules.len()
    }

    /// One rule.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "ids are made by `compile`, which fills the table")]
    pub fn rule(&self, RuleId(id): RuleId) -> &Rule {
        &self.rules[id as usize]
    }

    /// The rule that is the relation itself: it has the relation's own number.
    #[must_use]
    pub fn relation_rule(&self, RelationId(id): RelationId) -> RuleId {
        RuleId(u32::from(id))
    }

    /// The rule that defines a relation.
    #[must_use]
    pub fn expression(&self, relation: RelationId) -> RuleId {
        self.relation(relation).expression
    }

    /// The relations of a type, in the order of the schema.
    pub fn relations_of(&self, object_type: TypeId) -> impl Iterator<Item = RelationId> + '_ {
        self.relations
            .iter()
            .zip(0..=u16::MAX)
            .filter(move |(relation, _)| relation.object_type == object_type)
            .map(|(_, id)| RelationId(id))
    }

    /// Whether the schema allows any tuple of the relation with a subject of the kind.
    #[must_use]
    pub fn allows_kind(&self, relation: RelationId, kind: KindId) -> bool {
        let allowed = &self.relation(relation).allowed;
        let at = allowed.partition_point(|way| way.kind < kind);
        allowed.get(at).is_some_and(|way| way.kind == kind)
    }

    /// Whether the schema allows a tuple of the relation with a subject of the kind that carries
    /// the condition, or none.
    #[must_use]
    pub fn allows(&self, relation: RelationId, kind: KindId, condition: Option<&ConditionName>) -> bool {
        let condition = match condition {
            None => None,
            Some(name) => match self.condition_id(name.as_str()) {
                Some(id) => Some(id),
                None => return false,
            },
        };
        self.relation(relation).allowed.binary_search(&Allowed { kind, condition }).is_ok()
    }

    /// All conditions, by [`ConditionId`].
    #[must_use]
    pub fn conditions(&self) -> &[Arc<Condition>] {
        &self.conditions
    }

    /// The type of that name.
    #[must_use]
    pub fn type_id(&self, name: &str) -> Option<TypeId> {
        self.type_ids.get(name).copied()
    }

    /// The relation of that type and name.
    #[must_use]
    pub fn relation_id(&self, object_type: TypeId, name: &RelationName) -> Option<RelationId> {
        self.relation_ids.get(&(object_type, name.clone())).copied()
    }

    /// The condition of that name.
    #[must_use]
    pub fn condition_id(&self, name: &str) -> Option<ConditionId> {
        self.condition_ids.get(name).copied()
    }

    /// How many subject kinds there are: two per type and one per relation.
    #[must_use]
    pub fn kind_count(&self) -> usize {
        2 * self.types.len() + self.relations.len()
    }

    /// The dense id of a subject kind.
    #[must_use]
    pub fn kind_id(&self, kind: SubjectKind) -> KindId {
        let types = self.types.len();
        let dense = match kind {
            SubjectKind::Object(TypeId(id)) => usize::from(id),
            SubjectKind::Wildcard(TypeId(id)) => types + usize::from(id),
            SubjectKind::Userset(RelationId(id)) => 2 * types + usize::from(id),
        };
        // INVARIANT: resolve refuses schemas whose kinds do not fit 16 bits.
        KindId(u16::try_from(dense).unwrap_or(u16::MAX))
    }

    /// The subject kind of a dense id made by [`Rules::kind_id`].
    #[must_use]
    pub fn subject_kind(&self, KindId(id): KindId) -> SubjectKind {
        // INVARIANT: type counts fit 16 bits, as KindId does.
        let types = u16::try_from(self.types.len()).unwrap_or(u16::MAX);
        if id < types {
            SubjectKind::Object(TypeId(id))
        } else if id < 2 * types {
            SubjectKind::Wildcard(TypeId(id - types))
        } else {
            SubjectKind::Userset(RelationId(id - 2 * types))
        }
    }

    /// The kind of a subject; `None` if the schema lacks its type or relation.
    #[must_use]
    pub fn kind_of(&self, subject: &Subject) -> Option<KindId> {
        let subject_type = self.type_id(subject.subject_type().as_str())?;
        Some(self.kind_id(match subject {
            Subject::Object(_) => SubjectKind::Object(subject_type),
            Subject::Wildcard(_) => SubjectKind::Wildcard(subject_type),
            Subject::Userset(_, relation) => SubjectKind::Userset(self.relation_id(subject_type, relation)?),
        }))
    }
}
