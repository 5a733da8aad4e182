//! `ListObjects`: the objects of a type on which a subject has a relation.
//!
//! Climbs from the subject: the tuples that name it, the relations these belong to, the usersets
//! and tuplesets in which those are named, and so on up to the relation asked about. Only rules
//! below that relation are followed. An `and` is climbed through one operand, its *driver*, and a
//! `but not` through its base; both are then verified by deciding the goal, with the same memo.
//! That is complete: whatever satisfies an `and` satisfies its driver, by a shorter proof.
//!
//! On the way up uncertain edges count as present. What was reached by certain edges only is
//! allowed without further ado; anything else found is decided as a Check would.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use super::check::Inquiry;
use super::goal::{Goal, wildcard};
use super::limits::{Meter, Stop, Work, progress};
use super::memo::Memo;
use super::scope::Scope;
use super::solver::{Slice, Solver};
use super::verdict::{EngineError, Progress, Truth, Verdict};
use crate::graph::{Met, Ordinal, SubjectNode, View};
use crate::schema::{KindId, RelationId, Rule, RuleId, Rules, SubjectKind};

/// An object found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundObject {
    /// The object, as the view numbers it.
    pub object: Ordinal,
    /// Allowed or conditional.
    pub verdict: Verdict,
}

/// One listing of objects, while it runs.
///
/// Finds each object once, in no particular order. There is no depth limit to it: climbing knows
/// no hops from the object.
#[derive(Debug)]
pub struct ListObjects {
    subject: SubjectNode,
    relation: RelationId,
    ascent: Option<Ascent>,
    found: Vec<FoundObject>,
    work: Work,
}

impl ListObjects {
    /// On which objects, of the relation's type, has the subject the relation?
    #[must_use]
    pub fn new(subject: SubjectNode, relation: RelationId) -> Self {
        Self { subject, relation, ascent: None, found: Vec::new(), work: Work::default() }
    }

    /// Goes on for at most `fuel` units. After each run, finished or not,
    /// [`take_found`](Self::take_found) has what was found since. It ends with the total cost.
    pub fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        memo: &mut Memo,
        fuel: &mut u64,
    ) -> Progress<Result<Work, EngineError>> {
        memo.bind(self.subject);
        let ascent = self.ascent.get_or_insert_with(|| Ascent::new(scope.rules, self.subject, self.relation));
        let meter = Meter { limits: scope.limits, work: &mut self.work, slice: fuel };
        let mut slice = Slice { scope, subject: self.subject, memo, meter };
        let outcome = ascent.run(&mut slice, &mut self.found);
        progress(outcome.map(|()| self.work))
    }

    /// Takes what was found since the last time.
    pub fn take_found(&mut self) -> Vec<FoundObject> {
        std::mem::take(&mut self.found)
    }

    /// What it has cost so far.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }
}

/// A way up: tuples of `tuples` with a subject of the kind satisfy `rule` on their object.
#[derive(Debug, Clone, Copy)]
struct Way {
    kind: KindId,
    tuples: RelationId,
    rule: RuleId,
}

/// The ways up from one node, and how far they are followed.
#[derive(Debug)]
struct Climb {
    node: Ordinal,
    /// Whether everything so far was certain.
    is_certain: bool,
    ways: Arc<Vec<Way>>,
    way: usize,
    from: u64,
}

#[derive(Debug)]
struct Ascent {
    asked: RuleId,
    /// Rules through which the relation asked about can be reached.
    below: HashSet<RuleId, foldhash::fast::FixedState>,
    /// The operand through which an `and` is climbed.
    drivers: HashMap<RuleId, RuleId, foldhash::fast::FixedState>,
    /// Ways up from the usersets and objects of a relation.
    ways: HashMap<RelationId, Arc<Vec<Way>>, foldhash::fast::FixedState>,
    /// Goals met: relations, and gates to verify.
    seen: HashSet<Goal, foldhash::fast::FixedState>,
    climb: Option<Climb>,
    /// Relations that hold, and whether for certain; to climb on from.
    queue: VecDeque<(Goal, RelationId, bool)>,
    gates: Vec<Goal>,
    solver: Solver,
    /// Objects reached by uncertain edges.
    doubtful: Vec<Goal>,
    inquiry: Option<(Goal, Inquiry)>,
    count: u64,
}

impl Ascent {
    /// Bytes of a goal met, in the tables it is kept in.
    const GOAL_BYTES: usize = 2 * size_of::<Goal>() + size_of::<(Goal, RelationId, bool)>();

    fn new(rules: &Rules, subject: SubjectNode, relation: RelationId) -> Self {
        let asked = rules.relation_rule(relation);
        let mut ascent = Self {
            asked,
            below: HashSet::default(),
            drivers: HashMap::default(),
            ways: HashMap::default(),
            seen: HashSet::default(),
            climb: None,
            queue: VecDeque::new(),
            gates: Vec::new(),
            solver: Solver::new(None),
            doubtful: Vec::new(),
            inquiry: None,
            count: 0,
        };
        if !rules.can_reach(asked, subject.kind) {
            return ascent;
        }
        ascent.descend(rules, subject.kind);
        // The subject as a userset holds its own relation: climbing from there follows the tuples
        // that name it. Any other subject starts from its tuples and its wildcard's.
        match rules.subject_kind(subject.kind) {
            SubjectKind::Userset(userset) => {
                let goal = Goal::relation(rules, subject.node, userset);
                if ascent.below.contains(&goal.rule) {
                    ascent.seen.insert(goal);
                    ascent.queue.push_back((goal, userset, true));
                }
            }
            SubjectKind::Object(_) | SubjectKind::Wildcard(_) => {
                let mut ways = Vec::new();
                ascent.stored_ways(rules, subject.kind, &mut ways);
                if let Some(wildcard) = wildcard(rules, subject.kind) {
                    ascent.stored_ways(rules, wildcard.kind, &mut ways);
                }
                let ways = Arc::new(ways);
                ascent.climb = Some(Climb { node: subject.node, is_certain: true, ways, way: 0, from: 0 });
            }
        }
        ascent
    }

    /// Finds the rules below the relation asked about, and a driver for each `and`: the cheapest
    /// operand, but rather not one that a wildcard satisfies, for that has too many objects.
    fn descend(&mut self, rules: &Rules, kind: KindId) {
        let wildcard = wildcard(rules, kind);
        let mut todo = vec![self.asked];
        while let Some(rule) = todo.pop() {
            if !rules.can_reach(rule, kind) || !self.below.insert(rule) {
                continue;
            }
            match rules.rule(rule) {
                Rule::Relation(relation) => todo.push(rules.expression(*relation)),
                Rule::This(relation) => {
                    let usersets = &rules.relation(*relation).usersets;
                    todo.extend(usersets.iter().map(|userset| rules.relation_rule(*userset)));
                }
                Rule::TupleToUserset { computed, .. } => {
                    todo.extend(computed.iter().map(|(_, relation)| rules.relation_rule(*relation)));
                }
                Rule::Or(operands) => todo.extend(operands),
                Rule::And(operands) => {
                    let public = |operand: &RuleId| {
                        wildcard.is_some_and(|wildcard| rules.can_reach(*operand, wildcard.kind))
                    };
                    let driver = operands.iter().find(|operand| !public(operand)).or(operands.first());
                    if let Some(driver) = driver {
                        self.drivers.insert(rule, *driver);
                        todo.push(*driver);
                    }
                }
                Rule::Not { base, .. } => todo.push(*base),
            }
        }
    }

    /// Ways up from a subject through the tuples that name it.
    fn stored_ways(&self, rules: &Rules, kind: KindId, ways: &mut Vec<Way>) {
        for relation in rules.relations_allowing(kind) {
            if let Some(rule) = rules.this_rule(*relation).filter(|rule| self.below.contains(rule)) {
                ways.push(Way { kind, tuples: *relation, rule });
            }
        }
    }

    /// Ways up from an object on which the relation holds: as a userset, and as a parent.
    fn ways_from(&mut self, rules: &Rules, relation: RelationId) -> Arc<Vec<Way>> {
        if let Some(ways) = self.ways.get(&relation) {
            return Arc::clone(ways);
        }
        let mut ways = Vec::new();
        self.stored_ways(rules, rules.kind_id(SubjectKind::Userset(relation)), &mut ways);
        let kind = rules.kind_id(SubjectKind::Object(rules.relation(relation).object_type));
        for rule in rules.tupleset_users(relation) {
            if let (true, Rule::TupleToUserset { tupleset, .. }) =
                (self.below.contains(rule), rules.rule(*rule))
            {
                ways.push(Way { kind, tuples: *tupleset, rule: *rule });
            }
        }
        let ways = Arc::new(ways);
        self.ways.insert(relation, Arc::clone(&ways));
        ways
    }

    fn run<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        found: &mut Vec<FoundObject>,
    ) -> Result<(), Stop> {
        let rules = slice.scope.rules;
        loop {
            if let Some(mut climb) = self.climb.take() {
                let outcome = self.follow(slice, &mut climb);
                if matches!(outcome, Err(Stop::Suspended)) {
                    self.climb = Some(climb);
                }
                outcome?;
            } else if let Some((goal, inquiry)) = &mut self.inquiry {
                let verdict = inquiry.run(slice)?;
                let object = goal.object;
                self.inquiry = None;
                if verdict != Verdict::Denied {
                    self.report(slice, object, verdict, found)?;
                }
            } else if let Some(goal) = self.gates.last().copied() {
                let truth = self.solver.truth(slice, goal, 0)?;
                self.gates.pop();
                if truth != Truth::No {
                    self.satisfy(rules, goal, truth == Truth::Yes);
                }
            } else if let Some(goal) = self.doubtful.pop() {
                self.inquiry = Some((goal, Inquiry::new(goal, None)));
            } else if let Some((goal, relation, is_certain)) = self.queue.front().copied() {
                slice.meter.goal()?;
                slice.meter.hold(self.seen.len() * Self::GOAL_BYTES + slice.memo.table.bytes())?;
                self.queue.pop_front();
                let ways = self.ways_from(rules, relation);
                self.climb = Some(Climb { node: goal.object, is_certain, ways, way: 0, from: 0 });
                self.satisfy(rules, goal, is_certain);
                if goal.rule == self.asked && is_certain {
                    self.report(slice, goal.object, Verdict::Allowed, found)?;
                } else if goal.rule == self.asked {
                    self.doubtful.push(goal);
                }
            } else {
                return Ok(());
            }
        }
    }

    /// Follows the tuples that name a node.
    fn follow<V: View>(&mut self, slice: &mut Slice<'_, '_, V>, climb: &mut Climb) -> Result<(), Stop> {
        while let Some(way) = climb.ways.get(climb.way).copied() {
            // A wildcard has no object of its own.
            let node = match slice.scope.rules.subject_kind(way.kind) {
                SubjectKind::Wildcard(_) => Ordinal(0),
                SubjectKind::Object(_) | SubjectKind::Userset(_) => climb.node,
            };
            let subject = SubjectNode { kind: way.kind, node };
            if let Ok(from) = u32::try_from(climb.from) {
                for met in slice.scope.view.holders(subject, way.tuples, Ordinal(from)) {
                    slice.meter.edge()?;
                    climb.from = u64::from(met.node().0) + 1;
                    let Met::Edge(edge) = met else { continue };
                    let memo = &mut slice.memo.conditions;
                    let truth = memo.truth(slice.scope, edge.attributes, &mut slice.meter);
                    if truth != Truth::No {
                        let goal = Goal { object: edge.node, rule: way.rule };
                        self.satisfy(slice.scope.rules, goal, climb.is_certain && truth == Truth::Yes);
                    }
                }
            }
            climb.way += 1;
            climb.from = 0;
        }
        Ok(())
    }

    /// A rule holds on an object: so may what it is part of.
    fn satisfy(&mut self, rules: &Rules, goal: Goal, is_certain: bool) {
        let mut todo = vec![goal.rule];
        while let Some(rule) = todo.pop() {
            for parent in rules.parents(rule).iter().filter(|parent| self.below.contains(*parent)) {
                let goal = goal.same(*parent);
                match rules.rule(*parent) {
                    Rule::Or(_) => todo.push(*parent),
                    Rule::Relation(relation) => {
                        if self.seen.insert(goal) {
                            self.queue.push_back((goal, *relation, is_certain));
                        }
                    }
                    Rule::And(_) => {
                        if self.drivers.get(parent) == Some(&rule) && self.seen.insert(goal) {
                            self.gates.push(goal);
                        }
                    }
                    Rule::Not { base, .. } => {
                        if *base == rule && self.seen.insert(goal) {
                            self.gates.push(goal);
                        }
                    }
                    Rule::This(_) | Rule::TupleToUserset { .. } => {}
                }
            }
        }
    }

    fn report<V: View>(
        &mut self,
        slice: &Slice<'_, '_, V>,
        object: Ordinal,
        verdict: Verdict,
        found: &mut Vec<FoundObject>,
    ) -> Result<(), Stop> {
        self.count += 1;
        slice.meter.results(self.count)?;
        found.push(FoundObject { object, verdict });
        Ok(())
    }
}
