//! `ListRelations`: every relation a subject has to an object.

use super::check::Inquiry;
use super::goal::Goal;
use super::limits::{Meter, Stop, Work, progress};
use super::memo::Memo;
use super::scope::Scope;
use super::solver::Slice;
use super::verdict::{EngineError, Progress, Verdict};
use crate::graph::{Ordinal, SubjectNode, View};
use crate::schema::{RelationId, Rules, TypeId};

/// A relation that the subject has, or has conditionally.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRelation {
    /// The relation.
    pub relation: RelationId,
    /// Allowed or conditional.
    pub verdict: Verdict,
}

/// One listing of relations, while it runs. The relations of the type are decided one after the
/// other with one memo, so that what they share is explored once.
#[derive(Debug)]
pub struct ListRelations {
    object: Ordinal,
    subject: SubjectNode,
    /// Relations still to decide, the last first.
    todo: Vec<RelationId>,
    inquiry: Option<(RelationId, Inquiry)>,
    found: Vec<FoundRelation>,
    work: Work,
}

impl ListRelations {
    /// A question about an object of a type.
    #[must_use]
    pub fn new(rules: &Rules, object: Ordinal, object_type: TypeId, subject: SubjectNode) -> Self {
        let mut todo: Vec<RelationId> = rules.relations_of(object_type).collect();
        todo.reverse();
        Self { object, subject, todo, inquiry: None, found: Vec::new(), work: Work::default() }
    }

    /// Goes on for at most `fuel` units. Ends with every relation held or conditional, in the
    /// order of the schema.
    pub fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        memo: &mut Memo,
        fuel: &mut u64,
    ) -> Progress<Result<Vec<FoundRelation>, EngineError>> {
        memo.bind(self.subject);
        let mut work = self.work;
        let meter = Meter { limits: scope.limits, work: &mut work, slice: fuel };
        let outcome = self.decide(&mut Slice { scope, subject: self.subject, memo, meter });
        self.work = work;
        progress(outcome.map(|()| std::mem::take(&mut self.found)))
    }

    /// What it has cost so far.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }

    fn decide<V: View>(&mut self, slice: &mut Slice<'_, '_, V>) -> Result<(), Stop> {
        loop {
            let Some((relation, inquiry)) = &mut self.inquiry else {
                let Some(relation) = self.todo.pop() else { return Ok(()) };
                let goal = Goal::relation(slice.scope.rules, self.object, relation);
                self.inquiry = Some((relation, Inquiry::new(goal, slice.scope.limits.depth)));
                continue;
            };
            let verdict = inquiry.run(slice)?;
            if verdict != Verdict::Denied {
                self.found.push(FoundRelation { relation: *relation, verdict });
            }
            self.inquiry = None;
        }
    }
}
