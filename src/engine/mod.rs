//! Answers from (rules, view, question): check, expand, lists, explanations.

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
