//! Check: has the subject the relation to the object?

use super::goal::Goal;
use super::limits::{Meter, Stop, Work, progress};
use super::memo::Memo;
use super::scope::Scope;
use super::solver::{Slice, Solver};
use super::verdict::{CheckAnswer, EngineError, Progress, Truth, Verdict};
use super::why::Why;
use crate::graph::{Ordinal, SubjectNode, View};
use crate::schema::RelationId;

/// One Check, while it runs.
#[derive(Debug)]
pub struct Check {
    object: Ordinal,
    relation: RelationId,
    subject: SubjectNode,
    inquiry: Option<Inquiry>,
    work: Work,
}

impl Check {
    /// A question. Object and subject are ordinals of the view it will be run with.
    #[must_use]
    pub fn new(object: Ordinal, relation: RelationId, subject: SubjectNode) -> Self {
        Self { object, relation, subject, inquiry: None, work: Work::default() }
    }

    /// The same question, decided by the slow path.
    #[cfg(test)]
    pub(super) fn exhaustive(mut self, rules: &crate::schema::Rules) -> Self {
        let goal = Goal::relation(rules, self.object, self.relation);
        self.inquiry = Some(Inquiry { goal, solver: Solver::exhaustive(), why: None });
        self
    }

    /// Goes on for at most `fuel` units, which are counted down; a single condition may overdraw
    /// the slice by what it costs. Scope and memo must be those of the first run.
    pub fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        memo: &mut Memo,
        fuel: &mut u64,
    ) -> Progress<Result<CheckAnswer, EngineError>> {
        memo.bind(self.subject);
        let goal = Goal::relation(scope.rules, self.object, self.relation);
        let inquiry = self.inquiry.get_or_insert_with(|| Inquiry::new(goal, scope.limits.depth));
        let meter = Meter { limits: scope.limits, work: &mut self.work, slice: fuel };
        let mut slice = Slice { scope, subject: self.subject, memo, meter };
        let verdict = inquiry.run(&mut slice);
        progress(verdict.map(|verdict| CheckAnswer { verdict, work: self.work }))
    }

    /// Runs to the end in one piece.
    ///
    /// # Errors
    /// Why it cannot be answered.
    pub fn finish<V: View>(
        mut self,
        scope: &Scope<'_, V>,
        memo: &mut Memo,
    ) -> Result<CheckAnswer, EngineError> {
        loop {
            if let Progress::Done(answer) = self.run(scope, memo, &mut u64::MAX.clone()) {
                return answer;
            }
        }
    }
}

/// The verdict on one goal, for searches that need one among other things.
#[derive(Debug)]
pub(super) struct Inquiry {
    goal: Goal,
    solver: Solver,
    why: Option<Why>,
}

impl Inquiry {
    pub(super) fn new(goal: Goal, depth_limit: Option<u32>) -> Self {
        Self { goal, solver: Solver::new(depth_limit), why: None }
    }

    /// What the goal is, a paradox kept apart from what is false.
    pub(super) fn truth<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<Truth, Stop> {
        self.solver.truth(slice, self.goal, 0)
    }

    pub(super) fn run<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<Verdict, Stop> {
        let why = match &mut self.why {
            Some(why) => why,
            None => match self.truth(slice)? {
                Truth::Yes => return Ok(Verdict::Allowed),
                Truth::No => return Ok(Verdict::Denied),
                Truth::Unknown => self.why.insert(Why::new(self.goal)),
            },
        };
        let missing = why.run(slice, &mut self.solver)?;
        // Unknown although nothing is uncertain: a paradox, which nobody is allowed by.
        Ok(if missing.is_empty() { Verdict::Denied } else { Verdict::Conditional { missing } })
    }
}
