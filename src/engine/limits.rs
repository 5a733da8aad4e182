//! Bounds on the work of one search, and the counting of it.

use super::verdict::{EngineError, LimitKind, Progress};

/// Bounds on one search. Exceeding one is an error, never a wrong answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Work of every sort: one unit per goal, per tuple looked at and per step of a condition.
    /// Default 20 million, a few seconds of one core.
    pub fuel: u64,
    /// Goals explored. Default 5 million.
    pub goals: u64,
    /// Tuples looked at. Default 20 million.
    pub edges: u64,
    /// Results of a list. Default 10 million.
    pub results: u64,
    /// Tuples and usersets in one leaf of an Expand. Default 100,000, some megabytes of answer: what
    /// is larger is read page by page.
    pub leaf: u64,
    /// Memory of the search's tables, in bytes, estimated. Default 1 GiB.
    pub bytes: u64,
    /// Work of one evaluation of one condition. Default 100,000.
    pub condition: u64,
    /// How many usersets and tuplesets in a row may be followed: the hop of this number is
    /// uncertain, and an answer that depends on it is an error. `None`, the default: any number;
    /// the other limits end a search. Computed relations cost nothing.
    pub depth: Option<u32>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fuel: 20_000_000,
            goals: 5_000_000,
            edges: 20_000_000,
            results: 10_000_000,
            leaf: 100_000,
            bytes: 1 << 30,
            condition: 100_000,
            depth: None,
        }
    }
}

impl Limits {
    /// As OpenFGA limits itself: 24 hops are followed, the 25th is an error.
    #[must_use]
    pub fn openfga() -> Self {
        Self { depth: Some(25), ..Self::default() }
    }
}

/// What a search has cost so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Goals (object and rule) explored.
    pub goals: u64,
    /// Tuples looked at.
    pub edges: u64,
    /// All units of fuel: goals, tuples and the steps of conditions.
    pub fuel: u64,
}

/// Why a search leaves off: its slice is used up, or it is over.
#[derive(Debug)]
pub(super) enum Stop {
    Suspended,
    Failed(Box<EngineError>),
}

impl From<EngineError> for Stop {
    fn from(error: EngineError) -> Self {
        Self::Failed(Box::new(error))
    }
}

/// Turns the inner style (`?` on [`Stop`]) into the outer one.
pub(super) fn progress<T>(result: Result<T, Stop>) -> Progress<Result<T, EngineError>> {
    match result {
        Ok(value) => Progress::Done(Ok(value)),
        Err(Stop::Suspended) => Progress::Suspended,
        Err(Stop::Failed(error)) => Progress::Done(Err(*error)),
    }
}

/// Counts work against a slice and against the limits. Every charge comes before the work it
/// pays for, so that a search stopped by it can repeat the step.
pub(super) struct Meter<'a> {
    pub(super) limits: &'a Limits,
    pub(super) work: &'a mut Work,
    pub(super) slice: &'a mut u64,
}

impl Meter<'_> {
    /// One goal.
    pub(super) fn goal(&mut self) -> Result<(), Stop> {
        if self.work.goals >= self.limits.goals {
            return Err(self.exceeded(LimitKind::Goals, self.limits.goals));
        }
        self.step()?;
        self.work.goals += 1;
        Ok(())
    }

    /// One tuple looked at.
    pub(super) fn edge(&mut self) -> Result<(), Stop> {
        if self.work.edges >= self.limits.edges {
            return Err(self.exceeded(LimitKind::Edges, self.limits.edges));
        }
        self.step()?;
        self.work.edges += 1;
        Ok(())
    }

    /// One unit of any other work.
    pub(super) fn step(&mut self) -> Result<(), Stop> {
        if self.work.fuel >= self.limits.fuel {
            return Err(self.exceeded(LimitKind::Fuel, self.limits.fuel));
        }
        if *self.slice == 0 {
            return Err(Stop::Suspended);
        }
        *self.slice -= 1;
        self.work.fuel += 1;
        Ok(())
    }

    /// Work that was done in one piece; only the next charge can stop the search.
    pub(super) fn spent(&mut self, units: u64) {
        *self.slice = self.slice.saturating_sub(units);
        self.work.fuel = self.work.fuel.saturating_add(units);
    }

    /// Checks the size of the search's tables.
    pub(super) fn hold(&self, bytes: usize) -> Result<(), Stop> {
        if bytes as u64 > self.limits.bytes {
            return Err(self.exceeded(LimitKind::Bytes, self.limits.bytes));
        }
        Ok(())
    }

    /// Checks the number of results.
    pub(super) fn results(&self, count: u64) -> Result<(), Stop> {
        if count > self.limits.results {
            return Err(self.exceeded(LimitKind::Results, self.limits.results));
        }
        Ok(())
    }

    /// Checks the size of a leaf.
    pub(super) fn leaf(&self, count: u64) -> Result<(), Stop> {
        if count > self.limits.leaf {
            return Err(self.exceeded(LimitKind::Leaf, self.limits.leaf));
        }
        Ok(())
    }

    fn exceeded(&self, limit: LimitKind, allowed: u64) -> Stop {
        EngineError::LimitExceeded { limit, allowed, work: *self.work }.into()
    }
}
