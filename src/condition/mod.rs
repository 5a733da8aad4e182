//! Typed conditions in CEL: parse, check, evaluate with fuel, say what is missing.

mod compiled;
mod outcome;
mod types;

pub use compiled::{Condition, MAX_EXPRESSION_BYTES, MAX_PARAMETERS, MAX_TUPLE_CONTEXT_BYTES};
pub use outcome::{ConditionError, ContextMismatch, ErrorCause, EvaluationError, Outcome, Required};
pub use types::{MAX_TYPE_DEPTH, ParameterType, ParameterTypeError};
