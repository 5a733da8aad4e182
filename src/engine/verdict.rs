//! What a search can end with.

use crate::condition::EvaluationError;

use super::limits::Work;

/// The answer to "has the subject the relation to the object?".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It has, whatever else might be supplied.
    Allowed,
    /// It has not, whatever else might be supplied.
    Denied,
    /// It depends on condition parameters that were not supplied (sorted, never empty).
    Conditional {
        /// Their names.
        missing: Vec<String>,
    },
}

/// The answer of a Check, and what it cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckAnswer {
    /// The answer.
    pub verdict: Verdict,
    /// What it cost. Less when a shared memo knew something already.
    pub work: Work,
}

/// Why a question could not be answered. "Has not" is an answer, not an error.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// A bound of [`Limits`](super::Limits) was met. The same question at the same revision meets
    /// it again; a narrower question or a higher limit may not.
    #[error("the search exceeded its limit of {allowed} {limit} after {} goals and {} tuples", work.goals, work.edges)]
    LimitExceeded {
        /// Which one.
        limit: LimitKind,
        /// Its value.
        allowed: u64,
        /// What had been done by then.
        work: Work,
    },
    /// The answer depends on tuples more hops away than the depth limit lets it follow.
    #[error("the answer depends on more than {} nested usersets and tuplesets", limit.saturating_sub(1))]
    DepthExceeded {
        /// How many hops are followed, and one more.
        limit: u32,
    },
    /// The answer depends on a tuple whose condition could not be evaluated.
    #[error("tuple `{tuple}`: {error}")]
    Condition {
        /// What went wrong.
        #[source]
        error: EvaluationError,
        /// The tuple, `object#relation@subject`.
        tuple: String,
    },
}

/// A bound of [`Limits`](super::Limits).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LimitKind {
    /// Units of work of every sort.
    Fuel,
    /// Goals explored.
    Goals,
    /// Tuples looked at.
    Edges,
    /// Results found.
    Results,
    /// Tuples and usersets in one leaf of an Expand.
    Leaf,
    /// Memory of the search, in bytes.
    Bytes,
}

impl LimitKind {
    /// Its name in errors.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Fuel => "units of work",
            Self::Goals => "goals",
            Self::Edges => "tuples",
            Self::Results => "results",
            Self::Leaf => "tuples in one leaf",
            Self::Bytes => "bytes of memory",
        }
    }
}

impl std::fmt::Display for LimitKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What running a search for a while came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress<T> {
    /// The search is over.
    Done(T),
    /// The slice of fuel is used up; run it again with the same scope and memo.
    Suspended,
}

/// What is known of an edge or goal when some things are uncertain; ordered by certainty of
/// being there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Truth {
    No,
    Unknown,
    Yes,
}
