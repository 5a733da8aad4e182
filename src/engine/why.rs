//! Why a goal is unknown: the uncertain edges it depends on.

use std::collections::BTreeSet;

use hashbrown::HashSet;

use super::children::{Child, Children};
use super::goal::{Goal, Stored};
use super::limits::Stop;
use super::scope::Scope;
use super::solver::{Slice, Solver};
use super::verdict::{EngineError, Truth};
use crate::condition::Outcome;
use crate::graph::{Ordinal, View};

/// Walks from an unknown goal through unknown goals and collects what they lack. Which goals
/// these are depends on their meaning alone, so the answer is the same whatever was explored
/// before.
#[derive(Debug)]
pub(super) struct Why {
    todo: Vec<(Goal, u32)>,
    seen: HashSet<Goal, foldhash::fast::FixedState>,
    at: Option<(Goal, Children)>,
    /// The dependency that is being judged.
    pending: Option<Child>,
    missing: BTreeSet<String>,
}

impl Why {
    pub(super) fn new(root: Goal) -> Self {
        let mut seen = HashSet::default();
        seen.insert(root);
        Self { todo: vec![(root, 0)], seen, at: None, pending: None, missing: BTreeSet::new() }
    }

    /// The parameters that are missing, sorted; none if the goal is a paradox.
    ///
    /// # Errors
    /// The error of an edge that contributes.
    pub(super) fn run<V: View>(
        &mut self,
        slice: &mut Slice<'_, '_, V>,
        solver: &mut Solver,
    ) -> Result<Vec<String>, Stop> {
        loop {
            let Some((goal, children)) = &mut self.at else {
                match self.todo.pop() {
                    Some((goal, depth)) => self.at = Some((goal, Children::of(goal, depth))),
                    None => return Ok(std::mem::take(&mut self.missing).into_iter().collect()),
                }
                continue;
            };
            let child = match self.pending {
                Some(child) => child,
                None => match children.next(slice)? {
                    Some(child) if child.edge == Truth::No => continue,
                    Some(child) => *self.pending.insert(child),
                    None => {
                        self.at = None;
                        continue;
                    }
                },
            };
            let value = child.judge(slice, solver)?;
            self.pending = None;
            if value == Truth::No {
                continue;
            }
            if let (Truth::Unknown, Some(stored)) = (child.edge, child.stored) {
                self.missing.extend(missing(slice, goal.object, stored)?);
            }
            if let (Truth::Unknown, Some((goal, depth))) = (value, child.goal) {
                if let (true, Some(limit)) = (child.is_too_deep(solver), solver.depth_limit()) {
                    return Err(EngineError::DepthExceeded { limit }.into());
                }
                if self.seen.insert(goal) {
                    self.todo.push((goal, depth));
                }
            }
        }
    }
}

/// The parameters an uncertain tuple lacks.
///
/// # Errors
/// The error of its condition, if that is why it is uncertain.
pub(super) fn missing<V: View>(
    slice: &mut Slice<'_, '_, V>,
    object: Ordinal,
    stored: Stored,
) -> Result<Vec<String>, Stop> {
    let Some(id) = stored.attributes else { return Ok(Vec::new()) };
    match slice.memo.conditions.outcome(slice.scope, id, &mut slice.meter) {
        Outcome::True | Outcome::False => Ok(Vec::new()),
        Outcome::Missing(names) => Ok(names.clone()),
        Outcome::Error(error) => {
            let error = error.clone();
            Err(EngineError::Condition { error, tuple: text(slice.scope, object, stored) }.into())
        }
    }
}

/// A tuple as `object#relation@subject`.
fn text<V: View>(scope: &Scope<'_, V>, object: Ordinal, stored: Stored) -> String {
    scope.tuple(object, stored.relation, stored.subject, None).key.to_string()
}
