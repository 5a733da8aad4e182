//! Goals and what they depend on: the one place where the engine reads tuples object-side.

use std::ops::ControlFlow;

use super::limits::{Meter, Stop};
use super::scope::Scope;
use crate::graph::{AttributesId, Edge, Met, Ordinal, SubjectNode, View};
use crate::schema::{KindId, RelationId, Rule, RuleId, Rules, SubjectKind, TypeId};

/// Has the subject the rule on the object?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Goal {
    pub(super) object: Ordinal,
    pub(super) rule: RuleId,
}

impl Goal {
    /// The goal that a relation holds on an object.
    pub(super) fn relation(rules: &Rules, object: Ordinal, relation: RelationId) -> Self {
        Self { object, rule: rules.relation_rule(relation) }
    }

    /// Another rule on the same object.
    pub(super) fn same(self, rule: RuleId) -> Self {
        Self { rule, ..self }
    }
}

/// How a goal follows from others. A relation stands for the rule that defines it, so that it
/// needs no goal of its own.
#[derive(Debug, Clone, Copy)]
pub(super) enum Body<'a> {
    /// Any of these, which [`Scan`] enumerates.
    Any(&'a [RuleId]),
    /// All of these on the same object; at least two.
    All(&'a [RuleId]),
    /// The base unless the subtract.
    Except { base: RuleId, subtract: RuleId },
}

impl<'a> Body<'a> {
    pub(super) fn of(rules: &'a Rules, rule: &'a RuleId) -> Self {
        let rule = match rules.rule(*rule) {
            Rule::Relation(relation) => &rules.relation(*relation).expression,
            Rule::This(_) | Rule::TupleToUserset { .. } | Rule::Or(_) | Rule::And(_) | Rule::Not { .. } => {
                rule
            }
        };
        match rules.rule(*rule) {
            Rule::Or(operands) => Self::Any(operands),
            Rule::And(operands) => Self::All(operands),
            Rule::Not { base, subtract } => Self::Except { base: *base, subtract: *subtract },
            Rule::Relation(_) | Rule::This(_) | Rule::TupleToUserset { .. } => {
                Self::Any(std::slice::from_ref(rule))
            }
        }
    }

    pub(super) fn is_gate(self) -> bool {
        match self {
            Self::Any(_) => false,
            Self::All(_) | Self::Except { .. } => true,
        }
    }
}

/// A stored tuple on the goal's object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stored {
    pub(super) relation: RelationId,
    pub(super) subject: SubjectNode,
    pub(super) attributes: Option<AttributesId>,
}

/// One alternative of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// A tuple that names a subject asked about.
    Fact(Stored),
    /// A tuple that leads to a goal on another object.
    Hop(Stored, Goal),
    /// Another rule of the same object.
    Same(Goal),
}

/// Which subjects are facts to a scan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Facts {
    /// One subject, and the wildcard that covers it.
    Subject(SubjectNode),
    /// Every subject of a kind and, for objects, their wildcard.
    Kind(KindId),
}

impl Facts {
    pub(super) fn kind(self) -> KindId {
        match self {
            Self::Subject(subject) => subject.kind,
            Self::Kind(kind) => kind,
        }
    }
}

/// A position among the alternatives of a goal. Whatever cannot reach the kind of subject asked
/// about is left out.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Scan {
    /// Which operand.
    operand: u32,
    /// Which part of it: 0 the facts, 1 the wildcard, then kinds of usersets or parents.
    part: u32,
    /// Where in the part: the ordinal to go on from, or one past the last there can be.
    from: u64,
}

/// Parts of a stored relation before its kinds of usersets.
const FACT_PARTS: u32 = 2;

impl Scan {
    /// Visits alternatives from the position on, paying for each tuple looked at, until the
    /// visitor breaks. The position is then behind the alternative visited, so that the scan can
    /// go on; when the slice ends it is before the first one not visited. The visitor itself must
    /// not suspend.
    pub(super) fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        facts: Facts,
        goal: Goal,
        meter: &mut Meter<'_>,
        mut visit: impl FnMut(Step, &mut Meter<'_>) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<ControlFlow<()>, Stop> {
        let Body::Any(operands) = Body::of(scope.rules, &goal.rule) else {
            return Ok(ControlFlow::Continue(()));
        };
        while let Some(operand) = operands.get(self.operand as usize) {
            let flow = match scope.rules.rule(*operand) {
                Rule::This(relation) => self.stored(scope, facts, goal, *relation, meter, &mut visit)?,
                Rule::TupleToUserset { tupleset, computed } => {
                    self.through(scope, facts, goal, *tupleset, computed, meter, &mut visit)?
                }
                Rule::Relation(_) | Rule::Or(_) | Rule::And(_) | Rule::Not { .. } => {
                    if self.part == 0 && scope.rules.can_reach(*operand, facts.kind()) {
                        self.part = 1;
                        visit(Step::Same(goal.same(*operand)), meter)?
                    } else {
                        ControlFlow::Continue(())
                    }
                }
            };
            if flow.is_break() {
                return Ok(flow);
            }
            *self = Self { operand: self.operand + 1, ..Self::default() };
        }
        Ok(ControlFlow::Continue(()))
    }

    fn next_part(&mut self) {
        self.part += 1;
        self.from = 0;
    }

    /// The tuples of a relation.
    fn stored<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        facts: Facts,
        goal: Goal,
        relation: RelationId,
        meter: &mut Meter<'_>,
        visit: &mut impl FnMut(Step, &mut Meter<'_>) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<ControlFlow<()>, Stop> {
        let rules = scope.rules;
        while self.part < FACT_PARTS {
            let fact = |edge: Edge, kind| {
                let subject = SubjectNode { kind, node: edge.node };
                Step::Fact(Stored { relation, subject, attributes: edge.attributes })
            };
            let probed = match (facts, self.part) {
                (Facts::Subject(subject), 0) => Some(subject),
                (Facts::Kind(kind), 0) => {
                    let flow = self.members(scope, goal, relation, kind, meter, |edge, meter| {
                        visit(fact(edge, kind), meter)
                    })?;
                    if flow.is_break() {
                        return Ok(flow);
                    }
                    None
                }
                _ => wildcard(rules, facts.kind()),
            };
            if let Some(subject) = probed.filter(|subject| rules.allows_kind(relation, subject.kind)) {
                meter.edge()?;
                self.next_part();
                if let Some(edge) = scope.view.probe(goal.object, relation, subject) {
                    let stored = Stored { relation, subject, attributes: edge.attributes };
                    if visit(Step::Fact(stored), meter)?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            } else {
                self.next_part();
            }
        }
        let usersets = &rules.relation(relation).usersets;
        while let Some(userset) = usersets.get((self.part - FACT_PARTS) as usize) {
            let rule = rules.relation_rule(*userset);
            if rules.can_reach(rule, facts.kind()) {
                let kind = rules.kind_id(SubjectKind::Userset(*userset));
                let flow = self.members(scope, goal, relation, kind, meter, |edge, meter| {
                    let subject = SubjectNode { kind, node: edge.node };
                    let stored = Stored { relation, subject, attributes: edge.attributes };
                    visit(Step::Hop(stored, Goal { object: edge.node, rule }), meter)
                })?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
            self.next_part();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The objects a tupleset names.
    #[expect(clippy::too_many_arguments, reason = "the parts of one rule beside what every scan needs")]
    fn through<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        facts: Facts,
        goal: Goal,
        tupleset: RelationId,
        computed: &[(TypeId, RelationId)],
        meter: &mut Meter<'_>,
        visit: &mut impl FnMut(Step, &mut Meter<'_>) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<ControlFlow<()>, Stop> {
        while let Some((parent, relation)) = computed.get(self.part as usize) {
            let rule = scope.rules.relation_rule(*relation);
            if scope.rules.can_reach(rule, facts.kind()) {
                let kind = scope.rules.kind_id(SubjectKind::Object(*parent));
                let flow = self.members(scope, goal, tupleset, kind, meter, |edge, meter| {
                    let subject = SubjectNode { kind, node: edge.node };
                    let stored = Stored { relation: tupleset, subject, attributes: edge.attributes };
                    visit(Step::Hop(stored, Goal { object: edge.node, rule }), meter)
                })?;
                if flow.is_break() {
                    return Ok(flow);
                }
            }
            self.next_part();
        }
        Ok(ControlFlow::Continue(()))
    }

    /// The subjects of one kind, from the position on.
    fn members<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        goal: Goal,
        relation: RelationId,
        kind: KindId,
        meter: &mut Meter<'_>,
        mut visit: impl FnMut(Edge, &mut Meter<'_>) -> Result<ControlFlow<()>, Stop>,
    ) -> Result<ControlFlow<()>, Stop> {
        let Ok(from) = u32::try_from(self.from) else { return Ok(ControlFlow::Continue(())) };
        for met in scope.view.members(goal.object, relation, kind, Ordinal(from)) {
            meter.edge()?;
            self.from = u64::from(met.node().0) + 1;
            if let Met::Edge(edge) = met
                && visit(edge, meter)?.is_break()
            {
                return Ok(ControlFlow::Break(()));
            }
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// The wildcard that covers plain objects of a kind.
pub(super) fn wildcard(rules: &Rules, kind: KindId) -> Option<SubjectNode> {
    match rules.subject_kind(kind) {
        SubjectKind::Object(subject_type) => {
            Some(SubjectNode { kind: rules.kind_id(SubjectKind::Wildcard(subject_type)), node: Ordinal(0) })
        }
        SubjectKind::Wildcard(_) | SubjectKind::Userset(_) => None,
    }
}
