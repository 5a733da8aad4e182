//! Answers from (rules, view, question): check, expand, lists, explanations.

mod check;
mod children;
mod conditions;
mod fixpoint;
mod goal;
mod limits;
mod memo;
mod program;
mod scope;
mod solver;
mod verdict;
mod why;

pub use check::Check;
pub use limits::{Limits, Work};
pub use memo::Memo;
pub use scope::Scope;
pub use verdict::{CheckAnswer, EngineError, LimitKind, Progress, Verdict};
