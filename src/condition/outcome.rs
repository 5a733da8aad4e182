//! What a condition says, and the ways in which it, or what is given to it, can be wrong.

use std::ops::Range;

use crate::tuple::ConditionName;

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
    /// Every declared parameter, present and of its type, as OpenFGA has it.
    All,
}

/// Why a condition could not be evaluated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("condition `{condition}` failed: {reason}")]
pub struct EvaluationError {
    /// The condition.
    pub condition: ConditionName,
    /// Who can mend it.
    pub cause: ErrorCause,
    /// What went wrong, lower case.
    pub reason: String,
}

/// Where an [`EvaluationError`] comes from, and so who can mend it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorCause {
    /// A supplied value does not fit the declared type of its parameter.
    Context,
    /// The expression failed on values that fit: overflow, division by zero, no such key.
    Expression,
    /// The work allowed ran out.
    Fuel,
}

/// A mistake in the text of a condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConditionError {
    /// The bytes of the expression at fault; empty at 0 when a parameter's declaration is.
    pub span: Range<usize>,
    /// What is wrong, lower case.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// Why a tuple may not carry this context for its condition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContextMismatch {
    /// The condition declares no such parameter.
    #[error("condition `{condition}` has no parameter `{parameter}`: it has {declared}")]
    UnknownParameter {
        /// The condition.
        condition: ConditionName,
        /// The name that was given.
        parameter: String,
        /// The parameters it has, in backticks.
        declared: String,
    },
    /// The value cannot become the declared type.
    #[error("condition `{condition}`: {reason}")]
    WrongValue {
        /// The condition.
        condition: ConditionName,
        /// The parameter.
        parameter: String,
        /// The parameter, what it expects and what was given.
        reason: String,
    },
    /// A text or key holds a control character.
    #[error("condition `{condition}`: the value of `{parameter}` holds the control character {character:?}")]
    ControlCharacter {
        /// The condition.
        condition: ConditionName,
        /// The parameter whose value holds it.
        parameter: String,
        /// The character.
        character: char,
    },
    /// More than a tuple may carry.
    #[error("condition `{condition}`: the context takes {bytes} bytes, and a tuple may carry {limit}")]
    TooLarge {
        /// The condition.
        condition: ConditionName,
        /// Its size as a protobuf `Struct`.
        bytes: usize,
        /// The limit, likewise.
        limit: usize,
    },
}
