//! Answers from (rules, view, question): pure functions of values, on the heap, resumable.
//!
//! The story of a Check:
//!
//! 1. [`Check::run`] gets a [`Scope`] (rules, tuples, context, limits), a [`Memo`] and a slice of
//!    fuel. `check::Inquiry` asks `Solver::truth` for its goal, (object, rule): does it hold for
//!    certain (*Lo*: what is uncertain counts as absent), and if not, might it (*Hi*)?
//! 2. `solver` decides one bound with a frame: `Frame::run` takes a goal from the queue,
//!    `Frame::explore` enumerates its alternatives with `goal::Scan`, the one place that reads
//!    tuples object-side, and `Frame::depend` makes the goal wait for those it follows from.
//!    `Frame::prove` tells those that wait; `Frame::notified` advances an `and` or `but not`. A
//!    subtract is decided by a frame of its own in the other bound. Hi costs nothing where Lo met
//!    nothing uncertain.
//! 3. Below a recursion through `but not`, `fixpoint` decides instead: `program` collects every
//!    goal first, and the bounds alternate until they stay.
//! 4. A goal in Hi but not in Lo is unknown. `why` walks back through unknown goals to the tuples
//!    whose conditions lack parameters, or fail.
//!
//! [`ListRelations`] is many Checks with one memo. [`ListObjects`] climbs from the subject and
//! verifies with the solver. [`ListSubjects`] collects a `program` and solves it with sets of
//! subjects (`subject_sets`). [`Explain`] decides and then looks back through `children`.
//! [`Expand`] reads one rewrite. Every search pays its `limits::Meter` before each goal and each
//! tuple, and stops there: suspended when the slice is used up, with an error at a limit. What it
//! goes on from is in the search itself, so that any unit of fuel may be the last of a slice.

mod check;
mod children;
mod conditions;
mod expand;
mod explain;
mod fixpoint;
mod goal;
mod limits;
mod list_objects;
mod list_relations;
mod list_subjects;
mod memo;
mod program;
mod scope;
mod solver;
mod subject_set;
mod subject_sets;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
mod verdict;
mod why;

pub use check::Check;
pub use expand::{Expand, Userset, UsersetNode, UsersetTree};
pub use explain::{Explain, Explanation, ExplanationNode, Finding};
pub use limits::{Limits, Work};
pub use list_objects::{FoundObject, ListObjects};
pub use list_relations::{FoundRelation, ListRelations};
pub use list_subjects::{FoundSubject, ListSubjects};
pub use memo::Memo;
pub use scope::Scope;
pub use verdict::{CheckAnswer, EngineError, LimitKind, Progress, Verdict};
