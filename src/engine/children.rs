//! What a goal depends on, one at a time, for searches that look back at what was decided.

use std::ops::ControlFlow;

use super::goal::{Body, Facts, Goal, Scan, Step, Stored};
use super::limits::Stop;
use super::solver::{Slice, Solver};
use super::verdict::Truth;
use crate::graph::View;

/// What part a dependency plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A tuple names the subject.
    Fact,
    /// A tuple leads to a goal on another object.
    Hop,
    /// An alternative on the same object.
    Same,
    /// An operand of an `and`.
    Operand,
    /// The base of a `but not`.
    Base,
    /// The subtract of a `but not`.
    Subtract,
}

/// A dependency.
#[derive(Debug, Clone, Copy)]
pub(super) struct Child {
    pub(super) role: Role,
    /// The tuple, of a fact or hop.
    pub(super) stored: Option<Stored>,
    /// Whether the tuple counts.
    pub(super) edge: Truth,
    /// The goal, and the hops to it; not of a fact.
    pub(super) goal: Option<(Goal, u32)>,
}

impl Child {
    /// Whether it is too many hops away to be looked at.
    pub(super) fn is_too_deep(&self, solver: &Solver) -> bool {
        let limit = solver.depth_limit();
        self.goal.is_some_and(|(_, depth)| limit.is_some_and(|limit| depth >= limit))
    }

    /// What its goal is, the tuple aside.
    pub(super) fn judge<V: View>(
        &self,
        slice: &mut Slice<'_, '_, V>,
        solver: &mut Solver,
    ) -> Result<Truth, Stop> {
        match self.goal {
            None => Ok(Truth::Yes),
            Some(_) if self.is_too_deep(solver) => Ok(Truth::Unknown),
            Some((goal, depth)) => solver.truth(slice, goal, depth),
        }
    }
}

/// The dependencies of one goal. Those that cannot concern the subject are left out.
#[derive(Debug)]
pub(super) struct Children {
    goal: Goal,
    depth: u32,
    scan: Scan,
    operand: usize,
}

impl Children {
    pub(super) fn of(goal: Goal, depth: u32) -> Self {
        Self { goal, depth, scan: Scan::default(), operand: 0 }
    }

    pub(super) fn next<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<Option<Child>, Stop> {
        let (goal, depth) = (self.goal, self.depth);
        let operand =
            |role, rule| Child { role, stored: None, edge: Truth::Yes, goal: Some((goal.same(rule), depth)) };
        let child = match Body::of(slice.scope.rules, &goal.rule) {
            Body::Any(_) => return self.alternative(slice),
            Body::All(operands) => operands.get(self.operand).map(|rule| operand(Role::Operand, *rule)),
            Body::Except { base, subtract } => match self.operand {
                0 => Some(operand(Role::Base, base)),
                1 => Some(operand(Role::Subtract, subtract)),
                _ => None,
            },
        };
        self.operand += 1;
        Ok(child)
    }

    fn alternative<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<Option<Child>, Stop> {
        let (goal, depth) = (self.goal, self.depth);
        let mut found = None;
        let facts = Facts::Subject(slice.subject);
        let _: ControlFlow<()> = self.scan.run(slice.scope, facts, goal, &mut slice.meter, |step, _| {
            found = Some(step);
            Ok(ControlFlow::Break(()))
        })?;
        let Some(step) = found else { return Ok(None) };
        let (role, stored, goal) = match step {
            Step::Fact(stored) => (Role::Fact, Some(stored), None),
            Step::Hop(stored, goal) => (Role::Hop, Some(stored), Some((goal, depth + 1))),
            Step::Same(goal) => (Role::Same, None, Some((goal, depth))),
        };
        let attributes = stored.and_then(|stored| stored.attributes);
        let edge = slice.memo.conditions.truth(slice.scope, attributes, &mut slice.meter);
        Ok(Some(Child { role, stored, edge, goal }))
    }
}
