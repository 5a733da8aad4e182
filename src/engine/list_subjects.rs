//! `ListSubjects`: the subjects of a kind that have a relation to an object.
//!
//! Collects every goal below the object, finds the set of subjects of each, and reports the
//! root's. A set may be all but a few: then the wildcard is in it, and stands for every subject
//! that no tuple names. Subjects that tuples name are reported one by one, whether the wildcard
//! covers them or not; those it does not cover are reported as exceptions.

use std::collections::VecDeque;

use super::check::Inquiry;
use super::goal::{Facts, Goal, wildcard};
use super::limits::{Meter, Stop, Work, progress};
use super::memo::Memo;
use super::program::Program;
use super::scope::Scope;
use super::solver::Slice;
use super::subject_sets::SubjectSets;
use super::verdict::{EngineError, Progress, Verdict};
use crate::graph::{Ordinal, SubjectNode, View};
use crate::schema::{KindId, RelationId};

/// A subject found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundSubject {
    /// The subject; a wildcard stands for every object of its type that no tuple names.
    pub subject: SubjectNode,
    /// Allowed or conditional; denied marks an exception to a wildcard that was found.
    pub verdict: Verdict,
}

/// One listing of subjects, while it runs. Finds each subject once; a wildcard comes first.
#[derive(Debug)]
pub struct ListSubjects {
    object: Ordinal,
    relation: RelationId,
    kind: KindId,
    stage: Stage,
    memo: Memo,
    found: Vec<FoundSubject>,
    count: u64,
    uncertain: bool,
    work: Work,
}

#[derive(Debug)]
enum Stage {
    Collect(Option<Box<Program>>),
    Solve { sets: Box<SubjectSets>, named: Vec<u32> },
    Report(Box<Report>),
    Done,
}

/// What is still to be reported.
#[derive(Debug)]
struct Report {
    sets: Box<SubjectSets>,
    /// `None` is the wildcard.
    todo: VecDeque<Option<u32>>,
    inquiry: Option<Inquiry>,
    /// Whether the wildcard was found.
    public: bool,
}

impl ListSubjects {
    /// Which subjects of a kind have the relation to the object? The kind is that of single
    /// objects of a type, which includes their wildcard, or of usersets.
    #[must_use]
    pub fn new(object: Ordinal, relation: RelationId, kind: KindId) -> Self {
        Self {
            object,
            relation,
            kind,
            stage: Stage::Collect(None),
            memo: Memo::new(),
            found: Vec::new(),
            count: 0,
            uncertain: false,
            work: Work::default(),
        }
    }

    /// Goes on for at most `fuel` units, except that one operation on large sets is done in one
    /// piece. After each run, finished or not, [`take_found`](Self::take_found) has what was
    /// found since. It ends with the total cost.
    pub fn run<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        fuel: &mut u64,
    ) -> Progress<Result<Work, EngineError>> {
        let mut work = self.work;
        let outcome = self.advance(scope, Meter { limits: scope.limits, work: &mut work, slice: fuel });
        self.work = work;
        progress(outcome.map(|()| work))
    }

    /// Takes what was found since the last time.
    pub fn take_found(&mut self) -> Vec<FoundSubject> {
        std::mem::take(&mut self.found)
    }

    /// What it has cost so far.
    #[must_use]
    pub fn work(&self) -> Work {
        self.work
    }

    /// Whether a tuple was met whose condition cannot be decided, even if no result depends on it.
    /// OpenFGA fails such a list, so whoever answers in its stead must know.
    #[must_use]
    pub fn met_uncertain(&self) -> bool {
        self.uncertain
    }

    fn advance<V: View>(&mut self, scope: &Scope<'_, V>, mut meter: Meter<'_>) -> Result<(), Stop> {
        let root = Goal::relation(scope.rules, self.object, self.relation);
        loop {
            match &mut self.stage {
                Stage::Done => return Ok(()),
                Stage::Collect(_) if !scope.rules.can_reach(root.rule, self.kind) => {
                    self.stage = Stage::Done;
                }
                Stage::Collect(program) => {
                    let program = program.get_or_insert_with(|| {
                        Box::new(Program::new(Facts::Kind(self.kind), root, 0, scope.limits.depth))
                    });
                    program.run(scope, &mut self.memo.conditions, &mut meter)?;
                    if let (false, Some(limit)) = (program.cut.is_empty(), scope.limits.depth) {
                        return Err(EngineError::DepthExceeded { limit }.into());
                    }
                    self.uncertain = program.is_uncertain();
                    let mut named: Vec<u32> = program
                        .facts
                        .iter()
                        .filter(|fact| fact.subject.kind == self.kind)
                        .map(|fact| fact.subject.node.0)
                        .collect();
                    named.sort_unstable();
                    named.dedup();
                    let sets = Box::new(SubjectSets::new(program, scope.rules, self.kind));
                    self.stage = Stage::Solve { sets, named };
                }
                Stage::Solve { sets, .. } => {
                    sets.run(&mut meter)?;
                    if let Stage::Solve { sets, named } = std::mem::replace(&mut self.stage, Stage::Done) {
                        let todo = std::iter::once(None).chain(named.into_iter().map(Some)).collect();
                        self.stage =
                            Stage::Report(Box::new(Report { sets, todo, inquiry: None, public: false }));
                    }
                }
                Stage::Report(report) => {
                    let kind = self.kind;
                    let Some((subject, verdict)) =
                        report.next(scope, &mut self.memo, &mut meter, root, kind)?
                    else {
                        self.stage = Stage::Done;
                        continue;
                    };
                    self.count += 1;
                    meter.results(self.count)?;
                    self.found.push(FoundSubject { subject, verdict });
                }
            }
        }
    }
}

impl Report {
    fn next<V: View>(
        &mut self,
        scope: &Scope<'_, V>,
        memo: &mut Memo,
        meter: &mut Meter<'_>,
        root: Goal,
        kind: KindId,
    ) -> Result<Option<(SubjectNode, Verdict)>, Stop> {
        while let Some(name) = self.todo.front().copied() {
            let wildcard = wildcard(scope.rules, kind);
            let subject = match name {
                Some(name) => Some(SubjectNode { kind, node: Ordinal(name) }),
                None => wildcard,
            };
            let (lo, hi) = self.sets.root();
            let (certain, possible) = match name {
                Some(name) => (lo.contains(name), hi.contains(name)),
                None => (lo.holds_rest(), hi.holds_rest()),
            };
            let verdict = match subject {
                None => Verdict::Denied,
                Some(_) if certain => Verdict::Allowed,
                Some(_) if !possible => Verdict::Denied,
                // What is missing is what a Check of this subject lacks.
                Some(subject) => {
                    let inquiry = self.inquiry.get_or_insert_with(|| Inquiry::new(root, scope.limits.depth));
                    memo.bind(subject);
                    let meter = Meter { limits: meter.limits, work: meter.work, slice: meter.slice };
                    inquiry.run(&mut Slice { scope, subject, memo, meter })?
                }
            };
            self.inquiry = None;
            self.todo.pop_front();
            let holds = verdict != Verdict::Denied;
            if name.is_none() {
                self.public = holds;
            }
            if let Some(subject) = subject
                && (holds || (self.public && name.is_some()))
            {
                return Ok(Some((subject, verdict)));
            }
        }
        Ok(None)
    }
}
